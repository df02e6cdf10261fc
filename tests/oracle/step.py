# SPDX-License-Identifier: Apache-2.0
"""Independent int8 training in NumPy: loss, micro-batches, the weight step with its cap, epochs, delta, hash.

In: Graph, x int8 [n,...], labels, hyper-parameters. Out: State: q, r of each trained weight tensor, b, rb of
each trained bias. Source: docs/training.md, section 2, "Arithmetic, exactly".
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field

import numpy as np
from oracle.backward import gradients
from oracle.forward import F, rne, run
from oracle.losses import Head, errors
from oracle.numbers import rne_shift
from oracle.stream import shuffle, start_residual

from edgefl.model.graph import Graph, Op
from edgefl.model.loss import loss_heads
from edgefl.model.vector import Segment, select_segments, vector_size


@dataclass
class State:
    """Training state by param index."""

    graph: Graph  # its params hold the current q and b
    segments: list[Segment]
    r: dict[int, np.ndarray] = field(default_factory=dict)  # int64, shape of q
    rb: dict[int, np.ndarray] = field(default_factory=dict)  # int64 [Co]
    loss: float = 0.0

    def sha256(self) -> str:
        """Conformance hash of the trained vector."""
        h = hashlib.sha256()
        for s in self.segments:
            p = self.graph.params[s.param]
            if s.kind == "weight":
                h.update(p.q.astype(np.int8).tobytes() + self.r[s.param].astype(np.int8).tobytes())
            else:
                h.update(p.b.astype("<i4").tobytes() + self.rb[s.param].astype(np.int8).tobytes())
        return h.hexdigest()


def input_params(graph: Graph) -> set[int]:
    """Params that the graph's input reaches through shape and QUANTIZE operators only."""
    raw = {port.tensor for port in graph.inputs}
    for node in graph.nodes:
        if node.kind in (Op.COPY, Op.REQUANT, Op.PAD, Op.MOVE) and any(t in raw for t in node.inputs):
            raw.add(node.output)
    return {p for n in graph.nodes for p in n.params if n.source(p) in raw}


def input_rate(scale: float) -> np.float32:
    """2^-rne(2*log2(255*s_x)) if below 1, else 1."""
    square = (255.0 * float(F(scale))) ** 2
    mantissa, exponent = np.frexp(square)
    power = int(exponent) if mantissa >= np.sqrt(0.5) else int(exponent) - 1
    return F(2.0**-power) if power > 0 else F(1)


