# SPDX-License-Identifier: Apache-2.0
"""SOFTMAX of int8 values into int16 in fixed point, as TFLite and TFLite Micro compute it.

In: int8 [..., C]. Out: int16 [..., C], scale 1/65536, zero point -32768.  Refuses nothing.  Qn below is int32
with n integer bits.  Source: gemmlowp fixedpoint.h (exp by a cubic and a barrel of squarings, reciprocal by
three Newton steps), TFLite reference softmax.h; the formulas are theirs, the code is not.
"""

from __future__ import annotations

import math

import numpy as np

Ints = np.ndarray  # int64 arrays that hold int32 numbers

_ONE = (1 << 31) - 1  # 1 in Q0, as near as it gets
_ACCUMULATE = 12  # integer bits of the sum
_DIFFERENCE = 5  # integer bits of a scaled difference
# exp(-2^e) in Q0 for e = -2..4.
_BARREL = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def times(x: Ints, factor: tuple[int, int]) -> Ints:
    """Give x * m * 2^(shift - 31): high product, ties upward, then a rounding shift, half away from zero."""
    m, shift = factor
    high = _high(x << max(shift, 0), m)
    return _divide(high, max(-shift, 0))


def softmax_int16(x: np.ndarray, scale: float, beta: float) -> np.ndarray:
    """Softmax over the last axis."""
    factor = min(beta * float(np.float32(scale)) * (1 << (31 - _DIFFERENCE)), 2.0**31 - 1)
    mantissa, left = math.frexp(factor)
    m = math.floor(mantissa * 2.0**31 + 0.5)
    if m == 1 << 31:
        m, left = m >> 1, left + 1
    reach = math.floor(((1 << _DIFFERENCE) - 1) * 2.0 ** (31 - _DIFFERENCE - left))
    diff = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    near = diff >= -reach
    powers = np.where(near, _exp(_high(np.where(near, diff, 0) << max(left, 0), m)), 0)
    total = np.where(near, _divide(powers, _ACCUMULATE), 0).sum(axis=-1, keepdims=True)
    inverse, over = _reciprocal(total)
    scaled = _high(inverse, powers)
    shift = over + 31 - 16
    mask = (np.int64(1) << shift) - 1
    whole = (scaled >> shift) + ((scaled & mask) > (mask >> 1) + (scaled < 0))
    out: np.ndarray = np.where(near, np.clip(whole - 32768, -32768, 32767), -32768).astype(np.int16)
    return out


def _high(a: Ints, b: Ints | int) -> Ints:
    """High half of the doubled product, rounded; ties upward."""
    return (a * b + (1 << 30)) >> 31


def _divide(x: Ints, s: int) -> Ints:
    """X / 2^s, half away from zero."""
    mask = (1 << s) - 1
    return (x >> s) + ((x & mask) > (mask >> 1) + (x < 0))


def _exp(a: Ints) -> Ints:
    """Exp of Q5 numbers <= 0, in Q0."""
    bits = 31 - _DIFFERENCE
    quarter = 1 << (bits - 2)
    rest = (a & (quarter - 1)) - quarter  # -1/4 .. 0
    x = (rest << _DIFFERENCE) + (1 << 28)  # around -1/8
    x2 = _high(x, x)
    x3, x4 = _high(x2, x), _high(x2, x2)
    tail = _divide(_high(_divide(x4, 2) + x3, 715827883) + x2, 1)  # x^4/24 + x^3/6 + x^2/2
    result = 1895147668 + _high(x + tail, 1895147668)
    remainder = rest - a
    for i, power in enumerate(_BARREL):
        result = np.where(remainder & (1 << (bits - 2 + i)), _high(result, power), result)
    return np.where(a == 0, _ONE, result)


def _reciprocal(total: Ints) -> tuple[Ints, Ints]:
    """1/total of Q12 numbers as Q0 and the bits that it stands too high."""
    lead = 32 - np.ceil(np.log2(total.astype(np.float64) + 0.5)).astype(np.int64)
    half = ((total << lead) - (1 << 31) + _ONE + 1) // 2  # half of 1 + x, x in 0..1
    x = 1515870810 + _high(half, -1010580540)  # Q2: 48/17 - 32/17 * half
    for _ in range(3):
        rest = (1 << 29) - _high(half, x)
        x = x + (_high(x, rest) << 2)
    return np.minimum(x << 1, _ONE), _ACCUMULATE - lead
