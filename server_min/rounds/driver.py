# SPDX-License-Identifier: Apache-2.0
"""Runs rounds: feeds events to the state machine, does what it asks for, keeps both in the store.

In: polls, reports, declines, ticks.  Out: manifests, releases.  Each state is durable before what follows
from it; after a restart every open round goes on from the store.  Heavy work (sums, patches) runs off the
event loop.
Invariant: this process sees masked vectors and R, never a seed: no single vector can be opened here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from edgefl.errors import EdgeflError
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import Signer, signer
from edgefl.wire.messages import Manifest, Poll
from server_min.config import Hub
from server_min.helper_link import HelperLink
from server_min.metrics import Metrics
from server_min.presence import Presence
from server_min.refusal import Refusal
from server_min.rounds import work
from server_min.rounds.intake import Expected, Intake, Upload
from server_min.rounds.live import LiveRound, restore
from server_min.rounds.machine import step
from server_min.rounds.scheduler import Scheduler
from server_min.rounds.state import (
    Action,
    AskHelper,
    AwaitInstalls,
    Event,
    Failed,
    Forward,
    Installed,
    Out,
    Phase,
    Publish,
    Reported,
    Restarted,
    TellVoid,
    Tick,
)  # fmt: skip
from server_min.store import FINAL, RoundRow, Store

log = logging.getLogger("edgefl.hub")
TICK_S = 0.1
# A device that does not react to a manifest gets it again after 1, 2, 4 .. 30 s.
RESEND_MAX_S = 30.0


class Driver:
    """All rounds of a leader."""

    def __init__(self, hub: Hub, store: Store, presence: Presence, metrics: Metrics) -> None:
        self.hub = hub
        self.store = store
        self.presence = presence
        self.metrics = metrics
        self.link = HelperLink(hub)
        self.publisher: Signer = signer(hub.private("publisher"))
        self.intake = Intake(hub, store, time.time)
        self.scheduler = Scheduler(self)
        self.rounds: dict[bytes, LiveRound] = {}
        self.polls: dict[bytes, Poll] = {}
        self.forwarding: dict[bytes, list[bytes]] = {}  # round: devices whose headers wait
        self.revoked_ids: set[bytes] = {d.id for d in store.devices.all() if d.revoked is not None}
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Go on with stored rounds, then look at clock and store until cancelled."""
        for row in self.store.rounds.open_rounds():
            live = restore(row, self.store, self.manifest_of(row))
            self.rounds[row.id] = live
            self.apply(live, Restarted())
        try:
            while True:
                self.tick(time.time())
                await asyncio.sleep(TICK_S)
        finally:
            for task in self.tasks:
                task.cancel()
            await self.link.disconnect()

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, installs, revocations and queued rounds of the command line."""
        for live in list(self.rounds.values()):
            self.apply(live, Tick(now))
            if live.state.phase is Phase.PUBLISHED:
                self.check_installed(live, now)
        for device in self.store.devices.revoked_ids() - self.revoked_ids:
            self.revoked(device)
        self.metrics.devices.labels("live").set(self.presence.count())
        self.metrics.devices.labels("revoked").set(len(self.revoked_ids))
        self.metrics.devices.labels("enrolled").set(self.store.devices.count())
        self.scheduler.tick(now)

    # What devices do

    def polled(self, device: bytes, poll: Poll) -> None:
        """Hear from a device."""
        self.polls[device] = poll

    def invitation(self, device: bytes, poll: Poll) -> bytes | None:
        """Return the manifest that a device should answer now."""
        now = time.monotonic()
        for live in self.rounds.values():
            state = live.state
            waiting = device in state.invited - state.reported - state.out
            if not (live.collecting and waiting and live.row.task == poll.task):
                continue
            times, due = live.delivered.get(device, (0, now))
            if now >= due:
                live.delivered[device] = (times + 1, now + min(2.0**times, RESEND_MAX_S))
                return live.envelope
        return None

    def is_over(self, round_id: bytes, device: bytes) -> bool:
        """Return whether a device works on a round in vain."""
        live = self.rounds.get(round_id)
        if live is None:
            return self.store.rounds.report(round_id, device) is None
        return device not in live.state.reported and (not live.collecting or device in live.state.out)

    def expect(self, round_id: bytes, device: bytes, attempt: int) -> Expected:
        """Return what a report of this device must look like, or refuse it."""
        row = self.store.rounds.get(round_id)
        manifest = None if row is None else self.manifest_of(row)
        return self.intake.expect(row, self.rounds.get(round_id), manifest, device, attempt)

    async def accept(self, expected: Expected, upload: Upload) -> None:
        """Check, store, sum and forward a report."""
        live = self.rounds.get(expected.round.id)
        try:
            vector = await self.intake.store_report(expected, upload, live)
        except Refusal as refusal:
            self.metrics.reports.labels(refusal.code).inc()
            raise
        if vector is None or live is None:
            return
        self.metrics.reports.labels("accepted").inc()
        self.metrics.received.labels("header").inc(4 + len(upload.header_bytes))
        self.metrics.received.labels("payload").inc(upload.part.size)
        self.start(asyncio.to_thread(live.sums.add, expected.device, vector))
        self.apply(live, Reported(expected.device))

    def declined(self, round_id: bytes, device: bytes, reason: str) -> None:
        """Hear that a device does not take part."""
        live = self.rounds.get(round_id)
        if live is None or device not in live.state.invited:
            raise Refusal("round.unknown", "this device was not invited to such a round")
        if device not in live.state.out | live.state.reported:
            self.metrics.declined.inc()
            log.info("round %s: %s declined: %s", round_id.hex()[:8], device.hex()[:8], reason)
            self.store.rounds.decline(round_id, device, reason)
            self.apply(live, Out(device))

    def revoked(self, device: bytes) -> None:
        """Take a revoked device out of open rounds and end its polls."""
        self.revoked_ids.add(device)
        for live in list(self.rounds.values()):
            if device in live.state.invited and live.collecting:
                self.store.rounds.decline(live.id, device, "revoked")
                self.apply(live, Out(device))
        self.presence.wake([device])

    # The machine

    def apply(self, live: LiveRound, event: Event) -> None:
        """Advance a round, store its new phase, do what follows."""
        before, (live.state, actions) = live.state, step(live.state, event)
        if live.state.phase is not before.phase:
            self.entered(live)
        for action in actions:
            self.act(live, action)

    def entered(self, live: LiveRound) -> None:
        """Store a new phase; `unmasked` and `published` were stored with their results."""
        state, now = live.state, time.time()
        phase = state.phase.value
        log.info("round %s: %s %s", live.id.hex()[:8], phase, state.reason)
        self.metrics.phase.labels(phase).observe(now - live.row.opened_at)
        if state.phase not in (Phase.UNMASKED, Phase.PUBLISHED):
            self.store.rounds.move(
                live.id, phase, now, cohort=len(state.members) or len(state.usable), reason=state.reason,
                members=b"".join(state.members) or None,
            )  # fmt: skip
        if phase in FINAL:
            self.metrics.rounds.labels(live.row.task, phase).inc()
            self.rounds.pop(live.id, None)
            self.scheduler.ended(live.row.task, now)
        self.presence.wake(state.invited)

    def act(self, live: LiveRound, action: Action) -> None:
        """Do what a step asks for."""
        match action:
            case Forward(device):
                queue = self.forwarding.setdefault(live.id, [])
                queue.append(device)
                if len(queue) == 1:
                    self.start(work.forward(self, live))
            case AskHelper():
                self.start(self.guarded(live, work.ask_helper(self, live)))
            case Publish():
                self.start(self.guarded(live, work.publish(self, live)))
            case TellVoid():
                self.start(work.tell_void(self, live))
            case AwaitInstalls():
                work.forget_reports(self, live)

    async def guarded(self, live: LiveRound, job: Coroutine[Any, Any, Event]) -> None:
        """Turn the outcome of a phase's work into an event; a failure voids the round with its reason."""
        try:
            event: Event = await job
        except EdgeflError as error:
            event = Failed(str(error))
        except Exception as error:
            log.exception("round %s", live.id.hex()[:8])
            event = Failed(f"the hub failed: {type(error).__name__}")
        if isinstance(event, Failed):
            self.metrics.failures.labels(live.state.phase.value).inc()
        self.apply(live, event)

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job beside the loop."""
        task = asyncio.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def check_installed(self, live: LiveRound, now: float) -> None:
        """Finish a round when its live devices run the release, or the wait is over."""
        present = [d for d in live.state.invited - self.revoked_ids if self.presence.live(d)]
        have = sum(self.has(live, d) for d in present)
        since = now - live.published_at
        if present and have == len(present):
            self.apply(live, Installed())
        elif since >= self.hub.toml.rounds.settle_s:
            text = f"{have} of {len(live.state.invited)} devices had installed after {since:.0f} s"
            live.state = live.state.with_reason(text)
            self.apply(live, Installed())

    def has(self, live: LiveRound, device: bytes) -> bool:
        """Return whether a device runs a round's release, or found it bad."""
        poll = self.polls.get(device)
        return poll is not None and (poll.sequence >= live.release or live.envelope_hash in poll.rejected)

    def manifest_of(self, row: RoundRow) -> Manifest:
        """Return the manifest of a stored round."""
        return Manifest.decode(open_envelope(row.manifest, "manifest", {self.hub.id: self.hub.public}))
