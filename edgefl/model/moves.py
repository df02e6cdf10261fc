# SPDX-License-Identifier: Apache-2.0
"""Data movement as one form: which element of an input lands where in the result.

In: an input's shape, the indices taken along each of its axes, the order of the axes in the result, the
result's shape and where the taken block starts there. Out: a Part: loops with a table of input offsets for
each axis, and runs of neighbours that are copied at once. Refuses (None) more axes than the C core loops
over, and tables of over MAX_ENTRIES. Invariant: what is read lies inside the input, what is written inside
the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from edgefl.model.detail import AXES, Part

MAX_ENTRIES = 1 << 20  # of a part's tables: 4 MB
Offsets: TypeAlias = "range | np.ndarray"
Picks: TypeAlias = "Sequence[Sequence[int] | np.ndarray | range]"


def whole(shape: Sequence[int]) -> list[range]:
    """Take everything: the indices of each axis."""
    return [range(n) for n in shape]


def part(
    x_shape: Sequence[int],
    picks: Picks,
    y_shape: Sequence[int],
    y_start: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> Part | None:
    """Describe one input's part of the result.

    Parameters
    ----------
    x_shape : sequence of int
        Of the input, as a block; its axes may differ from the file's as long as its elements do not move.
    picks : sequence of sequences of int
        Indices taken along each axis of the input.
    y_shape : sequence of int
        Of the result, with the input's axes in `order`.
    y_start : sequence of int, optional
        Where the taken block starts in the result; default: at 0.
    order : sequence of int, optional
        Axis of the input that is each axis of the result; default: the same.

    Returns
    -------
    Part or None
        None if more than AXES loops or MAX_ENTRIES offsets remain.
    """
    x_steps, y_steps = _steps(x_shape), _steps(y_shape)
    start = sum(at * step for at, step in zip(y_start or (), y_steps, strict=False))
    base, loops = 0, list[tuple[Offsets, int]]()
    for axis, y_step in zip(order or range(len(x_shape)), y_steps, strict=True):
        offsets = _times(picks[axis], x_steps[axis])
        if len(offsets) == 1:
            base += int(offsets[0])
        else:
            loops.append((offsets, y_step))
    run = 1
    while loops and loops[-1][1] == run and _is_regular(loops[-1][0], run):
        offsets, _ = loops.pop()
        base, run = base + int(offsets[0]), run * len(offsets)
    entries = sum(len(offsets) for offsets, _ in loops)
    if len(loops) > AXES or entries > MAX_ENTRIES:
        return None
    tables = [np.zeros(1, np.int64)] * (AXES - len(loops)) + [np.asarray(o, np.int64) for o, _ in loops]
    tables[0] = tables[0] + base
    return Part(
        dims=tuple(len(t) for t in tables),
        run=run,
        start=start,
        strides=(0,) * (AXES - len(loops)) + tuple(step for _, step in loops),
        offsets=np.concatenate(tables).astype("<i4").tobytes(),
        once=all(isinstance(p, range) or len(np.unique(p)) == len(p) for p in picks),
    )


def _times(picks: Sequence[int] | np.ndarray | range, step: int) -> Offsets:
    """Offsets of these indices; a range stays one, so that long axes cost nothing."""
    if isinstance(picks, range):
        return range(picks.start * step, picks.stop * step, picks.step * step)
    return np.asarray(picks, np.int64) * step


def _is_regular(offsets: Offsets, step: int) -> bool:
    if isinstance(offsets, range):
        return offsets.step == step
    return bool((np.diff(offsets) == step).all())


def _steps(shape: Sequence[int]) -> list[int]:
    """Elements from one index to the next along each axis."""
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def nearest(n_out: int, n_in: int, align_corners: bool, half_pixel: bool) -> list[int]:
    """Input index of each output of RESIZE_NEAREST_NEIGHBOR along one axis, in float32 as LiteRT does."""
    scale = np.float32(n_in) / np.float32(n_out)
    if align_corners and n_out > 1:
        scale = np.float32(n_in - 1) / np.float32(n_out - 1)
    made = []
    for i in range(n_out):
        at = (np.float32(i) + np.float32(0.5 if half_pixel else 0)) * scale
        index = int(np.floor(at + np.float32(0.5))) if align_corners else int(np.floor(at))
        made.append(max(0, min(index, n_in - 1)))
    return made
