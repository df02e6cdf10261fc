# SPDX-License-Identifier: Apache-2.0
"""How others learn what the daemon does: a socket for `edgefl status`, and systemd's notifications.

In: a function that returns the status.  Out: one JSON object to whoever connects, then the end. Refuses
nothing and reads nothing. The socket lies in the state folder, for its owner alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Name a socket by its folder's descriptor: a Unix address has room for 107 bytes only."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def serve_status(path: Path, status: Callable[[], dict[str, Any]]) -> asyncio.AbstractServer:
    """Answer every connection with the status of that moment."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(status()).encode())
            await writer.drain()
            writer.close()

    path.unlink(missing_ok=True)
    with short_name(path) as name:
        server = await asyncio.start_unix_server(answer, name)
    path.chmod(0o600)
    return server


def ask_status(path: Path) -> dict[str, Any] | None:
    """Return the running daemon's status, None if no daemon runs."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, short_name(path) as name:
            connection.settimeout(5)
            connection.connect(name)
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        status: dict[str, Any] = json.loads(b"".join(pieces))
        return status
    except (OSError, ValueError):
        return None


def notify(state: str) -> None:
    """Tell systemd (READY=1, WATCHDOG=1, STOPPING=1), if it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
