# SPDX-License-Identifier: Apache-2.0
"""Independent back-propagation through time of one LSTM, in int8 errors with an exponent for each step.

In: Graph, node, the error of the output, the int8 input. Out: the error of the input, and for each param one
(A, B, k) a step, last step first. Source: docs/training.md, "LSTM, backward".
"""

from __future__ import annotations

import numpy as np
from oracle.lstm import Steps, lstm
from oracle.numbers import Error8, F, ceil_log2, fan_in, float_to8, int_to8, rne_shift

from edgefl.model.detail import Lstm
from edgefl.model.graph import Graph, Node

Gradient = tuple[np.ndarray, np.ndarray, int]


def q15(x: np.ndarray) -> np.ndarray:
    """x / 2^15, nearest, ties to even."""
    return rne_shift(x, 15)


def _slope(s: np.ndarray) -> np.ndarray:
    return q15(s * (32768 - s))


def _factors(s: Steps, t: int) -> tuple[np.ndarray, ...]:
    """What multiplies the error of the cell (i, f, g) or of the output (o, cell) at step t."""
    before = s.c[t - 1] if t else np.zeros_like(s.c[0])
    i = q15(s.g[t] * _slope(s.i[t]))
    f = q15(before * _slope(s.f[t]))
    g = q15(s.i[t] * (32768 - q15(s.g[t] * s.g[t])))
    o = q15(s.tc[t] * _slope(s.o[t]))
    cell = q15(s.o[t] * (32768 - q15(s.tc[t] * s.tc[t])))
    return i, f, g, o, cell


def _cell_error(h: Error8 | None, u: np.ndarray, later: Error8 | None, f: np.ndarray | None) -> Error8 | None:
    """int16 error of the cell: through the output, and from the step after."""
    parts = []
    if h is not None:
        parts.append((h.e * u, h.k - 15))
    if later is not None:
        assert f is not None
        parts.append((later.e * f, later.k - 15))
    if not parts:
        return None
    top = max(k for _, k in parts)
    total = sum(rne_shift(x, top - k) for x, k in parts)
    m = int(np.abs(total).max())
    if m == 0:
        return None
    sh = max(0, ceil_log2(m) - 15)
    return Error8(np.clip(rne_shift(total, sh), -32767, 32767), top + sh)


def _through(
    gates: list[Error8 | None], weights: list[np.ndarray], scales: list[np.float32]
) -> Error8 | None:
    """Error of what the four gates' weights are multiplied with, int8 [n, terms]."""
    live = [i for i, d in enumerate(gates) if d is not None]
    if not live:
        return None
    top = max(gates[i].k for i in live)
    wide = [
        (gates[i].e.astype(F) * np.ldexp(scales[i], gates[i].k - top).astype(F)) if i in live else None
        for i in range(4)
    ]
    joined = float_to8(np.concatenate([w for w in wide if w is not None], axis=1))
    if joined is None:
        return None
    parts = np.split(joined.e, len(live), axis=1)
    total = sum(e @ weights[i].astype(np.int64) for e, i in zip(parts, live, strict=True))
    return int_to8(total, top + joined.k)


def lstm_back(
    graph: Graph, node: Node, error: Error8, x: np.ndarray, truncate: int | None = None
) -> tuple[Error8 | None, dict[int, list[Gradient]]]:
    """Error of the input, and gradients of the eight params."""
    assert isinstance(node.detail, Lstm)
    _, s = lstm(graph, node, x)
    xz = x[:, 0].astype(np.int64) - graph.tensors[node.inputs[0]].zero
    params = [graph.params[p] for p in node.params]
    scales = [F(p.scales[0]) for p in params]
    steps, bits, clip = x.shape[2], node.detail.cell_bits, node.detail.clip
    found: dict[int, list[Gradient]] = {p: [] for p in node.params}
    dx: list[Error8 | None] = [None] * steps
    back: Error8 | None = None  # from the step after, of h and of the cell
    later: Error8 | None = None
    for t in reversed(range(steps)):
        own = error.e[:, 0, t]
        h = fan_in([Error8(own, error.k) if own.any() else None, back])
        u_i, u_f, u_g, u_o, u_c = _factors(s, t)
        cell = _cell_error(h, u_c, later, s.f[t + 1] if t + 1 < steps else None)
        if cell is not None and clip:
            kept = np.where(np.abs(s.c[t]) == clip, 0, cell.e)
            cell = Error8(kept, cell.k) if kept.any() else None
        gates = [
            None if cell is None else int_to8(cell.e * u_i, cell.k - 15),
            None if cell is None else int_to8(cell.e * u_f, cell.k - bits),
            None if cell is None else int_to8(cell.e * u_g, cell.k - 15),
            None if h is None else int_to8(h.e * u_o, h.k - 15),
        ]
        for g, d in enumerate(gates):
            if d is None:
                continue
            b = d.e.sum(axis=0)
            found[node.params[g]].append((d.e.T @ xz[:, t], b, d.k))
            if t:
                found[node.params[4 + g]].append((d.e.T @ s.h[t - 1], np.zeros_like(b), d.k))
        dx[t] = _through(gates, [p.q for p in params[:4]], scales[:4])
        stop = truncate is not None and (steps - t) % truncate == 0
        back = None if stop or t == 0 else _through(gates, [p.q for p in params[4:]], scales[4:])
        later = None if stop else cell
    return _joined(dx, x.shape), found


def _joined(dx: list[Error8 | None], shape: tuple[int, ...]) -> Error8 | None:
    """All steps at the largest exponent."""
    if all(d is None for d in dx):
        return None
    top = max(d.k for d in dx if d is not None)
    e = np.zeros(shape, np.int64)
    for t, d in enumerate(dx):
        if d is not None:
            e[:, 0, t] = rne_shift(d.e, top - d.k)
    return Error8(e, top)
