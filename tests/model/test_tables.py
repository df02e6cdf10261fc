# SPDX-License-Identifier: Apache-2.0
"""Tables of operators on one value against independent formulas, and against LiteRT where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opmodel import UNARY, OpNet
from oracle.tables import fixed, packed, table

from edgefl.errors import ModelError
from edgefl.model.read import read_model

scales = st.floats(-9.0, 1.0).map(lambda p: float(np.float32(2.0**p)))
zeros = st.integers(-128, 127)
alphas = st.sampled_from([0.1, -0.3, 2.0])


def one(
    name: str, x: tuple[float, int], y: tuple[float, int], alpha: float = 0.0, unsigned: bool = False
) -> bytes:
    """A model of this operator alone, on 256 values."""
    net = OpNet((1, 1, 1, 256), np.random.default_rng(0), *x, unsigned)
    if name == "MUL":
        net.binary("MUL", net.mark(), quant=y)
    elif name == "PRELU":
        net.prelu((1, 1, 256), y)
    else:
        net.unary(name, y, alpha)
    return net.build()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([*UNARY[:-1], "MUL"]),
    scales,
    zeros,
    st.floats(0.2, 5),
    zeros,
    st.sampled_from([0.1, -0.3, 2]),
)
def test_table_any_scales_equals_formula(
    name: str, sx: float, zx: int, ratio: float, zy: int, alpha: float
) -> None:
    y = (float(np.float32(sx * ratio * (80 * sx if name == "MUL" else 1))), zy)
    detail = read_model(one(name, (sx, zx), y, alpha)).nodes[0].detail
    values, slopes = table(name, (sx, zx), y, alpha)
    np.testing.assert_array_equal(np.frombuffer(detail.values, np.int8), values)
    m, k = packed(slopes)
    np.testing.assert_array_equal(np.frombuffer(detail.slopes, "<i2"), m)
    assert detail.exponent == k


def test_prelu_table_for_each_channel_equals_formula() -> None:
    net = OpNet((1, 1, 1, 8), np.random.default_rng(1), 0.03, 7)
    net.prelu((1, 1, 8), (0.05, -4))
    detail = read_model(net.build()).nodes[0].detail
    tables = np.frombuffer(detail.values, np.int8).reshape(8, 256)
    rng = np.random.default_rng(1)
    alpha = rng.integers(-128, 128, (1, 1, 8)).reshape(-1) - int(rng.integers(-50, 50))
    codes = np.arange(-128, 128) - 7
    f = [float(np.float32(v)) for v in (0.03, 0.05, 0.01)]
    for row, a in zip(tables, alpha.tolist(), strict=True):
        below = fixed(codes * a, f[0] * f[2] / f[1])
        wanted = np.clip(np.where(codes >= 0, fixed(codes, f[0] / f[1]), below) - 4, -128, 127)
        np.testing.assert_array_equal(row, wanted)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("name", [*UNARY, "MUL"])
def test_table_equals_litert(name: str, unsigned: bool) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")
    rng = np.random.default_rng(3)
    x = np.arange(256).astype(np.uint8) if unsigned else np.arange(-128, 128).astype(np.int8)
    for trial in range(80):
        scale = float(np.float32(2.0 ** rng.uniform(-8, -1)))
        ratio = float(rng.choice([1.0, 0.5, 90 / 128, rng.uniform(0.3, 3)]))
        y = (
            float(np.float32(scale * ratio * (100 * scale if name == "MUL" else 1))),
            int(rng.integers(-128, 128)),
        )
        data = one(
            name, (scale, int(rng.integers(-128, 128))), y, float(rng.choice([0.1, 0.001, -0.3])), unsigned
        )
        interpreter = litert.Interpreter(model_content=data)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.reshape(1, 1, 1, 256))
        interpreter.invoke()
        theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).reshape(-1)
        tables = np.frombuffer(read_model(data).nodes[0].detail.values, np.int8).reshape(-1, 256)
        ours = tables[np.arange(256) % len(tables), np.arange(256)]
        ours = ours.view(np.uint8) ^ np.uint8(128) if unsigned else ours
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}, trial {trial}, scale {scale}, {y}")


@pytest.mark.parametrize(
    ("name", "x", "y"), [("MUL", 1e20, 1e-30), ("LOGISTIC", 0.1, 1e-42), ("TANH", 1e30, 1.0)]
)
def test_scales_beyond_reason_are_refused(name: str, x: float, y: float) -> None:
    with pytest.raises(ModelError, match=rf"operator 0 \({name}\) has "):
        read_model(one(name, (x, 0), (y, 0)))


def test_relu_that_multiplies_the_scale_by_too_much_is_refused() -> None:
    with pytest.raises(ModelError, match=r"operator 0 \(RELU\) changes the scale by a factor outside"):
        read_model(one("RELU", (1000.0, 0), (0.001, 0)))
