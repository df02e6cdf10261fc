# SPDX-License-Identifier: Apache-2.0
"""How long every tensor and error of a plan is needed, and which of them share one place.

In: operators with their error edges, what trains.  Out: Blocks for edgefl/model/arena.py.  Steps: operator i
forwards is step i, the loss n; backwards operator i takes two, collecting and masking its error, then handing
it on and updating.  Only what the backward pass reads again is kept: an activation whose weights train reads
it, an output at whose bounds the error is masked.  Invariant: two values share a block only if the later one
is written where the earlier one is read for the last time, element by element, or if both are the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgefl.model.arena import Block
from edgefl.model.detail import Binary, Rule, Svdf
from edgefl.model.graph import Graph, Node, Op
from edgefl.native.engine import LSTM_BYTES, OpSpec

UNMASKED = (-129, 128)
IN_PLACE = (Op.ADD, Op.REQUANT, Op.TABLE)  # element by element, so that the result may lie where an input was
SAME_ERROR = (Op.ADD, Op.COPY, Op.REQUANT)  # backwards: real units, so the error, do not change


def keeps_inputs(node: Node) -> bool:
    """Whether handing the error on reads the operator's inputs again."""
    if isinstance(node.detail, Binary):
        return node.detail.rule is not Rule.LINEAR
    return node.kind in (Op.MAXPOOL, Op.TABLE)


class Lifetimes:
    """Blocks of one plan.

    Parameters
    ----------
    graph : Graph
        The model.
    nodes, ops : sequences
        Operators in order, with edges, masks and edge_in filled in.
    weights : collection of int
        Params whose weights train; a bias alone needs no input.
    edge_tensors : sequence of int
        Tensor of each edge.
    loss_edges : mapping
        Tensor that the loss looks at -> the edge that the loss fills; empty for inference.
    n_max : int
        Samples of a call.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        ops: Sequence[OpSpec],
        weights: Collection[int],
        edge_tensors: Sequence[int],
        loss_edges: Mapping[int, int],
        n_max: int,
    ) -> None:
        self._graph, self._nodes, self._ops = graph, nodes, ops
        self._loss_edges, self._n_max = loss_edges, n_max
        self.blocks: list[Block] = []
        self.tensor_block: dict[int, int] = {}
        self.edge_block: list[int] = [-1] * len(edge_tensors)
        self._place_tensors(self._last_uses(weights))
        self._place_edges(edge_tensors)
        self.state_block = self._place_states()

    def _mask_step(self, i: int) -> int:
        """Step at which operator i collects its error; it hands it on one step later."""
        return len(self._ops) + 1 + 2 * (len(self._ops) - 1 - i)

    def _last_uses(self, weights: Collection[int]) -> dict[int, int]:
        graph, last = self._graph, dict[int, int]()
        for i, node in enumerate(self._nodes):
            last.update(dict.fromkeys((*node.inputs, node.output), i))
        for t in self._loss_edges or [port.tensor for port in graph.outputs]:
            last[t] = max(last.get(t, 0), len(self._ops))
        for i, (op, node) in enumerate(zip(self._ops, self._nodes, strict=True)):
            if op.edges[1] == 0:
                continue
            if op.mask != UNMASKED and node.output not in self._loss_edges:
                last[node.output] = max(last[node.output], self._mask_step(i))
            read = {node.source(p) for p in node.params if p in weights}
            if keeps_inputs(node) and max(op.edge_in) >= 0:
                read.update(node.inputs)
            for t in read:
                last[t] = max(last[t], self._mask_step(i) + 1)
        return last

    def _new(self, tensor: int, born: int, dies: int) -> int:
        self.blocks.append(Block(self._graph.tensors[tensor].size * self._n_max, born, dies))
        return len(self.blocks) - 1

    def _place_tensors(self, last: dict[int, int]) -> None:
        graph, at = self._graph, self.tensor_block
        for node in reversed(self._nodes):  # what is copied lives as long as its copies
            if node.kind is Op.COPY:
                last[node.inputs[0]] = max(last[node.inputs[0]], last[node.output])
        if len(graph.inputs) > 1:  # a single one is read where the caller has it
            for port in graph.inputs:
                at[port.tensor] = self._new(port.tensor, 0, last.get(port.tensor, 0))
        for i, node in enumerate(self._nodes):
            if node.output in at:
                continue
            block = self._inherited(i, node)
            if block is None:
                at[node.output] = self._new(node.output, i, last[node.output])
                continue
            at[node.output] = block
            self.blocks[block].dies = max(self.blocks[block].dies, last[node.output])

    def _inherited(self, i: int, node: Node) -> int | None:
        """Block of an input that the result takes over."""
        for t in node.inputs:
            block = self.tensor_block.get(t)
            if block is None:
                continue
            dies_here = self.blocks[block].dies == i
            same_size = self._graph.tensors[t].size == self._graph.tensors[node.output].size
            if node.kind is Op.COPY or (node.kind in IN_PLACE and dies_here and same_size):
                return block
        return None

    def _place_edges(self, edge_tensors: Sequence[int]) -> None:
        at = self.edge_block
        for tensor, edge in self._loss_edges.items():
            if edge >= 0:
                at[edge] = self._new(tensor, len(self._ops), len(self._ops))
        producer = {op.out: i for i, op in enumerate(self._ops)}
        makers = [producer[t] for t in edge_tensors]
        for i in reversed(range(len(self._ops))):
            op, step = self._ops[i], self._mask_step(i)
            first, count = op.edges
            for edge in range(first, first + count):
                self._extend(edge, step + (edge == first))
            heirs = self._heirs(i, makers) if count else ()
            for edge in op.edge_in:
                if edge < 0:
                    continue
                if edge in heirs:
                    at[edge] = at[first]
                else:
                    at[edge] = self._new(edge_tensors[edge], step + 1, step + 1)

    def _place_states(self) -> dict[int, int]:
        """Blocks of what an LSTM saves for its backward pass, and of the memory of an SVDF, by operator."""
        made: dict[int, int] = {}
        for i, (op, node) in enumerate(zip(self._ops, self._nodes, strict=True)):
            if isinstance(node.detail, Svdf):
                block = Block(len(node.detail.time), 0, 3 * len(self._ops))
            elif node.kind is Op.LSTM and op.edges[1]:
                size = LSTM_BYTES * self._graph.tensors[node.output].size * self._n_max
                block = Block(size, i, self._mask_step(i) + 1)
            else:
                continue
            made[i] = len(self.blocks)
            self.blocks.append(block)
        return made

    def _extend(self, edge: int, step: int) -> None:
        block = self.blocks[self.edge_block[edge]]
        block.dies = max(block.dies, step)

    def _heirs(self, i: int, makers: Sequence[int]) -> tuple[int, ...]:
        """Errors of the inputs that may lie where operator i's own error lies.

        One always may. Both may if whoever is reached first only reads it.
        """
        op = self._ops[i]
        edges = [edge for edge in op.edge_in if edge >= 0]
        if self._nodes[i].kind not in SAME_ERROR:
            return ()
        if len(edges) < 2:
            return tuple(edges)
        reader = max(edges, key=lambda edge: makers[edge])
        maker = self._ops[makers[reader]]
        only_reads = maker.edges[0] != reader or (
            maker.edges[1] == 1
            and (maker.mask == UNMASKED or maker.out in self._loss_edges)
            and self._nodes[makers[reader]].kind not in SAME_ERROR
        )
        apart = makers[edges[0]] != makers[edges[1]]
        return tuple(edges) if only_reads and apart else (edges[0],)
