# SPDX-License-Identifier: Apache-2.0
"""Joining a fleet: a one-time token becomes a key, a certificate and pins.

In: the token's text.  Out: `id.pem` and the fleet's row. Refuses a CA whose hash is not the token's, a
certificate for another key or from another CA, a credential that the CA did not sign, and a device that is
enrolled already.
Invariant: the key is on disk before the token is spent, so a kill anywhere is repaired by enrolling again
with the same token. Source: docs/protocol.md, "Enrolment".
"""

from __future__ import annotations

import asyncio

from edgefl.adapters import identity
from edgefl.adapters.clock import SystemClock
from edgefl.adapters.entropy import SystemEntropy
from edgefl.adapters.files import Layout, erase
from edgefl.adapters.http import Caller, Client, Timeouts, raise_refusal, tls_context
from edgefl.adapters.sqlite import DeviceStore, Fleet
from edgefl.config.device import Config
from edgefl.errors import Refused, UsageError
from edgefl.wire import credential
from edgefl.wire.httpsig import ENROLL
from edgefl.wire.keys import key_id, public_key, sha256, signer
from edgefl.wire.messages import EnrollAnswer, EnrollRequest, Token


def enroll(config: Config, text: str) -> Fleet:
    """Enrol this device.

    Raises
    ------
    DataError
        Not a token.
    Refused
        A used, expired or unknown token, or a hub that is not the token's.
    UsageError
        Enrolled already.
    Unavailable
    """
    token = Token.from_text(text)
    layout = Layout(config.state.folder)
    layout.make()
    store = DeviceStore(layout.database)
    try:
        if store.fleet() is not None and layout.identity.exists():
            raise UsageError("this device is enrolled already", hint="run edgefl leave first")
        seed = identity.pending_key(layout.pending_key, SystemEntropy().token(32))
        public = public_key(seed)
        answer, ca, now = asyncio.run(_exchange(config, token, seed))
        ca_key = identity.check_issued(answer.certificate, ca, public)
        stated = credential.check(answer.credential, ca_key, int(now))
        if answer.device != key_id(public) or answer.ca != ca or stated.key != public:
            raise Refused("the hub answered for another device or CA")
        fleet = Fleet(
            device=answer.device,
            class_=stated.class_,
            hub=token.hub,
            ca=ca,
            publisher=token.publisher,
            hubs=token.hubs,
            task=token.task,
            credential=answer.credential,
        )
        store.save_fleet(fleet)
        identity.save(layout.identity, seed, answer.certificate, ca)
        erase(layout.pending_key)
        return fleet
    finally:
        store.close()


async def _exchange(config: Config, token: Token, seed: bytes) -> tuple[EnrollAnswer, bytes, float]:
    """Fetch the CA, compare its hash, enrol over a connection that it vouches for; also returns hub time."""
    clock, t = SystemClock(), config.transport
    timeouts = Timeouts(t.connect_timeout_s, t.answer_timeout_s)
    stranger = Client(token.url, tls_context(None), None, clock, timeouts=timeouts)
    try:
        found = await stranger.request("GET", "/v1/ca")
    finally:
        await stranger.close()
    if found.status != 200:
        raise_refusal(found)
    ca = found.body
    if sha256(ca) != token.ca:
        raise Refused(
            "the hub's CA is not the one that the token names", hint="check the address, ask for a token"
        )
    who = Caller(signer(seed), ENROLL)
    client = Client(token.url, tls_context(ca), who, clock, SystemEntropy().token, timeouts)
    try:
        csr = identity.certificate_request(seed, who.signer[0].hex())
        request = EnrollRequest(secret=token.secret, csr=csr)
        answer = EnrollAnswer.from_plain(await client.call("POST", "/v1/enroll", request.plain()))
        return answer, ca, clock.now() + client.skew
    finally:
        await client.close()
