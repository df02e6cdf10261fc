# SPDX-License-Identifier: Apache-2.0
"""Starts queued rounds, one after another in a task.

In: the schedule in the store, live devices.  Out: opened rounds.  A round starts when every live device runs
the newest release, or after `settle_s` with the quorum; `invite.choose` decides, this file asks it and opens
the round at the helper.
"""

from __future__ import annotations

import logging
import os
import random
import time
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError, TemporaryFailure, Unavailable
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import blake2b, key_id, sha256
from edgefl.wire.messages import Leader, Manifest
from server_min.rounds.invite import Candidate, choose, draft
from server_min.rounds.live import LiveRound, RunningSum
from server_min.rounds.state import Phase, Round
from server_min.store import Device, Due, ReleaseRow, RoundRow, TaskRow

if TYPE_CHECKING:
    from server_min.rounds.driver import Driver

log = logging.getLogger("edgefl.hub")
# Devices that start together appear within a second or so of each other.
APPEAR_S = 1.0
RETRY_S = 2.0


class Scheduler:
    """Decides when the driver opens a round."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.busy: set[str] = set()  # tasks whose round is being opened
        self.not_before: dict[str, float] = {}
        self.since: dict[str, float] = {}  # monotonic time from which a task waits
        self.shuffle = random.SystemRandom().shuffle

    def ended(self, task: str, now: float) -> None:
        """Hear that a round of a task is over."""
        self.since.pop(task, None)

    def tick(self, now: float) -> None:
        """Open what is due."""
        active = {live.row.task for live in self.driver.rounds.values()} | self.busy
        for due in self.driver.store.tasks.due(now):
            if due.task not in active and time.monotonic() >= self.not_before.get(due.task, 0):
                active.add(due.task)
                self.consider(due, now)

    def consider(self, due: Due, now: float) -> None:
        """Open a round if enough devices are ready."""
        store = self.driver.store
        task, release = store.tasks.get(due.task), store.tasks.newest(due.task)
        if task is None or release is None:
            return
        begin = self.since.setdefault(due.task, time.monotonic())
        waited = time.monotonic() - begin
        devices = self.candidates(due.task, release)
        if time.monotonic() - self.driver.presence.newest < APPEAR_S:
            return
        chosen = choose(
            devices, task.settings, waited_s=waited, settle_s=self.driver.hub.toml.rounds.settle_s
        )
        if chosen:
            self.busy.add(due.task)
            self.since.pop(due.task, None)
            self.driver.start(self.open(due, task, release, frozenset(chosen), now))

    def candidates(self, task: str, release: ReleaseRow) -> list[Candidate]:
        """Return the live devices of a task, shuffled."""
        devices = [
            Candidate(d.id, self.ready(d, release), d.estimate_ms)
            for d in self.driver.store.devices.all()
            if d.revoked is None and d.task == task and self.driver.presence.live(d.id)
        ]
        self.shuffle(devices)
        return devices

    def ready(self, device: Device, release: ReleaseRow) -> bool:
        """Return whether a device runs the newest file and is free."""
        return device.sequence == release.sequence and device.model == release.file and device.round is None

    async def open(
        self, due: Due, task: TaskRow, release: ReleaseRow, devices: frozenset[bytes], now: float
    ) -> None:
        """Agree with the helper, store the round, wake the devices."""
        driver, hub = self.driver, self.driver.hub
        number = driver.store.rounds.next_number(due.task)
        partner = hub.pinned_partner
        terms = draft(
            task.task,
            task.settings,
            round_id=os.urandom(16),
            number=number,
            task_hash=sha256(task.task.encode()),
            model=release.file,
            now=now,
            leader=Leader(hub.id, hub.toml.hub.operator),
            helper_key=key_id(partner.public),
            helper_operator=partner.operator,
        )
        try:
            envelope = await driver.link.open(terms)
        except EdgeflError as error:
            driver.metrics.failures.labels("open").inc()
            log.warning("cannot open a round of %s: %s", due.task, error)
            self.not_before[due.task] = time.monotonic() + RETRY_S
            if not isinstance(error, (Unavailable, TemporaryFailure)):
                log.error("the helper refuses rounds of %s; its queued rounds are dropped", due.task)
                driver.store.tasks.cancel(due.id)
            return
        finally:
            self.busy.discard(due.task)
        live = self.store_round(due, task, release, devices, envelope)
        driver.rounds[live.id] = live
        log.info("round %s: invited %d devices", live.id.hex()[:8], len(devices))
        driver.presence.wake(devices)

    def store_round(
        self, due: Due, task: TaskRow, release: ReleaseRow, devices: frozenset[bytes], envelope: bytes
    ) -> LiveRound:
        """Make a round durable before anybody hears of it."""
        hub, store = self.driver.hub, self.driver.store
        payload = open_envelope(envelope, "manifest", {hub.id: hub.public})
        manifest = Manifest.decode(payload)
        row = RoundRow(
            id=manifest.round,
            run=due.id,
            task=due.task,
            number=manifest.number,
            state=Phase.INVITED.value,
            reason="",
            sequence=release.sequence,
            manifest=envelope,
            h=blake2b(payload),
            quorum=manifest.quorum,
            close_at=task.settings.close_at,
            deadline=float(manifest.deadline),
            cohort=0,
            members=None,
            masked_sum=None,
            opened_at=time.time(),
            collecting_at=None,
            closed_at=None,
            unmasked_at=None,
            published_at=None,
            installed_at=None,
        )
        store.rounds.open(row, devices)
        state = Round(Phase.INVITED, devices, row.quorum, row.close_at, row.deadline)
        return LiveRound(row, state, manifest, envelope, RunningSum(manifest))
