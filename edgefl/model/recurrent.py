# SPDX-License-Identifier: Apache-2.0
"""UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF: their checks as operators of a file, their numbers for the C core.

In: Builder and RawOp. Out: a Node; an LSTM has eight Params: the input weights of the four gates (input,
forget, cell, output), each with the gate's bias, then the four recurrent weights without one. Refuses CIFG,
peepholes, projection, layer normalisation and anything but int8 values with an int16 cell. Invariant: the
multipliers are those of TFLite's built-in kernels. Source: docs/training.md, "LSTM" and "SVDF".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgefl.model.build import Builder, refuse
from edgefl.model.detail import Lstm, Svdf
from edgefl.model.fixed import multiplier
from edgefl.model.flat import RawOp
from edgefl.model.graph import Graph, Node, Op
from edgefl.native.operators import SvdfSpec

_NAMES = ("input gate", "forget gate", "cell gate", "output gate")
GATES = len(_NAMES)
_TANH, _RELU = 4, 1  # the schema's ActivationFunctionType
_GATE_SCALE = np.float32(2.0**-12)  # gates before their activation are Q3.12
_ABSENT = {
    1: "input gate weights (CIFG)",
    5: "recurrent input gate weights (CIFG)",
    12: "input gate bias (CIFG)",
}
_EXTRAS = {
    9: "peepholes",
    10: "peepholes",
    11: "peepholes",
    16: "a projection",
    17: "a projection",
    20: "layer normalisation",
    21: "layer normalisation",
    22: "layer normalisation",
    23: "layer normalisation",
}


def build_lstm(b: Builder, op: RawOp) -> None:
    """Append an LSTM node with its eight params."""
    _check_form(op)
    x = b.activation(op)
    h, steps, depth = b.shape(x)
    if len(b.raw_tensor(op, 0).shape) != 3 or h != 1:
        raise refuse(op, f"takes {list(b.raw_tensor(op, 0).shape)}", "edgefl takes [1, steps, values]")
    cells = b.raw_tensor(op, 1).shape[0] if b.raw_tensor(op, 1).shape else 0
    y = b.output(op, (1, steps, cells))
    spec = Lstm(*_cell_numbers(b, op, y))
    params = [b.gate(op, name, 1 + g, 12 + g, (cells, depth), x) for g, name in enumerate(_NAMES)]
    params += [b.gate(op, f"recurrent {name}", 5 + g, -1, (cells, cells), y) for g, name in enumerate(_NAMES)]
    scales = [b.raw_tensor(op, 1 + g).scales[0] for g in range(2 * GATES)]
    _check_multipliers(op, _factors(b.scale(x), b.scale(y), scales))
    b.add(Node(Op.LSTM, (x,), y, param=params[0], n_params=2 * GATES, detail=spec, index=op.index))


def _factors(s_x: np.float32, s_h: np.float32, scales: Sequence[np.float32]) -> list[np.float32]:
    """Scales of the input sums, of the recurrent sums and of the output, in float32."""
    with np.errstate(over="ignore", under="ignore"):
        found = [(s_x if g < GATES else s_h) * np.float32(s) / _GATE_SCALE for g, s in enumerate(scales)]
        return [*found, np.float32(2.0**-30) / s_h]


def _check_multipliers(op: RawOp, factors: Sequence[np.float32]) -> None:
    if not all(0 < v < 2.0**30 for v in factors):
        raise refuse(op, "has scales whose ratio is 0, or 2^30 or more", "convert the model again")


def _check_form(op: RawOp) -> None:
    present = {i for i, tensor in enumerate(op.inputs) if tensor >= 0}
    for slot, what in _ABSENT.items():
        if slot not in present:
            raise refuse(op, f"has no {what}", "edgefl takes LSTMs with all four gates")
    for slot, what in _EXTRAS.items():
        if slot in present:
            raise refuse(op, f"has {what}", "edgefl takes plain LSTMs")
    if op.options["TimeMajor"] or op.options.get("DiagonalRecurrentTensors"):
        raise refuse(op, "is time-major or has diagonal weights", "edgefl takes [1, steps, values]")
    if op.options["FusedActivationFunction"] != _TANH:
        raise refuse(op, f"has activation {op.options['FusedActivationFunction']}", "edgefl takes TANH")


def _cell_numbers(b: Builder, op: RawOp, y: int) -> tuple[int, int]:
    """(cell_bits, clip): a cell is c * 2^-cell_bits and stays within +-clip."""
    hidden, cell = b.raw_tensor(op, 18), b.raw_tensor(op, 19)
    if hidden.dtype != "int8" or cell.dtype != "int16":
        raise refuse(
            op, f"keeps {hidden.dtype} outputs and {cell.dtype} cells", "edgefl takes int8 and int16"
        )
    for tensor in (hidden, *(b.raw.tensors[i] for i in op.intermediates[4:5] if i >= 0)):
        if tensor.scales.tolist() != [b.scale(y)] or tensor.zeros.tolist() != [b.zero(y)]:
            raise refuse(op, "has a state whose scale is not its output's", "convert the model again")
    mantissa, exponent = math.frexp(float(cell.scales[0])) if len(cell.scales) == 1 else (0.0, 0)
    if mantissa != 0.5 or not 9 <= 1 - exponent <= 15 or cell.zeros[0] != 0:
        raise refuse(op, "needs a cell scale of 2^-9..2^-15 and zero point 0", "convert the model again")
    clip = np.float32(op.options["CellClip"])
    if not 0 <= clip < np.inf:
        raise refuse(op, f"has the cell clip {clip}", "edgefl takes 0 or more")
    return 1 - exponent, int(min(clip / cell.scales[0], np.float32(32767)))


def lstm_numbers(graph: Graph, node: Node, truncate: int | None) -> dict[str, Any]:
    """Fields of efl_lstm."""
    assert isinstance(node.detail, Lstm)
    s_x, s_h = (np.float32(graph.tensors[t].scale) for t in (node.inputs[0], node.output))
    scales = [np.float32(graph.params[p].scales[0]) for p in node.params]
    multipliers = [multiplier(float(v)) for v in _factors(s_x, s_h, scales)]
    steps = graph.tensors[node.output].shape[1]
    return {
        "in": multipliers[:GATES],
        "back": multipliers[GATES : 2 * GATES],
        "out": multipliers[-1],
        "cell_bits": node.detail.cell_bits,
        "clip": node.detail.clip,
        "truncate": min(truncate or steps, steps),
    }


def build_svdf(b: Builder, op: RawOp) -> None:
    """Append an SVDF node, which has no trained weights."""
    if op.options["FusedActivationFunction"] != _RELU:
        raise refuse(op, f"has activation {op.options['FusedActivationFunction']}", "edgefl takes RELU")
    x = b.activation(op)
    if any(b.raw.tensors[i].dtype != "int8" for i in (op.inputs[0], *op.outputs[:1])):
        raise refuse(op, "takes or gives uint8 values", "convert the model again to int8")
    size = math.prod(b.shape(x))
    feature, time = b.constant(op, 1, ("int8",)), b.constant(op, 2, ("int8", "int16"))
    rank, state = int(op.options["Rank"]), b.raw_tensor(op, 4)
    if feature.ndim != 2 or feature.shape[1] != size or time.ndim != 2 or len(time) != len(feature):
        raise refuse(op, f"has weights {list(feature.shape)} and {list(time.shape)} for {size} inputs")
    if rank < 1 or len(feature) % rank or not 1 <= time.shape[1] <= 1 << 15 or size > 1 << 15:
        raise refuse(op, f"has rank {rank} for {len(feature)} filters of {time.shape[1]} steps")
    if state.dtype != b.raw_tensor(op, 2).dtype or state.size != time.size or state.zeros.any():
        raise refuse(op, f"keeps a {state.dtype} state {list(state.shape)}", "convert the model again")
    scales = [b.raw_tensor(op, slot).scales for slot in (1, 2, 4)]
    if any(len(s) != 1 or not np.isfinite(s[0]) or s[0] <= 0 for s in scales):
        raise refuse(op, "needs one scale above 0 for weights and state", "convert the model again")
    y = b.output(op, (1, 1, len(feature) // rank))
    units = len(feature) // rank
    bias = np.zeros(units, np.int32)
    if op.inputs[3] >= 0:
        bias = np.array(b.constant(op, 3, ("int32",)).reshape(-1), np.int32)
    if len(bias) != units:
        raise refuse(op, f"has {len(bias)} biases for {units} outputs", "the file is damaged")
    s_f, s_t, s_m = (s[0] for s in scales)
    with np.errstate(over="ignore", under="ignore"):
        factors = (b.scale(x) * s_f / s_m, s_m * s_t / b.scale(y))
    _check_multipliers(op, factors)
    spec = Svdf(
        feature=feature.tobytes(),
        time=time.astype("<i2").tobytes(),
        bias=bias.astype("<i4").tobytes(),
        filters=len(feature),
        memory=time.shape[1],
        rank=rank,
        state=(-128, 127) if state.dtype == "int8" else (-32768, 32767),
        multipliers=(multiplier(float(factors[0])), multiplier(float(factors[1]))),
    )
    b.add(Node(Op.SVDF, (x,), y, detail=spec, index=op.index))


def svdf_spec(svdf: Svdf) -> SvdfSpec:
    """Describe an SVDF for the C core."""
    sizes = (svdf.filters, svdf.memory, svdf.rank)
    return SvdfSpec(svdf.feature, svdf.time, svdf.bias, *sizes, svdf.state, svdf.multipliers)
