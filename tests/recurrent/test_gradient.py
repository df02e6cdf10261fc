# SPDX-License-Identifier: Apache-2.0
"""Gradients of the int8 LSTM against float64 within a derived bound; the float64 ones against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.lstm import lstm
from oracle.lstm_backward import lstm_back
from oracle.lstm_float import Real, back, forward
from oracle.numbers import Error8
from oracle.step import merge
from recurrent.models import add_lstm
from tinymodel import Net

from edgefl.model.graph import Graph, Node
from edgefl.model.read import read_model


def one_lstm(seed: int, steps: int, cells: int, depth: int, bits: int, clip: float) -> tuple[Graph, Node]:
    """A model that is one LSTM, and its node."""
    rng = np.random.default_rng(seed)
    net = Net((1, steps, depth), rng, scale=0.02, zero=int(rng.integers(-128, 128)))
    graph = read_model(add_lstm(net, cells, cell_bits=bits, clip=clip, spread=1.0).build())
    return graph, graph.nodes[0]


def compare(graph: Graph, node: Node, x: np.ndarray, error: Error8) -> list[tuple[np.ndarray, ...]]:
    """(int8 result, float64 result, bound) of dx, the eight weights and four biases, in real units."""
    _, s = lstm(graph, node, x)
    assert node.detail is not None
    q15, bits = 2.0**-15, node.detail.cell_bits
    real = Real(
        x=x[:, 0].transpose(1, 0, 2).astype(np.float64) - graph.tensors[node.inputs[0]].zero,
        i=s.i * q15,
        f=s.f * q15,
        g=s.g * q15,
        o=s.o * q15,
        c=s.c * 2.0**-bits,
        tc=s.tc * q15,
        h=s.h.astype(np.float64),
        masked=(np.abs(s.c) == node.detail.clip) & (node.detail.clip > 0),
        eps_cell=2.0**-bits,
    )
    params = [graph.params[p] for p in node.params]
    scales = [float(p.scales[0]) for p in params]
    weights = [p.q.astype(np.float64) * v for p, v in zip(params, scales, strict=True)]
    exact = error.e[:, 0].transpose(1, 0, 2) * 2.0**error.k
    wanted = back(real, exact, weights[:4], weights[4:], (scales[:4], scales[4:]))
    dx, found = lstm_back(graph, node, error, x)
    rows = []
    if dx is not None:
        ours = (dx.e * 2.0**dx.k)[:, 0].transpose(1, 0, 2)
        rows.append((ours, np.stack([v for v, _ in wanted["x"]]), np.stack([b for _, b in wanted["x"]])))
    for k, p in enumerate(node.params):
        total = None
        for grad in found[p]:
            total = merge(total, grad)
        if total is None:
            continue
        a, b, power = total
        rows.append((a * 2.0**power, *wanted["w" if k < 4 else "r"][k % 4]))
        if k < 4:
            v, off = wanted["b"][k]
            rows.append((b * 2.0**power, v[:, 0], off[:, 0]))
    return rows


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 16),
    st.integers(9, 15),
    st.sampled_from([0.0, 0.0, 0.5]),
    st.integers(1, 5),
)
def test_int8_gradient_stays_within_the_bound(
    seed: int, steps: int, cells: int, depth: int, bits: int, clip: float, n: int
) -> None:
    graph, node = one_lstm(seed, steps, cells, depth, bits, clip)
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (n, 1, steps, depth)).astype(np.int8)
    e = np.where(rng.random((n, 1, steps, cells)) < 0.5, rng.integers(-127, 128, (n, 1, steps, cells)), 0)
    for ours, theirs, bound in compare(graph, node, x, Error8(e, -9)):
        assert (np.abs(ours - theirs) <= bound * (1 + 1e-9) + 1e-15).all()


def cosines_and_shares(steps: int) -> list[tuple[float, float]]:
    """Cosine to float64, and the mean bound over the largest number, of each gradient."""
    graph, node = one_lstm(3, steps, 12, 16, 12, 0.0)
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (16, 1, steps, 16)).astype(np.int8)
    found = []
    for ours, theirs, bound in compare(
        graph, node, x, Error8(rng.integers(-127, 128, (16, 1, steps, 12)), -9)
    ):
        cosine = (ours * theirs).sum() / np.sqrt((ours**2).sum() * (theirs**2).sum())
        found.append((float(cosine), float(bound.mean() / np.abs(theirs).max())))
    return found


def test_bound_of_few_steps_is_not_vacuous() -> None:
    """It grows with every step, as a worst case must; over one or two it is a fraction of the gradient."""
    assert all(share < 0.5 for _, share in cosines_and_shares(1))
    assert all(share < 1.0 for _, share in cosines_and_shares(2))


def test_gradient_of_many_steps_points_where_float64_does() -> None:
    assert all(cosine > 0.998 for cosine, _ in cosines_and_shares(28))


def test_planted_fault_exceeds_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the cell gets from the step after, the bound is broken."""
    import oracle.lstm_backward as oracle

    plain = oracle._cell_error
    monkeypatch.setattr(oracle, "_cell_error", lambda h, u, later, f: plain(h, u, None, f))
    with pytest.raises(AssertionError):
        test_int8_gradient_stays_within_the_bound()


def test_float_gradient_equals_finite_differences() -> None:
    """The float64 formulas against differences of the float64 forward pass: of weights and of the input."""
    rng = np.random.default_rng(0)
    steps, n, cells, depth = 5, 2, 3, 4
    x = rng.normal(0, 1, (steps, n, depth))
    w = [rng.normal(0, 0.5, (cells, depth)) for _ in range(4)]
    r = [rng.normal(0, 0.5, (cells, cells)) for _ in range(4)]
    b = [rng.normal(0, 0.5, cells) for _ in range(4)]
    weight = rng.normal(0, 1, (steps, n, cells))

    def loss() -> float:
        return float((forward(x, w, r, b).h * weight).sum())

    found = back(forward(x, w, r, b), weight, w, r, ([1.0] * 4, [1.0] * 4))
    step = 1e-6
    for k in range(4):
        for name, array in (("w", w[k]), ("r", r[k]), ("b", b[k])):
            grad = np.asarray(found[name][k][0]).reshape(array.shape)
            for at in np.ndindex(array.shape):
                old = array[at]
                array[at] = old + step
                up = loss()
                array[at] = old - step
                down = loss()
                array[at] = old
                assert grad[at] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)
    for at in np.ndindex(x.shape):
        old = x[at]
        x[at] = old + step
        up = loss()
        x[at] = old - step
        down = loss()
        x[at] = old
        assert found["x"][at[0]][0][at[1:]] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)
