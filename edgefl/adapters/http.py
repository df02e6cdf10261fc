# SPDX-License-Identifier: Apache-2.0
"""Signed requests over mutual TLS 1.3 and HTTP/2, for devices and between hubs.

In: a hub's URL, a TLS context, a signer.  Out: answers, decoded CBOR, files. One connection carries a long
poll beside uploads and downloads; it is opened when needed, and again after it broke. Refuses TLS below 1.3,
peers outside the pinned CA, answers above their bound. A hub that refuses a request for its age gives its own
time, which is then an offset for signatures, never for expiry.
Invariant: each attempt is signed afresh: a nonce counts once at the hub. Source: RFC 9421, docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from edgefl.adapters.h2conn import Answer, Connection, Sink
from edgefl.adapters.timeout import within
from edgefl.errors import DataError, EdgeflError, Refused, StorageError, TemporaryFailure, Unavailable
from edgefl.ports import Clock
from edgefl.wire import cbor, httpsig
from edgefl.wire.keys import Signer, sha256

T = TypeVar("T")
MAX_ANSWER = 1 << 20  # of a message; files stream to disk


class HubRefused(Refused):
    """The hub answered with a refusal; `code` is one of docs/protocol.md."""

    def __init__(self, status: int, code: str, text: str) -> None:
        """Keep status and code for the caller's decision."""
        super().__init__(f"the hub refused ({code}): {text}" if text else f"the hub refused ({code})")
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Timeouts:
    """Seconds: until the hub's first frame, and for a whole request (a long poll takes 30 s at the hub)."""

    connect: float = 10.0
    answer: float = 45.0


@dataclass(frozen=True)
class Caller:
    """Who signs the requests (`edgefl.wire.keys.signer`), and for whom: a hub id in hex, or `enroll`."""

    signer: Signer = field(repr=False)
    audience: str


