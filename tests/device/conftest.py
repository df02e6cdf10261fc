# SPDX-License-Identifier: Apache-2.0
"""A scripted hub and real device processes for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgefl.cli.device import read_config
from edgefl.daemon.enroll import enroll

from .minihub import MiniHub

ROOT = Path(__file__).resolve().parents[2]


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> object:
    """Wait for an effect, with a bound."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if result := what():
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing happened within {seconds} s")


class Device:
    """A state folder, a configuration, and the processes that run on them."""

    def __init__(self, folder: Path, *, shape=(8, 8, 3), classes: int = 4, seed: int = 3, **tables: dict):
        self.folder = folder
        self.state = folder / "state"
        self.processes: list[subprocess.Popen] = []
        self.starts = 0  # "started" events once the last daemon runs
        (folder / "data").mkdir(parents=True)
        rng = np.random.default_rng(seed)
        x = rng.integers(-128, 128, (40, *shape)).astype(np.int8)
        np.savez(folder / "data" / "a.npz", x=x, y=rng.integers(0, classes, 40))
        self.configure(**tables)

    def configure(self, **tables: dict) -> None:
        settings = {
            "state": {"folder": "state"},
            "data": {"folder": "data"},
            "transport": {"backoff_min_s": 0.1, "backoff_max_s": 0.4, "connect_timeout_s": 5.0},
            "log": {"format": "json", "level": "debug"},
        }
        for name, values in tables.items():
            settings[name] = {**settings.get(name, {}), **values}
        lines = []
        for name, values in settings.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        (self.folder / "edgefl.toml").write_text("\n".join(lines))

    def command(self, *args: str, code: int = 0) -> str:
        """Run a command to its end; returns stdout, or stderr if a failure is expected."""
        argv = [sys.executable, "-m", "edgefl", *args, "--config", str(self.folder / "edgefl.toml")]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    def start(self, *options: str, argv: list[str] | None = None) -> subprocess.Popen:
        """Start the daemon; its log goes to a file."""
        if argv is None:
            argv = [sys.executable, "-m", "edgefl", "run", *options]
            argv += ["--config", str(self.folder / "edgefl.toml")]
        self.starts = len(self.log("daemon.run.started")) + 1
        log = open(self.folder / "log", "a")
        process = subprocess.Popen(argv, cwd=ROOT, stderr=log)
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen) -> int:
        """Send TERM once the daemon that was started last has begun to listen for it."""
        wait_for(lambda: len(self.log("daemon.run.started")) >= self.starts or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        return process.wait(20)

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def log(self, event: str = "") -> list[dict]:
        """The events of this name so far."""
        try:
            lines = (self.folder / "log").read_text().splitlines()
        except FileNotFoundError:
            return []
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [e for e in events if event in ("", e["event"])]

    def active(self) -> str:
        """Hash of the file that the application would load."""
        link = self.state / "current"
        return link.resolve().name if link.exists() else ""


@pytest.fixture
def hub(tmp_path) -> Iterator[MiniHub]:
    (tmp_path / "hub").mkdir()
    hub = MiniHub(tmp_path / "hub")
    yield hub
    hub.stop()


@pytest.fixture
def device(hub, tmp_path) -> Iterator[Device]:
    """An enrolled device."""
    device = Device(tmp_path / "device")
    enroll(read_config(device.folder / "edgefl.toml"), hub.token())  # test_enroll.py uses the command
    yield device
    device.end()
