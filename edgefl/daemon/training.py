# SPDX-License-Identifier: Apache-2.0
"""One training of one round: the job for the worker process, its run, and what to make of its end.

In: a round's record, its manifest, the seed.  Out: the event Masked or WorkerFailed.  Refuses nothing itself:
a worker that is killed, crashes, takes too long or finds no sound samples has failed the round, no more.
Invariant: the worker gets the key that follows from the seed, never the seed; when `train` returns or is
cancelled, the worker is gone.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from typing import Any

from edgefl.adapters.timeout import within
from edgefl.daemon.child import Child
from edgefl.daemon.context import Context
from edgefl.errors import EdgeflError, Refused
from edgefl.ota.release import KIND as RELEASE
from edgefl.round import pipeline
from edgefl.round.machine import Masked, Record, WorkerFailed
from edgefl.secagg.secret import Secret
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import key_id
from edgefl.wire.messages import Manifest, Release

CHILD = "edgefl.daemon.worker"


@dataclass(frozen=True)
class Base:
    """The active Release, which rounds train."""

    name: bytes
    body: Release


def active_base(context: Context) -> Base:
    """Return the active Release; Refused before the first install."""
    found = context.store.active_release()
    if found is None:
        raise Refused("no model is installed yet")
    publisher = context.fleet.publisher
    return Base(found[0], Release.decode(open_envelope(found[1], RELEASE, {key_id(publisher): publisher})))


async def train(
    context: Context, record: Record, manifest: Manifest, h: bytes, seed: Secret
) -> Masked | WorkerFailed:
    """Run the worker to its end."""
    begun, name = context.clock.monotonic(), record.round.hex()
    context.journal.event("round.train.begun", round=name, attempt=record.attempt)
    limit = min(context.config.worker.timeout_s, manifest.deadline - context.hub_now())
    try:
        told = await within(max(limit, 0.1), _run(context, _job(context, record, manifest, h, seed)))
    except (EdgeflError, asyncio.TimeoutError) as error:
        told = {"ok": False, "reason": str(error) or "the worker took too long"}
    if not told["ok"]:
        context.journal.event("round.train.failed", round=name, reason=told["reason"])
        # Names of files and ranges of labels are for this device's own log, not for the hub.
        reason = "the samples here cannot be used" if told.get("data") else told["reason"]
        return WorkerFailed(record.round, record.attempt, reason)
    if not told["sandbox"] and context.config.worker.sandbox:
        context.journal.event("worker.sandbox.absent")
    spent = int(1000 * (context.clock.monotonic() - begun))
    _learn(context, spent, told["samples"])
    context.journal.event(
        "round.train.done",
        round=name,
        samples=told["samples"],
        ms=spent,
        train_ms=told["train_ms"],
        peak_rss_bytes=told["peak_rss"],
    )
    return Masked(record.round, record.attempt)


async def _run(context: Context, job: dict[str, object]) -> dict[str, Any]:
    config = context.config
    child = await Child.start(config.worker.command, CHILD, job, debug=config.log.level == "debug")
    try:
        told = await child.message()
        if told is not None:
            return told
        code = await child.ended()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return {"ok": False, "reason": f"the worker {how}"}
    finally:
        await child.stop()


def _job(context: Context, record: Record, manifest: Manifest, h: bytes, seed: Secret) -> dict[str, object]:
    config, layout, data = context.config, context.layout, context.config.data
    return {
        "parent": os.getpid(),
        "memory_mib": config.worker.memory_mib,
        "nice": config.worker.nice,
        "cpus": list(config.worker.cpus),
        "sandbox": config.worker.sandbox,
        "terms": asdict(pipeline.terms_of(manifest, h, active_base(context).body.task)),
        "key": pipeline.key_of(seed, context.fleet.device, manifest, h),
        "model": str(layout.slot(manifest.model)),
        "sha256": manifest.model,
        "spool": str(layout.masked(record.round, record.attempt)),
        "folder": str(data.folder) if data.folder else "",
        "source": data.source,
        "own": str(layout.samples) if data.retain_mib else "",
        "min_samples": data.min_samples,
        "max_samples": data.max_samples,
    }


def _learn(context: Context, spent_ms: int, samples: int) -> None:
    """Keep what one round takes here; small changes are not worth a write."""
    old = context.store.meta("estimate_ms")
    estimate = spent_ms if abs(spent_ms - old) * 4 > old else old
    context.store.set_meta(estimate_ms=estimate, samples=samples)
