# SPDX-License-Identifier: Apache-2.0
"""Rounds as devices see them; this slice opens none yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edgefl.wire.messages import Poll, Report
from server_min.config import Hub
from server_min.metrics import Metrics
from server_min.presence import Presence
from server_min.refusal import Refusal
from server_min.store import Part, Store


@dataclass(frozen=True)
class Expected:
    """A report that may come."""

    payload_bytes: int


@dataclass(frozen=True)
class Upload:
    """A report that came: its header, the hash of its payload, the payload on disk."""

    header: Report
    header_bytes: bytes
    y_hash: bytes
    part: Part


class Driver:
    """Runs rounds."""

    def __init__(self, hub: Hub, store: Store, presence: Presence, metrics: Metrics) -> None:
        self.store = store

    async def run(self) -> None:
        """Run until cancelled."""
        await asyncio.Event().wait()

    def polled(self, device: bytes, poll: Poll) -> None:
        """Hear from a device."""

    def invitation(self, device: bytes, poll: Poll) -> bytes | None:
        """Return the manifest that a device should answer."""
        return None

    def is_over(self, round_id: bytes, device: bytes) -> bool:
        """Return whether a device works on a round in vain."""
        return True

    def expect(self, round_id: bytes, device: bytes, attempt: int) -> Expected:
        """Return what a report of this device must look like, or refuse it."""
        raise Refusal("round.unknown", "there is no such round")

    async def accept(self, expected: Expected, upload: Upload) -> None:
        """Check and store a report."""

    def declined(self, round_id: bytes, device: bytes, reason: str) -> None:
        """Hear that a device does not take part."""

    def revoked(self, device: bytes) -> None:
        """Hear that a device left."""
