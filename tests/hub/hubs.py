# SPDX-License-Identifier: Apache-2.0
"""Two real hub processes on loopback, and small tasks for them."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tinymodel import Net

from server_min.config import Hub, Listen, load_hub
from server_min.setup import accept, init_helper, init_leader, pair
from server_min.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


@dataclass
class Pair:
    """Folders and processes of a leader and its helper."""

    leader: Path
    helper: Path
    metrics: str
    processes: dict[str, subprocess.Popen[bytes]]

    def hub(self, which: str = "leader") -> Hub:
        return load_hub(getattr(self, which))

    @contextlib.contextmanager
    def store(self, which: str = "leader") -> Iterator[SqliteStore]:
        store = SqliteStore(getattr(self, which))
        try:
            yield store
        finally:
            store.close()

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "server_min", *args], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self, which: str) -> None:
        log = (getattr(self, which) / "log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "server_min", "serve", str(getattr(self, which))],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", (getattr(self, which) / "log").read_text()
        self.processes[which] = process

    def stop(self, which: str, how: int = signal.SIGTERM) -> int:
        process = self.processes.pop(which)
        process.send_signal(how)
        code = process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def log(self, which: str) -> str:
        return (getattr(self, which) / "log").read_text()


def edit(path: Path, **values: object) -> None:
    """Change keys of a hub.toml."""
    lines = []
    for line in path.read_text().splitlines():
        key = line.split(" ")[0]
        lines.append(f"{key} = {values[key]!r}" if key in values else line)
    path.write_text("\n".join(lines) + "\n")


def found_pair(folder: Path, **rounds: object) -> Pair:
    """Init, pair and accept, as the command line does."""
    devices, enroll, metrics, helper = free_ports(4)
    leader_dir, helper_dir = folder / "leader", folder / "helper"
    at = "127.0.0.1:{}".format
    listen = Listen(at(devices), at(enroll), at(metrics))
    init_leader(leader_dir, f"https://{at(devices)}", listen, "hospital A")
    init_helper(helper_dir, Listen(at(helper), "", ""), "university B")
    pair(leader_dir, helper_dir / "pair-request", folder / "grant", f"https://{at(helper)}")
    accept(helper_dir, folder / "grant")
    edit(leader_dir / "hub.toml", **{"poll_s": 10.0, "settle_s": 3.0, **rounds})
    return Pair(leader_dir, helper_dir, f"http://{at(metrics)}/metrics", {})


TASK = """
layers = "all"
lr = 0.05
batch = 8
clip = 1000
scale = 64
value_bits = 8
hub_rate = 1.0
n_max = {n_max}
quorum = {quorum}
close_at = {close_at}
deadline_s = {deadline_s}
epochs = {epochs}
"""


def tiny_model() -> bytes:
    """Return a small CNN with softmax."""
    net = Net((1, 8, 8, 2), np.random.default_rng(7))
    return net.conv(4).pool("MAX_POOL_2D").conv(6).mean().dense(3).softmax().build()


def add_task(pair_: Pair, name: str = "tiny", **settings: int) -> None:
    """Add a tiny CNN as a task, by the command line."""
    folder = pair_.leader.parent
    values = {"n_max": 16, "quorum": 2, "close_at": 0, "deadline_s": 20, "epochs": 1} | settings
    (folder / "task.toml").write_text(TASK.format(**values))
    (folder / "model.tflite").write_bytes(tiny_model())
    rng = np.random.default_rng(1)
    np.savez(folder / "calibration.npz", x=rng.integers(-128, 128, (70, 8, 8, 2), dtype=np.int8))
    pair_.cli(
        "task", "add", name, str(folder / "model.tflite"), "--config", str(folder / "task.toml"),
        "--calibration", str(folder / "calibration.npz"), "--hub", str(pair_.leader),
    )  # fmt: skip


def invite(pair_: Pair, count: int, name: str = "tiny") -> list[str]:
    """Return enrolment tokens."""
    out = pair_.cli("devices", "invite", "--task", name, "--count", str(count), "--hub", str(pair_.leader))
    return out.stdout.split()


@contextlib.contextmanager
def running(pair_: Pair, *which: str) -> Iterator[Pair]:
    """Serve both hubs (or those named) until the end of the block."""
    try:
        for name in which or ("helper", "leader"):
            pair_.start(name)
        yield pair_
    finally:
        for name in list(pair_.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                pair_.stop(name)


def wait_for(what, timeout: float = 20.0):  # type: ignore[no-untyped-def]
    """Return what() once it is true."""
    end = time.monotonic() + timeout
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value
