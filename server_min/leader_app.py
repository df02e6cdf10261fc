# SPDX-License-Identifier: Apache-2.0
"""What devices ask of a leader: poll, releases, blobs, reports, declines, leaving.

In: signed requests over mutual TLS.  Out: answers of docs/protocol.md.  Refuses other keys than enrolled
devices' and revoked ones, on waiting polls too.  A report streams to a blob; it is never whole in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from edgefl.errors import DataError
from edgefl.wire.messages import Accepted, Decline, Empty, Poll, PollAnswer
from edgefl.wire.report import MAX_HEADER, ReportStream
from server_min import blobs_app
from server_min.enroll_app import Registrar
from server_min.gate import Caller, Gate, Handler, answer, catch_all, check_length, decode, read_body
from server_min.metrics import Metrics
from server_min.presence import Presence
from server_min.refusal import Refusal
from server_min.rounds.driver import Driver
from server_min.rounds.intake import Upload
from server_min.store import Store

# What devices may download; masters, sums and masked reports stay here.
PUBLIC_KINDS = ("model", "patch", "full", "probe")


class LeaderApp:
    """Handlers of the device listener."""

    def __init__(
        self, store: Store, driver: Driver, presence: Presence, registrar: Registrar, hub_id: bytes,
        clock: Callable[[], float], metrics: Metrics, poll_s: float,
    ) -> None:  # fmt: skip
        self.store = store
        self.driver = driver
        self.presence = presence
        self.registrar = registrar
        self.clock = clock
        self.metrics = metrics
        self.poll_s = poll_s
        self.gate = Gate(store, hub_id.hex(), self.key_of, clock, metrics)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        signed = self.gate.signed
        return Starlette(
            routes=[
                Route("/v1/poll", signed(self.poll), methods=["POST"]),
                Route("/v1/releases/{sha256}", self.timed("release", signed(self.release))),
                Route("/v1/blobs/{sha256}", self.timed("blob", signed(self.blob))),
                Route(
                    "/v1/rounds/{round}/reports/{attempt:int}",
                    self.timed("report", signed(self.report)),
                    methods=["PUT"],
                ),
                Route("/v1/rounds/{round}/decline", signed(self.decline), methods=["POST"]),
                Route("/v1/leave", signed(self.leave), methods=["POST"]),
                catch_all(self.gate),
            ]
        )

    def key_of(self, device: bytes) -> bytes | None:
        """Return an enrolled device's key; a revoked device is refused."""
        row = self.store.devices.get(device)
        if row is not None and row.revoked is not None:
            raise Refusal("device.revoked", "this device was revoked")
        return None if row is None else row.key

    def timed(self, route: str, handler: Handler) -> Handler:
        """Measure how long a route takes."""

        async def measured(request: Request) -> Response:
            begin = time.monotonic()
            try:
                return await handler(request)
            finally:
                self.metrics.requests.labels(route).observe(time.monotonic() - begin)

        return measured

    async def poll(self, request: Request, caller: Caller) -> Response:
        """Answer when there is news for the device, at the latest after `poll_s`."""
        poll = decode(Poll, await read_body(request, caller))
        device = self.store.devices.get(caller.id)
        if device is None or device.task != poll.task:
            raise Refusal("request.malformed", f"this device is not enrolled for task {poll.task}")
        if not self.store.devices.record_poll(caller.id, poll, self.clock()):
            raise Refusal("request.replay", f"poll {poll.n} is not above the last one")
        self.driver.polled(caller.id, poll)
        until = time.monotonic() + self.poll_s
        gone = asyncio.ensure_future(disconnected(request))
        gone.add_done_callback(lambda _: self.presence.wake([caller.id]))
        self.presence.enter(caller.id)
        try:
            while True:
                tick = self.presence.tick(caller.id)
                self.key_of(caller.id)
                news = self.news(caller.id, poll)
                left = until - time.monotonic()
                if news is not None or left <= 0 or gone.done() or self.presence.stopping:
                    return answer(news or PollAnswer(release=None, round=None, cancel=(), credential=None))
                await self.presence.wait(caller.id, tick, left)
        finally:
            self.presence.leave(caller.id, gone=gone.done())
            gone.cancel()

    def news(self, device: bytes, poll: Poll) -> PollAnswer | None:
        """Return what a device should hear now, None if nothing."""
        newest = self.store.tasks.newest(poll.task)
        release = None
        if newest and newest.sequence > poll.sequence and newest.envelope not in poll.rejected:
            release = newest.envelope
        # A device that has a release to install trains on it, not on what it has now.
        manifest = None if release or poll.round else self.driver.invitation(device, poll)
        cancel = (poll.round,) if poll.round and self.driver.is_over(poll.round, device) else ()
        credential = self.registrar.renewal(device)
        if not (release or manifest or cancel or credential):
            return None
        return PollAnswer(release=release, round=manifest, cancel=cancel, credential=credential)

    async def release(self, request: Request, caller: Caller) -> Response:
        """Send a Release's envelope."""
        sha256 = hash_of(request)
        if self.store.tasks.release(sha256) is None:
            raise Refusal("not_found", f"there is no release {sha256.hex()}")
        return self.send(request, sha256)

    async def blob(self, request: Request, caller: Caller) -> Response:
        """Send a patch, a file or a probe."""
        sha256 = hash_of(request)
        if self.store.blobs.kind(sha256) not in PUBLIC_KINDS:
            raise Refusal("not_found", f"there is no blob {sha256.hex()}")
        return self.send(request, sha256)

    def send(self, request: Request, sha256: bytes) -> Response:
        """Send a blob and count its bytes."""
        response = blobs_app.send_blob(request, self.store.blobs, sha256)
        self.metrics.sent.inc(int(response.headers.get("content-length", 0)))
        return response

    async def report(self, request: Request, caller: Caller) -> Response:
        """Take a masked update: body to a blob, checks, accept once."""
        round_id = bytes16(request.path_params["round"])
        upload = self.driver.expect(round_id, caller.id, request.path_params["attempt"])
        check_length(request, 4 + MAX_HEADER + upload.payload_bytes)
        stream = ReportStream(upload.payload_bytes)
        body_hash, payload_hash = hashlib.sha256(), hashlib.blake2b(digest_size=32)
        with self.store.blobs.stream(upload.payload_bytes) as part:
            try:
                async for piece in request.stream():
                    body_hash.update(piece)
                    payload = stream.feed(piece)
                    payload_hash.update(payload)
                    part.write(payload)
                header = stream.finish()
            except DataError as error:
                self.metrics.reports.labels("malformed").inc()
                raise Refusal("report.malformed", str(error)) from None
            if body_hash.digest() != caller.body_sha256:
                raise Refusal("request.signature", "the body is not the one that was signed")
            await self.driver.accept(upload, Upload(header, stream.header_bytes, payload_hash.digest(), part))
        return answer(Accepted(accepted=True))

    async def decline(self, request: Request, caller: Caller) -> Response:
        """Note that an invited device does not take part."""
        message = decode(Decline, await read_body(request, caller))
        self.driver.declined(bytes16(request.path_params["round"]), caller.id, message.reason)
        return answer(Empty())

    async def leave(self, request: Request, caller: Caller) -> Response:
        """Revoke the device that asks for it."""
        decode(Empty, await read_body(request, caller))
        self.store.devices.revoke(caller.id, self.clock())
        self.driver.revoked(caller.id)
        return answer(Empty())


async def disconnected(request: Request) -> None:
    """Return when the client is gone."""
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    except ClientDisconnect:
        pass


def hash_of(request: Request) -> bytes:
    """Return the hash in a path."""
    return _hex(request.path_params["sha256"], 32)


def bytes16(text: str) -> bytes:
    """Return the round id in a path."""
    return _hex(text, 16)


def _hex(text: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or value.hex() != text:
        raise Refusal("not_found", f"{text:.80} is not {2 * size} hex digits")
    return value
