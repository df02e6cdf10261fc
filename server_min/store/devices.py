# SPDX-License-Identifier: Apache-2.0
"""Devices, enrolment tokens and the nonces of signed requests.

In: ids, keys, polls.  Out: `Device` rows.  Invariant: a token belongs to the first key that used it; a nonce
counts once; a poll counts only if its number is above the last one.
"""

from __future__ import annotations

import hashlib
import sqlite3

from edgefl.errors import Refused
from edgefl.wire.messages import Poll
from server_min.store.database import Database
from server_min.store.rows import Device

_COLUMNS = (
    "id, key, class AS class_, task, enrolled, revoked, polled, model, sequence, round, estimate_ms, "
    "samples, runtime, event"
)


class TokenRefused(Refused):
    """A token that does not let this key in; `code` is the protocol's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class SqliteDevices:
    """Tables devices, tokens, nonces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_token(self, secret: bytes, task: str, expires: int) -> None:
        """Remember a token by the hash of its secret."""
        with self._database.transaction() as db:
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, NULL)", (_hash(secret), task, expires))

    def enroll(self, secret: bytes, device: Device, certificate: bytes, now: float) -> bytes:
        """Spend a token on a device and return its certificate: the one issued first, if it comes again.

        Raises
        ------
        TokenRefused
            Unknown, expired, or owned by another key.
        """
        with self._database.transaction() as db:
            token = db.execute("SELECT * FROM tokens WHERE secret_hash = ?", (_hash(secret),)).fetchone()
            if token is None:
                raise TokenRefused("token.unknown", "this token was not issued here")
            if token["device"] not in (None, device.id):
                raise TokenRefused("token.used", "another device has used this token; ask for a new one")
            if token["device"] is None and now >= token["expires"]:
                raise TokenRefused("token.expired", "this token has expired; ask for a new one")
            known = db.execute(
                "SELECT certificate, revoked FROM devices WHERE id = ?", (device.id,)
            ).fetchone()
            if known is not None and known["revoked"] is not None:
                raise TokenRefused("device.revoked", "this device's key was revoked; enrol with a new key")
            if known is not None and token["device"] is not None:
                return bytes(known["certificate"])
            db.execute("UPDATE tokens SET device = ? WHERE secret_hash = ?", (device.id, _hash(secret)))
            db.execute(
                "INSERT INTO devices (id, key, class, task, enrolled, certificate) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET task = excluded.task, certificate = excluded.certificate",
                (device.id, device.key, device.class_, token["task"], now, certificate),
            )
            return certificate

    def get(self, device: bytes) -> Device | None:
        """Return one device."""
        row = self._database.db.execute(f"SELECT {_COLUMNS} FROM devices WHERE id = ?", (device,)).fetchone()
        return None if row is None else Device(**row)

    def all(self) -> list[Device]:
        """Return every device, the earliest first."""
        rows = self._database.db.execute(f"SELECT {_COLUMNS} FROM devices ORDER BY enrolled, id")
        return [Device(**row) for row in rows]

    def revoked_ids(self) -> set[bytes]:
        """Return the ids of revoked devices."""
        return {
            row["id"] for row in self._database.db.execute("SELECT id FROM devices WHERE revoked NOT NULL")
        }

    def count(self) -> int:
        """Return how many devices are enrolled and not revoked."""
        row = self._database.db.execute("SELECT COUNT(*) AS n FROM devices WHERE revoked IS NULL").fetchone()
        return int(row["n"])

    def revoke(self, device: bytes, now: float) -> bool:
        """Revoke at once; False if there is no such device."""
        with self._database.transaction() as db:
            done = db.execute("UPDATE devices SET revoked = COALESCE(revoked, ?) WHERE id = ?", (now, device))
            return done.rowcount == 1

    def record_poll(self, device: bytes, poll: Poll, now: float) -> bool:
        """Keep what a device says of itself; False if its number is not above the last one."""
        done = self._database.fast.execute(
            "UPDATE devices SET n = ?, polled = ?, model = ?, sequence = ?, round = ?, "
            "estimate_ms = ?, samples = ?, runtime = ?, event = ?, rejected = ? WHERE id = ? AND n < ?",
            (
                poll.n, now, poll.model, poll.sequence, poll.round, poll.estimate_ms,
                poll.samples, poll.runtime, poll.event, len(poll.rejected), device, poll.n,
            ),
        )  # fmt: skip
        return done.rowcount == 1

    def seen(self, device: bytes, now: float) -> None:
        """Note that a device is alive (its long poll is still open)."""
        self._database.fast.execute("UPDATE devices SET polled = ? WHERE id = ?", (now, device))

    def use_nonce(self, key: bytes, nonce: bytes, created: int) -> bool:
        """Return whether this is the nonce's first use by this key."""
        try:
            self._database.fast.execute("INSERT INTO nonces VALUES (?, ?, ?)", (key, nonce, created))
        except sqlite3.IntegrityError:
            return False
        return True

    def forget_nonces(self, before: int) -> None:
        """Drop nonces of requests that are too old to be accepted anyway."""
        self._database.fast.execute("DELETE FROM nonces WHERE created < ?", (before,))


def _hash(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
