# SPDX-License-Identifier: Apache-2.0
"""The device's database: pins of the fleet, the install's rows, rounds seen and reports not yet acknowledged.

In: rows of edgefl.ota.install and edgefl.round.machine.  Out: the same after any crash. One connection, WAL,
synchronous=FULL, exclusive lock (so no -shm, and a second daemon is refused). Refuses a schema of a newer
edgefl.
Invariant: a method that writes is one transaction and durable when it returns; a poll without news writes
nothing.
Source: updates-and-trust design, section 3.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgefl.errors import ConfigError, StorageError, TemporaryFailure
from edgefl.ota.install import Commit, Intent, State
from edgefl.round.machine import Record
from edgefl.wire import cbor
from edgefl.wire.messages import HubPin

SCHEMA = 1
POLL_BLOCK = 1 << 20  # poll numbers reserved at a start, so that a poll need not write
KEEP_ROUNDS = 10_000  # finished rounds remembered; older ones are long past their deadline

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE fleet (
    one INTEGER PRIMARY KEY CHECK (one = 1), device BLOB NOT NULL, class TEXT NOT NULL,
    hub TEXT NOT NULL, ca BLOB NOT NULL, publisher BLOB NOT NULL, hubs BLOB NOT NULL, task TEXT NOT NULL,
    credential BLOB NOT NULL
);
CREATE TABLE install (
    one INTEGER PRIMARY KEY CHECK (one = 1), active BLOB, previous BLOB, seen INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0, release BLOB, envelope BLOB
);
CREATE TABLE intent (
    one INTEGER PRIMARY KEY CHECK (one = 1), release BLOB NOT NULL, file BLOB NOT NULL,
    sequence INTEGER NOT NULL, issued INTEGER NOT NULL, attempts INTEGER NOT NULL, envelope BLOB NOT NULL
);
CREATE TABLE rejected (number INTEGER PRIMARY KEY, release BLOB NOT NULL UNIQUE, reason TEXT NOT NULL);
CREATE TABLE round (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, base BLOB NOT NULL, attempt INTEGER NOT NULL,
    manifest BLOB, y_hash BLOB, header BLOB, outcome TEXT NOT NULL DEFAULT ''
);
INSERT INTO install (one) VALUES (1);
"""


@dataclass(frozen=True)
class Fleet:
    """What enrolment pinned."""

    device: bytes
    class_: str
    hub: str
    ca: bytes  # DER
    publisher: bytes
    hubs: tuple[HubPin, ...]
    task: str
    credential: bytes


