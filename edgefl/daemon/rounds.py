# SPDX-License-Identifier: Apache-2.0
"""Carries out the round machine (edgefl/round/machine.py): worker process, sealing, upload, database.

In: round manifests, news that rounds are over.  Out: at most one report a round. Refuses what the policy
refuses, and tells the hub why. Invariant: events are handled one at a time, actions in order; the seed is in
memory only, drawn for one training and erased once the header is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

from edgefl.adapters.entropy import jitter
from edgefl.adapters.files import prune_samples, remove_others, sync_folder
from edgefl.adapters.http import HubRefused
from edgefl.daemon.context import Context
from edgefl.daemon.journal import one_line
from edgefl.daemon.training import Base, active_base, train
from edgefl.errors import DataError, EdgeflError, Refused, StorageError
from edgefl.round import machine, pipeline
from edgefl.round.machine import Outcome, Record
from edgefl.round.policy import Situation, check_manifest, open_manifest
from edgefl.secagg.secret import Secret
from edgefl.types import MaskedUpdate
from edgefl.wire.keys import blake2b
from edgefl.wire.messages import Manifest


class Rounds:
    """One round at a time."""

    def __init__(self, context: Context) -> None:
        """Nothing happens before `start`."""
        self.context = context
        self.state = machine.State()
        self.outcomes: list[Outcome] = []  # since the start of this process
        self._events: asyncio.Queue[machine.Event] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._seed: Secret | None = None
        self._work: asyncio.Task[None] | None = None  # training or sending
        self._timer: asyncio.TimerHandle | None = None
        self._asides: set[asyncio.Task[None]] = set()  # declines under way

    @property
    def in_work(self) -> bytes | None:
        """The round that the heartbeat names."""
        return self.state.record.round if self.state.record else None

    async def start(self) -> None:
        """Go on with what an earlier run left."""
        record = self.context.store.open_round()
        late = spooled = False
        if record is not None:
            manifest, _ = self._open(record)
            late = self.context.hub_now() >= manifest.deadline
            spooled = record.y_hash is not None and blake2b(self._payload(record)) == record.y_hash
        await self._handle(machine.Started(record, late, spooled))

    async def run(self) -> None:
        """Handle events until cancelled; when the disk is full, begin again from what it holds."""
        while True:
            event = await self._events.get()
            try:
                await self._handle(event)
            except StorageError as error:
                await self._begin_again(error)

    async def _begin_again(self, error: EdgeflError) -> None:
        """Wait until the database can be written, then go on as after a restart."""
        t = self.context.config.transport
        pause = t.backoff_min_s
        while True:
            self.context.journal.event("daemon.work.failed", reason=str(error), retry_s=round(pause, 1))
            await asyncio.sleep(pause)
            pause = min(2 * pause, t.backoff_max_s)
            self._events = asyncio.Queue()
            try:
                return await self.start()
            except StorageError as again:
                error = again

    async def stop(self) -> None:
        """Abandon what is in work; the next start goes on with it."""
        await self._halt()
        for task in list(self._asides):
            task.cancel()

    async def offer(self, envelope: bytes) -> None:
        """Consider an invitation.

        Raises
        ------
        Refused
            Not signed by both hubs: nobody to decline to.
        """
        manifest, _ = open_manifest(envelope, self.context.fleet.hubs)
        seen = self.context.store.round_seen(manifest.round)
        try:
            if self.in_work is None and not seen:
                base = active_base(self.context)
                check_manifest(envelope, self._situation(base), self.context.config.policy)
                await self._handle(machine.Offered(Record(manifest.round, base.name, 0, envelope), seen))
        except (Refused, DataError) as error:
            name = manifest.round.hex()
            self.context.journal.event("round.offer.refused", round=name, reason=str(error))
            self._aside(self._decline(manifest.round, str(error)))

    def over(self, rounds: Collection[bytes]) -> None:
        """Note that the hub ended these rounds."""
        for round_id in rounds:
            self._put(machine.Over(round_id))

    def _put(self, event: machine.Event) -> None:
        self._events.put_nowait(event)

    def _situation(self, base: Base) -> Situation:
        store = self.context.store
        return Situation(
            hubs=self.context.fleet.hubs,
            task=base.body.task,
            model=base.body.file,
            reports=store.reports(base.name),
            estimate_s=store.meta("estimate_ms") / 1000,
            now=self.context.hub_now(),
        )

    def _open(self, record: Record) -> tuple[Manifest, bytes]:
        return open_manifest(record.manifest, self.context.fleet.hubs)

    def _payload(self, record: Record) -> bytes:
        """Return the spooled vector, empty if it is not there."""
        try:
            return self.context.layout.masked(record.round, record.attempt).read_bytes()
        except FileNotFoundError:
            return b""

    async def _handle(self, event: machine.Event) -> None:
        async with self._turn:
            self.state, actions = machine.step(self.state, event)
            try:
                for action in actions:
                    await self._perform(action)
            except StorageError:
                await self._halt()
                self.state = machine.State()  # the database's rows are what counts
                raise

    async def _perform(self, action: machine.Action) -> None:
        store = self.context.store
        if isinstance(action, machine.DropLeftovers):
            keep = self.context.layout.masked(*action.keep).name if action.keep else ""
            remove_others(
                self.context.layout.spool,
                lambda name: not name.startswith(("round-", ".part-")) or name == keep,
            )
        elif isinstance(action, machine.Begin):
            store.begin_round(action.record)
        elif isinstance(action, machine.Train):
            self._watch(action.record)
            self._seed = Secret(self.context.entropy.token(32))
            self._work = asyncio.create_task(self._train(action.record, self._seed))
        elif isinstance(action, machine.Seal):
            self._put(self._seal(action.record))
        elif isinstance(action, machine.Commit):
            record = action.record
            assert record.y_hash is not None and record.header is not None
            store.commit_report(record.round, record.attempt, record.y_hash, record.header)
        elif isinstance(action, machine.EraseSeed):
            await self._halt()
        elif isinstance(action, machine.Send):
            self._watch(action.record)
            self._work = asyncio.create_task(self._send(action.record))
        elif isinstance(action, machine.Decline):
            self._aside(self._decline(action.round, action.reason))
        elif isinstance(action, machine.Finish):
            await self._finish(action)

    async def _train(self, record: Record, seed: Secret) -> None:
        try:
            self._put(await train(self.context, record, *self._open(record), seed))
        except StorageError as error:  # what the worker told could not be kept
            self._put(machine.WorkerFailed(record.round, record.attempt, one_line(str(error))))

    def _seal(self, record: Record) -> machine.Event:
        """Check the spooled file, make it durable and build the header."""
        context, seed = self.context, self._seed
        fail = machine.WorkerFailed(record.round, record.attempt, "the worker left no sound vector")
        manifest, h = self._open(record)
        payload = self._payload(record)
        if seed is None or len(payload) != manifest.payload_bytes:
            return fail
        try:
            sync_folder(context.layout.spool)
            update = pipeline.masked_update(
                payload,
                seed,
                manifest,
                h,
                device=context.fleet.device,
                class_=context.fleet.class_,
                attempt=record.attempt,
                credential=context.fleet.credential,
                sign=context.signer[1],
                entropy=context.entropy,
            )
        except (EdgeflError, OSError) as error:
            return machine.WorkerFailed(record.round, record.attempt, str(error))
        return machine.Sealed(record.round, record.attempt, blake2b(payload), update.header)

    async def _send(self, record: Record) -> None:
        """Upload until the hub answers; then Answered."""
        context, name, t = self.context, record.round.hex(), self.context.config.transport
        assert record.header is not None
        update = MaskedUpdate(record.round, record.attempt, record.header, self._payload(record))
        pause, code = t.backoff_min_s, ""
        while True:
            try:
                await context.hub.send_update(update)
                context.journal.event(
                    "round.report.sent",
                    round=name,
                    payload_bytes=len(update.payload),
                    header_bytes=len(update.header) + 4,
                )
                break
            except HubRefused as error:
                context.journal.event("round.report.refused", round=name, reason=str(error))
                code = error.code
                break
            except EdgeflError as error:
                context.journal.event("round.report.retry", round=name, reason=str(error))
            await asyncio.sleep(jitter(context.entropy, pause))
            pause = min(2 * pause, t.backoff_max_s)
        self._put(machine.Answered(record.round, record.attempt, code))

    async def _finish(self, action: machine.Finish) -> None:
        await self._halt()
        record, context = action.record, self.context
        context.store.finish_round(record.round, action.outcome.value)
        context.layout.masked(record.round, record.attempt).unlink(missing_ok=True)
        context.journal.event("round.over", round=record.round.hex(), outcome=action.outcome.value)
        self.outcomes.append(action.outcome)
        context.wake()
        self._keep_samples_bounded()

    async def _halt(self) -> None:
        """End worker, upload and timer; zero the seed."""
        if self._seed is not None:
            self._seed.wipe()
            self._seed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._work = self._work, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _watch(self, record: Record) -> None:
        """Set the alarm for the round's deadline."""
        loop = asyncio.get_running_loop()
        late = machine.Late(record.round)
        self._timer = loop.call_later(max(self._seconds_left(record), 0), self._put, late)

    def _seconds_left(self, record: Record) -> float:
        return self._open(record)[0].deadline - self.context.hub_now()

    async def _decline(self, round_id: bytes, reason: str) -> None:
        try:
            await self.context.hub.decline(round_id, one_line(reason))
        except EdgeflError as error:
            self.context.journal.event("hub.request.refused", reason=str(error))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    def _keep_samples_bounded(self) -> None:
        data, layout = self.context.config.data, self.context.layout
        now = self.context.clock.now()
        gone = prune_samples(layout.samples, data.retain_mib << 20, data.retain_days * 86400, now)
        if gone:
            self.context.journal.event("samples.pruned", files=len(gone))
