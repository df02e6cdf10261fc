# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub serve`: all listeners of a hub in one process and one event loop, on Granian.

In: a hub's folder.  Out: `ready` on stdout when every listener accepts; exit 0 on TERM or INT within two
seconds, long polls included.  Refuses to run if its own mutual-TLS listener lets somebody in without a
certificate (exit 78). One process, because long polls are woken in memory; requests are spread over cores by
running more hubs, not workers.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server

from edgefl.errors import ConfigError, StorageError, Unavailable
from server_min.config import Hub, split_address

log = logging.getLogger("edgefl.hub")
STOP_S = 1.0
CHECK_S = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class Listener:
    """An application on an address; `tls`: none, server (own certificate), mutual (the client's too)."""

    name: str
    address: str
    app: Any
    tls: str


def create_server(listener: Listener, folder: Path, log_level: str) -> Server:
    """Return a Granian server that is not running yet."""
    host, port = split_address(listener.address)
    secure: dict[str, Any] = {}
    if listener.tls != "none":
        secure = {
            "http": HTTPModes.http2,
            "ssl_cert": folder / "tls.pem",
            "ssl_key": folder / "tls.key",
            "ssl_protocol_min": SSLProtocols.tls13,
            "http2_settings": HTTP2Settings(max_headers_size=16384, max_concurrent_streams=100),
        }
    if listener.tls == "mutual":
        # Without ssl_ca Granian drops ssl_client_verify after one warning: check_refuses_strangers looks.
        secure |= {"ssl_ca": folder / "ca.pem", "ssl_client_verify": True}
    return Server(
        listener.app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=1024,
        log_level=LogLevels.debug if log_level == "debug" else LogLevels.error,
        log_dictconfig=GRANIAN_LOG,
        **secure,
    )


# stdout is for `ready`; Granian's lines go where ours go.
GRANIAN_LOG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


def require_free(listener: Listener) -> None:
    """Refuse an address that is taken: Granian binds with SO_REUSEPORT and would share it in silence."""
    host, port = split_address(listener.address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        hint = "is another hub running?"
        raise Unavailable(f"cannot listen on {listener.address}: {error.strerror}", hint=hint) from None


async def wait_until_listening(address: str) -> None:
    """Return when a connection is accepted."""
    host, port = split_address(address)
    end = time.monotonic() + CHECK_S
    while True:
        try:
            _, writer = await asyncio.open_connection(local(host), port)
            writer.close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise Unavailable(f"cannot listen on {address}: {error.strerror}") from None
        await asyncio.sleep(0.02)


async def check_refuses_strangers(address: str) -> None:
    """Connect without a certificate; the TLS alert must come, HTTP/2 frames must not.

    Raises
    ------
    ConfigError
        The listener let us in.
    """
    host, port = split_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection(local(host), port, ssl=context)
        writer.write(PREFACE)
        data = await asyncio.wait_for(reader.read(9), CHECK_S)
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return
    except asyncio.TimeoutError:
        data = b""
    if data:
        raise ConfigError(
            f"{address} lets clients in without a certificate",
            hint="client verification is off; do not run this",
        )


def local(host: str) -> str:
    """Return an address to reach a listener on this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def run_listeners(
    hub: Hub, listeners: Sequence[Listener], background: Sequence[Any], stop_polls: Any = lambda: None
) -> None:
    """Serve until TERM or INT; background coroutines run beside and end the process if they fail."""
    for listener in listeners:
        require_free(listener)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        servers = [create_server(item, hub.folder, hub.toml.hub.log_level) for item in listeners]
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the TLS files of {hub.folder} cannot be used: {error}") from None
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    try:
        for listener in listeners:
            await wait_until_listening(listener.address)
            if listener.tls == "mutual":
                await check_refuses_strangers(listener.address)
        tasks += [asyncio.create_task(coroutine) for coroutine in background]
        print("ready", flush=True)
        stopper = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopper, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopper}:
            task.result()
            raise StorageError("a listener ended by itself", hint="see the log")
    finally:
        stop_polls()
        await asyncio.sleep(0.05)  # their answers leave first
        for server in servers:
            server.stop()  # type: ignore[no-untyped-call]
        for task in tasks[len(servers) :]:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_S)


def configure_log(level: str) -> None:
    """Send the hub's log to stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
