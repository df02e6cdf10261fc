# SPDX-License-Identifier: Apache-2.0
"""The `gemmlowp` rule in NumPy: int64 arithmetic from docs/training.md, nothing of the engine.

In: int64 arrays. Out: int64 arrays. A multiplier is (m, shift): a real number m * 2^(shift - 31).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from oracle.numbers import F

Multiplier = tuple[int, int]


def multiplier(real: float) -> Multiplier:
    """m = round(mantissa * 2^31), half away from zero; below 2^-31: 0."""
    mantissa, shift = math.frexp(real)
    m = math.floor(mantissa * 2.0**31 + 0.5)
    if m == 1 << 31:
        m, shift = m // 2, shift + 1
    return (m, shift) if shift >= -31 else (0, 0)


def times(x: np.ndarray, factor: Multiplier | Sequence[Multiplier]) -> np.ndarray:
    """x * m * 2^(shift - 31): doubling high product, ties upward, then a rounding shift, half away."""
    m, shift = (np.asarray(v, np.int64) for v in np.asarray(factor, np.int64).T)
    ab = x * (1 << np.maximum(shift, 0)) * m
    nudged = ab + np.where(ab >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))  # truncates
    s = np.maximum(-shift, 0)
    mask = (1 << s) - 1
    return (high >> s) + ((high & mask) > (mask >> 1) + (high < 0))


def conv_multipliers(s_x: float, scales: np.ndarray, s_y: float) -> list[Multiplier]:
    """One for each scale: double products of float32 scales."""
    return [multiplier(float(F(s_x)) * float(s) / float(F(s_y))) for s in scales]


def linear(a: np.ndarray, b: np.ndarray, s: Sequence[float], minus: Sequence[bool]) -> np.ndarray:
    """a*s[0] + b*s[1] in units of s[2], a and b without zero points, with 20 extra bits in between."""
    top = 2.0 * float(max(F(s[0]), F(s[1])))
    m = [multiplier(float(F(v)) / top) for v in s[:2]]
    parts = [times(x << 20, f) * (-1 if n else 1) for x, f, n in zip((a, b), m, minus, strict=True)]
    return times(parts[0] + parts[1], multiplier(top / (2.0**20 * float(F(s[2])))))


def mean(total: np.ndarray, n: int, s_x: float, s_y: float) -> np.ndarray:
    """Give total/n in units of s_y; total without zero points. 1/n is folded into the multiplier."""
    m, shift = multiplier(float(F(s_x)) / float(F(s_y)))
    up = min(n.bit_length() - 1, 32, 31 + shift)
    return times(total, ((m << up) // n, shift - up))
