# SPDX-License-Identifier: Apache-2.0
"""Independent LSTM and SVDF in NumPy, integers only: forward pass as TFLite's built-in kernels compute it.

In: Graph, node, int8 values. Out: int8 outputs, and for the LSTM every gate and cell.
Source: docs/training.md, "LSTM" and "SVDF".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgefl.model.detail import Lstm, Svdf
from edgefl.model.graph import Graph, Node

F = np.float32


def sat16(x: np.ndarray) -> np.ndarray:
    """Clamp to int16."""
    return np.clip(x, -32768, 32767)


def away(x: np.ndarray, s: int) -> np.ndarray:
    """x / 2^s, half away from zero."""
    return np.sign(x) * ((2 * np.abs(x) + (1 << s)) >> (s + 1))


def multiplier(scale: np.float32) -> tuple[int, int]:
    """(mult, shift) of a float32 scale."""
    mantissa, shift = math.frexp(float(scale))
    mult = math.floor(mantissa * 2.0**31 + 0.5)
    return (mult // 2, shift + 1) if mult == 1 << 31 else (mult, shift)


def rescale(x: np.ndarray, scale: np.float32) -> np.ndarray:
    """x * scale by the quantised multiplier: half up to 32 bits, then half away from zero."""
    mult, shift = multiplier(scale)
    if shift < -31:
        return np.zeros_like(x)
    high = ((x << max(shift, 0)) * mult + (1 << 30)) >> 31
    return away(high, max(-shift, 0))


def _mul(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    return np.minimum((a * b + (1 << 14)) >> 15, 32767)


def _exp(x: np.ndarray, whole: int) -> np.ndarray:
    """exp of x <= 0 with `whole` bits before the point, in Q0.15."""
    quarter = 1 << (13 - whole)
    low = x % quarter - quarter
    rest = low - x
    a = (low << whole) + 4096
    a2 = _mul(a, a)
    a3, a4 = _mul(a2, a), _mul(a2, a2)
    y = sat16(28918 + _mul(a + away(_mul(away(a4, 2) + a3, 10923) + a2, 1), 28918))
    for j, power in zip(range(-2, 5), (25520, 19875, 12055, 4435, 600, 11, 0), strict=True):
        if whole > j:
            y = np.where(rest >> (15 - whole + j) & 1, _mul(y, power), y)
    y = np.where(rest >= 32 << (15 - whole), 0, y)
    return np.where(x == 0, 32767, y)


def _divide(a: np.ndarray) -> np.ndarray:
    """2 / (1 + a) in Q2.13."""
    d = (a + 32768) // 2
    x = 23130 + _mul(d, -15420)
    for _ in range(3):
        x = x + sat16(_mul(x, 8192 - _mul(d, x)) * 4)
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function, Q3.12 to Q0.15."""
    s = sat16(_divide(_exp(-np.abs(x), 3)) * 2)
    return np.where(x > 0, s, np.where(x < 0, 32767 - s, 16384))


def tanh(x: np.ndarray, whole: int) -> np.ndarray:
    """Tanh of x with `whole` bits before the point, to Q0.15."""
    return np.sign(x) * sat16((_divide(_exp(-np.abs(x), whole + 1)) - 8192) * 4)


@dataclass(frozen=True)
class Steps:
    """What one LSTM computed: each int64 [steps, n, cells]; h is centred."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    tc: np.ndarray
    h: np.ndarray


def lstm(graph: Graph, node: Node, x: np.ndarray) -> tuple[np.ndarray, Steps]:
    """Output int8 [n,1,steps,cells], and all steps."""
    assert isinstance(node.detail, Lstm)
    t_x, t_h = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    n, _, steps, _ = x.shape
    params = [graph.params[p] for p in node.params]
    xz = x[:, 0].astype(np.int64) - t_x.zero
    bits, clip = node.detail.cell_bits, node.detail.clip
    h, c = np.zeros((n, params[0].channels), np.int64), np.zeros((n, params[0].channels), np.int64)
    rows = []
    for t in range(steps):
        gates = []
        for k in range(4):
            w, r = params[k], params[4 + k]
            a = rescale(xz[:, t] @ w.q.T.astype(np.int64) + w.b, F(t_x.scale) * w.scales[0] / F(2.0**-12))
            b = rescale(h @ r.q.T.astype(np.int64), F(t_h.scale) * r.scales[0] / F(2.0**-12))
            p = sat16(sat16(a) + b)
            gates.append(tanh(p, 3) if k == 2 else sigmoid(p))
        i, f, g, o = gates
        c = sat16(away(f * c, 15) + away(i * g, 30 - bits))
        c = np.clip(c, -clip, clip) if clip else c
        tc = tanh(c, 15 - bits)
        h = np.clip(rescale(o * tc, F(2.0**-30) / F(t_h.scale)) + t_h.zero, -128, 127) - t_h.zero
        rows.append((i, f, g, o, c, tc, h))
    done = Steps(*(np.stack(v) for v in zip(*rows, strict=True)))
    return (done.h + t_h.zero).transpose(1, 0, 2)[:, None].astype(np.int8), done


def svdf(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    """Output int8 [n,1,1,units] of n consecutive frames, from an empty memory."""
    assert isinstance(node.detail, Svdf)
    m, zero_x, y = node.detail, graph.tensors[node.inputs[0]].zero, graph.tensors[node.output]
    feature = np.frombuffer(m.feature, "<i1").reshape(m.filters, -1).astype(np.int64)
    time = np.frombuffer(m.time, "<i2").reshape(m.filters, m.memory).astype(np.int64)
    state = np.zeros(time.shape, np.int64)
    scales = [F(mult * 2.0 ** (shift - 31)) for mult, shift in m.multipliers]
    assert [multiplier(s) for s in scales] == list(m.multipliers), "they come from float32 scales"
    out = []
    for frame in x.reshape(len(x), -1).astype(np.int64) - zero_x:
        state = np.roll(state.reshape(-1), -1).reshape(state.shape)
        state[:, -1] = np.clip(rescale(feature @ frame, scales[0]), *m.state)
        total = (state * time).sum(axis=1).reshape(-1, m.rank).sum(axis=1) + np.frombuffer(m.bias, "<i4")
        out.append(np.clip(rescale(total, scales[1]) + y.zero, -128, 127))
    return np.array(out).astype(np.int8).reshape(-1, *y.shape)
