# SPDX-License-Identifier: Apache-2.0
"""What trains, and its state: working copies, residuals, dead channels, input-layer rate.

In: Graph, segments (edgefl/model/vector.py), seed and round.  Out: one ParamState for each parameter of the
graph.  Invariant: the graph's own arrays are never written.  Source: docs/training.md, "Update", "Dead
channels".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgefl.errors import ModelError
from edgefl.model.graph import Graph, Node, Op
from edgefl.model.plan import frozen_state
from edgefl.model.stream import start_residuals
from edgefl.model.vector import Segment, vector_size
from edgefl.native.engine import TERMS_MAX, ParamState


def input_rate(scale: float) -> float:
    """Rate of weights next to the graph's input: 2^-rne(2*log2(255*s_x)) if below 1, else 1."""
    mantissa, exponent = math.frexp((255.0 * float(np.float32(scale))) ** 2)
    power = exponent if mantissa >= math.sqrt(0.5) else exponent - 1
    return min(2.0**-power, 1.0)


def near_input(graph: Graph) -> set[int]:
    """Tensors that the graph's inputs reach through shape and QUANTIZE operators only."""
    reached = {port.tensor for port in graph.inputs}
    for node in graph.nodes:
        moved = node.kind in (Op.COPY, Op.PAD, Op.REQUANT, Op.MOVE)
        if moved and reached.intersection(node.inputs):
            reached.add(node.output)
    return reached


def dead_channels(q: np.ndarray, scales: np.ndarray, *, last_axis: bool) -> np.ndarray | None:
    """Channels that never train, uint8 [Co]; None if none.

    Only with a scale for each channel: all weights 0, or a scale below 1/1024 of the median of the others.
    """
    if scales.size == 1:
        return None
    rows = q.reshape(-1, scales.size).T if last_axis else q.reshape(scales.size, -1)
    used = (rows != 0).any(axis=1)
    dead = ~used
    if used.any():
        ordered = np.sort(scales[used])
        dead |= scales < ordered[len(ordered) // 2] / np.float32(1024)
    return dead.astype(np.uint8) if dead.any() else None


def training_state(
    graph: Graph,
    segments: Sequence[Segment],
    *,
    seed: int,
    round_: int,
    residuals: bool,
    batch_size: int,
    micro_batch: int,
    keep_sums: bool = False,
) -> list[ParamState]:
    """Make the state of every parameter at the start of a round.

    Parameters
    ----------
    graph : Graph
        The model as received.
    segments : sequence of Segment
        What trains.
    seed, round_ : int
        Of the task and the round; they decide the start residuals.
    residuals : bool
        False for shadow="none": no residuals, stochastic rounding.
    batch_size, micro_batch : int
        Samples of a step, and of one call of the C core.
    keep_sums : bool
        Sum gradients in arrays of their own even where one call is a step.

    Returns
    -------
    list of ParamState
        One for each of graph.params; those that do not train share the graph's arrays.
    """
    nodes = {index: node for node in graph.nodes for index in node.params}
    states = {index: frozen_state(graph, node, index) for index, node in nodes.items()}
    noise = start_residuals(vector_size(segments), seed, round_) if residuals else None
    reached = near_input(graph)
    for segment in segments:
        state, source = states[segment.param], nodes[segment.param].source(segment.param)
        if segment.kind == "weight":
            state.q, state.train_w = state.q.copy(), True
            if noise is not None:
                state.r = noise[segment.offset : segment.stop].copy()
            state.rate = input_rate(graph.tensors[source].scale) if source in reached else 1.0
        else:
            state.b, state.train_b = state.b.astype(np.int32), True
            if noise is not None:
                state.rb = np.zeros(segment.size, np.int8)
    for index in {segment.param for segment in segments}:
        state, node, param = states[index], nodes[index], graph.params[index]
        if state.train_w and _pixels(graph, node) > TERMS_MAX:
            raise ModelError(
                f"operator {node.index}: its output has {_pixels(graph, node)} pixels, weights train on at "
                f"most {TERMS_MAX}",
                hint="train later layers only",
            )
        state.dead = dead_channels(param.q, param.scales, last_axis=node.kind is Op.DWCONV2D)
        if not residuals:
            state.keys = np.zeros(64, np.uint8)
        apart = keep_sums or node.kind is Op.LSTM  # sums over its time steps
        if apart or micro_batch < batch_size or _pixels(graph, node) * micro_batch > TERMS_MAX:
            state.acc_b = np.zeros(state.co, np.int64)
            state.acc_w = np.zeros(state.q.size, np.int64) if state.train_w else None
    return [states[i] for i in range(len(graph.params))]


def own_arrays(state: ParamState) -> list[np.ndarray]:
    """Arrays that exist because this parameter trains; the rest belongs to the graph."""
    own: list[np.ndarray | None] = [state.r, state.rb, state.acc_w, state.acc_b, state.dead, state.keys]
    own += [state.q if state.train_w else None, state.b if state.train_b else None]
    return [array for array in own if array is not None]


def _pixels(graph: Graph, node: Node) -> int:
    """Terms that one sample adds to a weight's gradient."""
    h, w, _ = graph.tensors[node.output].shape
    return 1 if node.kind in (Op.DENSE, Op.LSTM) else h * w
