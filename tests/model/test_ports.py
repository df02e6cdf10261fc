# SPDX-License-Identifier: Apache-2.0
"""Models with several inputs and outputs: reading, running, choosing what trains, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle.forward import run
from oracle.step import Oracle
from tinymodel import two_headed

import edgefl
from edgefl.errors import DataError, UsageError
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.quantise import quantise
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments
from edgefl.model.write import write_segments
from edgefl.train.fit import Session
from edgefl.types import Batch


def samples(graph: Graph, n: int) -> np.ndarray:
    """Random samples as the C core takes them: the inputs one after another."""
    return np.random.default_rng(n).integers(-128, 128, (n, graph.input_size)).astype(np.int8)


def test_read_gives_ports_in_file_order() -> None:
    graph = read_model(two_headed(), target=1)
    sizes = [[graph.tensors[p.tensor].size for p in ports] for ports in (graph.inputs, graph.outputs)]
    assert sizes == [[192, 7], [3, 4]] and graph.input_size == 199
    assert graph.output == graph.outputs[1].tensor and graph.logits != graph.output
    assert read_model(two_headed(), graph.outputs[1].name).target == 1
    for target in (2, -1, "nothing"):
        with pytest.raises(UsageError, match="has no output"):
            read_model(two_headed(), target)


def test_forward_several_inputs_equals_oracle() -> None:
    graph = read_model(two_headed())
    x = samples(graph, 37)
    values = run(graph, x)
    wanted = [values[port.tensor].reshape(37, -1) for port in graph.outputs]
    forward = Forward(graph)
    np.testing.assert_array_equal(forward.outputs(x), np.concatenate(wanted, axis=1))
    np.testing.assert_array_equal(forward.run(x, graph.outputs[1].tensor), wanted[1])
    np.testing.assert_array_equal(forward.run(x), wanted[0])


def test_quantise_takes_lists_and_names(tmp_path: Path) -> None:
    graph = read_model(two_headed())
    image, vector = np.ones((5, 8, 8, 3), np.float32), np.full((5, 7), 0.1)
    packed = quantise(graph, [image, vector])
    assert packed.shape == (5, 199) and packed[0, 0] == 17 and packed[0, 198] == 16
    named = {port.name: x for port, x in zip(graph.inputs, (image, vector), strict=True)}
    np.testing.assert_array_equal(quantise(graph, named), packed)
    for bad in (image, [image], [image, vector[:4]], {"other": image}, [vector, image]):
        with pytest.raises(DataError):
            quantise(graph, bad)
    (tmp_path / "m.tflite").write_bytes(two_headed())
    model = edgefl.Model.open(tmp_path / "m.tflite", target=1)
    side, classes = model.predict([image, vector])
    assert side.shape == (5, 3) and classes.shape == (5, 4) and model.output.shape == (1, 4)
    assert [t.shape for t in model.inputs] == [(1, 8, 8, 3), (1, 7)]


@pytest.mark.parametrize(("target", "params"), [(0, [0, 1, 2]), (1, [0, 1, 3, 4, 5, 6])])
def test_only_what_leads_to_the_target_trains(target: int, params: list[int]) -> None:
    graph = read_model(two_headed(), target)
    assert sorted({s.param for s in select_segments(graph, "all")}) == params
    assert {s.param for s in select_segments(graph, "head")} == {params[-1]}
    assert {s.param for s in select_segments(graph, "last:2")} == set(params[-2:])


@pytest.mark.parametrize("target", [0, 1])
def test_train_several_outputs_equals_oracle(target: int) -> None:
    graph = read_model(two_headed(), target)
    x, y = samples(graph, 21), np.arange(21) % 3
    session = Session(graph, layers="all", lr=0.03, batch_size=8, micro_batch=4, seed=3)
    session.fit(Batch(x=x, y=y), epochs=2)
    oracle = Oracle(graph, "all", lr=0.03, seed=3)
    assert session.trained_sha256() == oracle.fit(x, y, epochs=2, batch=8, micro_batch=4).sha256()
    np.testing.assert_array_equal(session.delta().values, oracle.delta(session.exponents))
    trained = session.params()
    names = [(s.param, s.kind) for s, _ in trained]
    again = read_model(write_segments(graph, names, [value for _, value in trained]), target)
    np.testing.assert_array_equal(Forward(again).run(x), session.predict(x))
