# SPDX-License-Identifier: Apache-2.0
"""The log: one line an event, for people or as JSON; the list of events is here.

In: an event's name and fields.  Out: a line on standard error. Refuses (KeyError) events that are not listed.
Invariant: fields are counts, times, sizes, ids and hashes; never samples, labels, norms, gradients, keys or
seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TextIO

LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}

# name: (number, level, text for people); a number is never reused.
EVENTS: dict[str, tuple[int, str, str]] = {
    "daemon.run.started": (100, "info", "device {device} runs, task {task}, hub {hub}"),
    "daemon.run.stopped": (101, "info", "stopped: {reason}"),
    "daemon.work.failed": (102, "error", "{reason}; next try in {retry_s} s"),
    "hub.link.up": (110, "info", "connected to the hub"),
    "hub.link.down": (111, "warning", "no hub: {reason}; next try in {retry_s} s"),
    "hub.credential.renewed": (112, "info", "the hub renewed this device's credential"),
    "hub.request.refused": (113, "warning", "the hub refused: {reason}"),
    "release.offer.refused": (120, "warning", "release refused: {reason}"),
    "release.install.begun": (121, "info", "release {sequence}: installing ({kind}, {bytes} bytes)"),
    "release.install.done": (122, "info", "release {sequence} is active after {ms} ms"),
    "release.install.failed": (123, "warning", "{reason}"),
    "release.gate.verdict": (124, "info", "health gate: {verdict} ({reason})"),
    "release.link.repaired": (125, "warning", "the active model's link was repaired"),
    "round.offer.refused": (130, "info", "round {round} declined: {reason}"),
    "round.train.begun": (131, "info", "round {round}: training (attempt {attempt})"),
    "round.train.done": (132, "info", "round {round}: trained on {samples} samples in {ms} ms"),
    "round.train.failed": (133, "warning", "round {round}: no update: {reason}"),
    "round.report.sent": (
        134,
        "info",
        "round {round}: report accepted, {payload_bytes} + {header_bytes} bytes",
    ),
    "round.report.retry": (135, "info", "round {round}: report not delivered yet: {reason}"),
    "round.report.refused": (136, "warning", "round {round}: the hub refused the report: {reason}"),
    "round.over": (137, "info", "round {round} is over here: {outcome}"),
    "worker.sandbox.absent": (
        140,
        "warning",
        "this kernel has no seccomp filter: the worker could open sockets",
    ),
    "samples.pruned": (150, "info", "{files} own sample files deleted by age or size"),
}


# Events whose text may name files or ranges of the data: heartbeats carry their name only.
PRIVATE = {"round.train.failed"}


class Journal:
    """Writes events at or above a level."""

    def __init__(self, form: str, level: str, now: Callable[[], float], stream: TextIO | None = None) -> None:
        """`form` is text or json."""
        self.form = form
        self.threshold = LEVELS[level]
        self.now = now
        self.stream = stream or sys.stderr
        self.last_failure = ""  # what heartbeats tell the hub

    def event(self, name: str, **fields: str | int | float | bool) -> None:
        """Write one event."""
        number, level, text = EVENTS[name]
        line = one_line(text.format_map(fields))
        if LEVELS[level] >= LEVELS["warning"]:
            self.last_failure = name if name in PRIVATE else line
        if LEVELS[level] < self.threshold:
            return
        now = self.now()
        if self.form == "json":
            head = {"time": round(now, 3), "event": name, "id": number, "level": level}
            out = json.dumps({**head, **fields}, separators=(",", ":"))
        else:
            out = f"{_clock(now)} {level:7} {name}: {line}"
        print(out, file=self.stream, flush=True)


def one_line(text: str) -> str:
    """Return printable ASCII of at most 200 characters, as messages to the hub want it."""
    return "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))[:200]


def _clock(now: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
