# SPDX-License-Identifier: Apache-2.0
"""The oracle's forward pass against LiteRT's default delegate on random models, at tolerance 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from opmodel import random_op_net, unsigned_op_net
from oracle.forward import run
from tinymodel import Net, random_net, unsigned_net

from edgefl.model.border import give_input, take_output
from edgefl.model.read import read_model

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")


def softmax_rows(seed: int) -> bytes:
    """Rows of 2..41 values, all scales, beta of 1 or not."""
    rng = np.random.default_rng(seed)
    shape = (1, *(int(n) for n in rng.integers(1, 6, 2)), int(rng.integers(2, 42)))
    return Net(shape, rng, float(rng.uniform(0.001, 0.3))).softmax(float(rng.choice([1, 0.5, 2]))).build()


@pytest.mark.parametrize("make", [random_net, unsigned_net, random_op_net, unsigned_op_net, softmax_rows])
@pytest.mark.parametrize("seed", range(60))
def test_forward_random_model_equals_litert(make: Callable[[int], bytes], seed: int) -> None:
    data = make(seed)
    graph = read_model(data)
    x = (
        np.random.default_rng(seed)
        .integers(-128, 128, (8, *graph.tensors[graph.input].shape))
        .astype(np.int8)
    )
    interpreter = litert.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    ours = run(graph, x)[graph.output]
    ports = [(port, graph.tensors[port.tensor]) for port in (graph.inputs[0], graph.outputs[0])]
    for i, sample in enumerate(x):
        interpreter.set_tensor(source["index"], give_input(*ports[0], sample).reshape(source["shape"]))
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])
        theirs = take_output(*ports[1], values, values)
        np.testing.assert_array_equal(ours[i].reshape(-1), theirs.reshape(-1))
