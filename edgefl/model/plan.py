# SPDX-License-Identifier: Apache-2.0
"""A Graph turned into what the C core runs: numbers of every operator, and places of all tensors and errors.

In: Graph, the trained parameters and their state, samples of a call.  Out: PlanSpec for
edgefl/native/engine.py.  Refuses scales that XNNPACK's rules cannot take.  Invariant: a tensor keeps its
place as long as any forward or backward step still reads it.  Rounding rules: docs/training.md, section 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgefl.errors import ModelError
from edgefl.model.acts import act_bounds
from edgefl.model.arena import place_blocks
from edgefl.model.detail import Move, Svdf, Table
from edgefl.model.fixed import fixed_multipliers
from edgefl.model.graph import Graph, Node, Op, Param
from edgefl.model.lifetimes import Lifetimes
from edgefl.model.plan_ops import binary_spec, linear_terms, move_spec, table_spec
from edgefl.model.recurrent import lstm_numbers, svdf_spec
from edgefl.native.engine import FAN_OUT_MAX, OpSpec, ParamState, PlanSpec, TensorSpec
from edgefl.native.loss import HeadSpec, LossSpec

WEIGHTED = (Op.CONV2D, Op.DWCONV2D, Op.DENSE, Op.LSTM)


def frozen_state(graph: Graph, node: Node, index: int) -> ParamState:
    """One param of a node as it is in the file, not trained, not copied."""
    param = graph.params[index]
    return ParamState(
        q=param.q.reshape(-1),
        b=param.b,
        scales=param.scales,
        mult=requant_scales(graph, node, param),
        co=param.channels,
        qmin=param.qmin,
        q_zero=param.zero,
    )


def requant_scales(graph: Graph, node: Node, param: Param) -> np.ndarray:
    """s_x * s_w / s_y in float32, one operation at a time; refuses 256 and more, as XNNPACK does."""
    if node.kind is Op.LSTM:
        return np.ones(len(param.scales), np.float32)  # it has integer multipliers
    s_x, s_y = (np.float32(graph.tensors[t].scale) for t in (node.inputs[0], node.output))
    mult: np.ndarray = (s_x * param.scales.astype(np.float32)) / s_y
    if not (mult > 0).all() or not (mult < 256).all():
        raise ModelError(
            f"operator {node.index} ({node.name}): its requantisation scale is outside (0, 256)",
            hint="convert the model again with other calibration data",
        )
    return np.ascontiguousarray(mult, np.float32)


def _op_spec(graph: Graph, node: Node, truncate: int | None) -> OpSpec:
    """Numbers of one operator, without its edges."""
    x, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    (lo, hi), mask = act_bounds(node.act, y.scale, y.zero)
    (hi_, wi, ci), (ho, wo, co) = x.shape, y.shape
    if node.kind is Op.SOFTMAX:
        hi_, wi, ci = ho, wo, co
    dims = {"hi": hi_, "wi": wi, "ci": ci, "ho": ho, "wo": wo, "co": co}
    if node.kind in (Op.CONV2D, Op.DWCONV2D, Op.AVGPOOL, Op.MAXPOOL):
        dims |= dict(
            zip(("kh", "kw", "sh", "sw", "dh", "dw"), node.kernel + node.stride + node.dilation, strict=True)
        )
        dims |= {"groups": node.groups, "mult": node.mult}
    dims |= {"pt": node.pad[0], "pl": node.pad[2]}
    spec = OpSpec(int(node.kind), node.inputs, node.output, dims, lo, hi, mask, u8=x.unsigned)
    if node.kind is Op.ADD:
        a, b = (graph.tensors[t] for t in node.inputs)
        quant = [a.scale, b.scale], [a.zero, b.zero], (False, False), (y.scale, y.zero)
        spec.add = linear_terms(*quant, (lo, hi))
    elif node.kind is Op.BINARY:
        spec.binary, spec.add = binary_spec(graph, node, (lo, hi))
    elif isinstance(node.detail, Table):
        spec.table = table_spec(node.detail, graph.requant == "gemmlowp")
    elif isinstance(node.detail, Move):
        spec.move, spec.edge_in = move_spec(node.detail), (-1,) * len(node.inputs)
    elif node.kind is Op.MEAN:
        pixels = np.float32(x.shape[0] * x.shape[1])
        spec.ratio = float((np.float32(x.scale) / np.float32(y.scale)) * (np.float32(1) / pixels))
    elif node.kind is Op.REQUANT:
        m0 = int(np.rint(np.float32(256) * (np.float32(x.scale) / np.float32(y.scale))))
        if not 1 <= m0 <= 32768:
            raise ModelError(f"operator {node.index} (QUANTIZE): the scales' ratio is outside 2^-8..2^7")
        spec.add = {"m0": m0}
    elif node.kind is Op.SOFTMAX:
        spec.softmax = (x.scale, node.beta)
    elif node.kind is Op.LSTM:
        spec.lstm = lstm_numbers(graph, node, truncate)
    elif isinstance(node.detail, Svdf):
        spec.svdf = svdf_spec(node.detail)
    if graph.requant == "gemmlowp":
        spec.fixed = fixed_multipliers(graph, node)
    return spec


class Planner:
    """Errors and places for one graph and what of it trains.

    trained: param -> whether its weights train, not only its bias.  heads: tensors that the loss looks at;
    default: the logits if anything trains, else none.  truncate: steps that errors of an LSTM go back,
    default all.
    """

    def __init__(
        self,
        graph: Graph,
        trained: Mapping[int, bool] | None = None,
        heads: Sequence[int] = (),
        truncate: int | None = None,
    ) -> None:
        self.graph = graph
        self.heads = tuple(heads) or ((graph.logits,) if trained else ())
        self._head_edge: dict[int, int] = {}  # of the heads that trained parameters lie behind
        self.nodes = graph.nodes_to(*self.heads) if self.heads else graph.nodes
        self.ops = [_op_spec(graph, node, truncate) for node in self.nodes]
        self.edge_tensors: list[int] = []  # of each edge
        self._trained = set(trained or ())
        self._weights = {index for index in self._trained if trained and trained[index]}
        self._number_params()
        if trained:
            self._connect()

    def trains_weights(self, param: int) -> bool:
        """Whether the weights of a parameter train."""
        return param in self._weights

    def _number_params(self) -> None:
        for op, node in zip(self.ops, self.nodes, strict=True):
            op.param = node.param if node.kind in WEIGHTED else -1

    def _connect(self) -> None:
        """Make an edge from every reader of a tensor that trained parameters lie behind."""
        wanted: set[int] = set()  # tensors whose error something needs
        for node in self.nodes:
            if self._trained.intersection(node.params) or wanted.intersection(node.inputs):
                wanted.add(node.output)
        readers: dict[int, list[tuple[int, int]]] = {t: [] for t in wanted}
        for i, node in enumerate(self.nodes):
            for k, t in enumerate(node.inputs):
                if t in wanted and node.output in wanted:
                    readers[t].append((i, k))
        for i, node in enumerate(self.nodes):
            if node.output not in wanted:
                continue
            first = len(self.edge_tensors)
            count = len(readers[node.output])
            if node.output in self.heads:  # the loss reads it too, and its error is never masked
                self._head_edge[node.output] = first + count
                self.ops[i].mask = (-129, 128)
                count += 1
            if count > FAN_OUT_MAX:
                raise ModelError(
                    f"result of operator {node.index} is read {count} times, training sums {FAN_OUT_MAX}",
                    hint="train only layers after it",
                )
            self.ops[i].edges = (first, count)
            self.edge_tensors += [node.output] * count
            for edge, (reader, k) in enumerate(readers[node.output], first):
                made = list(self.ops[reader].edge_in)
                made[k] = edge
                self.ops[reader].edge_in = tuple(made)

    def spec(self, params: list[ParamState], n_max: int, loss: LossSpec | None = None) -> PlanSpec:
        """Lay everything out for calls of up to n_max samples; `loss` gets the heads."""
        graph = self.graph
        lives = Lifetimes(
            graph, self.nodes, self.ops, self._weights, self.edge_tensors, self._loss_edges(), n_max
        )
        offsets, total = place_blocks(lives.blocks)
        for i, block in lives.state_block.items():
            self.ops[i].state = offsets[block]
        place = {t: offsets[block] for t, block in lives.tensor_block.items()}
        tensors = [
            TensorSpec(place.get(t, 0), tensor.size, tensor.zero, tensor.scale)
            for t, tensor in enumerate(graph.tensors)
        ]
        return PlanSpec(
            tensors=tensors,
            ops=self.ops,
            params=params,
            edges=[offsets[block] for block in lives.edge_block],
            n_max=n_max,
            inputs=tuple(port.tensor for port in graph.inputs),
            arena_bytes=total,
            loss=replace(loss, heads=self._head_specs()) if loss else None,
        )

    def _loss_edges(self) -> dict[int, int]:
        """Tensors that the loss looks at, and the edge that it fills; -1: nothing trains behind it."""
        return {t: self._head_edge.get(t, -1) for t in self.heads}

    def _head_specs(self) -> tuple[HeadSpec, ...]:
        tensors = [self.graph.tensors[t] for t in self.heads]
        edges = self._loss_edges().items()
        return tuple(HeadSpec(t, e, x.shape, x.scale) for (t, e), x in zip(edges, tensors, strict=True))
