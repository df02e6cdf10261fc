# SPDX-License-Identifier: Apache-2.0
"""How large a model's gradients are on given samples, tensor by tensor, before anything trains.

In: a Session (graph, layers, hyper-parameters) and a Batch.  Out: one TensorGradient for each trained tensor,
in real units and in steps of the trainable vector.  Refuses what `Session.fit` refuses.  Invariant: the same
on every machine: the C core's sums are integers, and sums of squares are rounded once (fsum).  Source:
docs/training.md, "Choosing layers".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgefl.model.forward import check_input
from edgefl.model.graph import Op
from edgefl.model.loss import check_target, find_loss, make_targets
from edgefl.model.stream import shuffled
from edgefl.native.engine import Engine, ParamState
from edgefl.native.loss import LossSpec
from edgefl.train.fit import Session
from edgefl.train.state import training_state
from edgefl.types import Batch

BATCHES = 8  # looked at
HALF = 0.5  # a step that is not larger is rounded to 0


@dataclass(frozen=True)
class TensorGradient:
    """One tensor. Norms are over its elements, in real units where nothing else is said.

    mean is the norm of the gradient averaged over all samples seen; typical the root mean square, over
    batches, of the norm of one batch's. step is the typical norm of a step before the cap in units of the
    trainable vector (1/256 LSB of the weight or bias), largest its largest element, and capped the factor
    that the cap leaves of it. decrease is how much one step lowers the loss to first order.
    """

    param: int
    kind: str  # "weight" or "bias"
    size: int
    weight: float
    mean: float
    typical: float
    step: float
    largest: float
    capped: float
    decrease: float

    @property
    def ratio(self) -> float:
        """Typical |gradient| / |weight|; 0 if all weights are 0."""
        return self.typical / self.weight if self.weight else 0.0

    @property
    def still(self) -> bool:
        """Whether no step of the tensor moves anything."""
        return self.largest <= HALF


def sum_squares(values: np.ndarray) -> float:
    """Sum of squares, rounded once, so that no order of summation shows."""
    return math.fsum(np.square(values, dtype=np.float64).reshape(-1).tolist())


class _Tensor:
    """What is known of one tensor, and the running sums over batches. Arrays are [channels, the rest]."""

    def __init__(self, kind: str, size: int, weight: float, per_unit: np.ndarray) -> None:
        self.kind, self.size, self.weight = kind, size, weight
        self._per_unit = per_unit  # step in the vector's units of a gradient of 1, [channels, 1]
        self._total = np.zeros((len(per_unit), size // len(per_unit)))
        self._squares, self._steps, self._largest, self._samples = list[float](), list[float](), 0.0, 0

    def add(self, gradient: np.ndarray, samples: int) -> None:
        """Take the mean gradient of one batch."""
        step = np.clip(gradient * self._per_unit, -32767.0, 32767.0)
        self._total += gradient * samples
        self._squares.append(sum_squares(gradient))
        self._steps.append(sum_squares(step))
        self._largest = max(self._largest, float(np.abs(step).max(initial=0.0)))
        self._samples += samples

    def result(self, param: int, limit: float, rate: float) -> TensorGradient:
        """Sum up; `limit` is the norm that the cap leaves of a step, `rate` the learning rate."""
        n = max(len(self._squares), 1)
        mean = math.sqrt(sum_squares(self._total)) / max(self._samples, 1)
        step = math.sqrt(math.fsum(self._steps) / n)
        capped = 1.0 if step <= limit else limit / step
        still = self._largest <= HALF
        return TensorGradient(
            param=param,
            kind=self.kind,
            size=self.size,
            weight=self.weight,
            mean=mean,
            typical=math.sqrt(math.fsum(self._squares) / n),
            step=step,
            largest=self._largest,
            capped=capped,
            decrease=0.0 if still else rate * capped * mean * mean,
        )


class _Probe:
    """The engine of a session, with sums of their own for the gradients."""

    def __init__(self, session: Session) -> None:
        graph, opts = session.graph, session.options
        self.graph, self.options = graph, opts
        self.states = training_state(
            graph,
            session.segments,
            seed=opts.seed,
            round_=opts.round_,
            residuals=True,
            batch_size=opts.batch_size,
            micro_batch=opts.micro_batch,
            keep_sums=True,
        )
        self.trained = {s.param: self.states[s.param].train_w for s in session.segments}
        spec = LossSpec(find_loss(opts.loss).kind, opts.class_weights, opts.anchors)
        self._engine = Engine(session.plan.spec(self.states, opts.micro_batch, spec))
        self._nodes = {param: node for node in session.plan.nodes for param in node.params}
        self.tensors = {(s.param, s.kind): self._tensor(s.param, s.kind, s.size) for s in session.segments}

    def _depthwise(self, param: int) -> bool:
        return self._nodes[param].kind is Op.DWCONV2D

    def _rows(self, param: int, weights: np.ndarray) -> np.ndarray:
        """Weights as [channels, weights of a channel]."""
        co = self.states[param].co
        return weights.reshape(-1, co).T if self._depthwise(param) else weights.reshape(co, -1)

    def _input_scale(self, param: int) -> float:
        return self.graph.tensors[self._nodes[param].source(param)].scale

    def _alive(self, state: ParamState) -> np.ndarray:
        """1 for each channel that trains, [channels, 1]."""
        return np.ones((state.co, 1)) if state.dead is None else (state.dead == 0)[:, None].astype(np.float64)

    def _tensor(self, param: int, kind: str, size: int) -> _Tensor:
        state, lr = self.states[param], 256.0 * self.options.lr
        scales = np.broadcast_to(state.scales.astype(np.float64), (state.co,))[:, None]
        if kind == "weight":
            norm = math.sqrt(sum_squares((self._rows(param, state.q) - float(state.q_zero)) * scales))
            return _Tensor(kind, size, norm, self._alive(state) * (lr * state.rate) / scales)
        units = scales * self._input_scale(param)  # of the bias
        return _Tensor(kind, size, math.sqrt(sum_squares(state.b[:, None] * units)), lr / units)

    def run(self, x: np.ndarray, y: np.ndarray | None, order: np.ndarray) -> None:
        """Sum the gradients of batches of `order`; nothing moves."""
        opts = self.options
        targets = make_targets(self.graph, opts.loss, y, x)
        for at in range(0, len(order), opts.batch_size):
            pick = order[at : at + opts.batch_size]
            for begin in range(0, len(pick), opts.micro_batch):
                part = pick[begin : begin + opts.micro_batch]
                wanted = targets.pick(part)
                self._engine.train(x[part], wanted, lr=opts.lr, batch=len(pick), cap=opts.cap, last=False)
            for param in self.trained:
                self._collect(param, len(pick))

    def _collect(self, param: int, samples: int) -> None:
        """Take one batch's sums, A * 2^k, and clear them."""
        state, exponent = self.states[param], self._engine.take_sums(param)
        assert state.acc_b is not None
        unit = 0.0 if exponent is None else math.ldexp(1.0 / samples, exponent)
        alive = self._alive(state)
        if (bias := self.tensors.get((param, "bias"))) is not None:
            bias.add(state.acc_b[:, None] * unit * alive, samples)
        state.acc_b[:] = 0
        if state.acc_w is not None:
            weights = self.tensors[param, "weight"]
            weights.add(self._rows(param, state.acc_w) * (unit * self._input_scale(param)) * alive, samples)
            state.acc_w[:] = 0

    def results(self, step_cap: float) -> list[TensorGradient]:
        """Sum up, with the step cap as the weights of each operator meet it."""
        found, capped = list[TensorGradient](), dict[int, float]()
        for (param, kind), tensor in self.tensors.items():
            state, limit = self.states[param], math.inf
            if kind == "weight":
                limit = step_cap * 256.0 * math.sqrt(sum_squares(state.q - float(state.q_zero)))
            result = tensor.result(param, limit, self.options.lr * (state.rate if kind == "weight" else 1.0))
            if kind == "weight":
                capped[param] = result.capped
            elif capped.get(param, 1.0) < 1.0:  # the bias step is shifted as that of the weights
                factor = capped[param]
                result = replace(result, capped=factor, decrease=result.decrease * factor)
            found.append(result)
        return found


def measure_gradients(session: Session, batch: Batch, *, batches: int = BATCHES) -> list[TensorGradient]:
    """Look at the gradients of a few batches, drawn as the first epoch draws them.

    Parameters
    ----------
    session : Session
        What would train, and how; nothing of it changes.
    batch : Batch
        Samples and targets as for `Session.fit`.
    batches : int
        Batches looked at, at most.

    Returns
    -------
    list of TensorGradient
        In the order of session.segments.
    """
    opts = session.options
    x = check_input(session.graph, batch.x)
    y = check_target(session.graph, opts.loss, batch.y, len(x), n_anchors=opts.n_anchors)
    order = shuffled(len(x), opts.seed, opts.round_, 0)[: batches * opts.batch_size]
    probe = _Probe(session)
    probe.run(x, y, order)
    return probe.results(1 / math.sqrt(opts.cap))