class DeviceStore:
    """The database file; open for as long as the process needs its lock."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises
        ------
        TemporaryFailure
            Another process holds it.
        ConfigError
            It was written by a newer edgefl.
        StorageError
        """
        with _errors(path):
            self.db = sqlite3.connect(path, timeout=0, isolation_level=None)
            self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.execute("PRAGMA secure_delete=ON")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                self.db.close()
                raise ConfigError(
                    f"{path} has schema {version}, this edgefl knows {SCHEMA}",
                    hint="install the newer edgefl",
                )
            with self.transaction():
                if version == 0:
                    for statement in TABLES.split(";"):
                        self.db.execute(statement)
                    self.db.execute(f"PRAGMA user_version={SCHEMA}")
        self.path = path

    def close(self) -> None:
        """Release the lock."""
        self.db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def reserve_polls(self) -> int:
        """Return the first of a block of poll numbers that no earlier run used."""
        with _errors(self.path), self.transaction():
            start = self.meta("poll")
            self._set("poll", start + POLL_BLOCK)
        return start + 1

    def meta(self, key: str) -> int:
        """Return a number that survives restarts, 0 if never set."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return int(row[0]) if row else 0

    def set_meta(self, **values: int) -> None:
        """Keep numbers; those that did not change are not written."""
        changed = {key: value for key, value in values.items() if self.meta(key) != value}
        if changed:
            with _errors(self.path), self.transaction():
                for key, value in changed.items():
                    self._set(key, value)

    def _set(self, key: str, value: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # Enrolment

    def fleet(self) -> Fleet | None:
        """Return the pins, None before enrolment."""
        row = self.db.execute(
            "SELECT device, class, hub, ca, publisher, hubs, task, credential FROM fleet"
        ).fetchone()
        if row is None:
            return None
        device, class_, hub, ca, publisher, hubs, task, credential = row
        pins = cbor.loads(hubs)
        assert isinstance(pins, list)
        return Fleet(
            device,
            class_,
            hub,
            ca,
            publisher,
            tuple(HubPin.from_plain(pin) for pin in pins),
            task,
            credential,
        )

    def save_fleet(self, fleet: Fleet) -> None:
        """Keep the pins of an enrolment."""
        row = (
            fleet.device, fleet.class_, fleet.hub, fleet.ca, fleet.publisher,
            cbor.dumps([pin.plain() for pin in fleet.hubs]), fleet.task, fleet.credential,
        )  # fmt: skip
        with _errors(self.path), self.transaction():
            self.db.execute("INSERT OR REPLACE INTO fleet VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def save_credential(self, credential: bytes) -> None:
        """Keep a renewed credential."""
        with _errors(self.path), self.transaction():
            self.db.execute("UPDATE fleet SET credential = ?", (credential,))

    def forget_fleet(self) -> None:
        """Leave: drop pins and rounds; the model's rows stay."""
        with _errors(self.path), self.transaction():
            self.db.execute("DELETE FROM fleet")
            self.db.execute("DELETE FROM round")
            self.db.execute("DELETE FROM intent")

    # Install

    def install_state(self) -> State:
        """Return the rows that the install machine starts from."""
        active, previous, seen = self.db.execute("SELECT active, previous, seen FROM install").fetchone()
        rejected = self.db.execute("SELECT release FROM rejected ORDER BY number DESC LIMIT 64").fetchall()
        row = self.db.execute("SELECT release, file, sequence, issued, attempts FROM intent").fetchone()
        return State(
            active=active,
            previous=previous,
            seen=seen,
            rejected=tuple(release for (release,) in rejected),
            intent=Intent(*row) if row else None,
        )

    def intent_envelope(self) -> bytes | None:
        """Return the Release's envelope of an install in work."""
        row = self.db.execute("SELECT envelope FROM intent").fetchone()
        return row[0] if row else None

    def active_release(self) -> tuple[bytes, bytes] | None:
        """Return (hash, envelope) of the Release whose file is active."""
        row = self.db.execute("SELECT release, envelope FROM install").fetchone()
        return (row[0], row[1]) if row[1] is not None else None

    def time_floor(self) -> int:
        """Return the newest verified `issued`: it cannot be earlier than that."""
        return int(self.db.execute("SELECT floor FROM install").fetchone()[0])

    def save_intent(self, intent: Intent, envelope: bytes) -> None:
        """Write the intent of an install."""
        row = (intent.release, intent.file, intent.sequence, intent.issued, intent.attempts, envelope)
        with _errors(self.path), self.transaction():
            self.db.execute("INSERT OR REPLACE INTO intent VALUES (1, ?, ?, ?, ?, ?, ?)", row)

    def commit_install(self, action: Commit) -> None:
        """Make the intent the active Release."""
        intent = action.intent
        with _errors(self.path), self.transaction():
            self.db.execute(
                "UPDATE install SET active = ?, previous = ?, seen = max(seen, ?), floor = max(floor, ?), "
                "release = ?, envelope = (SELECT envelope FROM intent)",
                (intent.file, action.previous, intent.sequence, intent.issued, intent.release),
            )
            self.db.execute("DELETE FROM intent")

    def reject(self, release: bytes, reason: str) -> None:
        """Never install this Release again."""
        with _errors(self.path), self.transaction():
            self.db.execute(
                "INSERT OR IGNORE INTO rejected (release, reason) VALUES (?, ?)", (release, reason)
            )
            self.db.execute("DELETE FROM intent")

    def forget_intent(self) -> None:
        """Give up an install without holding it against the Release."""
        with _errors(self.path), self.transaction():
            self.db.execute("DELETE FROM intent")

    # Rounds

    def begin_round(self, record: Record) -> None:
        """Remember that a round was accepted, or that another attempt of it begins."""
        with _errors(self.path), self.transaction():
            self.db.execute(
                "INSERT INTO round (id, base, attempt, manifest) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET attempt = excluded.attempt, y_hash = NULL, header = NULL",
                (record.round, record.base, record.attempt, record.manifest),
            )
            self.db.execute(
                "DELETE FROM round WHERE outcome != '' AND number <= (SELECT max(number) FROM round) - ?",
                (KEEP_ROUNDS,),
            )

    def commit_report(self, round_id: bytes, attempt: int, y_hash: bytes, header: bytes) -> None:
        """Keep the sealed header before a byte of the report is sent."""
        with _errors(self.path), self.transaction():
            self.db.execute(
                "UPDATE round SET y_hash = ?, header = ? WHERE id = ? AND attempt = ?",
                (y_hash, header, round_id, attempt),
            )

    def finish_round(self, round_id: bytes, outcome: str) -> None:
        """Close a round for good; its id stays."""
        with _errors(self.path), self.transaction():
            self.db.execute(
                "UPDATE round SET outcome = ?, manifest = NULL, y_hash = NULL, header = NULL WHERE id = ?",
                (outcome, round_id),
            )

    def open_round(self) -> Record | None:
        """Return the round in work, None if there is none."""
        row = self.db.execute(
            "SELECT id, base, attempt, manifest, y_hash, header FROM round WHERE outcome = ''"
        ).fetchone()
        return Record(*row) if row else None

    def round_seen(self, round_id: bytes) -> bool:
        """Return whether this device knows the round."""
        return self.db.execute("SELECT 1 FROM round WHERE id = ?", (round_id,)).fetchone() is not None

    def reports(self, base: bytes) -> int:
        """Return how many masked reports may have left this device for one base Release."""
        query = (
            "SELECT count(*) FROM round WHERE base = ? AND (outcome IN ('sent', 'unsure') OR header NOT NULL)"
        )
        return int(self.db.execute(query, (base,)).fetchone()[0])

    def last_rounds(self, n: int) -> list[tuple[str, int, str]]:
        """Return (id in hex, attempt, outcome) of the newest rounds."""
        rows = self.db.execute("SELECT id, attempt, outcome FROM round ORDER BY number DESC LIMIT ?", (n,))
        return [(round_id.hex(), attempt, outcome) for round_id, attempt, outcome in rows]


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line each."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise TemporaryFailure(
                f"{path} is in use", hint="another edgefl runs on it; stop it first"
            ) from None
        raise StorageError(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise StorageError(f"{path} is damaged: {error}") from None
