# SPDX-License-Identifier: Apache-2.0
"""Simulated devices that speak the real protocol over real mutual TLS, in the test's process.

They train nothing: a device's vector is random integers that the test knows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgefl.adapters.http import Caller, Client, HubRefused, tls_context
from edgefl.ota.patch import unfull
from edgefl.secagg import oneshot
from edgefl.secagg.canary import canary_positions
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.mask import mask
from edgefl.secagg.secret import Secret
from edgefl.types import MaskedUpdate, RingVector
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import blake2b, key_id, sha256, signer
from edgefl.wire.messages import (
    Decline,
    EnrollAnswer,
    EnrollRequest,
    Manifest,
    Poll,
    PollAnswer,
    Release,
    Token,
)
from server_min import ca, keys
from server_min.helper_link import WallClock


class Entropy:
    def token(self, n: int) -> bytes:
        return os.urandom(n)


@dataclass
class SimDevice:
    """One device; `vector` is what it contributed last, `seed` its secret."""

    folder: Path
    token: Token
    number: int
    seed: bytes = b""
    client: Any = None
    credential: bytes = b""
    sequence: int = 0
    model: bytes | None = None
    file: bytes = b""
    release: Release | None = None
    vector: np.ndarray | None = None
    secret: bytes = b""
    update: MaskedUpdate | None = None
    manifest: Manifest | None = None
    h: bytes = b""
    polls: int = 0
    events: list[str] = field(default_factory=list)
    earlier: dict[bytes, np.ndarray] = field(default_factory=dict)  # header: vector
    round: bytes | None = None

    @property
    def id(self) -> bytes:
        return key_id(self.public)

    async def enroll(self) -> None:
        """Make a key and spend the token."""
        key = keys.create_key(self.folder / f"device{self.number}.key")
        self.seed, self.public = keys.seed_bytes(key), keys.public_bytes(key)
        open_client = Client(self.token.url, tls_context(None), None, WallClock())
        ca_der = (await open_client.request("GET", "/v1/ca")).body
        await open_client.close()
        assert sha256(ca_der) == self.token.ca
        client = Client(self.token.url, tls_context(ca_der), Caller(signer(self.seed), "enroll"), WallClock())
        body = EnrollRequest(secret=self.token.secret, csr=ca.create_csr(key, "x")).encode()
        answer = await client.request("POST", "/v1/enroll", body)
        await client.close()
        assert answer.status == 200, answer.body
        enrolled = EnrollAnswer.decode(answer.body)
        self.credential = enrolled.credential
        identity = self.folder / f"device{self.number}.pem"
        identity.write_bytes(
            (self.folder / f"device{self.number}.key").read_bytes() + der_to_pem(enrolled.certificate)
        )
        self.client = self.connect(ca_der, identity)

    def connect(self, ca_der: bytes, identity: Path) -> Client:
        leader = next(h.key for h in self.token.hubs if h.role == "leader")
        caller = Caller(signer(self.seed), key_id(leader).hex())
        return Client(self.token.hub, tls_context(ca_der, identity), caller, WallClock())

    def poll_message(self, **changes: Any) -> Poll:
        self.polls = max(self.polls + 1, time.time_ns())
        fields: dict[str, Any] = dict(
            n=self.polls, task=self.token.task, model=self.model, sequence=self.sequence, round=self.round,
            estimate_ms=10, samples=100, runtime="sim", rejected=(), event="",
        )  # fmt: skip
        return Poll(**fields | changes)

    async def poll(self, **changes: Any) -> PollAnswer:
        answer = await self.client.request("POST", "/v1/poll", self.poll_message(**changes).encode())
        if answer.status != 200:
            from edgefl.adapters.http import raise_refusal

            raise_refusal(answer)
        return PollAnswer.decode(answer.body)

    async def install(self, name: bytes) -> None:
        """Download a release whole and verify it as far as the test needs it."""
        envelope = (await self.client.request("GET", f"/v1/releases/{name.hex()}")).body
        pinned = {key_id(self.token.publisher): self.token.publisher}
        release = Release.decode(open_envelope(envelope, "release", pinned))
        blob = await self.client.request("GET", f"/v1/blobs/{release.full.sha256.hex()}")
        self.file = unfull(blob.body, release.size)
        assert sha256(self.file) == release.file and release.sequence > self.sequence
        self.release, self.sequence, self.model = release, release.sequence, release.file

    def prepare(self, envelope: bytes) -> MaskedUpdate:
        """Check the manifest, draw a vector, mask and seal it."""
        pinned = {key_id(h.key): h.key for h in self.token.hubs}
        payload = open_envelope(envelope, "manifest", pinned, 2)
        self.manifest = m = Manifest.decode(payload)
        self.h = h = blake2b(payload)
        assert m.model == self.model
        rng = np.random.default_rng(int.from_bytes(os.urandom(8), "big"))
        top = 2 ** (m.value_bits - 1) - 1
        self.vector = rng.integers(-top, top + 1, m.dim)
        ring = np.ones(m.length, np.uint16 if m.width == 16 else np.uint32)
        spots = np.ones(m.length, bool)
        spots[list(canary_positions(h, m.length, m.length - m.dim))] = False
        ring[spots] = self.vector.astype(ring.dtype)
        self.secret = os.urandom(32)
        with Secret(self.secret) as secret:
            key = mask_key(secret.data, device=self.id, h=h, width=m.width, dim=m.dim)
            masked = mask(RingVector(ring, m.width), key, m.bits)
            self.update = oneshot.seal(
                masked, secret, m, h, device=self.id, class_="any", attempt=0, credential=self.credential,
                sign=signer(self.seed)[1], entropy=Entropy(),
            )  # fmt: skip
        self.earlier[self.update.header] = self.vector
        self.round = m.round
        return self.update

    async def put(self, update: MaskedUpdate, body: bytes | None = None) -> Any:
        path = f"/v1/rounds/{update.round_id.hex()}/reports/{update.attempt}"
        return await self.client.request("PUT", path, update.body if body is None else body)

    async def decline(self, round_id: bytes, reason: str = "busy") -> Any:
        body = Decline(reason=reason).encode()
        return await self.client.request("POST", f"/v1/rounds/{round_id.hex()}/decline", body)

    async def live(self, take: Callable[[SimDevice, bytes], bool] = lambda device, manifest: True) -> None:
        """Poll, install, report, until cancelled; `take` False: accept the manifest, never report."""
        while True:
            try:
                answer = await self.poll()
            except HubRefused as error:
                self.events.append(error.code)
                return
            self.credential = answer.credential or self.credential
            if self.round in answer.cancel:
                self.events.append("cancelled")
                self.round = None
            if answer.release:
                await self.install(answer.release)
                self.events.append("installed")
            if answer.round:
                update = self.prepare(answer.round)
                if not take(self, answer.round):
                    self.events.append("silent")
                    continue
                result = await self.put(update)
                self.events.append(f"put {result.status}")
                self.round = None

    async def close(self) -> None:
        await self.client.close()


def der_to_pem(der: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


async def enroll_all(folder: Path, tokens: list[str]) -> list[SimDevice]:
    devices = [SimDevice(folder, Token.from_text(t), i) for i, t in enumerate(tokens)]
    await asyncio.gather(*(d.enroll() for d in devices))
    return devices


async def until(what: Callable[[], Any], timeout: float = 25.0) -> Any:
    end = time.monotonic() + timeout
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)
    return value
