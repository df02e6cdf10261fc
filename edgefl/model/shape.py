# SPDX-License-Identifier: Apache-2.0
"""Shapes: a file's shape as (H, W, C), and the padding and output size of a sliding window.

In: dimensions as the file has them.  Out: numbers for Graph.  Source: docs/training.md, "SAME padding".
"""

from __future__ import annotations


def to_hwc(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(H, W, C) of one sample; None if the shape is empty, has a zero, or a batch other than 1.

    [n] and [1, n] are vectors (1, 1, n); [1, l, c] is (1, l, c); more than four dimensions become one vector.
    """
    if not shape or min(shape) < 1:
        return None
    if len(shape) == 1:
        return (1, 1, shape[0])
    if shape[0] != 1:
        return None
    rest = shape[1:]
    if len(rest) > 3:
        size = 1
        for n in rest:
            size *= n
        return (1, 1, size)
    h, w, c = (1,) * (3 - len(rest)) + rest
    return (h, w, c)


def slide(n: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int]:
    """Output size, padding before and after of a window sliding over `n` values; size 0: no fit."""
    span = (kernel - 1) * dilation + 1
    if not same:
        return (max(0, (n - span) // stride + 1), 0, 0)
    out = -(-n // stride)
    pad = max((out - 1) * stride + span - n, 0)
    return (out, pad >> 1, pad - (pad >> 1))
