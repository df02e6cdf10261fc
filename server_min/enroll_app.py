# SPDX-License-Identifier: Apache-2.0
"""Enrolment: a token and a signing request become a certificate and a credential.  On a listener of its own.

In: `GET /v1/ca`, `POST /v1/enroll` signed by the new device key.  Out: certificate, CA, credential; renewals
for polls.
Refuses unknown, used and expired tokens, keys other than the one that owns a token, revoked keys.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgefl.errors import DataError
from edgefl.wire import credential
from edgefl.wire.httpsig import ENROLL
from edgefl.wire.keys import key_id, signer
from edgefl.wire.messages import EnrollAnswer, EnrollRequest
from server_min import ca, keys
from server_min.config import Hub
from server_min.gate import Gate, answer, catch_all, decode, read_body
from server_min.metrics import Metrics
from server_min.refusal import Refusal
from server_min.store import Device, Store, TokenRefused

RENEW_S = credential.LIFETIME_S / 2
CLASS = "any"


class Registrar:
    """Holds the CA's key; issues certificates and credentials."""

    def __init__(self, hub: Hub, store: Store, clock: Callable[[], float]) -> None:
        self.hub = hub
        self.store = store
        self.clock = clock
        self._ca_key = keys.load_key(hub.folder / "ca.key")
        self._ca_signer = signer(keys.seed_bytes(self._ca_key))
        self._renewed: dict[bytes, float] = {}

    def enroll(self, request: EnrollRequest) -> EnrollAnswer:
        """Spend a token on the key of a signing request."""
        now = self.clock()
        public = ca.read_csr(request.csr)
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        device = key_id(raw)
        leaf = ca.issue(self.hub.pinned_ca, self._ca_key, public, device.hex(), now)
        row = Device(device, raw, CLASS, "", now, None, 0, None, 0, None, 0, 0, "", "")
        certificate = self.store.devices.enroll(request.secret, row, leaf.public_bytes(Encoding.DER), now)
        self._renewed[device] = time.monotonic()
        return EnrollAnswer(
            device=device, certificate=certificate, ca=self.hub.ca_der, credential=self.credential(raw, CLASS)
        )

    def credential(self, key: bytes, class_: str) -> bytes:
        """Return a fresh credential."""
        return credential.issue(self._ca_signer, key, class_, int(self.clock()))

    def renewal(self, device: bytes) -> bytes | None:
        """Return a fresh credential if this process gave the device none for half a credential's life."""
        now = time.monotonic()
        if now - self._renewed.get(device, -RENEW_S) < RENEW_S:
            return None
        row = self.store.devices.get(device)
        if row is None:
            return None
        self._renewed[device] = now
        return self.credential(row.key, row.class_)


def app(registrar: Registrar, store: Store, clock: Callable[[], float], metrics: Metrics) -> Starlette:
    """Return the application of the enrolment listener."""
    gate = Gate(store, ENROLL, lambda _: None, clock, metrics)

    async def root(_: Request) -> Response:
        return Response(registrar.hub.ca_der, media_type="application/pkix-cert")

    async def enroll(request: Request) -> Response:
        body = await read_body(request, None, 8192)
        message = decode(EnrollRequest, body)
        try:
            public = ca.read_csr(message.csr).public_bytes(Encoding.Raw, PublicFormat.Raw)
        except DataError as error:
            raise Refusal("request.malformed", str(error)) from None
        caller = gate.check(request, lambda name: public if name == key_id(public) else None)
        if hashlib.sha256(body).digest() != caller.body_sha256:
            raise Refusal("request.signature", "the body is not the one that was signed")
        try:
            return answer(registrar.enroll(message))
        except TokenRefused as refused:
            raise Refusal(refused.code, str(refused)) from None

    return Starlette(
        routes=[
            Route("/v1/ca", gate.open(root)),
            Route("/v1/enroll", gate.open(enroll), methods=["POST"]),
            catch_all(gate),
        ]
    )
