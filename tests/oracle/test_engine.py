# SPDX-License-Identifier: Apache-2.0
"""The C core against the oracle, bit for bit, on random models and real ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.forward import run
from tinymodel import random_net

from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model


def samples(graph: Graph, n: int, seed: int) -> np.ndarray:
    """Random int8 inputs."""
    return (
        np.random.default_rng(seed)
        .integers(-128, 128, (n, *graph.tensors[graph.input].shape))
        .astype(np.int8)
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.integers(1, 20))
def test_forward_random_model_equals_oracle(seed: int, n: int) -> None:
    graph = read_model(random_net(seed))
    x = samples(graph, n, seed)
    np.testing.assert_array_equal(Forward(graph).run(x), run(graph, x)[graph.output].reshape(n, -1))
