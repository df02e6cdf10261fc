# SPDX-License-Identifier: Apache-2.0
"""The device's long-lived process: polls the hub, installs releases, takes part in rounds; imports no numpy.

In: configuration, database.  Out: exit code 0 after TERM (or after one piece of work with `once`). Refuses to
run without enrolment, with an expired certificate, and beside another daemon. A hub that cannot be reached is
asked again after a pause that doubles, with jitter.
Invariant: the device keeps its model whatever the hub does; every piece of work goes on after a kill at any
point.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import edgefl
from edgefl.adapters.entropy import jitter
from edgefl.adapters.h2conn import CertificateRefused
from edgefl.adapters.http import HubRefused
from edgefl.daemon import control
from edgefl.daemon.context import Context, describe
from edgefl.daemon.installer import Installer
from edgefl.daemon.rounds import Rounds
from edgefl.errors import DataError, EdgeflError, StorageError, TemporaryFailure
from edgefl.round.machine import Outcome
from edgefl.wire.messages import Poll, PollAnswer

FATAL = ("device.revoked", "device.unknown")
WATCHDOG_S = 20
QUICK_S, MAX_QUICK = 0.1, 5  # so many turns in a row may take less than this


class Supervisor:
    """One device's daemon."""

    def __init__(self, context: Context, *, once: bool = False) -> None:
        """Nothing happens before `run`."""
        self.context = context
        self.once = once
        self.installer = Installer(context)
        self.rounds = Rounds(context)
        self.linked = False
        self._poll_number = 0
        self._turned = 0.0
        self._quick = 0
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        context.wake = self._wake.set

    async def run(self) -> None:
        """Work until TERM.

        Raises
        ------
        Refused
            The hub has revoked this device, or does not accept its certificate.
        EdgeflError
            With `once`: why the one piece of work was not done.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        context = self.context
        context.layout.make()
        self._poll_number = context.store.reserve_polls()
        server = await control.serve_status(context.layout.socket, self.status)
        context.journal.event(
            "daemon.run.started",
            device=context.fleet.device.hex(),
            task=context.fleet.task,
            hub=context.client.authority,
            version=edgefl.__version__,
        )
        reason = "asked to"
        try:
            await self._until_stopped(self._work(), self.rounds.run(), self._watchdog())
        except EdgeflError as error:
            reason = str(error)
            raise
        finally:
            control.notify("STOPPING=1")
            await self.rounds.stop()
            await self.installer.stop()
            server.close()
            context.layout.socket.unlink(missing_ok=True)
            await context.client.close()
            context.journal.event("daemon.run.stopped", reason=reason, **self._traffic())

    async def _until_stopped(self, *jobs: Coroutine[Any, Any, None]) -> None:
        """Run until one of the jobs ends, or TERM comes; the others are abandoned."""
        stop = asyncio.create_task(self._stop.wait())
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for pending in (stop, *tasks):
                pending.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _work(self) -> None:
        await self.installer.start()
        await self.rounds.start()
        control.notify("READY=1")
        pause = first = self.context.config.transport.backoff_min_s
        while not (self.once and self._once_done()):
            try:
                await self._turn()
                await self._pace(first)
                pause = first
            except EdgeflError as error:
                self._judge(error)
                wait = jitter(self.context.entropy, pause)
                ours = isinstance(error, (StorageError, DataError))
                name = "daemon.work.failed" if ours else "hub.link.down"
                self.linked = False
                self.context.journal.event(name, reason=str(error), retry_s=round(wait, 1))
                pause = min(2 * pause, self.context.config.transport.backoff_max_s)
                await asyncio.sleep(wait)

    def _judge(self, error: EdgeflError) -> None:
        """Raise what no further try will change."""
        revoked = isinstance(error, HubRefused) and error.code in FATAL
        if self.once or revoked or isinstance(error, CertificateRefused):
            raise error

    def _once_done(self) -> bool:
        """Return whether a release was installed or a report sent; raise if the one round came to nothing."""
        if self.installer.installed or Outcome.SENT in self.rounds.outcomes:
            return True
        if self.rounds.outcomes:
            raise TemporaryFailure(f"the round gave no report ({self.rounds.outcomes[-1].value})")
        return False

    async def _turn(self) -> None:
        """One poll and what follows from it."""
        self._wake.clear()
        answer = await self._poll()
        if answer is None:
            return
        if not self.linked:
            self.linked = True
            self.context.journal.event("hub.link.up")
        self.rounds.over(answer.cancel)
        if answer.credential is not None:
            self._renew(answer.credential)
        if answer.release is not None:
            await self.installer.offer(answer.release)
        if answer.round is not None:
            await self.rounds.offer(answer.round)

    async def _pace(self, pause: float) -> None:
        """Slow down for a hub that answers at once again and again: news takes longer than that to handle."""
        now = self.context.clock.monotonic()
        self._quick = self._quick + 1 if now - self._turned < QUICK_S else 0
        if self._quick > MAX_QUICK:
            await asyncio.sleep(pause)
        self._turned = self.context.clock.monotonic()

    async def _poll(self) -> PollAnswer | None:
        """Return the news; None if something changed here meanwhile, which makes the poll out of date."""
        poll = asyncio.create_task(self.context.hub.poll(self._heartbeat()))
        wake = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({poll, wake}, return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else None
        finally:
            for task in (poll, wake):
                task.cancel()
            await asyncio.gather(poll, wake, return_exceptions=True)

    def _heartbeat(self) -> Poll:
        self._poll_number += 1
        store = self.context.store
        return Poll(
            n=self._poll_number,
            task=self.context.fleet.task,
            model=self.installer.state.active,
            sequence=self.installer.sequence,
            round=self.rounds.in_work,
            estimate_ms=store.meta("estimate_ms"),
            samples=store.meta("samples"),
            runtime=f"edgefl {edgefl.__version__}",
            rejected=self.installer.rejected,
            event=self.context.journal.last_failure,
        )

    def _renew(self, credential: bytes) -> None:
        self.context.store.save_credential(credential)
        fleet = self.context.store.fleet()
        assert fleet is not None
        self.context.fleet = fleet
        self.context.journal.event("hub.credential.renewed")

    def status(self) -> dict[str, Any]:
        """Return what `edgefl status` shows."""
        state = describe(self.context.store, self.context.fleet)
        return {"running": True, "connected": self.linked, **state, **self._traffic()}

    def _traffic(self) -> dict[str, int]:
        """Bytes of bodies since the start."""
        return {"sent_bytes": self.context.client.sent, "received_bytes": self.context.client.received}

    async def _watchdog(self) -> None:
        while True:
            control.notify("WATCHDOG=1")
            await asyncio.sleep(WATCHDOG_S)
