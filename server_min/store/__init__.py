# SPDX-License-Identifier: Apache-2.0
"""State of a hub: one SQLite file and a folder of content-addressed blobs.

In: a folder.  Out: a `Store` (ports.py), which is all that rounds, apps and commands know, so that PostgreSQL
and object storage can stand in later.  Invariant: a blob is durable before a row names it.
"""

from __future__ import annotations

from pathlib import Path

from edgefl.errors import MissingInput
from server_min.store.blobs import FileBlobs
from server_min.store.database import Database
from server_min.store.devices import SqliteDevices, TokenRefused
from server_min.store.helped import SqliteHelped
from server_min.store.ports import Blobs, Devices, Helped, Part, Rounds, Store, Tasks
from server_min.store.rounds import FINAL, SqliteRounds
from server_min.store.rows import (
    BlobRow,
    Device,
    Due,
    HelpedRow,
    ReleaseRow,
    ReportRow,
    RoundRow,
    Settings,
    TaskRow,
    Transition,
)  # fmt: skip
from server_min.store.tasks import SqliteTasks

__all__ = [
    "FINAL", "BlobRow", "Blobs", "Device", "Due", "HelpedRow", "Part", "ReleaseRow", "ReportRow", "RoundRow",
    "Settings", "SqliteStore", "Store", "TaskRow", "TokenRefused", "Transition", "open_store",
]  # fmt: skip


class SqliteStore:
    """Everything that a hub remembers, in its folder."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        path = folder / "store.sqlite"
        if not create and not path.exists():
            raise MissingInput(f"{folder} holds no hub", hint="run `edgefl-hub init` first")
        self._database = Database(path)
        self.blobs: Blobs = FileBlobs(folder / "blobs", self._database)
        self.devices: Devices = SqliteDevices(self._database)
        self.tasks: Tasks = SqliteTasks(self._database)
        self.rounds: Rounds = SqliteRounds(self._database)
        self.helped: Helped = SqliteHelped(self._database)

    def close(self) -> None:
        """Close the files."""
        self._database.close()


def open_store(folder: Path) -> Store:
    """Open the store of a hub's folder."""
    return SqliteStore(folder)
