# SPDX-License-Identifier: Apache-2.0
"""Child processes of the demo: started with a log file each, watched, and never left behind.

In: command lines.  Out: running processes; the last lines of the log of one that died.  Every child leads a
session of its own, so that Ctrl-C reaches the demo alone, which then stops them in order (workers end with
their supervisor); if the demo itself is killed, the kernel ends its children (child.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import edgefl
from edgefl.errors import TemporaryFailure

STOP_S = 8.0  # from TERM to KILL
LOOK_S = 0.05
TAIL_LINES = 4
CHILD = "edgefl.demo.child"


class Process:
    """One child; stdout and stderr go to files."""

    def __init__(self, name: str, module: str, args: Sequence[str | Path], log: Path) -> None:
        """Start `python -m module args` through child.py."""
        self.name = name
        self.log = log
        self.out = log.with_suffix(".out")
        with open(self.out, "ab") as out, open(log, "ab") as err:
            self._child = subprocess.Popen(
                [sys.executable, "-m", CHILD, module, *map(str, args)],
                env={**environment(), "EDGEFL_DEMO_PARENT": str(os.getpid())},
                cwd="/",  # `-m` looks in the working folder first: a checkout there is not what is installed
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, also of its group."""
        return self._child.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._child.poll()

    def require_alive(self) -> None:
        """Raise TemporaryFailure with the end of the log if it has ended."""
        if self.code is not None:
            raise TemporaryFailure(f"{self.name} ended with code {self.code}: {self.last_words()}")

    def require_success(self) -> None:
        """Raise TemporaryFailure with the end of the log unless it ended with 0."""
        if self.code != 0:
            raise TemporaryFailure(f"{self.name} ended with code {self.code}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines of its log on one line, and where all of it is."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{' | '.join(map(_plain, lines[-TAIL_LINES:])) or 'no log'}; all of it in {self.log}"

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.code is None:
            self._child.terminate()

    def kill_group(self) -> None:
        """End whatever is left of it and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


def environment() -> dict[str, str]:
    """Return this process's environment with the running package first on the children's path."""
    root = str(Path(edgefl.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def _plain(line: str) -> str:
    """Return a line of a log for people: the event and its reason, if it is JSON."""
    try:
        event = json.loads(line)
        return ": ".join(str(event[key]) for key in ("event", "reason") if key in event) or line
    except (ValueError, TypeError):
        return line


class Processes:
    """All children; use as a context manager."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    def __enter__(self) -> Processes:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, devices before hubs."""
        self.stop()

    def start(self, name: str, module: str, args: Sequence[str | Path], log: Path) -> Process:
        """Start one and keep it."""
        process = Process(name, module, args, log)
        self._all.append(process)
        return process

    def run_all(self, jobs: Sequence[tuple[str, str, Sequence[str | Path], Path]], limit_s: float) -> None:
        """Run short commands side by side, as many as there are CPUs, and wait for them.

        Raises
        ------
        TemporaryFailure
            One failed, or was not done in `limit_s` seconds.
        """
        waiting, running = list(jobs), list[Process]()
        until = time.monotonic() + limit_s
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                running.append(self.start(*waiting.pop(0)))
            for process in [p for p in running if p.code is not None]:
                process.require_success()
                running.remove(process)
                self._all.remove(process)
            if time.monotonic() > until:
                raise TemporaryFailure(f"{running[0].name} was not done after {limit_s:.0f} s")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """TERM, wait, KILL; the last started first. Interrupts are put off until all are gone."""
        with _without_interrupts():
            for process in reversed(self._all):
                process.terminate()
            until = time.monotonic() + STOP_S
            while time.monotonic() < until and any(p.code is None for p in self._all):
                time.sleep(LOOK_S)
            for process in self._all:
                process.kill_group()
            self._all.clear()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore INT and TERM inside."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(name, signal.SIG_IGN) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


class Lines:
    """JSON lines of a growing file, each once; other lines are skipped."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist yet."""
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the objects that were added since the last call."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
        return found


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process: its own memory and its share of what others map too."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise TemporaryFailure(f"/proc/{pid}/smaps_rollup has no Pss")
