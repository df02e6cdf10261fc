# SPDX-License-Identifier: Apache-2.0
"""Rounds of a leader: their state, who was invited, who reported.

In: rows from rounds/driver.py.  Out: `RoundRow`, `ReportRow`, `Transition`.  Invariant: one report a device
and round, one round a nonce; a state change and what belongs to it (the set S, a new release) are one durable
transaction.
"""

from __future__ import annotations

import sqlite3

from server_min.store.blobs import insert_blobs
from server_min.store.database import Database
from server_min.store.rows import BlobRow, ReleaseRow, ReportRow, RoundRow, Transition
from server_min.store.tasks import insert_release

FINAL = ("installed", "void")
# The column that holds when a state was entered.
STAMP = {
    "collecting": "collecting_at",
    "closed": "closed_at",
    "unmasked": "unmasked_at",
    "published": "published_at",
    "installed": "installed_at",
    "void": "closed_at",
}


class SqliteRounds:
    """Tables rounds, transitions, invitations, reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, row: RoundRow, devices: frozenset[bytes]) -> None:
        """Store a new round with its invitations; its run has one round less to start."""
        with self._database.transaction() as db:
            marks = ", ".join("?" * len(RoundRow.__dataclass_fields__))
            columns = ", ".join(RoundRow.__dataclass_fields__)
            values = tuple(getattr(row, name) for name in RoundRow.__dataclass_fields__)
            db.execute(f"INSERT INTO rounds ({columns}) VALUES ({marks})", values)
            db.executemany("INSERT INTO invitations VALUES (?, ?, NULL)", [(row.id, d) for d in devices])
            db.execute(
                "UPDATE schedule SET remaining = MAX(remaining - 1, -1), due = MAX(due, ?) + every_s "
                "WHERE id = ?",
                (row.opened_at, row.run),
            )
            _log(db, row.id, row.state, row.opened_at, 0, "")

    def next_number(self, task: str) -> int:
        """Return the number of a task's next round."""
        row = self._database.db.execute(
            "SELECT MAX(number) AS n FROM rounds WHERE task = ?", (task,)
        ).fetchone()
        return 0 if row["n"] is None else int(row["n"]) + 1

    def get(self, round_id: bytes) -> RoundRow | None:
        """Return one round."""
        row = self._database.db.execute("SELECT * FROM rounds WHERE id = ?", (round_id,)).fetchone()
        return None if row is None else RoundRow(**row)

    def all(self, task: str | None = None, run: int | None = None) -> list[RoundRow]:
        """Return rounds in the order in which they were opened."""
        rows = self._database.db.execute(
            "SELECT * FROM rounds WHERE (? IS NULL OR task = ?) AND (? IS NULL OR run = ?) "
            "ORDER BY opened_at, number",
            (task, task, run, run),
        )
        return [RoundRow(**row) for row in rows]

    def open_rounds(self) -> list[RoundRow]:
        """Return the rounds that are not over."""
        rows = self._database.db.execute(
            "SELECT * FROM rounds WHERE state NOT IN (?, ?) ORDER BY opened_at", FINAL
        )
        return [RoundRow(**row) for row in rows]

    def move(
        self,
        round_id: bytes,
        state: str,
        now: float,
        *,
        cohort: int = 0,
        reason: str = "",
        members: bytes | None = None,
        masked_sum: bytes | None = None,
        release: ReleaseRow | None = None,
        blobs: tuple[BlobRow, ...] = (),
    ) -> None:
        """Enter a state, with what belongs to it."""
        with self._database.transaction() as db:
            db.execute(
                f"UPDATE rounds SET state = ?, {STAMP[state]} = ?, cohort = ?, reason = ?, "
                "members = COALESCE(?, members), masked_sum = COALESCE(?, masked_sum) WHERE id = ?",
                (state, now, cohort, reason, members, masked_sum, round_id),
            )
            if release is not None:
                insert_release(db, release)
            insert_blobs(db, blobs)
            _log(db, round_id, state, now, cohort, reason)

    def transitions(self, run: int, after: int) -> list[Transition]:
        """Return a run's state changes with an id above `after`."""
        rows = self._database.db.execute(
            "SELECT t.id, t.round, r.number, t.state, t.t, t.cohort, t.reason FROM transitions t "
            "JOIN rounds r ON r.id = t.round WHERE r.run = ? AND t.id > ? ORDER BY t.id",
            (run, after),
        )
        return [Transition(**row) for row in rows]

    def invited(self, round_id: bytes) -> dict[bytes, str | None]:
        """Return the invited devices, with the reason of those that declined."""
        rows = self._database.db.execute(
            "SELECT device, declined FROM invitations WHERE round = ?", (round_id,)
        )
        return {row["device"]: row["declined"] for row in rows}

    def decline(self, round_id: bytes, device: bytes, reason: str) -> None:
        """Note that an invited device does not take part."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE invitations SET declined = ? WHERE round = ? AND device = ?",
                (reason, round_id, device),
            )

    def add_report(self, row: ReportRow) -> bool:
        """Store a report; False if this device or this nonce has one in this round."""
        try:
            with self._database.transaction() as db:
                values = tuple(getattr(row, name) for name in ReportRow.__dataclass_fields__)
                db.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError:
            return False
        return True

    def report(self, round_id: bytes, device: bytes) -> ReportRow | None:
        """Return one device's report."""
        row = self._database.db.execute(
            "SELECT * FROM reports WHERE round = ? AND device = ?", (round_id, device)
        ).fetchone()
        return None if row is None else ReportRow(**row)

    def reports(self, round_id: bytes) -> list[ReportRow]:
        """Return a round's reports in order of arrival."""
        rows = self._database.db.execute(
            "SELECT * FROM reports WHERE round = ? ORDER BY received, device", (round_id,)
        )
        return [ReportRow(**row) for row in rows]

    def helper_said(self, round_id: bytes, device: bytes, accepted: bool, reason: str) -> None:
        """Keep the helper's answer to a report."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE reports SET helper = ?, reason = ? WHERE round = ? AND device = ?",
                (int(accepted), reason, round_id, device),
            )


def _log(db: sqlite3.Connection, round_id: bytes, state: str, t: float, cohort: int, reason: str) -> None:
    db.execute(
        "INSERT INTO transitions (round, state, t, cohort, reason) VALUES (?, ?, ?, ?, ?)",
        (round_id, state, t, cohort, reason),
    )
