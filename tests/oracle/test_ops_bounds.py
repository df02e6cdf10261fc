# SPDX-License-Identifier: Apache-2.0
"""Backward of operators on single elements and of moves against real gradients in float64.

The oracle's errors (the C core's, by test_ops.py) may differ from the real gradient by rounding only: half a
unit 2^k of the new error, one where it is the largest and clamped from 128 to 127; for MUL also two float32
roundings, 2^-23 of the value; for a table also the slopes' int16, 2^-14 of the largest slope.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.elementwise import binary_errors, operands, quants, table_error
from oracle.forward import run
from oracle.moves import move_errors, pairs
from oracle.numbers import Error8
from oracle.test_engine import samples
from oracle.test_ops import graph_of

from edgefl.model import tables
from edgefl.model.detail import Rule
from edgefl.model.graph import Graph, Node, Op


def real_gradients(graph: Graph, node: Node, e: np.ndarray, values: dict) -> list[tuple[np.ndarray, float]]:
    """For each input: dL/dx in float64, [n, size], and what may be off before the last rounding."""
    n = len(e)
    if node.kind is Op.MOVE:
        made = []
        for t, part in zip(node.inputs, node.detail.parts, strict=True):
            at, to = pairs(part)
            g = np.zeros((n, graph.tensors[t].size))
            np.add.at(g, (slice(None), at), e.reshape(n, -1)[:, to])
            made.append((g, 0.0))
        return made
    if node.kind is Op.TABLE:
        slopes = np.frombuffer(node.detail.slopes, "<i2").reshape(-1, 256) * 2.0**node.detail.exponent
        x = values[node.inputs[0]].reshape(n, -1)
        channel = np.arange(x.shape[1]) % len(slopes)
        g = e.reshape(n, -1) * slopes[channel, x.astype(int) + 128]
        return [(g, float(np.abs(e).max() * np.abs(slopes).max()) * 2.0**-14)]
    ops, qs, rule = operands(graph, node, values), quants(graph, node), node.detail.rule
    e = e.reshape(n, *graph.tensors[node.output].file_shape)
    reals = [(o - q.zero) * float(np.float32(q.scale)) for o, q in zip(ops, qs, strict=True)]
    made = []
    for i, t in enumerate(node.inputs):
        if rule is Rule.MUL:
            g = e * reals[1 - i]
        elif rule is Rule.LINEAR:
            g = e * (-1.0 if node.detail.minus[i] else 1.0)
        else:
            first = reals[0] <= reals[1] if rule is Rule.MIN else reals[0] >= reals[1]
            g = e * (first if i == 0 else ~first)
        axes = tuple(j for j in range(1, e.ndim) if ops[i].shape[j] == 1)
        total = np.broadcast_to(g, e.shape).sum(axis=axes).reshape(n, graph.tensors[t].size)
        made.append((total, float(np.abs(total).max() * 2.0**-22) if rule is Rule.MUL else 0.0))
    return made


def check(seed: int) -> None:
    """Every operator of one random model on random errors."""
    graph, rng = graph_of(seed), np.random.default_rng(seed)
    values = run(graph, samples(graph, 3, seed))
    for node in graph.nodes:
        if node.kind not in (Op.BINARY, Op.TABLE, Op.MOVE):
            continue
        k = int(rng.integers(-20, 5))
        shape = values[node.output].shape
        error = Error8(rng.integers(-127, 128, shape) * rng.integers(0, 2, shape), k)
        if node.kind is Op.TABLE:
            got = [table_error(node, error, values[node.inputs[0]])]
        elif node.kind is Op.MOVE:
            got = [e for _, e in move_errors(graph, node, error)]
        else:
            got = [e for _, e in binary_errors(graph, node, error, values)]
        for found, (real, slack) in zip(
            got, real_gradients(graph, node, error.e * 2.0**k, values), strict=True
        ):
            if found is None:
                assert np.abs(real).max() <= max(slack, 2.0**-60)
                continue
            off = np.abs(found.e.reshape(real.shape) * 2.0**found.k - real)
            units = np.where(np.abs(found.e.reshape(real.shape)) == 127, 1.0, 0.5)
            assert (off <= units * 2.0**found.k + slack).all()


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_backward_is_the_real_gradient_up_to_rounding(seed: int) -> None:
    check(seed)


def functions(name: str, x: np.ndarray) -> np.ndarray:
    """The operator on real numbers."""
    return {
        "logistic": lambda: 1 / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
        "hard_swish": lambda: x * np.clip(x + 3, 0, 6) / 6,
        "square": lambda: x * x,
        "leaky": lambda: np.where(x >= 0, x, 0.25 * x),
    }[name]()


@pytest.mark.parametrize("name", ["logistic", "tanh", "hard_swish", "square", "leaky"])
def test_slopes_are_finite_differences(name: str) -> None:
    q = tables.Quant(0.0431, -7, 0.05, 3)
    more = {"square": ((-128, 127),), "leaky": (0.25,)}.get(name, ())
    _, slopes = getattr(tables, name)(q, *more)
    x = (np.arange(-128, 128) + 7) * float(np.float32(0.0431))
    h = 1e-5
    smooth = np.ones(256, bool)
    for kink in {"hard_swish": (-3, 3), "leaky": (0,)}.get(name, ()):
        smooth &= np.abs(x - kink) > 2 * h
    differences = (functions(name, x + h) - functions(name, x - h)) / (2 * h)
    assert np.abs(np.array(slopes) - differences)[smooth].max() < 1e-6
    packed, k = tables.packed_slopes(slopes)
    stored = np.frombuffer(packed, "<i2") * 2.0**k
    assert np.abs(stored - slopes).max() <= np.abs(slopes).max() * 2.0**-14


def test_planted_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product with the wrong zero point fails the bound."""
    import oracle.test_ops_bounds as here

    plain = here.binary_errors

    def wrong(graph: Graph, node: Node, error: Error8, values: dict) -> list:
        shifted = {t: np.where(v < 127, v + 1, v) for t, v in values.items()}
        return plain(graph, node, error, shifted)

    monkeypatch.setattr(here, "binary_errors", wrong)
    with pytest.raises(AssertionError):
        for seed in range(12):
            here.check(seed)
