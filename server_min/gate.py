# SPDX-License-Identifier: Apache-2.0
"""Who sent a request: the signature is checked before the body is read, then the body against its digest.

In: an ASGI request, the keys that may sign.  Out: a `Caller`; bodies whose SHA-256 is the signed one.
Refuses unsigned, old and repeated requests, unknown and revoked keys, bodies above their limit.
Invariant: each answer, refusals too, carries `edgefl-time`.  Source: docs/protocol.md, "Every request and
every answer".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgefl.errors import DataError, EdgeflError
from edgefl.wire.field import Message
from edgefl.wire.httpsig import MAX_AGE_S, RequestRefused, SignedRequest, verify_request
from server_min.metrics import Metrics
from server_min.refusal import Refusal
from server_min.store import Store

log = logging.getLogger("edgefl.hub")
SMALL_BODY = 1 << 16
CBOR = "application/cbor"
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Caller:
    """The key that signed a request, and the body that it announced."""

    id: bytes
    body_sha256: bytes | None


Handler = Callable[[Request], Awaitable[Response]]
Keys = Callable[[bytes], "bytes | None"]


def answer(message: Message, status: int = 200) -> Response:
    """Return a CBOR answer."""
    return Response(message.encode(), status, media_type=CBOR)


class Gate:
    """Checks signatures for one listener and turns refusals into answers."""

    def __init__(
        self, store: Store, audience: str, key_of: Keys, clock: Callable[[], float], metrics: Metrics
    ) -> None:
        """`key_of` returns a key id's key, None for an unknown one, and raises Refusal for a revoked one."""
        self.store = store
        self.audience = audience
        self.key_of = key_of
        self.clock = clock
        self.metrics = metrics

    def open(self, handler: Handler) -> Handler:
        """Wrap a handler that needs no signature (`GET /v1/ca`, enrolment, which checks by itself)."""

        async def guarded(request: Request) -> Response:
            try:
                response = await handler(request)
            except Refusal as refusal:
                self.metrics.refused.labels(refusal.code).inc()
                log.info(
                    "refused %s %s: %s: %s", request.method, request.url.path, refusal.code, refusal.text
                )
                response = Response(refusal.body, refusal.status, media_type=CBOR)
            except EdgeflError as error:
                log.error("failed %s %s: %s", request.method, request.url.path, error)
                response = Response(
                    Refusal("busy", "the hub cannot serve this now").body, 503, media_type=CBOR
                )
            response.headers["edgefl-time"] = str(int(self.clock()))
            return response

        return guarded

    def signed(self, handler: Callable[[Request, Caller], Awaitable[Response]]) -> Handler:
        """Wrap a handler that gets the caller of a signed request."""

        async def checked(request: Request) -> Response:
            return await handler(request, self.check(request, self.key_of))

        return self.open(checked)

    def check(self, request: Request, key_of: Keys) -> Caller:
        """Return the caller, or raise Refusal; uses up the request's nonce."""
        headers = single_headers(request)
        target = request.scope["raw_path"].decode("ascii", "replace")
        query = request.scope["query_string"].decode("ascii", "replace")
        try:
            signed: SignedRequest = verify_request(
                request.method,
                f"{target}?{query}" if query else target,
                headers,
                audience=self.audience,
                key_of=key_of,
                now=int(self.clock()),
            )
        except RequestRefused as refused:
            raise Refusal(refused.code, str(refused)) from None
        self.store.devices.forget_nonces(int(self.clock()) - 2 * MAX_AGE_S)
        if not self.store.devices.use_nonce(signed.key_id, signed.nonce, signed.created):
            raise Refusal("request.replay", "this request was sent before")
        return Caller(signed.key_id, signed.body_sha256)


def single_headers(request: Request) -> Mapping[str, str]:
    """Return headers by lower-case name; one that came twice is left out."""
    names = [name for name, _ in request.headers.items()]
    return {name: value for name, value in request.headers.items() if names.count(name) == 1}


async def unknown_path(request: Request) -> Response:
    """Refuse what is no endpoint."""
    raise Refusal("not_found", f"{request.method} {request.url.path:.80} is not served here")


def catch_all(gate: Gate) -> Route:
    """Return the last route of a listener: other paths, and other methods of known ones."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Route("/{path:path}", gate.open(unknown_path), methods=methods)


async def read_body(request: Request, caller: Caller | None, limit: int = SMALL_BODY) -> bytes:
    """Return a small body, no longer than `limit`, whose SHA-256 is the signed one."""
    check_length(request, limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise Refusal("body.too_large", f"the body has more than {limit} bytes")
    if caller is not None and hashlib.sha256(body).digest() != caller.body_sha256:
        raise Refusal("request.signature", "the body is not the one that was signed")
    return bytes(body)


def check_length(request: Request, limit: int) -> None:
    """Refuse an announced length above the limit before anything is read."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise Refusal("body.too_large", f"the body has {length:.20} bytes, at most {limit} allowed")


def decode(cls: type[M], body: bytes) -> M:
    """Return the message of a body, or refuse it."""
    try:
        return cls.decode(body)
    except DataError as error:
        raise Refusal("request.malformed", str(error)) from None
