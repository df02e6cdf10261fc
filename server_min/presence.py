# SPDX-License-Identifier: Apache-2.0
"""Which devices are there, and a way to wake their long polls.

In: polls that begin and end, wake-ups from the driver.  Out: `live(device)`.  One process, one event loop.
Invariant: a wake-up between two looks of a waiting poll is not lost (a counter, not an event).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

# A device whose poll was answered counts as there for so long: it reconnects, or installs a release.
GRACE_S = 45.0


class Presence:
    """Open polls by device."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic."""
        self._clock = clock
        self._open: dict[bytes, int] = {}
        self._left: dict[bytes, float] = {}
        self._waiting: dict[bytes, set[asyncio.Future[None]]] = {}
        self._ticks: dict[bytes, int] = {}
        self.newest = -math.inf  # when a device appeared that was not live before
        self.stopping = False

    def enter(self, device: bytes) -> None:
        """Note that a poll begins."""
        if not self.live(device):
            self.newest = self._clock()
        self._open[device] = self._open.get(device, 0) + 1

    def leave(self, device: bytes, *, gone: bool) -> None:
        """Note that a poll ends; `gone`: its connection broke."""
        self._open[device] -= 1
        if not self._open[device]:
            del self._open[device]
            self._left[device] = -math.inf if gone else self._clock()

    def live(self, device: bytes) -> bool:
        """Return whether a device polls, or did a moment ago."""
        return device in self._open or self._clock() - self._left.get(device, -math.inf) < GRACE_S

    def count(self) -> int:
        """Return how many devices have an open poll."""
        return len(self._open)

    def tick(self, device: bytes) -> int:
        """Return how often a device was woken; take it before looking for news."""
        return self._ticks.get(device, 0)

    def wake(self, devices: Iterable[bytes] | None = None) -> None:
        """Let the polls of these devices (None: of all) look again."""
        for device in list(self._open) if devices is None else devices:
            self._ticks[device] = self.tick(device) + 1
            for future in self._waiting.pop(device, ()):
                if not future.done():
                    future.set_result(None)

    async def wait(self, device: bytes, tick: int, timeout: float) -> None:
        """Return when a device was woken after `tick` was taken, or after `timeout` seconds."""
        if self.tick(device) != tick or timeout <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(device, set()).add(future)
        try:
            await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError:
            pass
        finally:
            self._waiting.get(device, set()).discard(future)

    def stop(self) -> None:
        """End all polls for good."""
        self.stopping = True
        self.wake(list(self._waiting))
