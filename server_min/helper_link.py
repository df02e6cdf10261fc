# SPDX-License-Identifier: Apache-2.0
"""The leader's connection to its helper: four requests, each answer checked against the pinned helper key.

In: drafts, headers, sets, voids.  Out: the manifest that both signed, the helper's verdicts, R.
Refuses a manifest in which anything but the round key changed, and a set that is not the one that was sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from edgefl.adapters.http import Caller, Client, raise_refusal, tls_context
from edgefl.errors import Refused
from edgefl.secagg import agree
from edgefl.wire.envelope import countersign, open_envelope
from edgefl.wire.keys import key_id
from edgefl.wire.messages import Manifest, Member, Reports, ReportsAnswer, SetAnswer, SetStatement
from server_min.config import Hub

BATCH = 64  # headers a request: below 128 KiB
ANSWER_S = 600.0  # R of a large model and cohort takes the helper a while


class WallClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class HelperLink:
    """One helper, one connection."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.helper = hub.pinned_partner
        tls = tls_context(hub.ca_der)
        tls.load_cert_chain(hub.folder / "tls.pem", hub.folder / "tls.key")
        audience = key_id(self.helper.public).hex()
        self.client = Client(self.helper.url, tls, Caller(hub.signer, audience), WallClock())

    async def open(self, draft: Manifest) -> bytes:
        """Return the manifest's envelope, signed by both hubs."""
        envelope = await self.post("", draft.encode())
        helper = self.helper.public
        payload = open_envelope(envelope, "manifest", {key_id(helper): helper})
        manifest = Manifest.decode(payload)
        unsigned = replace(manifest, helper=replace(manifest.helper, round_key=draft.helper.round_key))
        if unsigned != draft or manifest.helper.round_key == draft.helper.round_key:
            raise Refused("the helper changed the manifest", hint="do not go on with this helper")
        return countersign(envelope, "manifest", [self.hub.signer])

    async def forward(self, round_id: bytes, headers: Sequence[bytes]) -> list[str]:
        """Return for each header why it was refused, "" if it was accepted."""
        body = Reports(reports=tuple(headers)).encode()
        answer = ReportsAnswer.decode(await self.post(f"/{round_id.hex()}/reports", body))
        if len(answer.accepted) != len(headers):
            raise Refused("the helper's answer has another length than the request")
        pairs = zip(answer.accepted, answer.reasons, strict=True)
        return ["" if good else reason or "refused" for good, reason in pairs]

    async def close(
        self, manifest: Manifest, h: bytes, members: Sequence[Member]
    ) -> tuple[SetStatement, bytes]:
        """Return the set as both hubs signed it, and R packed."""
        statement = agree.set_statement(manifest, h, {m.device: m.class_ for m in members})
        envelope = agree.seal_set(statement, [self.hub.signer])
        limit = SetAnswer.max_bytes
        answer = SetAnswer.decode(
            await self.post(f"/{manifest.round.hex()}/close", envelope, ANSWER_S, limit)
        )
        if agree.open_set(answer.set, [self.helper.public]) != statement:
            raise Refused("the helper signed another set")
        if len(answer.sum) != manifest.payload_bytes:
            raise Refused(f"the helper's sum has {len(answer.sum)} bytes, not {manifest.payload_bytes}")
        return statement, answer.sum

    async def void(self, manifest: Manifest, h: bytes, reason: str) -> None:
        """Get the helper's promise never to answer."""
        envelope = agree.seal_void(manifest, h, reason, [self.hub.signer])
        signed = await self.post(f"/{manifest.round.hex()}/void", envelope)
        agree.open_void(signed, manifest, h, [self.helper.public])

    async def post(self, path: str, body: bytes, timeout: float = 45.0, limit: int = 1 << 20) -> bytes:
        """Send one signed request."""
        answer = await self.client.request(
            "POST", f"/v1/helper/rounds{path}", body, timeout=timeout, limit=limit
        )
        if answer.status >= 300:
            raise_refusal(answer)
        return answer.body

    async def disconnect(self) -> None:
        """Close the connection."""
        await self.client.close()
