# SPDX-License-Identifier: Apache-2.0
"""Reports at the leader: what may come, the checks, accept once.

In: a streamed upload.  Out: a stored report, or a refusal.  The same report again gets the same answer,
another one of the same device or nonce never counts.  The vector is looked at only to see that it is
well-formed: it is masked.
Invariant: a report is durable (blob, then row) before it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from edgefl.errors import DataError, Refused
from edgefl.native import masks
from edgefl.secagg import oneshot
from edgefl.wire import credential
from edgefl.wire.messages import Manifest, Report
from server_min.config import Hub
from server_min.refusal import Refusal
from server_min.rounds.live import LiveRound
from server_min.store import Part, ReportRow, RoundRow, Store


@dataclass(frozen=True)
class Expected:
    """A report that may come now, or come again."""

    round: RoundRow
    manifest: Manifest
    device: bytes
    attempt: int
    earlier: ReportRow | None

    @property
    def payload_bytes(self) -> int:
        """The exact size of the payload."""
        return self.manifest.payload_bytes


@dataclass(frozen=True)
class Upload:
    """A report that came: header, hash of the payload, payload on disk without a name yet."""

    header: Report
    header_bytes: bytes
    y_hash: bytes
    part: Part


class Intake:
    """Checks and stores reports."""

    def __init__(self, hub: Hub, store: Store, clock: Callable[[], float]) -> None:
        self.hub = hub
        self.store = store
        self.clock = clock

    def expect(
        self,
        row: RoundRow | None,
        live: LiveRound | None,
        manifest: Manifest | None,
        device: bytes,
        attempt: int,
    ) -> Expected:
        """Return what a device may send to a round, or refuse before its body is read."""
        if row is None or manifest is None or device not in self.store.rounds.invited(row.id):
            raise Refusal("round.unknown", "this device was not invited to such a round")
        earlier = self.store.rounds.report(row.id, device)
        if earlier is None:
            self.require_open(live, device)
        return Expected(row, manifest, device, attempt, earlier)

    def require_open(self, live: LiveRound | None, device: bytes) -> None:
        """Refuse a first report that comes too late."""
        if live is None or not live.collecting or self.clock() > live.state.deadline:
            raise Refusal("round.closed", "the round takes no more reports")
        if device in live.state.out:
            raise Refusal("round.closed", "this device is out of the round")

    async def store_report(
        self, expected: Expected, upload: Upload, live: LiveRound | None
    ) -> masks.Ring | None:
        """Check and keep a report; returns its vector, None if it was there already."""
        self.check(expected, upload)
        if expected.earlier is not None:
            if expected.earlier.header != upload.header_bytes:
                raise Refusal("report.duplicate", "this device has sent another report in this round")
            return None
        sha256, vector = await asyncio.to_thread(self.keep, expected, upload)
        self.require_open(live, expected.device)
        header = upload.header
        row = ReportRow(
            expected.round.id, expected.device, expected.attempt, header.nonce, upload.header_bytes, sha256,
            upload.part.size, self.clock(), None, "",
        )  # fmt: skip
        if self.store.rounds.add_report(row):
            return vector
        there = self.store.rounds.report(row.round, row.device)
        if there is None or there.header != row.header:
            raise Refusal("report.duplicate", "this device or this nonce has a report in this round")
        return None

    def check(self, expected: Expected, upload: Upload) -> None:
        """Refuse a report that is not this device's for this round and payload."""
        report, manifest = upload.header, expected.manifest
        if report.device != expected.device or report.attempt != expected.attempt:
            raise Refusal("report.malformed", "the header names another device or attempt than the request")
        if report.y_hash != upload.y_hash:
            raise Refusal("report.malformed", "the payload is not the one that the header names")
        try:
            card = credential.check(report.credential, self.hub.ca_key, int(self.clock()))
            if card.device != report.device:
                raise Refused("the credential is another device's")
            oneshot.verify_report(report, manifest, expected.round.h, device_key=card.key, class_=card.class_)
        except (Refused, DataError) as error:
            raise Refusal("report.signature", str(error)) from None

    def keep(self, expected: Expected, upload: Upload) -> tuple[bytes, masks.Ring]:
        """Store the payload and unpack it (off the event loop)."""
        manifest = expected.manifest
        sha256 = upload.part.commit()
        try:
            payload = self.store.blobs.read(sha256)
            return sha256, masks.unpack(payload, manifest.length, manifest.width, manifest.bits)
        except DataError as error:
            self.store.blobs.delete(sha256)
            raise Refusal("report.malformed", str(error)) from None
