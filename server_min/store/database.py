# SPDX-License-Identifier: Apache-2.0
"""The SQLite file of a hub, shared by the serving process and the command line.

In: a path.  Out: rows and transactions.  Two connections: `db` syncs each commit (reports, rounds, tokens),
`fast` does not (polls, nonces: losing the last ones in a power cut costs nothing that must be kept).
Invariant: a write is inside `transaction()`; the serving process uses it from its event loop's thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from edgefl.errors import StorageError

BUSY_MS = 5000


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open the file in WAL mode."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    return db


class Database:
    """Two connections to one file."""

    def __init__(self, path: Path) -> None:
        try:
            self.db = connect(path, "FULL")
            self.fast = connect(path, "NORMAL")
            self.db.executescript(resources.files(__package__).joinpath("schema.sql").read_text())
            path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"cannot open the store {path}: {error}", hint="check the disk") from None

    def close(self) -> None:
        """Close both connections."""
        self.fast.close()
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable at the end."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
