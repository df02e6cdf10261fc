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
from edgefl.model.graph import Graph
from edgefl.model.plan import Planner, frozen_state
from edgefl.model.vector import MAX_EXPONENT, MIN_EXPONENT, Segment
from edgefl.native.engine import Engine, ParamState

CHUNK = 16  # samples a call; more only takes memory


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
        return self._run(x, [tensor])

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
        return self._run(x, [port.tensor for port in self.graph.outputs])

    def _run(self, x: np.ndarray, tensors: list[int]) -> np.ndarray:
        x = check_input(self.graph, x)
        last = 1 + max(i for i, node in enumerate(self.graph.nodes) if node.output in tensors)
        sizes = [self.graph.tensors[t].size for t in tensors]
        out = np.empty((len(x), sum(sizes)), np.int8)
        for at in range(0, len(x), self._chunk):
            part = x[at : at + self._chunk]
            self._engine.forward(part, 0, last)
            column = 0
            for t, size in zip(tensors, sizes, strict=True):
                out[at : at + len(part), column : column + size] = self._engine.tensor(t, len(part))
                column += size
        return out

    def input_rms(self, x: np.ndarray) -> list[float]:
        """Root mean square of (x - zero) over the input of each of graph.params, over all samples."""
        x = check_input(self.graph, x)
        total = [0] * len(self.graph.params)
        for at in range(0, len(x), self._chunk):
            part = x[at : at + self._chunk]
            self._engine.forward(part, 0, 0)
            own = [self.graph.input] if len(self.graph.inputs) == 1 else []  # several lie in the arena
            for i, node in enumerate(self.graph.nodes):
                if node.param >= 0:
                    source = node.inputs[0]
                    values = part if source in own else self._engine.tensor(source, len(part))
                    centred = values.astype(np.int64) - self.graph.tensors[source].zero
                    total[node.param] += int((centred * centred).sum())
                self._engine.forward(part, i, i + 1)
        rms = [0.0] * len(total)
        for node in self.graph.nodes:
            if node.param >= 0:
                elements = len(x) * self.graph.tensors[node.inputs[0]].size
                rms[node.param] = math.sqrt(total[node.param] / elements)
        return rms


def graph_params(graph: Graph) -> list[ParamState]:
    """Every parameter as it is in the file."""
    made: list[ParamState | None] = [None] * len(graph.params)
    for node in graph.nodes:
        if node.param >= 0:
            made[node.param] = frozen_state(graph, node)
    return [p for p in made if p is not None]


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
    rms = Forward(graph).input_rms(x)
    exponents = []
    for segment in segments:
        v = rms[segment.param]
        j = round(math.log2(v / 256)) if v > 0 else MIN_EXPONENT
        exponents.append(min(max(j, MIN_EXPONENT), MAX_EXPONENT) if segment.kind == "bias" else 0)
    return exponents
