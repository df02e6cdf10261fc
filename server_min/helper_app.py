# SPDX-License-Identifier: Apache-2.0
"""What a leader asks of a helper, and the helper's process.

In: requests over mutual TLS, signed by the pinned leader's hub key.  Out: answers of docs/protocol.md,
"Leader to helper". Any certificate of the fleet opens a connection; only the leader's signature opens an
endpoint.
"""

from __future__ import annotations

import asyncio
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgefl.wire.keys import key_id
from edgefl.wire.messages import Manifest, Reports
from server_min.config import Hub
from server_min.gate import CBOR, Caller, Gate, answer, catch_all, decode, read_body
from server_min.helper import HelperRounds
from server_min.leader_app import bytes16
from server_min.metrics import Metrics
from server_min.serve import Listener, run_listeners
from server_min.store import Store

MAX_REPORTS = 1 << 20


class HelperApp:
    """Handlers of a helper's listener."""

    def __init__(self, hub: Hub, rounds: HelperRounds, store: Store, metrics: Metrics) -> None:
        self.rounds = rounds
        leader = hub.pinned_partner.public
        keys = {key_id(leader): leader}
        self.gate = Gate(store, hub.id.hex(), keys.get, time.time, metrics)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        signed, base = self.gate.signed, "/v1/helper/rounds"
        return Starlette(
            routes=[
                Route(base, signed(self.open), methods=["POST"]),
                Route(base + "/{round}/reports", signed(self.reports), methods=["POST"]),
                Route(base + "/{round}/close", signed(self.close), methods=["POST"]),
                Route(base + "/{round}/void", signed(self.void), methods=["POST"]),
                catch_all(self.gate),
            ]
        )

    async def open(self, request: Request, caller: Caller) -> Response:
        """Agree to a round."""
        draft = decode(Manifest, await read_body(request, caller))
        return Response(self.rounds.open(draft), media_type=CBOR)

    async def reports(self, request: Request, caller: Caller) -> Response:
        """Take report headers."""
        message = decode(Reports, await read_body(request, caller, MAX_REPORTS))
        return answer(self.rounds.take_reports(bytes16(request.path_params["round"]), message.reports))

    async def close(self, request: Request, caller: Caller) -> Response:
        """Answer S."""
        body = await read_body(request, caller, MAX_REPORTS)
        return answer(await self.rounds.close(bytes16(request.path_params["round"]), body))

    async def void(self, request: Request, caller: Caller) -> Response:
        """Sign a void."""
        body = await read_body(request, caller)
        return Response(self.rounds.void(bytes16(request.path_params["round"]), body), media_type=CBOR)


async def serve_helper(hub: Hub, store: Store) -> None:
    """Run until TERM."""
    metrics = Metrics()
    rounds = HelperRounds(hub, store, time.time)
    store.blobs.clean()
    listen = hub.toml.listen
    listeners = [Listener("leader", listen.devices, HelperApp(hub, rounds, store, metrics).app(), "mutual")]
    if listen.metrics:
        listeners.append(Listener("metrics", listen.metrics, metrics.app(), "none"))
    await run_listeners(hub, listeners, [expire(rounds)])


async def expire(rounds: HelperRounds) -> None:
    """Look for rounds that their leader forgot."""
    while True:
        rounds.expire()
        await asyncio.sleep(5)
