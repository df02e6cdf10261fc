# SPDX-License-Identifier: Apache-2.0
"""Independent forward and backward of operators on single elements: two operands with broadcasting.

In: Graph, Node, int8 operands. Out: int8 results, errors of the operands. Broadcasting is NumPy's, over the
file's shapes, not the engine's strides. Source: docs/training.md.
"""

from __future__ import annotations

import numpy as np
from oracle.numbers import Error8, F, act_bounds, float_to8, int_to8, rne

from edgefl.model.detail import Constant, Rule
from edgefl.model.graph import Graph, Node, Tensor

Quant = Tensor | Constant


def quants(graph: Graph, node: Node) -> list[Quant]:
    """Scale and zero point of both operands."""
    tensors: list[Quant] = [graph.tensors[i] for i in node.inputs]
    return tensors + ([node.detail.constant] if node.detail.constant else [])


def operands(graph: Graph, node: Node, values: dict[int, np.ndarray]) -> list[np.ndarray]:
    """Both operands, int64 [n, the file's shape], with leading ones to the result's rank."""
    n = values[node.inputs[0]].shape[0]
    rank = len(graph.tensors[node.output].file_shape)

    def shaped(x: np.ndarray, samples: int, shape: tuple[int, ...]) -> np.ndarray:
        return x.reshape(samples, *(1,) * (rank - len(shape)), *shape).astype(np.int64)

    made = [shaped(values[i], n, graph.tensors[i].file_shape) for i in node.inputs]
    fixed = node.detail.constant
    if fixed:
        made.append(shaped(np.frombuffer(fixed.values, np.int8), 1, fixed.shape))
    return made


def binary(graph: Graph, node: Node, values: dict[int, np.ndarray]) -> np.ndarray:
    """ADD, SUB, MUL, MINIMUM, MAXIMUM."""
    (a, b), (qa, qb), y = operands(graph, node, values), quants(graph, node), graph.tensors[node.output]
    lo, hi = act_bounds(node, graph)
    rule = node.detail.rule
    if rule in (Rule.MIN, Rule.MAX):
        return np.clip(np.minimum(a, b) if rule is Rule.MIN else np.maximum(a, b), lo, hi).astype(np.int8)
    a, b = a - qa.zero, b - qb.zero
    if rule is Rule.MUL:
        v = (a * b).astype(F) * (F(qa.scale) * F(qb.scale) / F(y.scale))
        return (rne(np.clip(v, F(lo - y.zero), F(hi - y.zero))).astype(np.int64) + y.zero).astype(np.int8)
    s = [F(q.scale) / F(y.scale) for q in (qa, qb)]
    shift = 20 - (int(np.frexp(max(s))[1]) - 1)
    m = [
        int(rne(np.ldexp(v, shift))) * (-1 if minus else 1)
        for v, minus in zip(s, node.detail.minus, strict=True)
    ]
    acc = a * m[0] + b * m[1]
    return np.clip(((acc + (1 << (shift - 1))) >> shift) + y.zero, lo, hi).astype(np.int8)


def binary_errors(
    graph: Graph, node: Node, error: Error8, values: dict[int, np.ndarray]
) -> list[tuple[int, Error8 | None]]:
    """Errors of the operands that are tensors: (tensor, error)."""
    ops, qs = operands(graph, node, values), quants(graph, node)
    n = error.e.shape[0]
    e = error.e.reshape(n, *graph.tensors[node.output].file_shape)
    rule = node.detail.rule
    made = []
    for i, t in enumerate(node.inputs):
        if rule is Rule.MUL:
            full = e * (ops[1 - i] - qs[1 - i].zero)
        elif rule is Rule.LINEAR:
            full = -e if node.detail.minus[i] else e
        else:
            first = ops[0] <= ops[1] if rule is Rule.MIN else ops[0] >= ops[1]
            full = e * (first if i == 0 else ~first)
        axes = tuple(j for j in range(1, e.ndim) if ops[i].shape[j] == 1)
        total = np.broadcast_to(full, e.shape).sum(axis=axes).reshape(n, *graph.tensors[t].shape)
        if rule is Rule.MUL:
            scaled = float_to8(total.astype(F) * F(qs[1 - i].scale))
            made.append((t, Error8(scaled.e, scaled.k + error.k) if scaled else None))
        else:
            made.append((t, int_to8(total, error.k)))
    return made


def _looked_up(packed: bytes, dtype: str, x: np.ndarray) -> np.ndarray:
    """Entry of each element of x [..., C] in tables [1 or C, 256]."""
    tables = np.frombuffer(packed, dtype).reshape(-1, 256).astype(np.int64)
    channel = np.arange(x.shape[-1]) if len(tables) > 1 else 0
    return tables[channel, x.astype(np.int64) + 128]


def table(node: Node, x: np.ndarray) -> np.ndarray:
    """A function of one value; tests/model/test_tables.py judges the tables themselves."""
    return _looked_up(node.detail.values, "i1", x).astype(np.int8)


def table_error(node: Node, error: Error8, x: np.ndarray) -> Error8 | None:
    """Error of the input: e times the slope."""
    return int_to8(error.e * _looked_up(node.detail.slopes, "<i2", x), error.k + node.detail.exponent)
