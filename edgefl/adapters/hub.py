# SPDX-License-Identifier: Apache-2.0
"""The leader as a device sees it: one method an endpoint of docs/protocol.md.

In: messages.  Out: messages, files. Invariant: what leaves the device's data is a `MaskedUpdate`;
`send_update` takes nothing else and always sends the same bytes for a (round, attempt).
"""

from __future__ import annotations

from pathlib import Path

from edgefl.adapters.http import MAX_ANSWER, Client, raise_refusal
from edgefl.errors import DataError
from edgefl.types import MaskedUpdate
from edgefl.wire.keys import sha256
from edgefl.wire.messages import Accepted, BlobRef, Decline, Empty, Poll, PollAnswer


class Hub:
    """Requests of one enrolled device."""

    def __init__(self, client: Client, transfer_timeout_s: float) -> None:
        """`transfer_timeout_s` bounds one upload or download."""
        self.client = client
        self.transfer_timeout_s = transfer_timeout_s

    async def poll(self, poll: Poll) -> PollAnswer:
        """Wait for news, at most as long as the hub holds a poll."""
        return PollAnswer.from_plain(await self.client.call("POST", "/v1/poll", poll.plain()))

    async def release(self, name: bytes) -> bytes:
        """Return a Release's envelope; DataError if it is not the one that was named."""
        answer = await self.client.request("GET", f"/v1/releases/{name.hex()}", limit=MAX_ANSWER)
        if answer.status != 200:
            raise_refusal(answer)
        if sha256(answer.body) != name:
            raise DataError("the hub sent another release than it named")
        return answer.body

    async def blob(self, ref: BlobRef, path: Path) -> None:
        """Download a blob, going on from what is there; its hash is not checked here."""
        await self.client.download(
            f"/v1/blobs/{ref.sha256.hex()}", path, ref.size, timeout=self.transfer_timeout_s
        )

    async def send_update(self, update: MaskedUpdate) -> None:
        """Upload a masked update; idempotent."""
        target = f"/v1/rounds/{update.round_id.hex()}/reports/{update.attempt}"
        answer = await self.client.request("PUT", target, update.body, timeout=self.transfer_timeout_s)
        if answer.status >= 300:
            raise_refusal(answer)
        if not Accepted.decode(answer.body).accepted:
            raise DataError("the hub neither accepts nor refuses the report")

    async def decline(self, round_id: bytes, reason: str) -> None:
        """Say that no report will come."""
        await self.client.call("POST", f"/v1/rounds/{round_id.hex()}/decline", Decline(reason=reason).plain())

    async def leave(self) -> None:
        """Revoke this device."""
        await self.client.call("POST", "/v1/leave", Empty().plain())
