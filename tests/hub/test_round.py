# SPDX-License-Identifier: Apache-2.0
"""Whole rounds with two real hub processes and simulated devices."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest

from hub.devices import enroll_all, until
from hub.hubs import add_task, found_pair, invite, running


async def stop(tasks, devices):  # type: ignore[no-untyped-def]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for device in devices:
        with contextlib.suppress(Exception):
            await device.close()


@pytest.mark.timeout(90)
def test_round_sum_is_exact(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs)

    async def scenario() -> None:
        devices = await enroll_all(tmp_path, invite(hubs, 4))
        tasks = [asyncio.create_task(d.live()) for d in devices]
        with hubs.store() as store:
            run = store.tasks.queue("tiny", 1, 0, 0)
            await until(lambda: [r for r in store.rounds.all(run=run) if r.state == "installed"])
            row = store.rounds.all()[0]
            total = np.frombuffer(store.blobs.read(row.masked_sum), "<i8")
            assert row.cohort == 4
            assert (total == sum(d.vector for d in devices)).all()
            assert [d.events for d in devices] == [["installed", "put 200", "installed"]] * 4
        await stop(tasks, devices)

    with running(hubs):
        asyncio.run(scenario())