def tls_context(ca: bytes | None, identity: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 client context that trusts one CA (DER) and shows the certificate in `identity` (PEM).

    `ca` None accepts any certificate: only to fetch the CA itself, whose hash the enrolment token pins.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.set_alpn_protocols(["h2"])
    if ca is None:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    else:
        tls.load_verify_locations(cadata=ca)
    if identity is not None:
        tls.load_cert_chain(identity)
    return tls


class Client:
    """One hub, one connection, many requests at a time."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext,
        caller: Caller | None,
        clock: Clock,
        token: Callable[[int], bytes] = os.urandom,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Keep the settings; the first request connects. Without a caller requests are not signed."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise DataError(f"not a hub URL: {url!r}", hint="it looks like https://hub.example:8440")
        self.host = parts.hostname
        self.port = parts.port or 443
        self.authority = parts.netloc
        self.prefix = parts.path.rstrip("/")
        self.tls = tls
        self.caller = caller
        self.clock = clock
        self.token = token
        self.timeouts = timeouts or Timeouts()
        self.offset = 0.0  # added to the clock for signatures, once the hub refused a request for its age
        self.skew = 0.0  # hub time minus own clock as of the last answer, for deadlines
        self.sent = 0  # bytes of request bodies
        self.received = 0  # bytes of answer bodies
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        sink: Sink | None = None,
        timeout: float | None = None,
        limit: int = MAX_ANSWER,
    ) -> Answer:
        """Send one request and wait for its answer, whatever its status.

        Parameters
        ----------
        sink
            Called with status and headers; returns where the body's pieces go, or None to collect them.
        timeout
            Seconds for the whole exchange; `timeouts.answer` if None.
        limit
            Largest answer body in bytes.

        Raises
        ------
        Unavailable
            The hub cannot be reached, went away or did not answer in time.
        Refused
            A certificate was refused by one of the sides.
        """
        answer = await self._attempt(method, target, body, headers, sink, timeout, limit)
        if answer.status == 401 and refusal(answer)[0] == "request.age":
            self.offset = self.skew
            answer = await self._attempt(method, target, body, headers, sink, timeout, limit)
        return answer

    async def call(
        self, method: str, target: str, message: object = None, *, timeout: float | None = None
    ) -> Any:
        """Send a message as CBOR and return the decoded answer.

        Raises
        ------
        HubRefused, TemporaryFailure, Unavailable, Refused
        """
        body = None if message is None else cbor.dumps(message)
        answer = await self.request(method, target, body, timeout=timeout)
        if answer.status >= 300:
            raise_refusal(answer)
        return cbor.loads(answer.body) if answer.body else None

    async def download(self, target: str, path: Path, size: int, *, timeout: float | None = None) -> None:
        """Stream a blob of `size` bytes to `path`, going on from what is there; neither synced nor hashed.

        Raises
        ------
        DataError
            The blob is not `size` bytes long.
        StorageError
            The disk is full.
        HubRefused, TemporaryFailure, Unavailable, Refused
        """
        try:
            with open(path, "ab") as file:
                have = file.tell()
                if have > size:
                    file.truncate(0)
                    have = 0
                if have < size:
                    answer = await self._stream_to(file, target, have, size, timeout)
                    if answer.status not in (200, 206):
                        raise_refusal(answer)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None
        if (have := path.stat().st_size) != size:
            raise DataError(f"{target} has {have} bytes, announced were {size}")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _stream_to(self, file: Any, target: str, have: int, size: int, timeout: float | None) -> Answer:
        def sink(answer: Answer) -> Callable[[bytes], object] | None:
            if answer.status == 200 and have:
                file.truncate(0)
            write: Callable[[bytes], object] = file.write
            return write if answer.status in (200, 206) else None

        headers = (("range", f"bytes={have}-"),) if have else ()
        return await self.request("GET", target, headers=headers, sink=sink, timeout=timeout, limit=size)

    async def _attempt(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: tuple[tuple[str, str], ...],
        sink: Sink | None,
        timeout: float | None,
        limit: int,
    ) -> Answer:
        connection = await self._connect()
        if body is None and method in httpsig.BODY_METHODS:
            body = b""
        url = self.prefix + target
        head = [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", url)]
        head += headers
        if self.caller is not None:
            signed = httpsig.sign_request(
                method,
                url,
                None if body is None else sha256(body),
                signer=self.caller.signer,
                audience=self.caller.audience,
                created=int(self.clock.now() + self.offset),
                nonce=self.token(httpsig.NONCE_BYTES),
            )
            head += signed.items()
        if body is not None:
            head += [("content-length", str(len(body)))]
        stream = connection.start(head, body is None, sink, limit)
        self.sent += len(body or b"")
        try:
            seconds = timeout or self.timeouts.answer
            answer = await within(seconds, connection.exchange(stream, body))
        except asyncio.TimeoutError:
            await connection.close()  # it may be a dead link that TCP has not noticed
            raise Unavailable(
                f"{connection.peer} did not answer {method} {target} in {seconds:g} s"
            ) from None
        finally:
            connection.drop(stream)
            self.received += stream.size
        if (told := answer.headers.get("edgefl-time", "")).isdecimal():
            gap = int(told[:12]) - self.clock.now()  # whole seconds, rounded down: equal clocks give -1..0
            self.skew = 0.0 if -1.5 < gap < 0.5 else gap + 0.5
        return answer

    async def _connect(self) -> Connection:
        async with self._opening:
            if self._connection is None or self._connection.failure is not None:
                await self.close()
                seconds = self.timeouts.connect
                self._connection = await Connection.open(self.host, self.port, self.tls, seconds)
            return self._connection


def refusal(answer: Answer) -> tuple[str, str]:
    """Code and text of a refusal's body; a body that is none gives its status as the code."""
    try:
        body: Any = cbor.loads(answer.body)
        return str(body["code"]), str(body["text"])
    except (EdgeflError, KeyError, TypeError):
        return f"http.{answer.status}", ""


def raise_refusal(answer: Answer) -> NoReturn:
    """Raise what a refusal means: `busy` and 5xx may pass by themselves, all else does not."""
    code, text = refusal(answer)
    if code == "busy" or answer.status >= 500:
        raise TemporaryFailure(f"the hub cannot answer now ({code}): {text}")
    raise HubRefused(answer.status, code, text)
