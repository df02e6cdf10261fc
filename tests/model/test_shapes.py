# SPDX-License-Identifier: Apache-2.0
"""Shapes that the small nets leave out: ranks other than 4, 1xN windows, dense rows, PAD before VALID."""

from __future__ import annotations

import numpy as np
import pytest
from oracle.forward import run
from oracle.step import Oracle
from tinymodel import Net

from edgefl.errors import ModelError
from edgefl.model.forward import Forward
from edgefl.model.graph import Op
from edgefl.model.read import read_model
from edgefl.train.fit import Session
from edgefl.types import Batch


def sequence(seed: int) -> bytes:
    """Rank 3: dense rows, then all of it."""
    rng = np.random.default_rng(seed)
    net = Net((1, int(rng.integers(2, 9)), int(rng.integers(1, 20))), rng)
    net.dense_rows(int(rng.integers(1, 30)), "RELU", per_channel=bool(seed % 2)).dense_rows(5)
    return net.dense(4).build()


def one_axis(seed: int) -> bytes:
    """[1, 1, L, C]: 1xN convolutions with dilation and stride, depthwise with a multiplier, grouped."""
    rng = np.random.default_rng(seed)
    net = Net((1, 1, int(rng.integers(20, 40)), 2 * int(rng.integers(1, 4))), rng)
    net.conv(6, (1, int(rng.integers(2, 8))), (1, 1), (1, int(rng.integers(1, 4))), act="RELU6")
    net.depthwise(int(rng.integers(1, 4)), (1, 5), (1, 2), same=bool(seed % 2))
    net.conv(4, (1, 3), (1, int(rng.integers(1, 3))), groups=2).mean()
    return net.dense(4).build()


def padded(seed: int) -> bytes:
    """An explicit PAD ahead of VALID windows, as converters write strided convolutions."""
    rng = np.random.default_rng(seed)
    net = Net(
        (1, int(rng.integers(5, 11)), int(rng.integers(5, 11)), 3), rng, zero=int(rng.integers(-128, 128))
    )
    net.pad((0, 1), (0, 1)).conv(8, (3, 3), (2, 2), same=False)
    net.pad((1, 1), (2, 0)).depthwise(1, (3, 3), (1, 1), same=False)
    return net.mean().dense(4).build()


CASES = [(make, seed) for make in (sequence, one_axis, padded) for seed in range(8)]


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_shape_equals_litert_and_oracle(make: object, seed: int) -> None:
    data = make(seed)
    graph = read_model(data)
    x = np.random.default_rng(seed).integers(-128, 128, (9, graph.input_size)).astype(np.int8)
    ours = Forward(graph).outputs(x)
    np.testing.assert_array_equal(ours, run(graph, x)[graph.output].reshape(9, -1))
    y = np.arange(9) % 4
    session = Session(graph, layers="all", lr=0.03, batch_size=4, seed=1)
    session.fit(Batch(x=x, y=y))
    assert session.trained_sha256() == Oracle(graph, "all", lr=0.03, seed=1).fit(x, y, batch=4).sha256()
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for row, mine in zip(x, ours, strict=True):
        interpreter.set_tensor(source["index"], row.reshape(source["shape"]))
        interpreter.invoke()
        np.testing.assert_array_equal(mine, interpreter.get_tensor(target["index"]).reshape(-1))


def test_dense_rows_are_a_convolution() -> None:
    graph = read_model(sequence(0))
    assert [node.kind for node in graph.nodes] == [Op.CONV2D, Op.CONV2D, Op.DENSE]


def test_dense_of_another_axis_is_refused() -> None:
    net = Net((1, 3, 4), np.random.default_rng(0))
    w, _ = net._weights((2, 3), 0, True)
    y = net.f.tensor((1, 4, 2), scale=0.1)
    net.f.op("FULLY_CONNECTED", [net.at, w], [y])
    with pytest.raises(ModelError, match="all inputs, or the last axis"):
        read_model(net.f.finish([net.input], [y]))
