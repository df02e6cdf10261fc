# SPDX-License-Identifier: Apache-2.0
"""A round with real `edgefl run` processes: three of eight are killed while they train."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hub.hubs import ROOT, Pair, add_task, found_pair, invite, running, wait_for
from server_min.rounds.release import load_master

pytestmark = pytest.mark.timeout(170)
CONFIG = """
[state]
folder = "state"
[data]
folder = "samples"
[transport]
backoff_min_s = 0.2
backoff_max_s = 2.0
"""


def edgefl(*args: object) -> list[str]:
    return [sys.executable, "-m", "edgefl", *map(str, args)]


@contextlib.contextmanager
def devices(pair: Pair, n: int, samples: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Enrol and start n devices, each with its own random samples."""
    processes = []
    rng = np.random.default_rng(5)
    for i, token in enumerate(invite(pair, n)):
        folder = pair.leader.parent / f"device{i}"
        (folder / "samples").mkdir(parents=True)
        x = rng.integers(-128, 128, (samples, 8, 8, 2), dtype=np.int8)
        np.savez(folder / "samples" / "a.npz", x=x, y=rng.integers(0, 3, samples))
        (folder / "edgefl.toml").write_text(CONFIG)
        config = ("--config", folder / "edgefl.toml")
        subprocess.run(
            edgefl("enroll", token, *config), cwd=ROOT, check=True, capture_output=True, timeout=60
        )
        log = (folder / "log").open("wb")
        processes.append(subprocess.Popen(edgefl("run", *config), cwd=ROOT, stdout=log, stderr=log))
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def test_devices_killed_while_training_are_left_out(tmp_path: Path) -> None:
    pair = found_pair(tmp_path, settle_s=20.0)
    add_task(pair, quorum=4, deadline_s=12, epochs=40)
    with running(pair), devices(pair, 8, samples=600) as processes, pair.store() as store:
        wait_for(lambda: sum(d.sequence > 0 for d in store.devices.all()) == 8, 60)
        run = store.tasks.queue("tiny", 1, 0, 0)
        wait_for(lambda: sum(d.round is not None for d in store.devices.all()) == 8, 30)
        for process in processes[:3]:
            process.send_signal(signal.SIGKILL)
        (row,) = wait_for(
            lambda: [r for r in store.rounds.all(run=run) if r.state in ("installed", "void")], 60
        )
        # The dead are not waited for: they are not live any more.
        assert (row.state, row.cohort, row.reason) == ("installed", 5, ""), pair.log("leader")
        dead = {d.id for d in store.devices.all() if d.sequence < store.tasks.newest("tiny").sequence}
        assert len(dead) == 3 and row.members is not None
        members = {row.members[i : i + 16] for i in range(0, len(row.members), 16)}
        assert members == {d.id for d in store.devices.all()} - dead
        new, old = store.tasks.releases("tiny")
        assert (load_master(store.blobs, new) != load_master(store.blobs, old)).any()
        assert new.patch_size is not None and new.patch_size < new.full_size
