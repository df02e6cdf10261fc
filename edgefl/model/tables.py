# SPDX-License-Identifier: Apache-2.0
"""Tables of operators on one value: the int8 result and the slope for each of the 256 int8 inputs.

In: scales, zero points, options. Out: values and slopes as lists from -128 to 127. Refuses nothing.
Invariant: no libm, so the same bits everywhere: exp is a series in double, all else single IEEE operations
or integers. The values equal those of LiteRT: HARD_SWISH, RELU and PRELU by its built-in integer rules,
LOGISTIC, TANH and the square as its default delegate rounds. Source: docs/training.md, "Tables".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

F = np.float32
CODES = range(-128, 128)
Bounds = tuple[int, int]


@dataclass(frozen=True)
class Quant:
    """Scales (float32 values) and zero points of an operator's input and output."""

    x_scale: float
    x_zero: int
    y_scale: float
    y_zero: int
    lift: int = 0  # what the file's zero point has more than y_zero: 128 in uint8 files

    def inputs(self) -> list[np.float32]:
        """Real inputs, (float)(q - z) * s in float32."""
        return [F(q - self.x_zero) * F(self.x_scale) for q in CODES]

    def stored(self, reals: list[np.float32], bounds: Bounds = (-128, 127)) -> list[int]:
        """clamp(rne(y * (1/s_y) + z_y)), in float32, z_y as the file has it."""
        zero = F(self.y_zero + self.lift)
        with np.errstate(over="ignore", invalid="ignore"):
            inverse = F(1) / F(self.y_scale)
            made = [np.rint(np.fmin(np.fmax(y * inverse + zero, F(-200)), F(400))) for y in reals]
        return [min(max(int(v) - self.lift, bounds[0]), bounds[1]) for v in made]


def exp_minus(t: float) -> float:
    """exp(-t) of t >= 0 in double: the series of the softmax table."""
    if t > 700.0:
        return 0.0
    n = int(t * 1.4426950408889634)
    r = t - n * 0.6931471805599453
    p = 1.0
    for i in range(13, 0, -1):
        p = 1.0 - r * p / i
    return math.ldexp(p, -n)


def logistic(q: Quant) -> tuple[list[int], list[float]]:
    """1/(1 + e), e = (float)exp(-x); slope p*(1 - p) = e/(1 + e)^2, e = exp(-|x|) in double."""
    reals, slopes = [], []
    for x in q.inputs():
        e = exp_minus(abs(float(x)))
        up = F(e) if x >= 0 else F(1 / e) if float(x) > -88.0 else F(np.inf)
        reals.append(F(1) / (F(1) + up))
        slopes.append(e / ((1.0 + e) * (1.0 + e)))
    return q.stored(reals), slopes


def tanh(q: Quant) -> tuple[list[int], list[float]]:
    """(float)((1 - e)/(1 + e)), e = exp(-2|x|) in double, with the sign of x; slope 4e/(1 + e)^2."""
    reals, slopes = [], []
    for x in q.inputs():
        e = exp_minus(2.0 * abs(float(x)))
        t = (1.0 - e) / (1.0 + e)
        reals.append(F(t if x >= 0 else -t))
        slopes.append(4.0 * e / ((1.0 + e) * (1.0 + e)))
    return q.stored(reals), slopes


def square(q: Quant, bounds: Bounds) -> tuple[list[int], list[float]]:
    """x*x; slope 2x."""
    xs = q.inputs()
    return q.stored([x * x for x in xs], bounds), [2.0 * float(x) for x in xs]


def square_fixed(q: Quant, bounds: Bounds) -> list[int]:
    """x*x by the gemmlowp rule of MUL."""
    codes = _centred(q)
    factor = float(F(q.x_scale) * F(q.x_scale) / F(q.y_scale))
    made: list[int] = np.clip(_rescaled(codes * codes, factor) + q.y_zero, *bounds).tolist()
    return made


def rectified(q: Quant, bounds: Bounds) -> tuple[list[int], list[float]]:
    """RELU and its kind: the value on the other scale, then the bounds; slope 0 at a bound, else 1."""
    lo, hi = bounds
    scaled = _rescaled(_centred(q), q.x_scale / q.y_scale) + q.y_zero
    values = np.clip(scaled, max(lo, -128), min(hi, 127))
    return values.tolist(), [float(lo < v < hi) for v in values.tolist()]


def rescaled_uint8(q: Quant) -> tuple[list[int], list[float]]:
    """Another scale in a CONCATENATION of uint8: u*s + (-z_x)*s in float32, half away from zero; slope 1."""
    s = F(q.x_scale) * (F(1) / F(q.y_scale))
    bias = F(-(q.x_zero + q.lift)) * s
    made = []
    for code in CODES:
        v = float(F(code + q.lift) * s + bias)
        whole = math.floor(abs(v) + 0.5)
        made.append(min(max((whole if v >= 0 else -whole) + q.y_zero, -128), 127))
    return made, [1.0] * 256


