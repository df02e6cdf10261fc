# SPDX-License-Identifier: Apache-2.0
"""The course of the demo: found the fleet, let it learn, measure, stop everything.

In: options and somebody to tell.  Out: a `Result`.  A hub or device that dies, or a fleet that does not move,
ends the demo with the last lines of its log (TemporaryFailure); whatever happens, no process is left running.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from edgefl.demo.beats import MODEL_FILE
from edgefl.demo.exam import Exam, Marks
from edgefl.demo.fleet import Device, Fleet
from edgefl.demo.process import LOOK_S, Processes, pss_bytes
from edgefl.demo.result import Meters, Result
from edgefl.errors import TemporaryFailure

STALL_S = 120.0  # without any change of state: twice a round's deadline
SETTLE_S = 2.0  # after the last round, until memory is read


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    devices: int
    rounds: int
    seed: int
    folder: Path


class Audience(Protocol):
    """Who is told what happens."""

    def step(self, text: str) -> None:
        """Hear of a new stage."""

    def phase(self, number: int, text: str) -> None:
        """Hear where the round with this number (from 1) is."""

    def round_over(self, number: int, seconds: float, cohort: int, marks: Marks) -> None:
        """Hear how the newest model scores."""

    def warn(self, text: str) -> None:
        """Hear of something that did not go as it should."""


def run(options: Options, tell: Audience) -> Result:
    """Run the demo.

    Raises
    ------
    TemporaryFailure
        A process died or nothing moved; the message ends with the last lines of its log.
    """
    begun = time.monotonic()
    with Processes() as processes:
        tell.step("unpacking the beats, one patient a device")
        fleet = Fleet(options.folder, processes, options.devices, options.seed)
        exam = Exam([device.test for device in fleet.devices])
        before = exam.mark(MODEL_FILE)
        tell.step("founding two hubs: keys, certificate authority, pairing, the model as a task")
        fleet.found()
        tell.step(f"enrolling {options.devices} devices with one-time tokens")
        fleet.enroll()
        tell.step("starting the devices; each installs the first signed release")
        fleet.start_devices()
        watch = Watch(fleet, options.rounds, exam, tell)
        watch.follow_rounds()
        tell.step("measuring")
        figures = watch.figures()
        rounds = fleet.ask_hub("rounds")
        after = exam.mark(fleet.devices[0].model)
        tell.step("stopping")
    seconds = time.monotonic() - begun
    return Result(options.devices, options.seed, str(options.folder), seconds, before, after, rounds, figures)


class Watch:
    """Follows rounds through the hub's command and the devices' journals."""

    def __init__(self, fleet: Fleet, rounds: int, exam: Exam, tell: Audience) -> None:
        """Follow so many `rounds`, once told to."""
        self._fleet, self._rounds, self._exam, self._tell = fleet, rounds, exam, tell
        self._events: dict[str, dict[str, Any]] = {}  # the last event of each name, of any device
        self._peak_rss = 0
        self._reports = 0  # in the round at hand

    def follow_rounds(self) -> None:
        """Start the rounds and see them through."""
        command, lines = self._fleet.start_rounds(self._rounds)
        moved, opened = time.monotonic(), 0.0
        over = published = 0
        while True:
            ended = command.code is not None
            if self._read_journals():
                moved = time.monotonic()
            for line in lines.new():
                moved = time.monotonic()
                number, state = over + 1, line["state"]
                if state == "invited":
                    opened, self._reports = line["t"], 0
                elif state == "installed":
                    over, published = over + 1, published + 1
                    marks = self._exam.mark(self._fleet.devices[0].model)
                    self._tell.round_over(number, line["t"] - opened, line["cohort"], marks)
                elif state == "void":
                    over += 1
                    self._tell.warn(f"round {number} is void: {line['reason']}")
                self._tell.phase(over + 1, state)
            if ended:
                break
            self._fleet.require_alive()
            if time.monotonic() - moved > STALL_S:
                raise TemporaryFailure(f"nothing has moved for {STALL_S:.0f} s: {command.last_words()}")
            time.sleep(2 * LOOK_S)
        if not published:
            raise TemporaryFailure(f"no round gave a model: {command.last_words()}")

    def figures(self) -> Meters:
        """Measure, once the fleet is idle again."""
        time.sleep(SETTLE_S)
        self._read_journals()
        self._fleet.require_alive()
        sent = self._events.get("round.report.sent", {})
        supervisors = [d.process.pid for d in self._fleet.devices if d.process is not None]
        newest = str(self._fleet.ask_hub("releases")[-1]["file"])
        return Meters(
            payload_bytes=sent.get("payload_bytes"),
            header_bytes=sent.get("header_bytes"),
            download_bytes=self._events.get("release.install.begun", {}).get("bytes"),
            worker_peak_rss=self._peak_rss or None,
            supervisor_pss=int(median(map(pss_bytes, supervisors))),
            updated=sum(holds(device, newest) for device in self._fleet.devices),
        )

    def _read_journals(self) -> bool:
        """Take in what the devices have logged; returns whether there was anything."""
        anything = False
        for device in self._fleet.devices:
            for event in device.journal.new():
                anything = True
                self._events[event["event"]] = event
                self._peak_rss = max(self._peak_rss, event.get("peak_rss_bytes", 0))
                if event["event"] == "round.report.sent":
                    self._reports += 1
                    total = len(self._fleet.devices)
                    self._tell.phase(0, f"{self._reports} of {total} masked updates are in")
        return anything


def holds(device: Device, sha256: str) -> bool:
    """Return whether the device's active model has this hash."""
    return hashlib.sha256(device.model.read_bytes()).hexdigest() == sha256
