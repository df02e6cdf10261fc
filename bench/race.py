# SPDX-License-Identifier: Apache-2.0
"""Timing several contestants against each other in one process.

In: Lanes.  Out: Heat: medians and ratios.  Invariant: the lanes take turns in blocks of a few milliseconds,
in alternating order, and a ratio is the median over rounds of ratios within one round, so that drift of the
machine (clock, neighbours) hits both sides alike.  Work of one thread is timed by that thread's CPU clock,
which stands still while other processes run (what a peer does in other threads is not counted against it);
work of several threads by the wall clock.  Absolute times stand beside for orientation only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, thread_time

Clock = Callable[[], float]

BLOCK_S = 0.004
MIN_ROUNDS = 7


@dataclass(frozen=True)
class Lane:
    """One contestant: `work` does `units` of whatever is compared; `enter` runs untimed before each block."""

    name: str
    work: Callable[[], object]
    units: int = 1
    enter: Callable[[], None] | None = None


@dataclass(frozen=True)
class Heat:
    """Seconds a unit, for each lane and round."""

    times: dict[str, list[float]]

    def us(self, name: str) -> float:
        """Median microseconds a unit."""
        return median(self.times[name]) * 1e6

    def ratio(self, over: str, under: str) -> float:
        """Median of `over`'s time in `under`'s."""
        return median(a / b for a, b in zip(self.times[over], self.times[under], strict=True))


def race(lanes: list[Lane], seconds: float, clock: Clock = thread_time) -> Heat:
    """Let the lanes take turns for about `seconds`."""
    calls = {lane.name: _warm(lane, clock) for lane in lanes}
    times: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[lanes[0].name]) < MIN_ROUNDS:
        lanes = lanes[::-1]
        for lane in lanes:
            took = _block(lane, calls[lane.name], clock)
            times[lane.name].append(took / (calls[lane.name] * lane.units))
    return Heat(times)


def _warm(lane: Lane, clock: Clock) -> int:
    """Find how many calls fill a block; the first calls, with their page faults, are not counted."""
    _block(lane, 3, clock)
    calls = 1
    while (took := _block(lane, calls, clock)) < BLOCK_S / 2:
        calls *= 2
    return max(1, round(calls * BLOCK_S / took))


def _block(lane: Lane, calls: int, clock: Clock) -> float:
    if lane.enter:
        lane.enter()
    work = lane.work
    start = clock()
    for _ in range(calls):
        work()
    return clock() - start
