# SPDX-License-Identifier: Apache-2.0
"""Back-propagation through time of an LSTM in float64, with a bound on what int8 errors may differ by.

In: the activations of every step as real numbers, the exact error of every output, weights in real units.
Out: gradients of the gates' inputs, of x and of the weights, each with the largest difference that the
rounding rules of docs/training.md, "LSTM, backward", allow. x and h are centred integers, all else is real.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Real:
    """Activations, each [steps, n, cells], x [steps, n, values]; masked: cells at the clip."""

    x: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    tc: np.ndarray
    h: np.ndarray
    masked: np.ndarray
    eps_cell: float = 0.0  # unit of an integer cell


def unit8(value: np.ndarray, off: np.ndarray) -> float:
    """Most that to8 changes a number: half of 2^k, at the clamp 2^k, and k = ceil(log2 m) - 7: below m/64."""
    return float((np.abs(value) + off).max(initial=0.0)) / 64


def unit16(value: np.ndarray, off: np.ndarray) -> float:
    """The same for the int16 error of the cell: 2^k < m / 2^14."""
    return float((np.abs(value) + off).max(initial=0.0)) / 2**14


def forward(x: np.ndarray, w: list[np.ndarray], r: list[np.ndarray], b: list[np.ndarray]) -> Real:
    """An LSTM in float64; x [steps, n, values]."""
    h = c = np.zeros((x.shape[1], len(b[0])))
    rows = []
    for xt in x:
        z = [xt @ w[k].T + h @ r[k].T + b[k] for k in range(4)]
        i, f, o = (1 / (1 + np.exp(-z[k])) for k in (0, 1, 3))
        g = np.tanh(z[2])
        c = f * c + i * g
        tc = np.tanh(c)
        h = o * tc
        rows.append((xt, i, f, g, o, c, tc, h))
    parts = [np.stack(v) for v in zip(*rows, strict=True)]
    return Real(*parts, masked=np.zeros_like(parts[1], bool))


def back(
    s: Real, error: np.ndarray, w: list[np.ndarray], r: list[np.ndarray], q_scale: tuple[list, list]
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Gradients and bounds: "gate", "x" by step, "w" and "r" by gate, "b" by gate.

    q_scale: scales of the integer weights that stand behind w and r, for the bound of the joint to8.
    """
    steps = len(error)
    zero = np.zeros_like(error[0])
    after, after_off = zero, zero  # of h, from the step after
    cell, cell_off = zero, zero
    out: dict[str, list] = {"x": [None] * steps, "gate": [None] * steps}
    eps = 2.0**-15  # two roundings of half a unit of Q0.15, the inner one times at most 1
    for t in reversed(range(steps)):
        h = error[t] + after
        h_off = after_off + (1.5 * unit8(h, after_off) if t + 1 < steps else 0.0)
        before = s.c[t - 1] if t else zero
        u = s.o[t] * (1 - s.tc[t] ** 2)
        f_after = s.f[t + 1] if t + 1 < steps else zero
        d = h * u + cell * f_after
        d_off = h_off * np.abs(u) + (np.abs(h) + h_off) * eps + cell_off * f_after
        d_off = d_off + 0.5 * eps * (unit8(h, h_off) + unit16(cell, cell_off))  # to one exponent
        d_off = d_off + unit16(d, d_off)
        cell, cell_off = np.where(s.masked[t], 0, d), np.where(s.masked[t], 0, d_off)
        terms = (
            (cell, cell_off, s.g[t] * s.i[t] * (1 - s.i[t]), eps),
            (cell, cell_off, before * s.f[t] * (1 - s.f[t]), max(eps, s.eps_cell)),
            (cell, cell_off, s.i[t] * (1 - s.g[t] ** 2), eps),
            (h, h_off, s.tc[t] * s.o[t] * (1 - s.o[t]), eps),
        )
        gates = []
        for value, off, factor, slip in terms:
            v, v_off = value * factor, off * np.abs(factor) + (np.abs(value) + off) * slip
            gates.append((v, v_off + unit8(v, v_off)))
        out["gate"][t] = gates
        out["x"][t] = _through(gates, w, q_scale[0])
        after, after_off = _through(gates, r, q_scale[1])
    # One exponent for all steps of x: half a unit of the largest.
    top = max(unit8(v, off) for v, off in out["x"])
    out["x"] = [(v, off + 0.5 * top) for v, off in out["x"]]
    out["w"], out["r"], out["b"] = [], [], []
    ones = np.ones((*error.shape[:2], 1))
    for g in range(4):
        out["w"].append(_weights(out["gate"], g, s.x))
        out["r"].append(_weights(out["gate"][1:], g, s.h[:-1]))
        out["b"].append(_weights(out["gate"], g, ones))
    return out


def _through(gates: list, w: list[np.ndarray], scales: list) -> tuple[np.ndarray, np.ndarray]:
    """Error of what the gates' weights are multiplied with: one to8 of e*s for all, exact sums, to8."""
    top = max(unit8(v * s, off * s) for (v, off), s in zip(gates, scales, strict=True)) * (1 + 2.0**-20)
    total = sum(v @ m for (v, _), m in zip(gates, w, strict=True))
    off = sum(
        o @ np.abs(m) + top * np.abs(m / s).sum(axis=0) for (_, o), m, s in zip(gates, w, scales, strict=True)
    )
    return total, off + unit8(total, off)


def _weights(gates: list, g: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum over steps of e^T x; joining a step costs half a unit of the larger exponent."""
    total = sum(e[g][0].T @ xt for e, xt in zip(gates, x, strict=True))
    off = sum(e[g][1].T @ np.abs(xt) for e, xt in zip(gates, x, strict=True))
    top = max((unit8(*e[g]) for e in gates), default=0.0)
    return np.asarray(total), np.asarray(off) + 0.5 * len(gates) * top