def leaky(q: Quant, alpha: float) -> tuple[list[int], list[float]]:
    """LEAKY_RELU: x or alpha*x, by the delegate's rule if both factors lie within 2^-8..2^7."""
    ratio = F(q.x_scale) / F(q.y_scale)
    below = ratio * F(alpha)
    codes = _centred(q)
    if 2.0**-8 <= ratio <= 2.0**7 and 2.0**-8 <= abs(below) <= 2.0**7:
        m, n = int(np.rint(F(256) * ratio)), int(np.rint(F(256) * below))
        values = (codes * np.where(codes >= 0, m, n) + 128) >> 8
        stored = np.clip(values + q.y_zero, -128, 127).tolist()
    else:
        stored = leaky_fixed(q, alpha)
    return stored, np.where(codes >= 0, 1.0, float(F(alpha))).tolist()


def leaky_fixed(q: Quant, alpha: float) -> list[int]:
    """LEAKY_RELU by LiteRT's built-in kernel, which is the gemmlowp rule, too."""
    codes = _centred(q)
    under = _rescaled(codes, q.x_scale * float(F(alpha)) / q.y_scale)
    values = np.where(codes >= 0, _rescaled(codes, q.x_scale / q.y_scale), under)
    made: list[int] = np.clip(values + q.y_zero, -128, 127).tolist()
    return made


def prelu(q: Quant, alphas: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """PRELU with stored factors [n] (zero point taken off) of that scale: values, slopes [n, 256]."""
    codes, alphas = _centred(q), alphas[:, None].astype(np.int64)
    under = _rescaled(codes * alphas, q.x_scale * scale / q.y_scale)
    values = np.where(codes >= 0, _rescaled(codes, q.x_scale / q.y_scale), under)
    slopes = np.where(codes >= 0, 1.0, alphas * scale)
    return np.clip(values + q.y_zero, -128, 127), slopes


def hard_swish(q: Quant) -> tuple[list[int], list[float]]:
    """x*clip(x + 3, 0, 6)/6 in 16-bit fixed point; slope (2x + 3)/6 between -3 and 3."""
    fine = F(1 / 128) * F(q.x_scale)
    m_out, e_out = _multiplier(float(fine / F(q.y_scale)))
    m_relu, e_relu = _multiplier(float(fine / (F(3) / F(32768))))
    m_out, m_relu = (min((m + (1 << 15)) >> 16, 32767) for m in (m_out, m_relu))
    values = []
    for code in CODES:
        v = (code - q.x_zero) * 128
        out = _high_mul(v, m_out, 15, rounded=True)
        relu = v
        if e_relu > 0:
            relu = _saturated16(relu << (e_relu - 1))
        relu = _high_mul(relu, m_relu, 15, rounded=True)
        relu = _saturated16(relu << 1) if e_relu > 0 else _divide_by_power(relu, -e_relu)
        relu = (relu + 32768) >> 1
        y = _divide_by_power(_high_mul(relu, out, 15, rounded=False), -e_out) + q.y_zero
        values.append(min(max(y, -128), 127))
    xs = [float(x) for x in q.inputs()]
    return values, [0.0 if x <= -3 else 1.0 if x >= 3 else (2.0 * x + 3.0) / 6.0 for x in xs]


def packed_slopes(slopes: list[float] | np.ndarray) -> tuple[bytes, int]:
    """int16 m and exponent k with slope = m*2^k, |m| <= 2^14: k = ceil(log2 max) - 14, m rounded to even."""
    values = np.array(slopes, np.float64)
    top = float(np.abs(values).max())
    if top == 0.0:
        return bytes(2 * values.size), 0
    fraction, exponent = math.frexp(top)
    k = exponent - (fraction == 0.5) - 14
    return np.rint(np.ldexp(values, -k)).astype("<i2").tobytes(), k


def _centred(q: Quant) -> np.ndarray:
    return np.arange(-128, 128, dtype=np.int64) - q.x_zero


def _rescaled(values: np.ndarray, factor: float) -> np.ndarray:
    """Gemmlowp's fixed-point product: doubling high multiply, then a divide by a power of two.

    int64 holds it: |value| < 2^8 with factors up to 2^16, or < 2^16 with factors up to 2^7, and m < 2^31.
    """
    m, shift = _multiplier(abs(factor))
    product = (values << max(shift, 0)) * (m if factor >= 0 else -m)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) >> 31)
    down = max(-shift, 0)
    made: np.ndarray = np.sign(high) * ((2 * np.abs(high) + (1 << down)) >> (down + 1))
    return made


def _multiplier(factor: float) -> tuple[int, int]:
    """Split into m in 2^30..2^31 - 1 and shift, factor = m * 2^(shift - 31), m rounded half up."""
    fraction, shift = math.frexp(factor)
    m = math.floor(math.ldexp(fraction, 31) + 0.5)
    return (m >> 1, shift + 1) if m == 1 << 31 else (m, shift)


def _high_mul(a: int, b: int, bits: int, rounded: bool) -> int:
    """a*b / 2^bits, truncated towards zero, with half a unit added first if rounded (ties upward)."""
    low = -(1 << bits)
    if a == b == low:
        return -low - 1
    product = a * b
    if rounded:
        half = 1 << (bits - 1)
        product += half if product >= 0 else 1 - half
    return product >> bits if product >= 0 else -(-product >> bits)


def _divide_by_power(x: int, s: int) -> int:
    """X / 2^s, half away from zero."""
    if s == 0:
        return x
    half = 1 << (s - 1)
    return (x + half) >> s if x >= 0 else -((half - x) >> s)


def _saturated16(x: int) -> int:
    return min(max(x, -32768), 32767)
