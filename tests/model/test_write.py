# SPDX-License-Identifier: Apache-2.0
"""Writing weights back: same length, only these bytes, and the runtimes compute with them."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from oracle.forward import run
from tinymodel import FlatFile, small_cnn

from edgefl.errors import ModelError
from edgefl.model.border import give_input, take_output
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.model.write import write_segments

RUNTIMES = ["tflite_runtime.interpreter", "ai_edge_litert.interpreter"]


def changed(graph: Graph, rng: np.random.Generator) -> bytes:
    """The file with every weight and bias moved a little."""
    targets, values = [], []
    for i, p in enumerate(graph.params):
        targets.append((i, "weight"))
        values.append(np.clip(p.q.astype(int) + rng.integers(-9, 10, p.q.shape), -127, 127).astype(np.int8))
        if p.bias_offset is not None:
            targets.append((i, "bias"))
            values.append((p.b + rng.integers(-99, 100, p.b.shape)).astype(np.int32))
    return write_segments(graph, targets, values)


def invoke(runtime: str, data: bytes, x: np.ndarray) -> np.ndarray:
    """int8 outputs of a TFLite runtime, one sample at a time."""
    graph = read_model(data)
    ports = [(port, graph.tensors[port.tensor]) for port in (graph.inputs[0], graph.outputs[0])]
    interpreter = importlib.import_module(runtime).Interpreter(model_content=data)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for sample in x:
        interpreter.set_tensor(source["index"], give_input(*ports[0], sample).reshape(source["shape"]))
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])
        rows.append(take_output(*ports[1], values, values).reshape(-1).copy())
    return np.array(rows)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_write_result_loads_and_runs_in_the_runtime(runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime.split('.')[0]} is not installed here")
    rng = np.random.default_rng(1)
    data = changed(read_model(small_cnn()), rng)
    graph = read_model(data)
    x = rng.integers(-128, 128, (20, *graph.tensors[graph.input].shape)).astype(np.int8)
    ours = run(graph, x)[graph.output].reshape(20, -1).astype(int)
    theirs = invoke(runtime, data, x).astype(int)
    if runtime.startswith("ai_edge"):
        np.testing.assert_array_equal(ours, theirs)
    else:
        # tflite-runtime 2.14 requantises by another rule; its outputs differ by single steps.
        assert np.abs(ours - theirs).max() <= 8


REAL = [
    "mlperf-tiny/resnet8_int8",
    "mlperf-tiny/kws_ref_model_int8",
    "tinymaix/mnist_dw_q",
    "coral/mobilenet_v1_0.25_128_quant",
]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", REAL)
def test_write_real_model_runs_in_the_runtime(runtime: str, name: str, shared: Path) -> None:
    pytest.importorskip(runtime, reason=f"{runtime.split('.')[0]} is not installed here")
    rng = np.random.default_rng(4)
    data = changed(read_model((shared / "data/models" / f"{name}.tflite").read_bytes()), rng)
    graph = read_model(data)
    x = rng.integers(-128, 128, (6, *graph.tensors[graph.input].shape)).astype(np.int8)
    ours = run(graph, x)[graph.output].reshape(6, -1)
    theirs = invoke(runtime, data, x)
    assert theirs.shape == ours.shape
    if runtime.startswith("ai_edge"):
        np.testing.assert_array_equal(ours, theirs)


def test_write_real_models_change_only_the_targets(shared: Path) -> None:
    for name in ("mlperf-tiny/resnet8_int8", "mlperf-tiny/kws_ref_model_int8", "tinymaix/mnist_dw_q"):
        old = (shared / "data/models" / f"{name}.tflite").read_bytes()
        graph = read_model(old)
        new = changed(graph, np.random.default_rng(2))
        assert len(new) == len(old)
        allowed = np.zeros(len(old), bool)
        for p in graph.params:
            allowed[p.weight_offset : p.weight_offset + p.q.size] = True
            if p.bias_offset is not None:
                allowed[p.bias_offset : p.bias_offset + 4 * p.channels] = True
        differs = np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8)
        assert differs.any() and not (differs & ~allowed).any()


def test_write_nothing_gives_the_same_file() -> None:
    data = small_cnn()
    assert write_segments(read_model(data), [], []) == data


def test_write_wrong_values_are_refused() -> None:
    graph = read_model(small_cnn())
    q, b = graph.params[0].q, graph.params[0].b
    for target, value in [
        ((0, "weight"), q[:-1]),
        ((0, "weight"), q.astype(np.int16)),
        ((0, "weight"), np.full_like(q, -128)),
        ((0, "bias"), b.astype(np.int64)),
        ((0, "bias"), q),
    ]:
        with pytest.raises(ModelError):
            write_segments(graph, [target], [value])


def test_write_shared_or_absent_buffers_are_refused() -> None:
    f = FlatFile()
    x, y, z = (f.tensor((1, 3), scale=0.1) for _ in range(3))
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, w, -1], [z])
    graph = read_model(f.finish([x], [z]))
    for target, value in [((0, "weight"), graph.params[0].q), ((0, "bias"), graph.params[0].b)]:
        with pytest.raises(ModelError, match="cannot be written"):
            write_segments(graph, [target], [value])


def test_write_into_bytes_that_are_structure_is_refused() -> None:
    """A file whose weights lie over its own tables: patching them would change the model."""
    graph = read_model(small_cnn())
    graph.params[0].weight_offset = 8  # over the root table
    with pytest.raises(ModelError):
        write_segments(graph, [(0, "weight")], [np.full_like(graph.params[0].q, 7)])
