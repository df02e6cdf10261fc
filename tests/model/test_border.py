# SPDX-License-Identifier: Apache-2.0
"""Float and wide inputs and outputs: the rules at the borders against LiteRT, and models that mix dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from tinymodel import FlatFile, Net

from edgefl.api.model import Model
from edgefl.errors import DataError, ModelError
from edgefl.model.border import give_input, give_output, take_input, take_output
from edgefl.model.read import read_model


def bordered(source: str, target: str, scale: float = 1.0, zero: int = 0) -> bytes:
    """A dense layer behind a QUANTIZE, with one more operator behind it for the target dtype."""
    net = Net((1, 64), np.random.default_rng(3), scale=0.037, zero=11)
    raw_in = net.f.tensor((1, 64), source, **({} if source == "float32" else dict(scale=scale, zero=zero)))
    net.f.op("QUANTIZE", [raw_in], [net.input])
    net.dense(40)
    at = net.at
    if target == "float32":
        y = net.f.tensor((1, 40), "float32")
        net.f.op("DEQUANTIZE", [at], [y])
    elif target == "LOG_SOFTMAX":
        middle, y = net.f.tensor((1, 40), "float32"), net.f.tensor((1, 40), "float32")
        net.f.op("DEQUANTIZE", [at], [middle])
        net.f.op("LOG_SOFTMAX", [middle], [y])
    elif target == "int32":  # a softmax in int16, then twice its scale
        middle = net.f.tensor((1, 40), "int16", scale=1 / 65536, zero=-32768)
        y = net.f.tensor((1, 40), "int32", scale=1 / 32768)
        net.f.op("SOFTMAX", [at], [middle], Beta=1.0)
        net.f.op("QUANTIZE", [middle], [y])
    else:
        y = net.f.tensor((1, 40), target, scale=0.0021, zero=0)
        net.f.op("QUANTIZE", [at], [y])
    return net.f.finish([raw_in], [y])


CASES = [("float32", "float32"), ("int16", "int16"), ("int32", "int32"), ("float32", "LOG_SOFTMAX")]


def own_values(source: str, n: int) -> np.ndarray:
    """Input values, half of the float ones on ties."""
    rng = np.random.default_rng(7)
    if source == "float32":
        ties = (rng.integers(-130, 130, (n, 64)) + 0.5) * np.float32(0.037)
        return np.where(rng.random((n, 64)) < 0.5, ties, rng.normal(0, 4, (n, 64))).astype(np.float32)
    return rng.integers(-32768, 32768, (n, 64)).astype(source)


@pytest.mark.parametrize(("source", "target"), CASES)
def test_border_equals_litert(source: str, target: str) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")
    data = bordered(source, target, scale=0.00031, zero=0)
    x = own_values(source, 40)
    ours = Model(read_model(data)).predict(x, values="stored")
    interpreter = litert.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for row, mine in zip(x, ours, strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        if target == "LOG_SOFTMAX":
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
        else:
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("source", "target"), CASES)
def test_border_goes_there_and_back(source: str, target: str) -> None:
    graph = read_model(bordered(source, target, scale=0.00031))
    port, tensor = graph.inputs[0], graph.tensors[graph.inputs[0].tensor]
    q = np.arange(-128, 128, dtype=np.int8)
    np.testing.assert_array_equal(take_input(port, tensor, give_input(port, tensor, q)), q)
    port, tensor = graph.outputs[0], graph.tensors[graph.outputs[0].tensor]
    q = np.random.default_rng(0).integers(-128, 128, 40).astype(np.int8)
    np.testing.assert_array_equal(take_output(port, tensor, give_output(port, tensor, q), q), q)
    other = take_output(port, tensor, give_output(port, tensor, q), np.roll(q, 1))
    assert other.argmax() == give_output(port, tensor, q).argmax()


def test_predict_takes_stored_int32() -> None:
    model = Model(read_model(bordered("int32", "int32", scale=0.001)))
    stored = own_values("int32", 5)
    real = stored * np.float32(0.001)
    np.testing.assert_array_equal(
        model.predict(real, values="stored"), model.predict(stored, values="stored")
    )


def test_predict_int16_input_takes_floats_or_its_own() -> None:
    model = Model(read_model(bordered("int16", "float32", scale=0.001, zero=0)))
    assert (model.input.dtype, model.output.dtype) == ("int16", "float32")
    stored = own_values("int16", 5)
    real = stored * np.float32(0.001)
    np.testing.assert_array_equal(model.predict(real), model.predict(stored))
    with pytest.raises(DataError, match="or its stored int16"):
        model.predict(stored.astype(np.int32))


def test_real_values_follow_the_last_step() -> None:
    model = Model(read_model(bordered("float32", "int32")))
    real, stored = (model.predict(own_values("float32", 6), values=v) for v in ("real", "stored"))
    assert stored.dtype == np.int32
    np.testing.assert_allclose(real, stored / 32768, rtol=1e-6)


def test_float_in_the_middle_is_refused() -> None:
    net = Net((1, 8), np.random.default_rng(0))
    net.dense(8)
    middle, again = net.f.tensor((1, 8), "float32"), net.f.tensor((1, 8), scale=0.1)
    net.f.op("DEQUANTIZE", [net.at], [middle])
    net.f.op("QUANTIZE", [middle], [again])
    with pytest.raises(ModelError, match="at inputs and outputs only"):
        read_model(net.f.finish([net.input], [again]))


def test_weights_made_float_are_called_hybrid() -> None:
    f = FlatFile()
    x, y = f.tensor((1, 3), "float32"), f.tensor((1, 3), "float32")
    q = f.tensor((3, 3), scale=0.1, data=np.eye(3, dtype=np.int8))
    w = f.tensor((3, 3), "float32")
    f.op("DEQUANTIZE", [q], [w])
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    with pytest.raises(ModelError, match="hybrid"):
        read_model(f.finish([x], [y]))
