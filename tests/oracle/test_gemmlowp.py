# SPDX-License-Identifier: Apache-2.0
"""The `gemmlowp` rule, one operator at a time: the C core against formulas and TFLite's reference.

ai-edge-litert's reference kernels round the dense layer in double, half away, and tflite-runtime 2.14 has no
QUANTIZE of this version: each is judged by the other interpreter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opmodel import OpNet
from oracle.elementwise import operands, quants
from oracle.fixed import conv_multipliers, linear, mean, multiplier, times
from oracle.forward import patches
from oracle.numbers import F, act_bounds

from edgefl.model.detail import Rule
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph, Op
from edgefl.model.read import read_model
from edgefl.native import lib
from edgefl.native.engine import select_isa, supported_isas

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    LITERT = True
except ImportError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    LITERT = False

KINDS = ["conv", "grouped", "depthwise", "dense", "dense1", "mean", "requant", "ADD", "SUB", "MUL"]
KINDS += ["LEAKY_RELU", "square"]
SAMPLES = 6


def one_operator(kind: str, seed: int) -> tuple[Graph, bytes, np.ndarray]:
    """A model of that operator alone, and inputs."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    h, w, c = (int(v) for v in rng.integers(1, 9, 3))
    c += c % 2 if kind == "grouped" else 0
    act = str(rng.choice(["NONE", "RELU", "RELU6"]))
    net = OpNet((1, h, w, c), rng, float(rng.choice([0.02, 0.0078125, 0.9])), int(rng.integers(-128, 120)))
    if kind == "conv":
        net.conv(5, (3, 2), act=act, per_channel=bool(rng.random() < 0.6))
    elif kind == "grouped":
        net.conv(6, (2, 3), act=act, groups=2)
    elif kind == "depthwise":
        net.depthwise(2, act=act, stride=(1, 2))
    elif kind.startswith("dense"):
        net.reshape((1, h * w * c)).dense(7, act=act, per_channel=kind == "dense")
    elif kind == "mean":
        net.mean()
    elif kind == "requant":
        net.requant(float(rng.uniform(0.4, 2.5)), int(rng.integers(-50, 50)))
    elif kind == "LEAKY_RELU":
        net.unary(kind, (float(net.scale) * rng.uniform(0.5, 2), int(rng.integers(-50, 50))), 0.2)
    elif kind == "square":
        net.binary("MUL", net.mark(), act)
    else:
        shape = [(h, w, c), (c,), (1, w, 1), ()][int(rng.integers(4))]
        net.binary(kind, shape, act, first=bool(rng.random() < 0.5))
    data = net.build()
    graph = read_model(data)
    graph.requant = "gemmlowp"
    return graph, data, rng.integers(-128, 128, (SAMPLES, h, w, c)).astype(np.int8)


def formula(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The outputs from the formulas, int8 [n, size]."""
    node = graph.nodes[-1]
    s, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    centred = x.astype(np.int64) - s.zero
    if node.param >= 0:
        param = graph.params[node.param]
        factors = conv_multipliers(s.scale, param.scales, y.scale)
        q = param.q.astype(np.int64)
        if node.kind is Op.DENSE:
            acc = centred.reshape(len(x), -1) @ q.T
            if param.scales.size == 1:
                factors = [multiplier(float(F(s.scale) * F(param.scales[0])) / float(F(y.scale)))]
        else:
            windows = patches(centred, node, y.shape[:2], 0)
            if node.kind is Op.DWCONV2D:
                q = q.reshape(*node.kernel, -1, node.mult)
                acc = np.einsum("nhwijc,ijcm->nhwcm", windows, q).reshape(len(x), *y.shape)
            else:
                parts = np.split(windows, node.groups, axis=-1), np.split(q, node.groups)
                acc = np.concatenate(
                    [np.einsum("nhwijc,oijc->nhwo", a, b) for a, b in zip(*parts, strict=True)], axis=-1
                )
        v = times(acc + param.b, factors)
    elif node.kind is Op.MEAN:
        v = mean(centred.sum(axis=(1, 2)), x.shape[1] * x.shape[2], s.scale, y.scale)
    elif node.kind is Op.REQUANT:
        v = times(centred, multiplier(float(F(s.scale)) / float(F(y.scale))))
    elif node.name == "LEAKY_RELU":
        below = float(F(s.scale)) * float(F(0.2)) / float(F(y.scale))
        v = times(centred, multiplier(float(F(s.scale)) / float(F(y.scale))))
        v = np.where(centred >= 0, v, times(centred, multiplier(below)))
    elif node.kind is Op.TABLE:  # the square
        v = times(centred * centred, multiplier(float(F(s.scale) * F(s.scale) / F(y.scale))))
    else:
        a, b = operands(graph, node, {node.inputs[0]: x})
        qa, qb = quants(graph, node)
        a, b = a - qa.zero, b - qb.zero
        if node.detail.rule is Rule.MUL:
            v = times(a * b, multiplier(float(F(qa.scale) * F(qb.scale) / F(y.scale))))
        else:
            v = linear(a, b, [qa.scale, qb.scale, y.scale], node.detail.minus)
    return np.clip(v + y.zero, *act_bounds(node, graph)).astype(np.int8).reshape(len(x), -1)


def reference(data: bytes, x: np.ndarray) -> np.ndarray:
    """The same by TFLite's reference kernels."""
    interpreter: Any = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    made = []
    for sample in x:
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        made.append(interpreter.get_tensor(target["index"]).reshape(-1).copy())
    return np.stack(made)


@pytest.mark.parametrize("kind", KINDS)
def test_operator_equals_formula_and_reference(kind: str) -> None:
    judged = not (kind.startswith("dense") if LITERT else kind == "requant")
    try:
        for seed in range(40):
            graph, data, x = one_operator(kind, seed)
            wanted = formula(graph, x)
            for isa in supported_isas():
                select_isa(isa)
                np.testing.assert_array_equal(Forward(graph).run(x), wanted)
            if judged:
                np.testing.assert_array_equal(wanted, reference(data, x))
    finally:
        lib.efl_init()


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense", "MUL", "requant", "LEAKY_RELU", "square"])
def test_rules_differ_somewhere(kind: str) -> None:
    """The comparison above would notice the other rule."""
    differ = 0
    for seed in range(200):
        graph, _, x = one_operator(kind, seed)
        ours = Forward(graph).run(x)
        graph.requant = "xnnpack"
        differ += int((Forward(graph).run(x) != ours).sum())
    assert differ
