# SPDX-License-Identifier: Apache-2.0
"""The work behind each action: talk to the helper, unmask, move the master, publish, clean up.

In: a live round.  Out: the event that its outcome is.  Retries while the helper cannot be reached; its
refusal ends the round.  Invariant: what a state needs after a crash (S, the sum, the release) is stored with
that state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgefl.errors import TemporaryFailure, Unavailable
from edgefl.model.read import read_model
from edgefl.model.vector import apply_sum, select_segments
from edgefl.model.vector import publish as round_master
from edgefl.wire.messages import Member, Report, Task
from server_min.refusal import one_line
from server_min.rounds import release as releases
from server_min.rounds.live import LiveRound
from server_min.rounds.state import Answered, Event, Failed, Out, Phase, Published, Shared
from server_min.rounds.unmask import unmask
from server_min.store import BlobRow
from server_min.tasks import expand_exponents

if TYPE_CHECKING:
    from server_min.rounds.driver import Driver

log = logging.getLogger("edgefl.hub")
T = TypeVar("T")
PATIENCE_S = 60.0  # a helper that is away for longer costs the round
PAUSE_S = (0.2, 0.5, 1.0, 2.0, 5.0)


async def patiently(what: Callable[[], Awaitable[T]]) -> T:
    """Try again while the helper is away, for at most PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    attempt = 0
    while True:
        try:
            return await what()
        except (Unavailable, TemporaryFailure):
            pause = PAUSE_S[min(attempt, len(PAUSE_S) - 1)]
            attempt += 1
            if time.monotonic() + pause > end:
                raise
            await asyncio.sleep(pause)


async def forward(driver: Driver, live: LiveRound) -> None:
    """Pass waiting headers to the helper, in batches, and note what it says."""
    queue = driver.forwarding[live.id]
    while queue and live.collecting:
        batch = queue[:64]
        rows = [driver.store.rounds.report(live.id, device) for device in batch]
        headers = [row.header for row in rows if row is not None]
        try:
            reasons = await patiently(partial(driver.link.forward, live.id, headers))
        except Exception as error:
            queue.clear()
            if live.collecting:
                driver.apply(live, Failed(f"the helper does not take reports: {error}"))
            return
        for device, reason in zip(batch, reasons, strict=True):
            driver.store.rounds.helper_said(live.id, device, not reason, reason)
            if reason:
                driver.metrics.reports.labels("helper").inc()
                log.warning("round %s: helper refused %s: %s", live.id.hex()[:8], device.hex()[:8], reason)
        del queue[: len(batch)]
        for device, reason in zip(batch, reasons, strict=True):
            driver.apply(live, Out(device) if reason else Shared(device))
    queue.clear()


async def ask_helper(driver: Driver, live: LiveRound) -> Event:
    """Agree on S, get R, unmask; store the sum with the new state."""
    manifest, h, members = live.manifest, live.row.h, live.state.members
    reports = {row.device: row for row in driver.store.rounds.reports(live.id)}
    classes = [Member(d, Report.decode(reports[d].header).class_) for d in members]
    masked = await asyncio.to_thread(
        live.sums.over, members, lambda device: driver.store.blobs.read(reports[device].payload)
    )
    _, r_packed = await patiently(lambda: driver.link.close(manifest, h, classes))
    total = await asyncio.to_thread(unmask, masked, r_packed, manifest, h, len(members))
    data = total.values.astype("<i8").tobytes()
    blob = await asyncio.to_thread(driver.store.blobs.put, data)
    row = BlobRow(blob, len(data), "sum", live.id, total.count, ())
    driver.store.rounds.move(
        live.id, Phase.UNMASKED.value, time.time(), cohort=total.count, masked_sum=blob, blobs=(row,)
    )
    return Answered()


async def publish(driver: Driver, live: LiveRound) -> Event:
    """Move the master by the mean update and publish the rounded file."""
    store, times = driver.store, driver.hub.toml.rounds
    row = store.rounds.get(live.id)
    task = store.tasks.get(live.row.task)
    bases = store.tasks.releases(live.row.task, max(times.patch_bases, 1))
    if row is None or row.masked_sum is None or task is None or not bases:
        return Failed("the store lost the sum or the task")
    count, number = row.cohort, row.number
    total = np.frombuffer(await asyncio.to_thread(store.blobs.read, row.masked_sum), "<i8")

    def build() -> releases.Built:
        base = bases[0]
        file = store.blobs.read(base.file)
        master = move_master(task.task, releases.load_master(store.blobs, base), total, count)
        source = releases.Source(
            task.task, new_file(task.task, file, master), master, releases.load_probe_x(store.blobs, base),
            live.id, count, f"round {number}",
        )  # fmt: skip
        return releases.build_release(
            source, bases[: times.patch_bases] or [], store.blobs, driver.publisher, time.time(),
            times.release_days,
        )  # fmt: skip

    built = await asyncio.to_thread(build)
    live.release, live.envelope_hash = built.row.sequence, built.row.envelope
    live.published_at = now = time.time()
    store.rounds.move(live.id, Phase.PUBLISHED.value, now, cohort=count, release=built.row, blobs=built.blobs)
    return Published()


def move_master(task: Task, master: np.ndarray, total: np.ndarray, count: int) -> np.ndarray:
    """Return the master after a round (docs/training.md, section 4)."""
    return apply_sum(
        master, total, hub_rate=task.hub_rate_nano / 1e9, clip=float(task.clip), scale=task.scale, count=count
    )


def new_file(task: Task, file: bytes, master: np.ndarray) -> bytes:
    """Return the model file with the rounded master."""
    graph = read_model(file)
    segments = select_segments(graph, task.layers)
    return round_master(graph, segments, master, expand_exponents(segments, task.exponents))


async def tell_void(driver: Driver, live: LiveRound) -> None:
    """Forget the reports, get the helper's signature that it never answers; best effort."""
    forget_reports(driver, live)
    try:
        await patiently(lambda: driver.link.void(live.manifest, live.row.h, one_line(live.state.reason, 100)))
    except Exception as error:
        log.warning("round %s: no void from the helper: %s", live.id.hex()[:8], error)


def forget_reports(driver: Driver, live: LiveRound) -> None:
    """Delete the masked vectors of a round that no longer needs them."""
    for row in driver.store.rounds.reports(live.id):
        driver.store.blobs.delete(row.payload)
