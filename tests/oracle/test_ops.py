# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators in the C core against the oracle: outputs, and whole trained vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from opmodel import random_op_net
from oracle.forward import run
from oracle.test_engine import samples, train_both
from tinymodel import Net

from edgefl.errors import ModelError
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.native import lib
from edgefl.native.engine import select_isa, supported_isas


def graph_of(seed: int) -> Graph:
    """A random model, every third one uint8, unless products left the scales that LiteRT takes."""
    try:
        return read_model(random_op_net(seed, unsigned=seed % 3 == 0))
    except ModelError:
        reject()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.integers(1, 20))
def test_forward_random_operators_equal_oracle(seed: int, n: int) -> None:
    graph = graph_of(seed)
    x = samples(graph, n, seed)
    wanted = run(graph, x)[graph.output].reshape(n, -1)
    try:
        for isa in supported_isas():
            select_isa(isa)
            np.testing.assert_array_equal(Forward(graph).run(x), wanted)
    finally:
        lib.efl_init()


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (1, 4, 3, 7), (1, 1, 9, 130)])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_softmax_over_rows_equals_oracle(shape: tuple[int, ...], beta: float) -> None:
    graph = read_model(Net(shape, np.random.default_rng(0), 0.07).softmax(beta).build())
    x = samples(graph, 3, 1)
    np.testing.assert_array_equal(Forward(graph).run(x), run(graph, x)[graph.output].reshape(3, -1))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(["all", "bias+head"]),
    st.sampled_from([0.3, 0.01]),
    st.sampled_from([(7, 7), (8, 3)]),
)
def test_train_random_operators_equal_oracle(
    seed: int, layers: str, lr: float, sizes: tuple[int, int]
) -> None:
    graph = graph_of(seed)
    x, y = samples(graph, 17, seed), np.random.default_rng(seed).integers(0, 5, 17)
    ours, theirs = train_both(graph, layers, x, y, lr=lr, batch=sizes[0], micro=sizes[1])
    assert ours == theirs
