# SPDX-License-Identifier: Apache-2.0
"""A scripted hub pair in one process, for real device processes: publishes, invites, lies when told to.

Keys of leader, helper, publisher and CA are all here, so a test can open what a device sent.  `faults` maps a
path prefix to a function that answers in the hub's place.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tinymodel import small_cnn

from edgefl.model.forward import Forward, bias_exponents
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments, vector_size
from edgefl.model.write import write_segments
from edgefl.native import masks
from edgefl.ota import patch
from edgefl.secagg import oneshot
from edgefl.secagg.params import round_params
from edgefl.secagg.secret import Secret
from edgefl.secagg.unmask import helper_sum
from edgefl.wire import cbor, credential, httpsig
from edgefl.wire import messages as m
from edgefl.wire.envelope import seal
from edgefl.wire.keys import blake2b, key_id, public_key, sha256, signer
from edgefl.wire.report import split

from .fakehub import Authority, FakeHub

HELD_S = 0.2  # how long a poll waits for news

Answer = tuple[int, dict, bytes]


class MiniHub:
    """Serve one task; everything that happens is kept in plain lists."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.authority = Authority()
        self.publisher, self.leader, self.helper = (os.urandom(32) for _ in range(3))
        self.round_secret = Secret(os.urandom(32))
        self.devices: dict[bytes, bytes] = {}  # id: key
        self.revoked: set[bytes] = set()
        self.tokens: dict[bytes, bytes | None] = {}  # secret: key that used it
        self.blobs: dict[bytes, bytes] = {}
        self.releases: list[tuple[m.Release, bytes]] = []
        self.rounds: dict[bytes, tuple[m.Manifest, bytes, bytes]] = {}  # id: manifest, h, envelope
        self.inviting: bytes | None = None
        self.over: set[bytes] = set()
        self.reports: list[tuple[bytes, int, bytes, bytes]] = []  # round, attempt, device, body
        self.declined: list[tuple[bytes, str]] = []
        self.polls: list[m.Poll] = []
        self.requests: list[str] = []
        self.faults: dict[str, Callable[[], Answer | None]] = {}
        self.script: Callable[[m.Poll], None] | None = None  # looks at each poll
        self.news = threading.Condition()
        self.numbers = 0
        self.model = small_cnn(0)
        server = self.authority.server(folder)
        self.door = FakeHub(self.handle_door, server, self.authority.der, mutual=False)
        self.hub = FakeHub(self.handle, server, self.authority.der)
        self.publish(self.model)

    def stop(self) -> None:
        self.hub.stop()
        self.door.stop()

    # What the test says

    def token(self, **changes) -> str:
        secret = os.urandom(32)
        self.tokens[secret] = None
        pins = [
            m.HubPin(key=public_key(self.leader), operator="A", role="leader"),
            m.HubPin(key=public_key(self.helper), operator="B", role="helper"),
        ]
        fields = {
            "url": self.door.url, "hub": self.hub.url, "ca": sha256(self.authority.der), "secret": secret,
            "publisher": public_key(self.publisher), "hubs": tuple(pins), "task": "tiny", "expires": 2**33,
        }  # fmt: skip
        return m.Token(**{**fields, **changes}).to_text()

    def task(self, model: bytes) -> m.Task:
        graph = read_model(model)
        segments = select_segments(graph, "all")
        x = np.random.default_rng(0).integers(-128, 128, (32, 8, 8, 3)).astype(np.int8)
        exponents = bias_exponents(graph, segments, x)
        return m.Task(
            name="tiny", layers="all", loss="softmax_ce", class_weights_nano=None, lr_nano=10**7, epochs=1,
            batch=16, micro_batch=16, step_cap_nano=10**8, shadow="residual", seed=7,
            exponents=tuple(j for j, s in zip(exponents, segments, strict=True) if s.kind == "bias"),
            mode="oneshot", width=16, value_bits=8, hub_rate_nano=10**9, clip=10000, scale=512,
            dim=vector_size(segments),
        )  # fmt: skip

    def keep(self, data: bytes) -> m.BlobRef:
        self.blobs[sha256(data)] = data
        return m.BlobRef(sha256(data), len(data))

    def publish(self, file: bytes, *, key: bytes | None = None, **changes) -> bytes:
        """Make `file` the newest Release; returns the envelope's hash."""
        graph = read_model(file)
        x = np.random.default_rng(1).integers(-128, 128, (16, 8 * 8 * 3)).astype(np.int8)
        inputs = self.keep(m.Probe(n=16, x=x.tobytes()).encode())
        probe = m.ProbeRef(inputs.sha256, inputs.size, sha256(Forward(graph).run(x).tobytes()))
        patches = ()
        if self.releases and self.model != file:
            made = self.keep(patch.build(self.model, file))
            patches = (m.PatchRef(sha256(self.model), made.sha256, made.size),)
        now = int(time.time())
        fields = {
            "model": "tiny", "class_": "any", "sequence": now + len(self.releases), "label": "",
            "issued": now, "expires": now + 86400, "file": sha256(file), "size": len(file),
            "patches": patches, "full": self.keep(patch.full(file)), "probe": probe,
            "task": self.task(file), "runtime": "0", "schema": bytes(32),
            "provenance": m.Provenance(round=None, cohort=0, parents=()),
        }  # fmt: skip
        body = m.Release(**{**fields, **changes})
        envelope = seal("release", body.encode(), [signer(key or self.publisher)])
        self.releases.append((body, envelope))
        self.model = file
        self.wake()
        return sha256(envelope)

    def invite(self, *, deadline_s: float = 60, keys: tuple[bytes, ...] | None = None, **changes) -> bytes:
        """Open a round and invite every device that polls; returns its id."""
        task = self.releases[-1][0].task
        fields = {
            "round": os.urandom(16), "number": len(self.rounds), "task": sha256(task.encode()),
            "model": sha256(self.model), "mode": "oneshot", "quorum": 2, "n_max": 8, "width": task.width,
            "bits": 11, "value_bits": task.value_bits, "dim": task.dim, "length": task.dim + 6,
            "scale": task.scale, "clip": task.clip, "deadline": int(time.time() + deadline_s),
            "leader": m.Leader(key=key_id(public_key(self.leader)), operator="A"),
            "helper": m.Helper(
                key=key_id(public_key(self.helper)), operator="B",
                round_key=oneshot.round_public(self.round_secret),
            ),
        }  # fmt: skip
        manifest = m.Manifest(**{**fields, **changes})
        payload = manifest.encode()
        envelope = seal("manifest", payload, [signer(k) for k in keys or (self.leader, self.helper)])
        self.rounds[manifest.round] = (manifest, blake2b(payload), envelope)
        self.inviting = manifest.round
        self.wake()
        return manifest.round

    def end(self, round_id: bytes) -> None:
        self.over.add(round_id)
        self.inviting = None
        self.wake()

    def opened(self, round_id: bytes) -> np.ndarray:
        """Unmask the only report of a round as both hubs together: the device's integers and canaries."""
        (body,) = [body for name, _, _, body in self.reports if name == round_id]
        manifest, h, _ = self.rounds[round_id]
        report, payload = split(body, manifest.payload_bytes)
        assert blake2b(payload) == report.y_hash
        oneshot.verify_report(report, manifest, h, device_key=self.devices[report.device], class_="any")
        seed = oneshot.open_box(report, manifest, h, round_secret=self.round_secret)
        total = helper_sum([(report.device, seed)], round_params(manifest), h)
        masks.add_packed(total, payload, manifest.bits)
        return masks.unwrap(total, manifest.bits)

    def wake(self) -> None:
        with self.news:
            self.news.notify_all()

    # What devices see

    def handle_door(self, method: str, path: str, headers: dict, body: bytes) -> Answer:
        self.requests.append(f"{method} {path}")
        fault = self.faults.get(path)
        if fault is not None and (answer := fault()) is not None:
            return answer
        if path == "/v1/ca":
            return 200, {}, self.authority.der
        request = m.EnrollRequest.decode(body)
        from cryptography import x509

        public = x509.load_der_x509_csr(request.csr).public_key().public_bytes_raw()
        signed = httpsig.verify_request(
            method, path, headers, audience=httpsig.ENROLL, key_of=lambda _: public, now=int(time.time())
        )
        assert signed.body_sha256 == sha256(body)
        if request.secret not in self.tokens:
            return refuse(403, "token.unknown")
        if self.tokens[request.secret] not in (None, public):
            return refuse(403, "token.used")
        self.tokens[request.secret] = public
        self.devices[key_id(public)] = public
        ca = key_seed(self.authority)
        answer = m.EnrollAnswer(
            device=key_id(public),
            certificate=self.authority.issue(request.csr),
            ca=self.authority.der,
            credential=credential.issue(signer(ca), public, "any", int(time.time())),
        )
        return 200, {}, answer.encode()

    def handle(self, method: str, path: str, headers: dict, body: bytes) -> Answer:
        self.requests.append(f"{method} {path}")
        for prefix, fault in list(self.faults.items()):
            if path.startswith(prefix) and (answer := fault()) is not None:
                return answer
        try:
            signed = httpsig.verify_request(
                method, path, headers, audience=key_id(public_key(self.leader)).hex(),
                key_of=self.devices.get, now=int(time.time()),
            )  # fmt: skip
        except httpsig.RequestRefused as error:
            return refuse(401, error.code)
        if signed.key_id in self.revoked:
            return refuse(403, "device.revoked")
        status, more, answer = self.route(method, path, headers, body, signed.key_id)
        return status, {"edgefl-time": str(int(time.time())), **more}, answer

    def route(self, method: str, path: str, headers: dict, body: bytes, device: bytes) -> Answer:
        parts = path.split("/")
        if path == "/v1/poll":
            return self.poll(m.Poll.decode(body))
        if parts[2] == "releases":
            found = [e for _, e in self.releases if sha256(e).hex() == parts[3]]
            return (200, {}, found[0]) if found else refuse(404, "not_found")
        if parts[2] == "blobs":
            data = self.blobs[bytes.fromhex(parts[3])]
            start = int(headers.get("range", "bytes=0-")[6:-1])
            return (206 if start else 200), {}, data[start:]
        if parts[2] == "rounds" and parts[4] == "reports":
            self.reports.append((bytes.fromhex(parts[3]), int(parts[5]), device, body))
            return 200, {}, m.Accepted(accepted=True).encode()
        if parts[2] == "rounds" and parts[4] == "decline":
            self.declined.append((bytes.fromhex(parts[3]), m.Decline.decode(body).reason))
            return 200, {}, m.Empty().encode()
        if path == "/v1/leave":
            self.revoked.add(device)
            return 200, {}, m.Empty().encode()
        return refuse(404, "not_found")

    def poll(self, poll: m.Poll) -> Answer:
        assert not self.polls or poll.n > self.polls[-1].n, "poll numbers must increase"
        self.polls.append(poll)
        if self.script:
            self.script(poll)
        until = time.monotonic() + HELD_S
        while True:
            answer = self.what_is_new(poll)
            left = until - time.monotonic()
            if answer != NOTHING or left <= 0:
                return 200, {}, answer.encode()
            with self.news:
                self.news.wait(left)

    def what_is_new(self, poll: m.Poll) -> m.PollAnswer:
        body, envelope = self.releases[-1]
        name = sha256(envelope)
        if body.sequence > poll.sequence and name not in poll.rejected:
            return replace(NOTHING, release=name)
        if poll.round in self.over:
            return replace(NOTHING, cancel=(poll.round,))
        if poll.round is None and self.inviting is not None:
            # As a real hub: again until the device reacts.
            known = {r for r, *_ in self.reports} | {r for r, _ in self.declined}
            if self.inviting not in known:
                return replace(NOTHING, round=self.rounds[self.inviting][2])
        return NOTHING


NOTHING = m.PollAnswer(release=None, round=None, cancel=(), credential=None)


def refuse(status: int, code: str) -> Answer:
    return status, {"edgefl-time": str(int(time.time()))}, cbor.dumps({"code": code, "text": "said the test"})


def key_seed(authority: Authority) -> bytes:
    return authority.key.private_bytes_raw()


def nudged(model: bytes, seed: int) -> bytes:
    """The model with some weights moved, as a round would."""
    graph = read_model(model)
    rng = np.random.default_rng(seed)
    targets = [(s.param, s.kind) for s in select_segments(graph, "all") if s.kind == "weight"]
    values = []
    for param, _ in targets:
        q = graph.params[param].q.astype(np.int16)
        values.append(np.clip(q + rng.integers(-1, 2, q.shape), -127, 127).astype(np.int8))
    return write_segments(graph, targets, values)
