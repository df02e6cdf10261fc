# SPDX-License-Identifier: Apache-2.0
"""Tasks, their releases and the queue of rounds.

In: a Task with its settings, published releases.  Out: `TaskRow`, `ReleaseRow`, `Due`.
Invariant: sequences of a task only grow; the master weights of each release stay as a blob.
"""

from __future__ import annotations

import sqlite3

from edgefl.errors import UsageError
from edgefl.wire import cbor
from edgefl.wire.messages import Task
from server_min.store.blobs import insert_blobs
from server_min.store.database import Database
from server_min.store.rows import BlobRow, Due, ReleaseRow, Settings, TaskRow

_RELEASE = (
    'task, sequence, envelope, file, size, "full", full_size, patch_size, probe, master, round, cohort, '
    "label, issued"
)


class SqliteTasks:
    """Tables tasks, releases, schedule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, task: Task, settings: Settings, first: ReleaseRow, blobs: tuple[BlobRow, ...], now: float
    ) -> None:
        """Store a task with its first release."""
        values = cbor.dumps([settings.n_max, settings.quorum, settings.close_at, settings.deadline_s])
        try:
            with self._database.transaction() as db:
                db.execute("INSERT INTO tasks VALUES (?, ?, ?, ?)", (task.name, task.encode(), values, now))
                insert_release(db, first)
                insert_blobs(db, blobs)
        except sqlite3.IntegrityError:
            raise UsageError(f"task {task.name} exists already", hint="choose another name") from None

    def get(self, name: str) -> TaskRow | None:
        """Return one task."""
        row = self._database.db.execute("SELECT task, settings FROM tasks WHERE name = ?", (name,)).fetchone()
        return None if row is None else _task(row)

    def all(self) -> list[TaskRow]:
        """Return every task by name."""
        return [
            _task(row) for row in self._database.db.execute("SELECT task, settings FROM tasks ORDER BY name")
        ]

    def releases(self, task: str, limit: int = 1 << 30) -> list[ReleaseRow]:
        """Return a task's releases, the newest first."""
        rows = self._database.db.execute(
            f"SELECT {_RELEASE} FROM releases WHERE task = ? ORDER BY sequence DESC LIMIT ?", (task, limit)
        )
        return [ReleaseRow(**row) for row in rows]

    def newest(self, task: str) -> ReleaseRow | None:
        """Return a task's newest release."""
        return next(iter(self.releases(task, 1)), None)

    def release(self, envelope: bytes) -> ReleaseRow | None:
        """Return the release with this envelope."""
        row = self._database.db.execute(
            f"SELECT {_RELEASE} FROM releases WHERE envelope = ?", (envelope,)
        ).fetchone()
        return None if row is None else ReleaseRow(**row)

    def queue(self, task: str, rounds: int, every_s: float, now: float) -> int:
        """Queue rounds (-1: without end) and return the run's id."""
        with self._database.transaction() as db:
            cursor = db.execute(
                "INSERT INTO schedule (task, remaining, every_s, due) VALUES (?, ?, ?, ?)",
                (task, rounds, every_s, now),
            )
            return int(cursor.lastrowid or 0)

    def due(self, now: float) -> list[Due]:
        """Return the runs that want a round now, in the order in which they were queued."""
        rows = self._database.db.execute(
            "SELECT * FROM schedule WHERE remaining != 0 AND due <= ? ORDER BY id", (now,)
        )
        return [Due(**row) for row in rows]

    def remaining(self, run: int) -> int:
        """Return how many rounds of a run are still to start."""
        row = self._database.db.execute("SELECT remaining FROM schedule WHERE id = ?", (run,)).fetchone()
        return 0 if row is None else int(row["remaining"])

    def cancel(self, run: int) -> None:
        """Start no further rounds of a run."""
        with self._database.transaction() as db:
            db.execute("UPDATE schedule SET remaining = 0 WHERE id = ?", (run,))


def insert_release(db: sqlite3.Connection, row: ReleaseRow) -> None:
    """Insert inside the caller's transaction."""
    db.execute(
        f"INSERT INTO releases ({_RELEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.task, row.sequence, row.envelope, row.file, row.size, row.full, row.full_size, row.patch_size,
            row.probe, row.master, row.round, row.cohort, row.label, row.issued,
        ),
    )  # fmt: skip


def _task(row: sqlite3.Row) -> TaskRow:
    values = cbor.loads(row["settings"])
    assert isinstance(values, list)
    return TaskRow(Task.decode(row["task"]), Settings(*values))
