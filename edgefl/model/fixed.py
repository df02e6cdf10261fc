# SPDX-License-Identifier: Apache-2.0
"""Multipliers of the `gemmlowp` rule: real scale factors as m * 2^(shift - 31), m a positive int32.

In: Graph and Node. Out: what efl_op.fixed wants of that operator, None where it does not round. Refuses
nothing: the builders checked the scales. Which products are float32 and which double is part of the rule.
Source: docs/training.md, "Forward".
"""

from __future__ import annotations

import math

import numpy as np

from edgefl.model.detail import Binary, Rule
from edgefl.model.graph import Graph, Node, Op

RULES = ("xnnpack", "gemmlowp")
Multiplier = tuple[int, int]


def multiplier(real: float) -> Multiplier:
    """(m, shift) of a positive number: m = round(mantissa * 2^31), half up; below 2^-32 it is 0."""
    mantissa, shift = math.frexp(real)
    m = math.floor(mantissa * 2.0**31 + 0.5)
    if m == 1 << 31:
        m, shift = m >> 1, shift + 1
    return (m, shift) if shift >= -31 else (0, 0)


def fixed_multipliers(graph: Graph, node: Node) -> list[Multiplier] | None:
    """Multipliers of one operator, in the order of efl_op.fixed."""
    s_x = np.float32(graph.tensors[node.inputs[0]].scale)
    s_y = np.float32(graph.tensors[node.output].scale)
    if node.kind is Op.LSTM:
        return None  # its own rule is in integers already
    if node.param >= 0:
        param = graph.params[node.param]
        scales = param.scales
        # TFLite multiplies these two in float32 in dense layers with one scale and in all of uint8 files
        if scales.size == 1 and (node.kind is Op.DENSE or param.unsigned):
            return [multiplier(float(s_x * np.float32(scales[0])) / float(s_y))]
        return [multiplier(float(s_x) * float(s) / float(s_y)) for s in scales]
    if node.kind is Op.MEAN:
        h, w, _ = graph.tensors[node.inputs[0]].shape
        return [_mean_multiplier(multiplier(float(s_x) / float(s_y)), h * w)]
    if node.kind is Op.REQUANT:
        return [multiplier(float(s_x) / float(s_y))]
    if node.kind is Op.ADD:
        return _sum_multipliers(s_x, np.float32(graph.tensors[node.inputs[1]].scale), s_y)
    if isinstance(node.detail, Binary):
        other = node.detail.constant or graph.tensors[node.inputs[1]]
        if node.detail.rule is Rule.LINEAR:
            return _sum_multipliers(s_x, np.float32(other.scale), s_y)
        if node.detail.rule is Rule.MUL:
            return [multiplier(float(s_x * np.float32(other.scale) / s_y))]
    return None


def _sum_multipliers(s_a: np.float32, s_b: np.float32, s_y: np.float32) -> list[Multiplier]:
    """Operands in units of half the larger scale and 2^-20, then the result."""
    top = 2.0 * float(max(s_a, s_b))
    return [
        multiplier(float(s_a) / top),
        multiplier(float(s_b) / top),
        multiplier(top / (float(1 << 20) * float(s_y))),
    ]


def _mean_multiplier(scale: Multiplier, n: int) -> Multiplier:
    """1/n folded in: m * 2^up / n, truncated, with as many bits as the shift leaves room for."""
    m, shift = scale
    up = min(n.bit_length() - 1, 32, 31 + shift)
    return (m << up) // n, shift - up
