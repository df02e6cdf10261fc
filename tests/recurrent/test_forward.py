# SPDX-License-Identifier: Apache-2.0
"""LSTM and SVDF forwards: golden outputs, the interpreter, the oracle, every ISA; tolerance 0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.forward import run
from oracle.lstm import sigmoid, tanh
from recurrent.mnist import mnist_int8
from recurrent.models import add_svdf, random_lstm
from tinymodel import Net

from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.native import lib
from edgefl.native.engine import isa_name, select_isa, supported_isas


@pytest.fixture(autouse=True)
def best_isa_again() -> Iterator[None]:
    """Leave the process with the kernels it started with."""
    yield
    lib.efl_init()


def samples(graph: Graph, n: int, seed: int) -> np.ndarray:
    """Random int8 inputs."""
    shape = (n, *graph.tensors[graph.input].shape)
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def svdf_net(seed: int) -> bytes:
    """Two SVDF layers with a dense one between them."""
    rng = np.random.default_rng(seed)
    net = Net((1, int(rng.integers(1, 40))), rng, zero=int(rng.integers(-128, 128)))
    rank, memory = (int(v) for v in rng.integers(1, 5, 2))
    add_svdf(net, int(rng.integers(1, 9)), rank=rank, memory=memory, bias=bool(rng.random() < 0.7))
    return add_svdf(net.dense(6), 4, memory=7).build()


@pytest.mark.parametrize("name", ["trained_lstm_int8", "micro_speech_lstm"])
def test_real_lstm_equals_golden_outputs(name: str, shared: Path) -> None:
    golden = np.load(shared / "data/model-golden/litert_golden.npz")
    graph = read_model((shared / f"data/models/tflite-micro/{name}.tflite").read_bytes())
    x = golden[f"{name}/in0"][:, 0]
    for isa in supported_isas():
        select_isa(isa)
        y = Forward(graph, chunk=3).run(x)
        np.testing.assert_array_equal(y, golden[f"{name}/xnn_out0"][:, 0], err_msg=isa_name())
    np.testing.assert_array_equal(run(graph, x)[graph.output].reshape(len(x), -1), y)


def test_trained_lstm_reads_digits_as_litert_does(shared: Path) -> None:
    """98.2 % of the first 1 000 MNIST test digits, as LiteRT; input (x/255 - .1307)/.3081."""
    graph = read_model((shared / "data/models/tflite-micro/trained_lstm_int8.tflite").read_bytes())
    x, labels = mnist_int8(shared)
    assert float((Forward(graph).run(x[:1000]).argmax(1) == labels[:1000]).mean()) == pytest.approx(0.982)


def litert(data: bytes, x: np.ndarray, *, reset: bool) -> np.ndarray:
    """Outputs of the interpreter's default; it keeps variables from call to call unless told."""
    module = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")
    interpreter = module.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    out = []
    for sample in x:
        if reset:
            interpreter.reset_all_variables()
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        out.append(interpreter.get_tensor(target["index"]).reshape(-1).copy())
    return np.array(out)


@pytest.mark.parametrize("seed", range(60))
def test_random_lstm_equals_litert(seed: int) -> None:
    data = random_lstm(seed)
    graph = read_model(data)
    x = samples(graph, 4, seed)
    np.testing.assert_array_equal(Forward(graph).run(x), litert(data, x, reset=True))


@pytest.mark.parametrize("seed", range(20))
def test_random_svdf_equals_litert(seed: int) -> None:
    """The samples of a run are consecutive frames; the next run starts anew."""
    data = svdf_net(seed)
    graph = read_model(data)
    x = samples(graph, 23, seed)
    forward, theirs = Forward(graph, chunk=5), litert(data, x, reset=False)
    np.testing.assert_array_equal(forward.run(x), theirs)
    np.testing.assert_array_equal(forward.run(x), theirs)


def test_real_svdf_layers_equal_litert(shared: Path) -> None:
    """keyword_scrambled, operator by operator on 60 frames in a row; its own outputs say too little."""
    module = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")
    data = (shared / "data/models/tflite-micro/keyword_scrambled.tflite").read_bytes()
    graph = read_model(data)
    interpreter = module.Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    source = interpreter.get_input_details()[0]["index"]
    wanted = {
        op["index"]: int(op["outputs"][0])
        for op in interpreter._get_ops_details()
        if op["op_name"] in ("SVDF", "FULLY_CONNECTED")
    }
    first = int(interpreter._get_ops_details()[0]["outputs"][0])
    x: list[np.ndarray] = []
    theirs: dict[int, list[np.ndarray]] = {index: [] for index in wanted}
    for _ in range(60):
        interpreter.set_tensor(source, rng.integers(-9000, 9000, (1, 96)).astype(np.int16))
        interpreter.invoke()
        x.append(interpreter.get_tensor(first).copy())
        for index, tensor in wanted.items():
            theirs[index].append(interpreter.get_tensor(tensor).reshape(-1).copy())
    frames, checked = np.stack(x), 0
    for node in graph.nodes:
        if node.index in wanted:
            ours = Forward(graph, chunk=7).run(frames, tensor=node.output)
            np.testing.assert_array_equal(ours, np.stack(theirs[node.index]), err_msg=str(node.index))
            checked += len(np.unique(ours)) > 1
    assert checked >= 8


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.integers(1, 9), st.booleans())
def test_random_model_equals_oracle(seed: int, n: int, streams: bool) -> None:
    graph = read_model(svdf_net(seed) if streams else random_lstm(seed))
    x = samples(graph, n, seed)
    theirs = run(graph, x)[graph.output].reshape(n, -1)
    for isa in supported_isas():
        select_isa(isa)
        np.testing.assert_array_equal(Forward(graph, chunk=4).run(x), theirs, err_msg=isa_name())


def test_planted_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: an oracle whose logistic is one unit off differs."""
    import oracle.lstm as oracle

    monkeypatch.setattr(oracle, "sigmoid", lambda x: sigmoid(x) - 1)
    graph = read_model(random_lstm(1))
    x = samples(graph, 8, 1)
    assert (Forward(graph).run(x) != run(graph, x)[graph.output].reshape(8, -1)).any()


def test_activations_are_close_to_the_functions() -> None:
    """Every int16 input: within 13 units of 2^-15 of the real function; tanh is odd."""
    x = np.arange(-32768, 32768)
    assert np.abs(sigmoid(x) / 32768 - 1 / (1 + np.exp(-x / 4096))).max() < 12 / 32768
    for whole in range(7):
        y = tanh(x, whole)
        assert np.abs(y / 32768 - np.tanh(x / 2.0 ** (15 - whole))).max() < 13 / 32768
        np.testing.assert_array_equal(y[1:], -y[1:][::-1])
