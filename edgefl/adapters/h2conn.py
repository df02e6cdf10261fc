# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 connection over TLS: one reading task, any number of streams, flow control in both directions.

In: an address and a TLS context.  Out: `Answer`s; failures as one-line errors. Nothing is written between the
preface and the peer's first frame: only then a refused certificate gives its TLS alert instead of an empty
error (in TLS 1.3 the alert comes after the handshake, and a write to a closed socket would lose it).
Invariant: when the connection ends, for whatever reason, every stream on it ends. Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from edgefl.errors import DataError, EdgeflError, Refused, Unavailable

READ_BYTES = 65536
WINDOW = 1 << 20  # receive window of a stream and of the connection: 20 MB/s at a round trip of 50 ms


class CertificateRefused(Refused):
    """The peer's TLS alert says that it does not accept our certificate."""


@dataclass(frozen=True)
class Answer:
    """One response: status, headers by lower-case name, body (empty if it went to a sink)."""

    status: int
    headers: dict[str, str]
    body: bytes


# Called with status and headers; says where the body's pieces go, None = collect them.
Sink = Callable[[Answer], "Callable[[bytes], object] | None"]


class Stream:
    """A request in flight; `done` becomes its answer or its failure."""

    def __init__(self, sink: Sink | None, limit: int) -> None:
        """Keep where the body goes and how long it may be."""
        self.id = 0
        self.choose = sink
        self.limit = limit
        self.head: Answer | None = None
        self.sink: Callable[[bytes], object] | None = None
        self.pieces: list[bytes] = []
        self.size = 0
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # marked as seen: a request cancelled at this moment will not look again

    def begin(self, event: events.ResponseReceived) -> None:
        """Take status and headers."""
        pairs = {_text(name): _text(value) for name, value in event.headers or []}
        status = pairs.get(":status", "")
        self.head = Answer(int(status) if status.isdecimal() else 599, pairs, b"")
        try:
            self.sink = self.choose(self.head) if self.choose else None
        except OSError as error:
            self.fail(error)

    def receive(self, data: bytes) -> None:
        """Take a piece of the body."""
        self.size += len(data)
        if self.size > self.limit:
            self.fail(DataError(f"the hub's answer is larger than {self.limit} bytes"))
        elif not self.done.done():
            try:
                (self.sink or self.pieces.append)(data)
            except OSError as error:  # the disk is full
                self.fail(error)

    def finish(self) -> None:
        """End with the answer, which is whole now."""
        if not self.done.done() and self.head is not None:
            self.done.set_result(Answer(self.head.status, self.head.headers, b"".join(self.pieces)))


