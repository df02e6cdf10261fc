# SPDX-License-Identifier: Apache-2.0
"""What the supervisor's parts share: configuration, pins, database, files, clock, entropy, log, hub.

In: a configuration of an enrolled device.  Out: `Context`. Refuses a device that is not enrolled and a
certificate that has expired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgefl.adapters import identity
from edgefl.adapters.clock import SystemClock
from edgefl.adapters.entropy import SystemEntropy
from edgefl.adapters.files import Layout
from edgefl.adapters.http import Caller, Client, Timeouts, tls_context
from edgefl.adapters.hub import Hub
from edgefl.adapters.sqlite import DeviceStore, Fleet
from edgefl.config.device import Config
from edgefl.daemon.journal import Journal
from edgefl.errors import MissingInput
from edgefl.wire.keys import Signer, key_id, signer


@dataclass
class Context:
    """One enrolled device, ready to run."""

    config: Config
    layout: Layout
    store: DeviceStore
    fleet: Fleet
    signer: Signer = field(repr=False)
    client: Client
    hub: Hub
    journal: Journal
    clock: SystemClock
    entropy: SystemEntropy
    wake: Callable[[], None] = lambda: None  # poll anew: something changed

    def hub_now(self) -> float:
        """Hub time, as far as known: for deadlines and signatures, never for expiry."""
        return self.clock.now() + self.client.skew


def open_context(config: Config, store: DeviceStore, journal: Journal) -> Context:
    """Read pins and identity.

    Raises
    ------
    MissingInput
        Not enrolled.
    Refused
        The certificate has expired.
    """
    layout, clock, entropy = Layout(config.state.folder), SystemClock(), SystemEntropy()
    fleet = store.fleet()
    if fleet is None:
        raise MissingInput("this device is not enrolled", hint="run edgefl enroll")
    own = identity.load(layout.identity)
    own.check_dates(max(clock.now(), store.time_floor()))
    leader = next(hub for hub in fleet.hubs if hub.role == "leader")
    t = config.transport
    who = signer(own.seed)
    client = Client(
        config.hub.url or fleet.hub,
        tls_context(fleet.ca, layout.identity),
        Caller(who, key_id(leader.key).hex()),
        clock,
        entropy.token,
        Timeouts(t.connect_timeout_s, t.answer_timeout_s),
    )
    hub = Hub(client, t.upload_timeout_s)
    return Context(config, layout, store, fleet, who, client, hub, journal, clock, entropy)


def describe(store: DeviceStore, fleet: Fleet) -> dict[str, Any]:
    """Return the state of the device in plain values; nothing secret."""
    state = store.install_state()
    active, current = state.active, store.open_round()
    return {
        "device": fleet.device.hex(),
        "task": fleet.task,
        "hub": fleet.hub,
        "operators": [hub.operator for hub in fleet.hubs],
        "sequence": state.seen,
        "model": active.hex() if active else None,
        "installing": state.intent.release.hex() if state.intent else None,
        "rejected": [name.hex() for name in state.rejected],
        "round": current.round.hex() if current else None,
        "round_ms": store.meta("estimate_ms"),
        "samples": store.meta("samples"),
        "last_rounds": [
            {"round": name, "attempt": attempt, "outcome": outcome or "in work"}
            for name, attempt, outcome in store.last_rounds(5)
        ],
    }