def live_channels(q: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    """Channels that train, bool [Co]; decided once at load, per-channel tensors only."""
    n_out = q.shape[axis]
    if len(scales) == 1:
        return np.ones(n_out, bool)
    any_q = (np.moveaxis(q, axis, 0).reshape(n_out, -1) != 0).any(axis=1)
    if not any_q.any():
        return any_q
    ordered = np.sort(scales[any_q])
    return any_q & ~(scales < ordered[len(ordered) // 2] / F(1024))


def merge(run_: tuple | None, new: tuple) -> tuple:
    """Running (A, B, k) of micro-batches."""
    if not new[0].any() and not new[1].any():
        return run_ if run_ is not None else new
    if run_ is None or (not run_[0].any() and not run_[1].any()):
        return new
    k = max(run_[2], new[2])
    a, b = (rne_shift(run_[i], k - run_[2]) + rne_shift(new[i], k - new[2]) for i in (0, 1))
    return a, b, k


class Oracle:
    """One training task on one graph."""

    def __init__(
        self,
        graph: Graph,
        layers: str,
        *,
        lr: float,
        seed: int = 0,
        round_: int = 0,
        step_cap: float = 0.003,
        class_weights: np.ndarray | None = None,
        residuals: bool = True,
        loss: str = "softmax_ce",
        anchors: np.ndarray | None = None,
        truncate: int | None = None,
    ) -> None:
        graph = copy.copy(graph)
        graph.params = [copy.copy(p) for p in graph.params]
        for p in graph.params:
            p.q, p.b = p.q.copy(), p.b.copy()
        self.start = copy.deepcopy(graph.params)
        self.state = State(graph, select_segments(graph, layers, loss_heads(graph, loss)))
        self.lr, self.seed, self.round = lr, seed, round_
        self.cap, self.truncate = round(1 / step_cap**2), truncate
        self.weights = class_weights
        self.loss, self.anchors = loss, anchors
        self.heads = loss_heads(graph, loss)
        self.near_input = input_params(graph)
        self.nodes = {p: n for n in graph.nodes for p in n.params}
        self.live = {
            i: live_channels(p.q, p.scales, p.q.ndim - 1 if self.nodes[i].kind is Op.DWCONV2D else 0)
            for i, p in enumerate(graph.params)
        }
        noise = start_residual(vector_size(self.state.segments), seed, round_)
        for s in self.state.segments:
            p = graph.params[s.param]
            if s.kind == "weight":
                part = noise[s.offset : s.stop] if residuals else np.zeros(s.size)
                self.state.r[s.param] = part.astype(np.int64).reshape(p.q.shape)
            else:
                self.state.rb[s.param] = np.zeros(s.size, np.int64)
        self.r0 = {i: r.copy() for i, r in self.state.r.items()}

    def step(self, x: np.ndarray, y: np.ndarray, micro_batch: int | None = None) -> None:
        """One update from one batch."""
        graph, n = self.state.graph, len(x)
        sums: dict[int, tuple] = {}
        size = micro_batch or n
        for i in range(0, n, size):
            values = run(graph, x[i : i + size])
            heads = [self._head(values, t) for t in self.heads]
            found = errors(self.loss, heads, y[i : i + size], self.weights, self.anchors)
            tops = dict(zip(self.heads, found, strict=True))
            for param, grads in gradients(graph, values, tops, self.truncate).items():
                for a, b, k in grads:
                    a = a if param in self.state.r else np.zeros_like(a)
                    sums[param] = merge(sums.get(param), (a, b, k))
        for param, (a, b, k) in sums.items():
            self._update(param, a, b, k, n)

    def _head(self, values: dict[int, np.ndarray], index: int) -> Head:
        tensor = self.state.graph.tensors[index]
        return Head(values[index].reshape(-1, *tensor.shape), tensor.scale, tensor.zero)

    def _update(self, index: int, a: np.ndarray, b: np.ndarray, k: int, n: int) -> None:
        param, node = self.state.graph.params[index], self.nodes[index]
        s_x = F(self.state.graph.tensors[node.source(index)].scale)
        scales = np.broadcast_to(param.scales, (param.channels,)).astype(F)
        axis = param.q.ndim - 1 if node.kind is Op.DWCONV2D else 0
        column = [1] * param.q.ndim
        column[axis] = -1
        live = self.live[index]
        shift = 0
        if index in self.state.r:
            rate = input_rate(s_x) if index in self.near_input else F(1)
            f = np.ldexp(F(self.lr) / F(n) * rate * s_x / scales, k + 8).reshape(column)
            v = rne(np.clip(a.astype(F) * f, F(-32767), F(32767))).astype(np.int64) * live.reshape(column)
            s_v = int((v * v).sum())
            s_q = int(((256 * (param.q.astype(np.int64) - param.zero)) ** 2).sum())
            while s_v >> (2 * shift) > s_q // self.cap:
                shift += 1
            t = 256 * param.q.astype(np.int64) + self.state.r[index] - rne_shift(v, shift)
            t = np.where(live.reshape(column), np.clip(t, 256 * param.qmin - 128, 32639), t)
            q = (t + 128) >> 8
            self.state.r[index] = t - 256 * q
            param.q = q.astype(np.int8)
        if index in self.state.rb:
            f = np.ldexp(F(self.lr) / F(n) / s_x / scales, k + 8)
            vb = rne(np.clip(b.astype(F) * f, F(-32767), F(32767))).astype(np.int64) * live
            t = self.state.rb[index] - rne_shift(vb, shift)
            d = (t + 128) >> 8
            moved = np.clip(param.b.astype(np.int64) + d, -(1 << 30), 1 << 30)
            param.b = np.where(live, moved, param.b).astype(np.int32)
            self.state.rb[index] = t - 256 * d

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        epochs: int = 1,
        batch: int = 32,
        micro_batch: int | None = None,
        max_steps: int | None = None,
    ) -> State:
        """Epochs of shuffled batches."""
        steps = 0
        for epoch in range(epochs):
            order = shuffle(len(x), self.seed, self.round, epoch)
            for i in range(0, len(x), batch):
                if max_steps is not None and steps >= max_steps:
                    return self.state
                rows = order[i : i + batch]
                self.step(x[rows], y[rows], micro_batch)
                steps += 1
        return self.state

    def delta(self, exponents: list[int]) -> np.ndarray:
        """Trained minus received weights in the units of the trainable vector, int64 [d]."""
        parts = []
        for s, j in zip(self.state.segments, exponents, strict=True):
            p, p0 = self.state.graph.params[s.param], self.start[s.param]
            if s.kind == "weight":
                moved = 256 * (p.q.astype(np.int64) - p0.q) + self.state.r[s.param] - self.r0[s.param]
            else:
                moved = 256 * (p.b.astype(np.int64) - p0.b) + self.state.rb[s.param]
                moved = rne_shift(moved, j + 8) if j + 8 >= 0 else moved << -(j + 8)
            parts.append(moved.reshape(-1))
        return np.concatenate(parts)
