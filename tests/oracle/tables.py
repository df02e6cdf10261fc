# SPDX-License-Identifier: Apache-2.0
"""Independent tables of operators on one value: float64 from NumPy's own functions, int16 in NumPy arrays.

In: operator name, quantisation, options. Out: int8 values and float64 slopes for q = -128..127.
Source: docs/training.md, "Tables".
"""

from __future__ import annotations

import numpy as np
from oracle.numbers import F, rne

Q = np.arange(-128, 128)


def fixed(x: np.ndarray, factor: float) -> np.ndarray:
    """gemmlowp's product with a real factor: high multiply with ties upward, then half away from zero."""
    mantissa, exponent = np.frexp(abs(factor))
    m = int(np.floor(mantissa * 2.0**31 + 0.5)) * (1 if factor >= 0 else -1)
    made = []
    for v in x.tolist():
        product = (v << max(int(exponent), 0)) * m
        nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
        high = abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)
        size = 1 << max(-int(exponent), 0)
        made.append((2 * abs(high) + size) // (2 * size) * (1 if high >= 0 else -1))
    return np.array(made)


def reals(x: tuple[float, int]) -> np.ndarray:
    """float32 inputs."""
    return (Q - x[1]).astype(F) * F(x[0])


def stored(y: np.ndarray, to: tuple[float, int]) -> np.ndarray:
    """float32 results as int8."""
    return np.clip(rne(y * (F(1) / F(to[0])) + F(to[1])), -128, 127).astype(int)


def table(name: str, x: tuple[float, int], y: tuple[float, int], alpha: float = 0.0) -> tuple:
    """(values, slopes); x, y: scale and zero point of input and output."""
    real, codes = reals(x), Q - x[1]
    wide = real.astype(np.float64)
    ratio = x[0] / y[0]
    if name == "LOGISTIC":
        p = 1 / (1 + np.exp(-wide))
        with np.errstate(over="ignore"):
            return stored(F(1) / (F(1) + np.exp(-wide).astype(F)), y), p * (1 - p)
    if name == "TANH":
        return stored(np.tanh(wide).astype(F), y), 1 - np.tanh(wide) ** 2
    if name == "MUL":
        return stored(real * real, y), 2 * wide
    if name == "HARD_SWISH":
        return hard_swish(x, y), np.where(wide <= -3, 0, np.where(wide >= 3, 1, (2 * wide + 3) / 6))
    if name == "LEAKY_RELU":
        under = F(x[0]) / F(y[0]) * F(alpha)
        if 2.0**-8 <= F(ratio) <= 2.0**7 and 2.0**-8 <= abs(under) <= 2.0**7:
            m = np.where(codes >= 0, int(rne(256 * F(x[0]) / F(y[0]))), int(rne(256 * under)))
            made = (codes * m + 128) >> 8
        else:
            made = np.where(codes >= 0, fixed(codes, ratio), fixed(codes, x[0] * float(F(alpha)) / y[0]))
        return np.clip(made + y[1], -128, 127), np.where(codes >= 0, 1.0, float(F(alpha)))
    low = {"RELU": 0, "RELU6": 0, "RELU_N1_TO_1": -1}[name]
    high = {"RELU6": 6, "RELU_N1_TO_1": 1}.get(name)
    lo = y[1] + low * int(np.floor(F(1) / F(y[0]) + 0.5))
    hi = 128 if high is None else y[1] + int(np.floor(F(high) / F(y[0]) + 0.5))
    made = np.clip(np.clip(fixed(codes, ratio) + y[1], lo, hi), -128, 127)
    return made, ((made > lo) & (made < hi)).astype(float)


def hard_swish(x: tuple[float, int], y: tuple[float, int]) -> np.ndarray:
    """LiteRT's 16-bit rule."""

    def high16(a: np.ndarray, b: int, half: int) -> np.ndarray:
        p = a * b
        p = p + np.where(p >= 0, half, -half + (half > 0))
        return np.sign(p) * (np.abs(p) >> 15)

    def away(v: np.ndarray, s: int) -> np.ndarray:
        return np.sign(v) * ((2 * np.abs(v) + (1 << s)) >> (s + 1))

    def parts(factor: float) -> tuple[int, int]:
        mantissa, exponent = np.frexp(factor)
        return min((int(np.floor(mantissa * 2.0**31 + 0.5)) + (1 << 15)) >> 16, 32767), int(exponent)

    fine = F(x[0]) * F(1 / 128)
    m_out, e_out = parts(float(fine / F(y[0])))
    m_gate, e_gate = parts(float(fine / (F(3) / F(32768))))
    v = (Q - x[1]) * 128
    gate = np.clip(v << max(e_gate - 1, 0), -32768, 32767)
    gate = high16(gate, m_gate, 1 << 14)
    gate = np.clip(gate << 1, -32768, 32767) if e_gate > 0 else away(gate, -e_gate)
    both = ((gate + 32768) >> 1) * high16(v, m_out, 1 << 14)
    both = np.sign(both) * (np.abs(both) >> 15)
    return np.clip(away(both, -e_out) + y[1], -128, 127)


def packed(slopes: np.ndarray) -> tuple[np.ndarray, int]:
    """int64 m and k with slope = m * 2^k, |m| <= 2^14."""
    top = np.abs(slopes).max()
    if top == 0:
        return np.zeros(slopes.shape, np.int64), 0
    mantissa, exponent = np.frexp(top)
    k = int(exponent) - (mantissa == 0.5) - 14
    return rne(np.ldexp(slopes, -k)).astype(np.int64), int(k)
