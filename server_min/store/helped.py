# SPDX-License-Identifier: Apache-2.0
"""What a helper remembers of a round: manifest, accepted devices, the one answer.

In: rows from helper.py.  Out: `HelpedRow`.  Never holds seeds, round keys or unnoised sums of an open round.
Invariant: a round moves once, from open to answered or to void; a device and a nonce are accepted once.
"""

from __future__ import annotations

import sqlite3

from server_min.store.database import Database
from server_min.store.rows import HelpedRow


class SqliteHelped:
    """Tables helped, journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, round_id: bytes, manifest: bytes, h: bytes, quorum: int, now: float) -> bool:
        """Store a new round; False if the id was used before."""
        try:
            with self._database.transaction() as db:
                db.execute(
                    "INSERT INTO helped (id, manifest, h, quorum, state, opened_at) "
                    "VALUES (?, ?, ?, ?, 'open', ?)",
                    (round_id, manifest, h, quorum, now),
                )
        except sqlite3.IntegrityError:
            return False
        return True

    def get(self, round_id: bytes) -> HelpedRow | None:
        """Return one round."""
        row = self._database.db.execute("SELECT * FROM helped WHERE id = ?", (round_id,)).fetchone()
        return None if row is None else HelpedRow(**row)

    def all(self) -> list[HelpedRow]:
        """Return every round, the earliest first."""
        return [HelpedRow(**r) for r in self._database.db.execute("SELECT * FROM helped ORDER BY opened_at")]

    def accept(self, round_id: bytes, device: bytes, nonce: bytes, class_: str, header_hash: bytes) -> bool:
        """Journal a report; False if the device or the nonce is there already."""
        try:
            with self._database.transaction() as db:
                db.execute(
                    "INSERT INTO journal VALUES (?, ?, ?, ?, ?)",
                    (round_id, device, nonce, class_, header_hash),
                )
        except sqlite3.IntegrityError:
            return False
        return True

    def header_hash(self, round_id: bytes, device: bytes) -> bytes | None:
        """Return the hash of the header that was accepted from a device."""
        row = self._database.db.execute(
            "SELECT header_hash FROM journal WHERE round = ? AND device = ?", (round_id, device)
        ).fetchone()
        return None if row is None else bytes(row["header_hash"])

    def end(
        self, round_id: bytes, state: str, now: float, *, reason: str = "", members: bytes | None = None,
        answer: bytes | None = None,
    ) -> bool:  # fmt: skip
        """Leave `open` for `answered` or `void`; False if it was left before."""
        with self._database.transaction() as db:
            done = db.execute(
                "UPDATE helped SET state = ?, ended_at = ?, reason = ?, members = ?, answer = ? "
                "WHERE id = ? AND state = 'open'",
                (state, now, reason, members, answer, round_id),
            )
            return done.rowcount == 1

    def void_open(self, reason: str, now: float) -> int:
        """End every open round (after a restart their keys are gone) and return how many there were."""
        with self._database.transaction() as db:
            return db.execute(
                "UPDATE helped SET state = 'void', reason = ?, ended_at = ? WHERE state = 'open'",
                (reason, now),
            ).rowcount
