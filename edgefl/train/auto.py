# SPDX-License-Identifier: Apache-2.0
"""layers="auto": which operators train under a memory budget, as an explicit selection.

In: Graph, samples, budget, hyper-parameters.  Out: Choice, whose `layers` ("ops:4b,7,9") every device of a
task takes as it is.  Refuses a budget that not even the head fits.  Rule: start from the head; add, again and
again, what lowers the loss most for its cost, weights of one operator or biases further back, until 99 % of
what all layers would do is reached or nothing more fits.  Cost is bytes plus multiplications, each as a share
of those of "all".  Invariant: no clock is read, so a slow machine chooses the same.  Channels are not
chosen: docs/training.md, "Choosing layers".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefl.errors import UsageError
from edgefl.model.graph import Graph, Op
from edgefl.model.layers import Wanted, explicit_layers
from edgefl.model.plan import Planner
from edgefl.train.fit import Session
from edgefl.train.gradient import measure_gradients
from edgefl.types import Batch

ENOUGH = 0.99  # of the decrease of the loss that training everything would give


@dataclass(frozen=True)
class Choice:
    """What "auto" chose.

    layers is an explicit selection; bytes all memory of its session; macs multiplications of one sample's
    step; share the part of the decrease of the loss, to first order, that training everything would give,
    None if that is not known.
    """

    layers: str
    bytes: int
    macs: int
    share: float | None


def session_bytes(session: Session) -> int:
    """All bytes that a session holds."""
    return sum(vars(session.memory).values())


def step_macs(planner: Planner) -> int:
    """Multiplications of one sample's step: forward, errors handed on, gradients of weights that train."""
    total = 0
    for node, op in zip(planner.nodes, planner.ops, strict=True):
        h, w, _ = planner.graph.tensors[node.output].shape
        pixels = 1 if node.kind is Op.DENSE else h * w
        for param in node.params:
            passes = 1 + (max(op.edge_in) >= 0) + planner.trains_weights(param)
            total += passes * pixels * int(planner.graph.params[param].q.size)
    return total


def choose_layers(graph: Graph, batch: Batch | None, budget: int | None = None, **options: Any) -> Choice:
    """Choose what trains.

    Parameters
    ----------
    graph : Graph
        The model.
    batch : Batch, optional
        Samples and targets, the more typical the better; up to 8 batches of them are looked at. None: nothing
        is known of the gradients; then biases come first, later operators before earlier ones.
    budget : int, optional
        Most bytes that the session may hold.
    **options
        Of the Session that will train, all but the layers.

    Returns
    -------
    Choice
        The selection and what it costs.

    Raises
    ------
    UsageError
        The budget is below the least possible.
    """
    return _Search(graph, batch, budget, options).run()


def check_budget(session: Session, budget: int | None) -> None:
    """Refuse a session that holds more than `budget` bytes."""
    if budget is not None and session_bytes(session) > budget:
        raise UsageError(
            f"these layers and this batch hold {session_bytes(session)} bytes, the memory budget is {budget}",
            hint='use layers "auto", a smaller batch or a smaller micro-batch',
        )


