# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at chosen system calls of the daemon and its children, by strace: it starts again and goes on.

One kill in each kind of durable step of a first install, a round and a patch; more of them with `-m soak`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from .conftest import ROOT, wait_for
from .minihub import nudged

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def story(hub):
    """Install the first model, one round, then a patch; returns a check that the story is over."""
    first = hub.model
    new = nudged(first, 1)

    def script(poll):
        answered = {r for r, *_ in hub.reports} | {r for r, _ in hub.declined}
        if poll.model == hashlib.sha256(first).digest() and not hub.reports:
            if hub.inviting is None or hub.inviting in answered:
                hub.invite()
        elif hub.reports and len(hub.releases) == 1:
            hub.publish(new)

    hub.script = script
    return lambda: bool(hub.polls) and hub.polls[-1].model == hashlib.sha256(new).digest()


def traced(device, *inject: str) -> subprocess.Popen:
    argv = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(device.folder / "trace"),
        *inject,
        sys.executable,
        "-m",
        "edgefl",
    ]
    argv += ["run", "--config", str(device.folder / "edgefl.toml")]
    log = open(device.folder / "log", "a")
    process = subprocess.Popen(argv, cwd=ROOT, stderr=log, start_new_session=True)
    device.processes.append(process)
    return process


SAMPLE = [("fdatasync,fsync", 5), ("/^rename", 1), ("/^symlink", 2), ("/^unlink", 4), ("pwrite64", 9)]
MORE = [
    *(("fdatasync,fsync", n) for n in (1, 2, 3, 4, 6, 8, 10, 12)),
    *(("/^rename", n) for n in (2, 3)),
    ("/^symlink", 1),
    *(("/^unlink", n) for n in (1, 2, 3, 5, 6)),
    *(("pwrite64", n) for n in (1, 2, 3, 5, 7, 11, 15, 20, 25, 30)),
    *(("sendto", n) for n in (2, 4, 6, 8, 10, 12, 14)),
]


@pytest.mark.parametrize("call, nth", [*SAMPLE, *(pytest.param(*m, marks=pytest.mark.soak) for m in MORE)])
def test_kill_at_a_system_call_loses_nothing(hub, device, story, call, nth):
    process = traced(device, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}")
    until = time.monotonic() + 5
    # A child that is killed at each start keeps the story from its end: the second daemon is not traced.
    while process.poll() is None and not story() and time.monotonic() < until:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    device.start()
    wait_for(story, 40)
    bodies: dict[bytes, set[bytes]] = {}
    for round_id, _, _, body in hub.reports:
        bodies.setdefault(round_id, set()).add(body)
    assert bodies and all(len(found) == 1 for found in bodies.values()), "another body for the same round"
    wait_for(lambda: device.active() == hashlib.sha256(hub.model).hexdigest())
    assert device.stop(device.processes[-1]) == 0
    slots = list((device.state / "slots").iterdir())
    assert len(slots) <= 2
    assert all(hashlib.sha256(slot.read_bytes()).hexdigest() == slot.name for slot in slots)
    probe = hub.releases[-1][0].probe.sha256.hex()  # kept for the next release; nothing else is
    assert {path.name for path in (device.state / "spool").iterdir()} <= {f"blob-{probe}"}
