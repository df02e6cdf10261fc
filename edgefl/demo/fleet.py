# SPDX-License-Identifier: Apache-2.0
"""The demo's fleet in a folder: two hubs and N devices, set up with the commands that an operator types.

In: an empty folder, the number of devices, the seed.  Out: running hubs and devices, each device enrolled
with a one-time token and holding one patient's beats.  Nothing here knows more than the command lines of
docs/protocol.md; no key or token stays outside the folders of their owners.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgefl.demo import beats
from edgefl.demo.beats import Beats
from edgefl.demo.process import LOOK_S, Lines, Process, Processes, free_ports
from edgefl.errors import TemporaryFailure

TASK = "ecg"
START_S = 60.0
HUB, DEVICE = "server_min", "edgefl"

# Rates and clip as measured (data/README.md): 15 rounds, every layer, one local epoch, no noise.
TASK_TOML = """\
layers = "all"
loss = "softmax_ce"
class_weights = [1.0, 4.0, 2.0]   # N, S, V
lr = 0.06
epochs = 1
batch = 32
step_cap = 0.1
hub_rate = 2.0
clip = 96000                      # about three times the median norm of an update
scale = 512                       # the clip norm becomes 512: one integer is 187.5 units
value_bits = 8
seed = {seed}
n_max = {n_max}
quorum = {quorum}
deadline_s = 60
"""

DEVICE_TOML = """\
[state]
folder = "state"

[data]
folder = "samples"

[transport]
backoff_min_s = 0.2
backoff_max_s = 5.0
"""


@dataclass
class Device:
    """One device: its folder, its log, its process once it runs, the beats that test it."""

    name: str
    folder: Path
    test: Beats
    journal: Lines
    process: Process | None = None

    @property
    def config(self) -> Path:
        """Its edgefl.toml."""
        return self.folder / "edgefl.toml"

    @property
    def model(self) -> Path:
        """The model that an application on this device would run."""
        return self.folder / "state" / "current"


class Fleet:
    """Two hubs and their devices."""

    def __init__(self, folder: Path, processes: Processes, n_devices: int, seed: int) -> None:
        """Nothing starts before `found`."""
        self.folder = folder
        self.leader, self.helper = folder / "leader", folder / "helper"
        self.seed = seed
        self._processes = processes
        self._logs = folder / "logs"
        self.hubs: list[Process] = []
        self.devices = [
            self._write_device(i, train, test)
            for i, (train, test) in enumerate(beats.split_devices(n_devices))
        ]

    def found(self) -> None:
        """Found both hubs, pair them, make the model a task, start serving."""
        devices, enroll, metrics, helper = (f"127.0.0.1:{port}" for port in free_ports(4))
        grant, request = self.folder / "grant", self.helper / "pair-request"
        listen = ("--listen", devices, "--enroll-listen", enroll, "--metrics-listen", metrics)
        self._hub_command("init", self.leader, "--operator", "hospital", *listen)
        self._hub_command("init", self.helper, "--helper", "--operator", "university", "--listen", helper)
        self._hub_command("pair", self.leader, request, "-o", grant, "--helper-url", f"https://{helper}")
        self._hub_command("accept", self.helper, grant)
        grant.unlink()
        task, calibration = self.folder / "task.toml", self.folder / "calibration.npz"
        n = len(self.devices)
        task.write_text(TASK_TOML.format(seed=self.seed, n_max=n, quorum=max(2, n // 2)))
        np.savez(calibration, x=beats.calibration())
        add = ("add", TASK, beats.MODEL_FILE, "--config", task, "--calibration", calibration)
        self._hub_command("task", *add, "--hub", self.leader)
        self.hubs = [
            self._processes.start("helper hub", HUB, ["serve", self.helper, "--helper"], self._log("helper")),
            self._processes.start("leader hub", HUB, ["serve", self.leader], self._log("leader")),
        ]
        for hub in self.hubs:
            self._await_ready(hub)

    def enroll(self) -> None:
        """Give each device a one-time token; it makes its own key and gets a certificate."""
        count = ("--count", str(len(self.devices)), "--valid", "10m")
        tokens = self.ask_hub("devices", "invite", "--task", TASK, *count)["tokens"]
        jobs = []
        for device, token in zip(self.devices, tokens, strict=True):
            file = device.folder / "token"
            file.write_text(token)
            args = ("enroll", "--token-file", file, "--config", device.config)
            jobs.append((f"enrolling {device.name}", DEVICE, args, self._log(f"{device.name}-enroll")))
        self._processes.run_all(jobs, START_S)
        for device in self.devices:
            (device.folder / "token").unlink()

    def start_devices(self) -> None:
        """Start every device's daemon and wait until all of them run the first release."""
        for device in self.devices:
            args = ("run", "--config", device.config, "--json")
            device.process = self._processes.start(device.name, DEVICE, args, self._log(device.name))
        until = time.monotonic() + START_S
        while not all(device.model.exists() for device in self.devices):
            self.require_alive()
            if time.monotonic() > until:
                late = next(d for d in self.devices if not d.model.exists())
                assert late.process is not None
                words = late.process.last_words()
                raise TemporaryFailure(f"{late.name} had no model after {START_S:.0f} s: {words}")
            time.sleep(LOOK_S)

    def start_rounds(self, rounds: int) -> tuple[Process, Lines]:
        """Queue rounds at the leader; returns the command that follows them and its lines."""
        args = ("round", "start", TASK, "--rounds", str(rounds), "--wait", "--json", "--hub", self.leader)
        process = self._processes.start("the rounds command", HUB, args, self._log("rounds"))
        return process, Lines(process.out)

    def ask_hub(self, *args: str) -> Any:
        """Run a command of the leader and return what it prints as JSON, which stays in no file."""
        out = self._log("hub-command").with_suffix(".out")
        out.unlink(missing_ok=True)
        self._hub_command(*args, "--json", "--hub", self.leader)
        found = json.loads(out.read_text())
        out.unlink()
        return found

    def require_alive(self) -> None:
        """Raise TemporaryFailure if a hub or a device has died."""
        for process in (*self.hubs, *(d.process for d in self.devices)):
            if process is not None:
                process.require_alive()

    def _hub_command(self, *args: str | Path) -> None:
        job = (f"edgefl-hub {args[0]}", HUB, args, self._log("hub-command"))
        self._processes.run_all([job], START_S)

    def _await_ready(self, hub: Process) -> None:
        until = time.monotonic() + START_S
        while "ready" not in hub.out.read_text().split():
            hub.require_alive()
            if time.monotonic() > until:
                raise TemporaryFailure(f"the {hub.name} was not ready: {hub.last_words()}")
            time.sleep(LOOK_S)

    def _log(self, name: str) -> Path:
        self._logs.mkdir(exist_ok=True)
        return self._logs / f"{name}.log"

    def _write_device(self, index: int, train: Beats, test: Beats) -> Device:
        name = f"device-{index + 1:02}"
        folder = self.folder / "devices" / f"{index + 1:02}-record-{int(train.record[0])}"
        (folder / "samples").mkdir(parents=True)
        np.savez(folder / "samples" / "beats.npz", x=train.x, y=train.y)
        np.savez(folder / "test.npz", x=test.x, y=test.y)
        (folder / "edgefl.toml").write_text(DEVICE_TOML)
        return Device(name, folder, test, Lines(self._logs / f"{name}.log"))