class Connection:
    """An open connection; `failure` is set once it takes no further request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        """Wrap an open TLS stream; `open` is the way in."""
        self.reader = reader
        self.writer = writer
        self.peer = peer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams: dict[int, Stream] = {}
        self.failure: EdgeflError | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.window: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext, timeout: float) -> Connection:
        """Connect, and wait until the peer has accepted our certificate and spoken.

        Raises
        ------
        Refused
            One of the two certificates is not accepted.
        Unavailable
            No connection, no HTTP/2, or no word within `timeout` seconds.
        """
        peer = f"{host}:{port}"
        connection = None
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, ssl=tls, limit=READ_BYTES), timeout
            )
            connection = cls(reader, writer, peer)
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                raise Unavailable(f"{peer} does not speak HTTP/2")
            connection._greet()
            await asyncio.wait_for(asyncio.shield(connection.ready), timeout)
            return connection
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, (asyncio.TimeoutError, OSError)):
                raise network_error(error, peer) from None
            raise

    def start(self, head: list[tuple[str, str]], empty: bool, sink: Sink | None, limit: int) -> Stream:
        """Open a stream with its headers; `empty` ends the request there."""
        if self.failure is not None:
            raise self.failure
        stream = Stream(sink, limit)
        try:
            stream.id = self.h2.get_next_available_stream_id()
            self.h2.send_headers(stream.id, head, end_stream=empty)
        except ProtocolError as error:
            raise Unavailable(f"{self.peer} takes no further request: {error}") from None
        self.streams[stream.id] = stream
        self._flush()
        return stream

    async def exchange(self, stream: Stream, body: bytes | None) -> Answer:
        """Send the body as the windows allow, then wait; an answer that comes early ends the sending."""
        view = memoryview(body or b"")
        while body is not None and not stream.done.done():
            window = self.h2.local_flow_control_window(stream.id)
            size = min(len(view), window, self.h2.max_outbound_frame_size)
            if size <= 0 < len(view):
                either: set[asyncio.Future[Any]] = {self.window, stream.done}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                continue
            self.h2.send_data(stream.id, bytes(view[:size]), end_stream=size == len(view))
            self._flush()
            view = view[size:]
            if not view:
                break
            try:
                await self.writer.drain()
            except OSError:
                break  # the reading task knows why
        return await stream.done

    def drop(self, stream: Stream) -> None:
        """Forget a stream, and reset it if the peer may still be at work on it (cancelled, too large)."""
        if self.streams.pop(stream.id, None) is not None and self.failure is None:
            try:
                self.h2.reset_stream(stream.id, ErrorCodes.CANCEL)
                self._flush()
            except ProtocolError:
                pass  # it has ended by itself

    async def close(self) -> None:
        """Say goodbye if possible and end every stream."""
        if self.failure is None and not self.writer.is_closing():
            self.h2.close_connection()
            self._flush()
        self._end(Unavailable(f"the connection to {self.peer} was closed"))
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def _greet(self) -> None:
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.ENABLE_PUSH: 0})
        self.h2.increment_flow_control_window(WINDOW - 65535)
        self._flush()
        self.task = asyncio.create_task(self._read())

    def _flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.writer.is_closing():
            self.writer.write(data)

    async def _read(self) -> None:
        error: EdgeflError = Unavailable(f"{self.peer} closed the connection")
        try:
            while self.failure is None and (data := await self.reader.read(READ_BYTES)):
                for event in self.h2.receive_data(data):
                    self._handle(event)
                self._flush()
        except OSError as caught:
            error = network_error(caught, self.peer)
        except ProtocolError as caught:
            error = Unavailable(f"{self.peer} broke HTTP/2: {caught}")
        finally:
            self._end(error)

    def _handle(self, event: events.Event) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, (events.WindowUpdated, events.RemoteSettingsChanged)):
            self.window.set_result(None)
            self.window = asyncio.get_running_loop().create_future()
        elif isinstance(event, events.DataReceived):
            if stream is not None:
                stream.receive(event.data or b"")
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, events.ConnectionTerminated):
            self.failure = Unavailable(f"{self.peer} is going away (code {int(event.error_code or 0)})")
        elif stream is None:
            return
        elif isinstance(event, events.ResponseReceived):
            stream.begin(event)
        elif isinstance(event, events.StreamEnded):
            stream.finish()
        elif isinstance(event, events.StreamReset):
            # NO_ERROR after a whole answer only says "stop sending" (RFC 9113 section 8.1): finished by then.
            stream.fail(Unavailable(f"{self.peer} reset the stream (code {int(event.error_code or 0)})"))
            self.streams.pop(stream.id, None)

    def _end(self, error: EdgeflError) -> None:
        self.failure = self.failure or error
        if not self.ready.done():
            self.ready.set_exception(self.failure)
            self.ready.exception()
        for stream in self.streams.values():
            stream.fail(self.failure)
        self.streams.clear()
        self.writer.close()


def network_error(error: BaseException, peer: str) -> EdgeflError:
    """One line for a failed connection; a refused certificate is a refusal, all else may pass by itself."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"{peer} shows a certificate that the pinned CA did not sign: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        if "alert" in reason and ("cert" in reason or "unknown ca" in reason or "access denied" in reason):
            return CertificateRefused(f"{peer} refuses this certificate: {reason}", hint="enrol again")
        return Unavailable(f"TLS with {peer} failed: {reason}")
    if isinstance(error, asyncio.TimeoutError):
        return Unavailable(f"{peer} does not answer")
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unavailable(f"cannot reach {peer}: {text}")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
