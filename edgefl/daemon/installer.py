# SPDX-License-Identifier: Apache-2.0
"""Carries out the install machine (edgefl/ota/install.py): downloads, child process, link, database.

In: the name of a Release.  Out: a new active model, or the old one and a line that says why. Refuses what
`release.verify` refuses. Invariant: actions run one after the other, each durable before the next.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Any

import edgefl
from edgefl.adapters.entropy import jitter
from edgefl.adapters.files import hash_of, linked, relink, remove_others
from edgefl.adapters.timeout import within
from edgefl.daemon.child import Child
from edgefl.daemon.context import Context
from edgefl.daemon.journal import one_line
from edgefl.errors import DataError, EdgeflError
from edgefl.ota import gate, install, release
from edgefl.ota.install import Done, Failed, Failure, Step
from edgefl.wire.messages import BlobRef

CHILD = "edgefl.daemon.gate"


class Installer:
    """One install at a time."""

    def __init__(self, context: Context) -> None:
        """Start from the database's rows."""
        self.context = context
        self.state = context.store.install_state()
        self.refused: list[bytes] = []  # Releases that do not verify; the hub should not offer them again
        self.deferred = 0  # sequence of a Release to be tried again later
        self.retry_at = 0.0
        self.failures = 0
        self.installed = 0
        self._child: Child | None = None  # from WriteSlot to the end of RunGate
        self._timed_out = False
        self._begun = 0.0
        self._probe = b""  # hash of the probe that is kept

    @property
    def sequence(self) -> int:
        """What the heartbeat calls the newest accepted Release: the hub offers later ones only."""
        waiting = self.context.clock.monotonic() < self.retry_at
        return max(self.state.seen, self.deferred if waiting else 0)

    @property
    def rejected(self) -> tuple[bytes, ...]:
        """Releases that the hub should not offer again."""
        return (*self.refused, *self.state.rejected)[: install.MAX_REJECTED]

    async def start(self) -> None:
        """Settle what an earlier run left: the link is the truth."""
        name = linked(self.context.layout.current)
        link = bytes.fromhex(name) if len(name) == 64 else None
        envelope = self.context.store.intent_envelope()
        verified = None
        if envelope is not None:
            try:
                verified = self._verify(envelope)
            except EdgeflError:
                pass  # expired since: the machine forgets the intent
        await self._drive(install.Started(link, verified))

    async def offer(self, name: bytes) -> None:
        """Install the Release of this name, if it verifies.

        Raises
        ------
        Unavailable, TemporaryFailure, Refused
            The hub cannot be asked.
        """
        envelope = await self.context.hub.release(name)
        try:
            verified = self._verify(envelope)
        except EdgeflError as error:
            self.refused.insert(0, name)
            self.context.journal.event("release.offer.refused", reason=str(error))
            return
        await self._drive(install.Offered(verified))

    async def stop(self) -> None:
        """End the child; the next start goes on."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    def _pins(self) -> release.Pins:
        fleet = self.context.fleet
        limit = self.context.config.model.max_mib << 20
        return release.Pins(fleet.publisher, fleet.task, fleet.class_, edgefl.__version__, limit)

    def _verify(self, envelope: bytes) -> release.VerifiedRelease:
        return release.verify(
            envelope,
            self._pins(),
            seen=self.state.seen,
            rejected=self.state.rejected,
            clock=int(self.context.clock.now()),
            floor=self.context.store.time_floor(),
        )

    async def _drive(self, event: install.Event) -> None:
        """Run the machine until it has nothing more to do."""
        events = [event]
        try:
            while events:
                self.state, actions = install.step(self.state, events.pop(0))
                for action in actions:
                    happened = await self._attempt(action)
                    if happened is not None:
                        events.append(happened)
                    if isinstance(happened, Failed):
                        break
        finally:
            await self.stop()

    async def _attempt(self, action: install.Action) -> install.Event | None:
        """Perform an action; no room, no such command and the like fail the step that is being taken."""
        try:
            return await self._perform(action)
        except (EdgeflError, OSError) as error:
            if self.state.step is Step.IDLE:
                raise
            return Failed(self.state.step, Failure.MACHINE, one_line(str(error)))

    async def _perform(self, action: install.Action) -> install.Event | None:
        store, layout = self.context.store, self.context.layout
        if isinstance(action, install.Fetch):
            return await self._fetch(action)
        if isinstance(action, install.SaveIntent):
            store.save_intent(action.intent, action.envelope)
            return Done(Step.INTENT)
        if isinstance(action, install.WriteSlot):
            return await self._write_slot(action)
        if isinstance(action, install.RunGate):
            return await self._gate(action)
        if isinstance(action, install.Link):
            relink(layout.current, layout.slot(action.file))
            if action.repair:
                self.context.journal.event("release.link.repaired")
            return None if action.repair else Done(Step.LINK)
        if isinstance(action, install.Commit):
            store.commit_install(action)
            self._done(action.intent)
            return Done(Step.COMMIT)
        if isinstance(action, install.Reject):
            store.reject(action.release, action.reason)
        elif isinstance(action, install.ForgetIntent):
            store.forget_intent()
        elif isinstance(action, install.Prune):
            self._prune(action.keep)
        elif isinstance(action, install.TryLater):
            self._later()
        elif isinstance(action, install.Tell) and not action.text.startswith("installed"):
            self.context.journal.event("release.install.failed", reason=action.text)
        return None

    async def _fetch(self, action: install.Fetch) -> install.Event:
        body, layout = action.release.body, self.context.layout
        self._begun = self._begun or self.context.clock.monotonic()
        self.deferred = body.sequence
        self._probe = body.probe.sha256
        wanted: list[BlobRef] = [body.probe]
        if action.download.blob is not None and hash_of(layout.slot(body.file)) != body.file:
            wanted.append(action.download.blob)
        wanted = [ref for ref in wanted if hash_of(layout.blob(ref.sha256)) != ref.sha256]
        self.context.journal.event(
            "release.install.begun",
            sequence=body.sequence,
            kind=action.download.kind,
            bytes=sum(ref.size for ref in wanted),
        )
        try:
            for ref in wanted:
                await self._download(ref)
        except DataError as error:
            kind = Failure.PATCH if action.download.kind == "patch" else Failure.MACHINE
            return Failed(Step.FETCH, kind, str(error))
        except EdgeflError as error:
            return Failed(Step.FETCH, Failure.MACHINE, str(error))
        return Done(Step.FETCH)

    async def _download(self, ref: BlobRef) -> None:
        path = self.context.layout.blob(ref.sha256)
        await self.context.hub.blob(ref, path)
        if hash_of(path) != ref.sha256:
            path.unlink()
            raise DataError("a download does not have the hash that the release states")

    async def _write_slot(self, action: install.WriteSlot) -> install.Event:
        """Start the child, which goes on to the gate by itself."""
        config = self.context.config
        self._child = await Child.start(
            config.worker.command, CHILD, self._job(action), debug=config.log.level == "debug"
        )
        told = await self._message()
        if told is not None and told["ok"]:
            return Done(Step.SLOT)
        if told is None:
            ending = await self._ending()
            machine = ending in (gate.Ending.KILLED, gate.Ending.NO_SPACE)
            kind = Failure.MACHINE if machine else Failure.RELEASE
            return Failed(Step.SLOT, kind, f"building the model file {ending.value}")
        reason = f"the model file was not written: {told['reason']}"
        if not told["data"]:
            return Failed(Step.SLOT, Failure.MACHINE, reason)
        kind = Failure.PATCH if action.download.kind == "patch" else Failure.RELEASE
        return Failed(Step.SLOT, kind, reason)

    async def _gate(self, action: install.RunGate) -> install.Event:
        told = await self._message()
        ending = await self._ending(int(told.get("errno", 0)) if told else 0)
        report = None
        if told is not None and told["ok"]:
            del told["ok"]
            report = gate.GateReport(**told)
        verdict, reason = gate.judge(action.release.body.probe.outputs, ending, report)
        self.context.journal.event("release.gate.verdict", verdict=verdict.value, reason=reason)
        if verdict is gate.Verdict.PASS:
            return Done(Step.GATE)
        failure = Failure.RELEASE if verdict is gate.Verdict.FAIL else Failure.MACHINE
        return Failed(Step.GATE, failure, reason)

    async def _message(self) -> dict[str, Any] | None:
        """Return the child's next message; None if it crashed or takes too long."""
        assert self._child is not None
        try:
            seconds = self.context.config.model.gate_timeout_s
            return await within(seconds, self._child.message())
        except asyncio.TimeoutError:
            self._timed_out = True
            return None

    async def _ending(self, error: int = 0) -> gate.Ending:
        """Let the child end and return how it did."""
        child, self._child = self._child, None
        assert child is not None
        if self._timed_out:
            self._timed_out = False
            await child.stop()
            return gate.Ending.TIMED_OUT
        return gate.ending_of(await child.ended(), error)

    def _job(self, action: install.WriteSlot) -> dict[str, object]:
        config, layout, blob = self.context.config, self.context.layout, action.download.blob
        active = self.state.active
        return {
            "parent": os.getpid(),
            "memory_mib": config.worker.memory_mib,
            "nice": config.worker.nice,
            "cpus": list(config.worker.cpus),
            "sandbox": config.worker.sandbox,
            "envelope": action.release.envelope,
            "pins": asdict(self._pins()),
            "seen": self.state.seen,
            "clock": int(self.context.clock.now()),
            "floor": self.context.store.time_floor(),
            "whole": action.download.kind == "full",
            "base": str(layout.slot(active)) if active is not None else "",
            "blob": str(layout.blob(blob.sha256)) if blob is not None else "",
            "slot": str(layout.slot(action.release.body.file)),
            "part": str(layout.part(action.release.body.file)),
            "probe": str(layout.blob(action.release.body.probe.sha256)),
            "runtime": config.model.runtime,
        }

    def _done(self, intent: install.Intent) -> None:
        clock = self.context.clock.monotonic()
        spent = int(1000 * (clock - self._begun)) if self._begun else 0
        self._begun, self.failures, self.retry_at = 0.0, 0, 0.0
        self.installed += 1
        self.context.journal.event("release.install.done", sequence=intent.sequence, ms=spent)
        self.context.wake()

    def _later(self) -> None:
        """Do not ask for this Release again for a while."""
        t = self.context.config.transport
        pause = min(t.backoff_min_s * 2**self.failures, t.backoff_max_s)
        self._begun = 0.0
        self.failures = min(self.failures + 1, 30)
        self.retry_at = self.context.clock.monotonic() + jitter(self.context.entropy, pause)

    def _prune(self, keep: frozenset[bytes]) -> None:
        names = {file.hex() for file in keep}
        remove_others(self.context.layout.slots, names.__contains__)
        probe = self.context.layout.blob(self._probe).name  # the next Release very likely names it again
        remove_others(self.context.layout.spool, lambda name: name == probe or not name.startswith("blob-"))
