# SPDX-License-Identifier: Apache-2.0
"""Independent walk of a Move, element by element in NumPy index arrays, forward and backward.

In: Graph, Node, int8 inputs. Out: the result; errors of the inputs. Whether the builders describe what the
file's operator means is judged against LiteRT and NumPy in tests/model/test_moves.py.
"""

from __future__ import annotations

import numpy as np
from oracle.numbers import Error8, int_to8

from edgefl.model.detail import Part
from edgefl.model.graph import Graph, Node


def pairs(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices (input, result) of every element that a part moves."""
    tables = np.split(np.frombuffer(part.offsets, "<i4").astype(np.int64), np.cumsum(part.dims)[:-1])
    at, to = np.arange(part.run), np.arange(part.run) + part.start
    for table, step in zip(reversed(tables), reversed(part.strides), strict=True):
        at = (table[:, None] + at.reshape(1, -1)).reshape(-1)
        to = (np.arange(len(table))[:, None] * step + to.reshape(1, -1)).reshape(-1)
    return at, to


def move(graph: Graph, node: Node, values: dict[int, np.ndarray]) -> np.ndarray:
    """The result, int8 [n, size]."""
    n = len(values[node.inputs[0]])
    fill = node.detail.fill
    y = np.full((n, graph.tensors[node.output].size), 0 if fill is None else fill, np.int8)
    for t, part in zip(node.inputs, node.detail.parts, strict=True):
        at, to = pairs(part)
        y[:, to] = values[t].reshape(n, -1)[:, at]
    return y


def move_errors(graph: Graph, node: Node, error: Error8) -> list[tuple[int, Error8 | None]]:
    """Errors of the inputs: what went where comes back, summed where it went twice."""
    n = len(error.e)
    made = []
    for t, part in zip(node.inputs, node.detail.parts, strict=True):
        at, to = pairs(part)
        total = np.zeros((n, graph.tensors[t].size), np.int64)
        np.add.at(total, (slice(None), at), error.e.reshape(n, -1)[:, to])
        made.append((t, int_to8(total.reshape(n, *graph.tensors[t].shape), error.k)))
    return made
