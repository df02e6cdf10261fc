# SPDX-License-Identifier: Apache-2.0
"""Trained weights and biases back into the .tflite file, in place.

In: Graph and new values of some tensors. Out: a file of the same length that differs in these bytes only.
Refuses values out of range, frozen (shared) buffers, and a file whose structure would change. Invariant:
reading the result gives the same graph with exactly the new values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgefl.errors import ModelError
from edgefl.model.graph import Graph
from edgefl.model.read import read_model


def write_segments(graph: Graph, targets: Sequence[tuple[int, str]], values: Sequence[np.ndarray]) -> bytes:
    """Patch tensors of the file that `graph` was read from.

    Parameters
    ----------
    graph : Graph
        As read by `read_model`.
    targets : sequence of (param, kind)
        Index into graph.params, "weight" or "bias".
    values : sequence of ndarray
        For each target the int8 weights in the shape of `Param.q`, or the int32 biases.

    Returns
    -------
    bytes
        The new file.

    Raises
    ------
    ModelError
        A value does not fit its tensor, the tensor is frozen, or the result would not be the same model.
    """
    data = bytearray(graph.data)
    for (index, kind), value in zip(targets, values, strict=True):
        param = graph.params[index]
        old, offset = (param.q, param.weight_offset) if kind == "weight" else (param.b, param.bias_offset)
        what = f"the {kind} of operator {param.op_index}"
        if offset is None or (param.shared if kind == "weight" else param.bias_shared):
            raise ModelError(f"{what} cannot be written: it is absent, or its buffer is used more than once")
        if value.dtype != old.dtype or value.shape != old.shape:
            raise ModelError(
                f"{what} is {old.dtype} {list(old.shape)}, not {value.dtype} {list(value.shape)}"
            )
        if kind == "weight" and value.size and int(value.min()) < param.qmin:
            raise ModelError(f"{what} has values below {param.qmin}")
        if kind == "weight" and param.unsigned:
            value = value.view(np.uint8) ^ np.uint8(128)
        raw = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        data[offset : offset + len(raw)] = raw
    written = bytes(data)
    _check_same_model(graph, read_model(written, graph.target), targets, values)
    return written


def _check_same_model(
    old: Graph, new: Graph, targets: Sequence[tuple[int, str]], values: Sequence[np.ndarray]
) -> None:
    """Refuse if anything but the targets changed: the file's buffers then overlap its structure."""
    expected = {target: value for target, value in zip(targets, values, strict=True)}
    same = (new.tensors, new.nodes) == (old.tensors, old.nodes)
    same &= (new.inputs, new.outputs) == (old.inputs, old.outputs)
    for i, (p, q) in enumerate(zip(old.params, new.params, strict=True)):
        same &= bool(np.array_equal(q.q, expected.get((i, "weight"), p.q)))
        same &= bool(np.array_equal(q.b, expected.get((i, "bias"), p.b)))
        same &= bool(np.array_equal(q.scales, p.scales))
    if not same:
        raise ModelError(
            "the model file is malformed: its weights overlap its structure", hint="convert it again"
        )
