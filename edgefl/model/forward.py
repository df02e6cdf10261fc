# SPDX-License-Identifier: Apache-2.0
"""Inference with the C core, and what a publisher measures on calibration inputs.

In: Graph and int8 samples in the model's input quantisation.  Out: int8 outputs, bit-exact with LiteRT's
default delegate; bias exponents j.  Refuses samples of another shape or type.  Invariant: the Graph is never
changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgefl.errors import DataError
from edgefl.model.graph import Graph, Node
from edgefl.model.plan import Planner, frozen_state
from edgefl.model.vector import MAX_EXPONENT, MIN_EXPONENT, Segment
from edgefl.native.engine import Engine, ParamState

CHUNK = 16  # samples a call; more only takes memory
PIECE = 1 << 15  # values at once in sums


def check_input(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Return x as contiguous int8 [n, size of all inputs], or say what is wrong with it."""
    size = graph.input_size
    if x.dtype != np.int8:
        raise DataError(f"x is {x.dtype}, the C core takes int8 in the model's input quantisation")
    if x.ndim < 2 or len(x) == 0 or x.size != len(x) * size:
        shape = ", ".join("x".join(map(str, graph.tensors[p.tensor].shape)) for p in graph.inputs)
        raise DataError(f"x has shape {x.shape}", hint=f"the model takes [n, {shape}] with n > 0")
    return np.ascontiguousarray(x).reshape(len(x), size)


class Forward:
    """A model ready to run.

    Parameters
    ----------
    graph : Graph
        The model.
    params : list of ParamState, optional
        Weights to run instead of the file's, one for each of graph.params.
    chunk : int
        Samples of one call.
    """

    def __init__(self, graph: Graph, params: list[ParamState] | None = None, *, chunk: int = CHUNK) -> None:
        self.graph = graph
        self._chunk = chunk
        self._engine = Engine(Planner(graph).spec(params or graph_params(graph), chunk))
        self._columns: dict[tuple[int, ...], tuple[int, list[tuple[int, slice]], int]] = {}

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of the arena, and of arena, scratch and packed weights together."""
        engine = self._engine
        return engine.arena.nbytes, engine.arena.nbytes + engine.scratch.nbytes + engine.packed.nbytes

    def run(self, x: np.ndarray, tensor: int | None = None) -> np.ndarray:
        """Compute one tensor of all samples.

        Parameters
        ----------
        x : ndarray of int8, shape (n, ...)
            Samples; everything after the first axis must have the inputs' size.
        tensor : int, optional
            Index of the tensor, a result of an operator; default: the target output. Later operators do not
            run.

        Returns
        -------
        ndarray of int8, shape (n, size of the tensor)
        """
        tensor = self.graph.output if tensor is None else tensor
        return self._run(x, (tensor,))

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Compute all outputs of all samples.

        Parameters
        ----------
        x : ndarray of int8, shape (n, ...)
            As in `run`.

        Returns
        -------
        ndarray of int8, shape (n, size of all outputs)
            Of each sample its outputs one after another, in file order.
        """
        return self._run(x, tuple(port.tensor for port in self.graph.outputs))

    def _run(self, x: np.ndarray, tensors: tuple[int, ...]) -> np.ndarray:
        x = check_input(self.graph, x)
        self._engine.forget()
        if tensors not in self._columns:
            self._columns[tensors] = self._find(tensors)
        last, columns, width = self._columns[tensors]
        out = np.empty((len(x), width), np.int8)
        for at in range(0, len(x), self._chunk):
            part = x[at : at + self._chunk]
            self._engine.forward(part, 0, last)
            for t, column in columns:
                out[at : at + len(part), column] = self._engine.tensor(t, len(part))
        return out

    def _find(self, tensors: tuple[int, ...]) -> tuple[int, list[tuple[int, slice]], int]:
        """How many operators make these tensors, the columns of each in a result, and its width."""
        last = 1 + max(i for i, node in enumerate(self.graph.nodes) if node.output in tensors)
        columns, width = list[tuple[int, slice]](), 0
        for t in tensors:
            size = self.graph.tensors[t].size
            columns.append((t, slice(width, width + size)))
            width += size
        return last, columns, width

    def input_rms(self, x: np.ndarray) -> list[float]:
        """Root mean square of (x - zero) over the input of each of graph.params, over all samples."""
        self._engine.forget()
        return input_rms(self.graph, self._engine, self.graph.nodes, x, self._chunk)


def input_rms(graph: Graph, engine: Engine, nodes: Sequence[Node], x: np.ndarray, chunk: int) -> list[float]:
    """Root mean square of (x - zero) over the operator's input, for each of graph.params that `nodes` has.

    `engine` runs the nodes, on up to `chunk` samples a call.
    """
    x = check_input(graph, x)
    total = [0] * len(graph.params)
    own = [graph.input] if len(graph.inputs) == 1 else []  # several lie in the arena
    for at in range(0, len(x), chunk):
        part = x[at : at + chunk]
        engine.forward(part, 0, 0)
        for i, node in enumerate(nodes):
            if node.param >= 0:
                source = node.inputs[0]
                values = part if source in own else engine.tensor(source, len(part))
                squares = _sum_of_squares(values.reshape(-1), graph.tensors[source].zero)
                for p in node.params:
                    total[p] += squares
            engine.forward(part, i, i + 1)
    rms = [0.0] * len(total)
    for node in nodes:
        for p in node.params:
            rms[p] = math.sqrt(total[p] / (len(x) * graph.tensors[node.inputs[0]].size))
    return rms


def _sum_of_squares(values: np.ndarray, zero: int) -> int:
    """Sum of (v - zero)^2, in pieces: a whole map as int64 would take more than the arena."""
    total = 0
    for at in range(0, len(values), PIECE):
        centred = values[at : at + PIECE].astype(np.int32) - zero
        total += int(np.dot(centred, centred))  # at most PIECE * 255^2 < 2^31
    return total


def graph_params(graph: Graph) -> list[ParamState]:
    """Every parameter as it is in the file."""
    made = {p: frozen_state(graph, node, p) for node in graph.nodes for p in node.params}
    return [made[p] for p in range(len(graph.params))]


def bias_exponents(graph: Graph, segments: Sequence[Segment], x: np.ndarray) -> list[int]:
    """Choose the exponent j of each trained bias: one coordinate is 2^j bias LSBs.

    Parameters
    ----------
    graph : Graph
        The model.
    segments : sequence of Segment
        What trains.
    x : ndarray of int8, shape (n, ...)
        Calibration inputs.

    Returns
    -------
    list of int
        For each segment round(log2(rms(x - zero) / 256)) over the operator's input, within the vector's
        limits; 0 for weights.
    """
    return exponents_of(segments, Forward(graph).input_rms(x))


def exponents_of(segments: Sequence[Segment], rms: Sequence[float]) -> list[int]:
    """Exponent j of each segment, from the root mean square of each parameter's input."""
    exponents = []
    for segment in segments:
        v = rms[segment.param]
        j = round(math.log2(v / 256)) if v > 0 else MIN_EXPONENT
        exponents.append(min(max(j, MIN_EXPONENT), MAX_EXPONENT) if segment.kind == "bias" else 0)
    return exponents
