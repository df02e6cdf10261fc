# SPDX-License-Identifier: Apache-2.0
"""An int8 .tflite file -> validated Graph.

In: the whole file as bytes, which may be hostile. Out: Graph (edgefl/model/graph.py). Refuses what it cannot
run exactly, in one line with operator, index and what can still be done. Invariant: after read_model every
index is in range, every shape follows from the inputs, every operator leads to an output, and no buffer
overlaps another. To add an operator: a builder in edgefl/model/ops.py (and its options in flat.py), a value
in Op, its kernels in csrc.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from edgefl.errors import ModelError, UsageError
from edgefl.model.build import Builder, refuse
from edgefl.model.flat import RawModel, RawOp, read_flat
from edgefl.model.graph import Graph
from edgefl.model.ops import BUILDERS, UINT8_OPS, is_shape_arithmetic
from edgefl.model.ops_border import append_step, is_behind


def read_model(data: bytes, target: int | str = 0) -> Graph:
    """Read and validate an int8 .tflite file.

    Parameters
    ----------
    data : bytes
        The whole file.
    target : int or str
        Position or name of the output that the loss looks at.

    Returns
    -------
    Graph
        Inputs, outputs and operators in file order; its arrays are read-only views of `data`.

    Raises
    ------
    ModelError
        The file is damaged, not an int8 model, or holds an operator that edgefl does not run.
    UsageError
        The model has no such output.
    """
    data = bytes(data)
    raw = read_flat(data)
    for indices, what in ((raw.inputs, "inputs"), (raw.outputs, "outputs")):
        if not indices or min(indices) < 0:
            raise ModelError(f"the model has no {what}, so there is nothing to run or train")
        if len(set(indices)) < len(indices):
            raise ModelError(f"the model names one tensor as two {what}", hint="convert it again")
    if not raw.ops:
        raise ModelError("the model has no operators, so there is nothing to run or train")
    builder = Builder(raw)
    for op in raw.ops:
        if not is_shape_arithmetic(raw, op):
            _builder_of(builder, op)(builder, op)
    graph = builder.finish()
    graph.target = _find_output(graph, target)
    _check_flow(graph)
    _check_overlap(raw, graph)
    return graph


def _find_output(graph: Graph, target: int | str) -> int:
    names = [port.name for port in graph.outputs]
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    raise UsageError(
        f"the model has no output {target!r:.70}", hint=f"it has {', '.join(names[:8])} (0..{len(names) - 1})"
    )


def _builder_of(b: Builder, op: RawOp) -> Callable[[Builder, RawOp], None]:
    """Give the function that turns this operator into a Node."""
    if op.name not in BUILDERS:
        raise ModelError(
            f"operator {op.index} ({op.name}) is not supported",
            hint="LiteRT still runs this file; to train it, convert it without that operator",
        )
    if is_behind(b, op):
        return append_step
    if op.name not in UINT8_OPS and any(b.raw.tensors[i].dtype == "uint8" for i in op.inputs if i >= 0):
        raise refuse(op, "takes uint8 values", "edgefl runs this operator in int8 only; convert to int8")
    return BUILDERS[op.name]


def _check_flow(graph: Graph) -> None:
    """Every operator's result is used, so every operator leads to an output."""
    used = {i for node in graph.nodes for i in node.inputs} | {port.tensor for port in graph.outputs}
    for node in graph.nodes:
        if node.output not in used:
            raise ModelError(
                f"operator {node.index}: its result is never used", hint="make it an output of the model"
            )


def _check_overlap(raw: RawModel, graph: Graph) -> None:
    """Weights and biases lie apart: patching one never changes another."""
    ranges = sorted({(t.offset, t.offset + t.n_bytes) for t in raw.tensors if t.n_bytes})
    for (_, end), (start, _) in pairwise(ranges):
        if start < end:
            raise ModelError(
                f"the model file is damaged: two buffers overlap at byte {start}", hint="convert it again"
            )
