# SPDX-License-Identifier: Apache-2.0
"""A leader process: store, presence, driver and the three listeners put together."""

from __future__ import annotations

import time

from server_min import enroll_app
from server_min.config import Hub
from server_min.leader_app import LeaderApp
from server_min.metrics import Metrics
from server_min.presence import Presence
from server_min.rounds.driver import Driver
from server_min.serve import Listener, run_listeners
from server_min.store import Store


async def serve_leader(hub: Hub, store: Store) -> None:
    """Run until TERM."""
    metrics = Metrics()
    presence = Presence(time.monotonic)
    registrar = enroll_app.Registrar(hub, store, time.time)
    driver = Driver(hub, store, presence, metrics)
    devices = LeaderApp(
        store, driver, presence, registrar, hub.id, time.time, metrics, hub.toml.rounds.poll_s
    )
    listen = hub.toml.listen
    store.blobs.clean()
    listeners = [
        Listener("devices", listen.devices, devices.app(), "mutual"),
        Listener("enroll", listen.enroll, enroll_app.app(registrar, store, time.time, metrics), "server"),
        Listener("metrics", listen.metrics, metrics.app(), "none"),
    ]
    await run_listeners(hub, listeners, [driver.run()], presence.stop)