class _Search:
    """Greedy search over (first operator whose bias trains, operators whose weights train)."""

    def __init__(
        self, graph: Graph, batch: Batch | None, budget: int | None, options: Mapping[str, Any]
    ) -> None:
        self._graph, self._budget = graph, budget
        self._options = {**options, "memory_budget": budget}
        every = self._session("all")
        self._heads = every.plan.heads
        self._known = batch is not None
        self._gain: dict[tuple[int, str], float] = {(s.param, s.kind): 0.0 for s in every.segments}
        if batch is not None:
            self._gain |= {(g.param, g.kind): g.decrease for g in measure_gradients(every, batch)}
        self._ops = sorted({self._op(param) for param, _ in self._gain})
        self._bytes: dict[str, int] = {}
        self._all = self._cost(self._wanted(0, frozenset(self._ops)))
        self._whole = sum(self._gain.values())

    def _op(self, param: int) -> int:
        """Operator of the file that a parameter belongs to; an LSTM has eight."""
        return self._graph.params[param].op_index

    def _session(self, layers: str, **changes: int) -> Session:
        return Session(self._graph, **{**self._options, **changes, "layers": layers})

    def run(self) -> Choice:
        """Search."""
        first, weights = self._start()
        if not self._known:
            first, weights = self._blind(first, weights)
        while self._decrease(first, weights) < ENOUGH * self._whole:
            moved = self._best(first, weights)
            if moved is None:
                break
            first, weights = moved
        wanted = self._wanted(first, weights)
        n_bytes, macs = self._cost(wanted)
        share = self._decrease(first, weights) / self._whole if self._whole else None
        return Choice(explicit_layers(self._graph, wanted), n_bytes, macs, share)

    def _start(self) -> tuple[int, frozenset[int]]:
        """Take the head, or its bias alone where the budget holds no more."""
        last = len(self._ops) - 1
        candidates = [(last, frozenset(self._ops[-1:])), (last, frozenset[int]())]
        for first, weights in candidates:
            if self._fits(first, weights):
                return first, weights
        least = min(self._cost(w)[0] for c in candidates if (w := self._wanted(*c)))
        hint = "raise it, or lower the batch"
        smallest = session_bytes(self._session("head", micro_batch=1))
        if smallest < least:
            hint += f"; with a micro-batch of 1 the head takes {smallest} bytes"
        raise UsageError(
            f"a memory budget of {self._budget} bytes is below the least possible, {least} bytes", hint=hint
        )

    def _fits(self, first: int, weights: frozenset[int]) -> bool:
        wanted = self._wanted(first, weights)
        return bool(wanted) and (self._budget is None or self._cost(wanted)[0] <= self._budget)

    def _blind(self, first: int, weights: frozenset[int]) -> tuple[int, frozenset[int]]:
        """Biases as far back as fit, then weights from the head on."""
        while first > 0 and self._fits(first - 1, weights):
            first -= 1
        for rank in reversed(range(len(self._ops))):
            more = min(first, rank), weights | {self._ops[rank]}
            if self._fits(*more):
                first, weights = more
        return first, weights

    def _wanted(self, first: int, weights: frozenset[int]) -> dict[int, Wanted]:
        """Give the selection with biases from the first-th operator on."""
        made = {}
        for param in sorted({param for param, _ in self._gain}):
            op = self._op(param)
            w = Wanted(
                (param, "weight") in self._gain and op in weights,
                (param, "bias") in self._gain and self._ops.index(op) >= first,
            )
            if w.weights or w.bias:
                made[param] = w
        return made

    def _decrease(self, first: int, weights: frozenset[int]) -> float:
        total = 0.0
        for param, wanted in self._wanted(first, weights).items():
            total += self._gain.get((param, "weight"), 0.0) if wanted.weights else 0.0
            total += self._gain.get((param, "bias"), 0.0) if wanted.bias else 0.0
        return total

    def _cost(self, wanted: Mapping[int, Wanted]) -> tuple[int, int]:
        """Bytes and multiplications of a selection."""
        layers = explicit_layers(self._graph, wanted)
        if layers not in self._bytes:
            self._bytes[layers] = session_bytes(self._session(layers))
        return self._bytes[layers], self._macs(wanted)

    def _macs(self, wanted: Mapping[int, Wanted]) -> int:
        return step_macs(Planner(self._graph, {p: w.weights for p, w in wanted.items()}, self._heads))

    def _best(self, first: int, weights: frozenset[int]) -> tuple[int, frozenset[int]] | None:
        """Find the move with the largest gain for its cost that fits; of equals the last operator."""
        now, cost = self._decrease(first, weights), self._cost(self._wanted(first, weights))
        moves = []
        for rank in reversed(range(len(self._ops))):
            for to in ((min(rank, first), weights), (min(rank, first), weights | {self._ops[rank]})):
                gain = self._decrease(*to) - now
                if gain > 0:
                    macs = (self._macs(self._wanted(*to)) - cost[1]) / self._all[1]
                    moves.append((gain, max(macs, 0.0), to))
        best, found = 0.0, None
        # Multiplications alone bound what a move can be worth: most sessions need not be laid out.
        for gain, macs, to in sorted(moves, key=lambda move: -_worth(move[0], move[1])):
            if _worth(gain, macs) <= best:
                break
            n_bytes = self._cost(self._wanted(*to))[0]
            if self._budget is not None and n_bytes > self._budget:
                continue
            worth = _worth(gain, macs + max(n_bytes - cost[0], 0) / self._all[0])
            if worth > best:
                best, found = worth, to
        return found


def _worth(gain: float, cost: float) -> float:
    return gain / max(cost, 1e-9)
