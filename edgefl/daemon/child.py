# SPDX-License-Identifier: Apache-2.0
"""Starting a child process of the supervisor and reading what it says.

In: module, job (CBOR on its stdin), limits of time.  Out: its messages (CBOR, each with a u32 length, on
stdout) and how it ended. It gets no descriptor but these, an environment of a few names, and no terminal;
what it prints on stderr goes nowhere unless the supervisor debugs. Refuses messages above MAX_MESSAGE.
Invariant: when `Child.stop` returns, the process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edgefl
from edgefl.daemon.job import MAX_MESSAGE
from edgefl.errors import DataError, Unavailable
from edgefl.wire import cbor

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
KEPT_PREFIXES = ("QEMU_",)


class Child:
    """One running child."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Wrap a started process; `start` is the way in."""
        self.process = process

    @classmethod
    async def start(cls, command: Sequence[str], module: str, job: object, *, debug: bool = False) -> Child:
        """Start `command -m module` and hand it its job.

        Raises
        ------
        Unavailable
            The command cannot be started.
        """
        argv = [*(command or [sys.executable]), "-s", "-m", module]
        stderr = None if debug else asyncio.subprocess.DEVNULL
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=pipe,
                stdout=pipe,
                stderr=stderr,
                env=environment(),
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise Unavailable(
                f"cannot start {argv[0]}: {error.strerror}", hint="see [worker] command"
            ) from None
        child = cls(process)
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it died at once: `message` will say so
            process.stdin.write(cbor.dumps(job))
            await process.stdin.drain()
            process.stdin.close()
        return child

    async def message(self) -> dict[str, Any] | None:
        """Return its next message, None when it has ended without one."""
        assert self.process.stdout is not None
        try:
            size = int.from_bytes(await self.process.stdout.readexactly(4), "big")
            if size > MAX_MESSAGE:
                return None
            value = cbor.loads(await self.process.stdout.readexactly(size))
        except (asyncio.IncompleteReadError, DataError):
            return None
        return value if isinstance(value, dict) else None

    async def ended(self) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""
        return await self.process.wait()

    async def stop(self) -> None:
        """Kill it if it runs, and wait until it is gone."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


def environment() -> dict[str, str]:
    """Return what a child sees of the supervisor's environment, and where this package is."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
    root = str(Path(edgefl.__file__).resolve().parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")]))
    # One thread: the C core has none of its own, and OpenBLAS would reserve memory for one on each CPU.
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
