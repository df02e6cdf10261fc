# SPDX-License-Identifier: Apache-2.0
"""Numbers of the operators that a Node describes by its detail, for the C core.

In: Graph and Node. Out: specs of edgefl/native/operators.py, add terms. Refuses nothing: the builders in
edgefl/model/ops_*.py checked scales and shapes. All float is float32, one operation at a time.
"""

from __future__ import annotations

import math

import numpy as np

from edgefl.model.detail import Binary, Move, Rule, Table
from edgefl.model.graph import Graph, Node
from edgefl.native.operators import BinarySpec, MoveSpec, PartSpec, TableSpec


def linear_terms(
    scales: list[float],
    zeros: list[int],
    minus: tuple[bool, bool],
    y: tuple[float, int],
    act: tuple[int, int],
) -> dict[str, int]:
    """efl_add_params of m0*(a - a_zero) + m1*(b - b_zero); negative multipliers subtract."""
    ratios = [float(np.float32(s) / np.float32(y[0])) for s in scales]
    shift = 20 - (math.frexp(max(ratios))[1] - 1)
    m0, m1 = (
        round(math.ldexp(r, shift)) * (-1 if negative else 1)
        for r, negative in zip(ratios, minus, strict=True)
    )
    bias = (1 << (shift - 1)) - m0 * zeros[0] - m1 * zeros[1]
    return {"m0": m0, "m1": m1, "bias": bias, "shift": shift, "zero": y[1], "lo": act[0], "hi": act[1]}


def table_spec(detail: Table, gemmlowp: bool) -> TableSpec:
    """Give the tables of the forward pass's rule."""
    values = detail.fixed if gemmlowp and detail.fixed else detail.values
    return TableSpec(values, detail.slopes, detail.exponent)


def move_spec(detail: Move) -> MoveSpec:
    """Give the parts as they are."""
    parts = [PartSpec(p.dims, p.strides, p.start, p.run, p.once, p.offsets) for p in detail.parts]
    return MoveSpec(parts, -129 if detail.fill is None else detail.fill)


def binary_spec(graph: Graph, node: Node, bounds: tuple[int, int]) -> tuple[BinarySpec, dict[str, int]]:
    """Give the operands' parameters, and for LINEAR the add terms."""
    detail = node.detail
    assert isinstance(detail, Binary)
    a, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    constant = detail.constant
    b = constant if constant else graph.tensors[node.inputs[1]]
    size = len(constant.values) if constant else graph.tensors[node.inputs[1]].size
    scale = 0.0
    if detail.rule is Rule.MUL:
        scale = float(np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale))
    spec = BinarySpec(
        rule=int(detail.rule),
        dims=detail.dims,
        strides=detail.strides,
        sizes=(a.size, size),
        zeros=(a.zero, b.zero),
        scales=(a.scale, b.scale),
        scale=scale,
        minus=detail.minus,
        constant=constant.values if constant else None,
    )
    if detail.rule is not Rule.LINEAR:
        return spec, {}
    terms = linear_terms([a.scale, b.scale], [a.zero, b.zero], detail.minus, (y.scale, y.zero), bounds)
    return spec, terms
