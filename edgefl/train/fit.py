# SPDX-License-Identifier: Apache-2.0
"""Training a model on one device: the loop over epochs, batches and micro-batches, and its RawDelta.

In: Graph, layers, hyper-parameters, Batch.  Out: FitReport, RawDelta, trained parameters.  Refuses bad
numbers and targets in one line.  Invariant: the Graph is never changed (training works on copies), and the
same inputs give the same bits on every machine.  Source: docs/training.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgefl.errors import DataError, UsageError
from edgefl.model.forward import Forward, check_input, exponents_of, input_rms
from edgefl.model.graph import Graph
from edgefl.model.loss import check_target, find_loss, loss_heads, make_targets
from edgefl.model.plan import Planner
from edgefl.model.stream import rounding_keys, shuffled, start_residuals
from edgefl.model.vector import MAX_EXPONENT, MIN_EXPONENT, Segment, rne_shift, select_segments, vector_size
from edgefl.native.engine import Engine
from edgefl.native.loss import LossSpec, Outcome, Targets
from edgefl.train.options import check_options, check_whole
from edgefl.train.report import FitReport, LayerReport, layer_reports
from edgefl.train.state import own_arrays, training_state
from edgefl.train.undo import Undo
from edgefl.types import Batch, RawDelta

CALIBRATION_SAMPLES = 256
MAX_COUNT = 10**9


@dataclass(frozen=True)
class Step:
    """One finished step: its number from 1, the steps planned, loss and accuracy of its batch before it.

    accuracy is the share that `Session.metric` names; 0 where the loss has none.
    """

    number: int
    planned: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Memory:
    """Bytes that a session holds, apart from the interpreter and the model file.

    packed: a second form of the weights that do not train, for the forward pass.
    """

    arena: int
    scratch: int
    packed: int
    state: int


class Session:
    """One device's training of one round.

    Parameters
    ----------
    graph : Graph
        The model as received; never changed.
    layers : str
        "head", "bias+head", "last:K" or "all".
    lr : float
        Rate in real units.
    batch_size, micro_batch : int
        Samples of a step, and of one pass (default: the batch; a smaller one takes less memory).
    loss : str
        "softmax_ce", "bce", "mse", "kl" or "grid" (docs/training.md, "Losses").
    seed, round : int
        Decide start residuals and shuffles.
    step_cap : float
        Largest norm of a step relative to the norm of the tensor's weights.
    class_weights : sequence of float, optional
        Factor of the loss for each class (softmax_ce) or output channel (bce).
    anchors : sequence of (width, height), optional
        Of a grid loss, in 0..1 of the image; with several outputs as many for each.
    shadow : str
        "residual" (weights keep 8 more bits while training) or "none" (stochastic rounding).
    bias_exponents : sequence of int, optional
        j of each segment of the trainable vector; default: from the first 256 samples of the first fit.
    truncate : int, optional
        Time steps that the errors of an LSTM go back; default: all.
    threads : int
        Cores to use; the result is the same with any number.
    memory_budget : int, optional
        Bytes that all may take together: weights that do not train are then packed beforehand only as far as
        they fit, the others at each call. It changes the time only; `check_budget` says whether all fits.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        layers: str = "bias+head",
        lr: float = 0.01,
        batch_size: int = 32,
        loss: str = "softmax_ce",
        seed: int = 0,
        step_cap: float = 0.003,
        class_weights: Sequence[float] | np.ndarray | None = None,
        micro_batch: int | None = None,
        shadow: str = "residual",
        round: int = 0,
        bias_exponents: Sequence[int] | None = None,
        anchors: Sequence[Sequence[float]] | np.ndarray | None = None,
        truncate: int | None = None,
        threads: int = 1,
        memory_budget: int | None = None,
    ) -> None:
        self.graph = graph
        self.options = check_options(
            graph,
            lr=lr,
            batch_size=batch_size,
            micro_batch=micro_batch,
            loss=loss,
            seed=seed,
            round_=round,
            step_cap=step_cap,
            class_weights=class_weights,
            anchors=anchors,
            shadow=shadow,
            threads=threads,
        )
        heads = loss_heads(graph, loss)
        self.segments = select_segments(graph, layers, heads)
        self.exponents = None if bias_exponents is None else _check_exponents(bias_exponents, self.segments)
        self._trained = sorted({s.param for s in self.segments})
        self._states = training_state(
            graph,
            self.segments,
            seed=self.options.seed,
            round_=self.options.round_,
            residuals=self.options.residuals,
            batch_size=self.options.batch_size,
            micro_batch=self.options.micro_batch,
        )
        if truncate is not None:
            check_whole("truncate", truncate, 1, MAX_COUNT)
        trained = {i: self._states[i].train_w for i in self._trained}
        self.plan = planner = Planner(graph, trained, heads, truncate)
        spec = LossSpec(find_loss(loss).kind, self.options.class_weights, self.options.anchors)
        plan = planner.spec(self._states, self.options.micro_batch, spec)
        most = None if memory_budget is None else memory_budget - self._state_bytes()
        self._engine = Engine(replace(plan, threads=self.options.threads, most_bytes=most))
        self._steps = self._epochs = self._samples = 0
        self._undo: tuple[Undo, list[int] | None, int, int, int] | None = None  # while a fit runs
        self._in_callback = False

    @property
    def size(self) -> int:
        """Coordinates of the trainable vector."""
        return vector_size(self.segments)

    def dead_channels(self, param: int) -> int:
        """Channels of a trained parameter that stay frozen because they are dead."""
        dead = self._states[param].dead
        return 0 if dead is None else int(dead.sum())

    @property
    def memory(self) -> Memory:
        """Bytes held by this session."""
        engine = self._engine
        return Memory(engine.arena.nbytes, engine.scratch.nbytes, engine.packed.nbytes, self._state_bytes())

    def _state_bytes(self) -> int:
        return sum(a.nbytes for i in self._trained for a in own_arrays(self._states[i]))

    def fit(
        self,
        batch: Batch,
        *,
        epochs: int = 1,
        max_steps: int | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> FitReport:
        """Train on all samples, shuffled anew in each epoch.

        Parameters
        ----------
        batch : Batch
            x int8 [n, ...] in the model's input quantisation, y as edgefl.model.loss.check_target takes it.
        epochs : int
            Passes over the samples.
        max_steps : int, optional
            Stop after so many steps.
        on_step : callable, optional
            Called after each step.

        Returns
        -------
        FitReport
            Loss and accuracy of each epoch, and what the step cap did.

        Notes
        -----
        Whatever ends a fit early (a signal's KeyboardInterrupt, an exception of `on_step`), even twice in a
        row, leaves the session as it was before the call.
        """
        if self._in_callback:
            raise UsageError("fit was called by the on_step of a fit")
        self._settle()
        x = check_input(self.graph, batch.x)
        targets = self._targets(batch.y, x)
        check_whole("epochs", epochs, 1, MAX_COUNT)
        if max_steps is not None:
            check_whole("max_steps", max_steps, 1, MAX_COUNT)
        planned = epochs * -(-len(x) // self.options.batch_size)
        planned = planned if max_steps is None else min(planned, max_steps)
        self._undo = (self._checkpoint(), self.exponents, self._steps, self._epochs, self._samples)
        try:
            report = self._train(x, targets, planned, on_step)
        except BaseException:
            self._in_callback = False
            self._settle()
            raise
        self._undo = None  # from here on the fit counts
        return report

    def _checkpoint(self) -> Undo:
        """Remember where a fit begins."""
        start = self._start_residuals if self._steps == 0 else None
        return Undo(self.graph, self.segments, self._states, self._engine, start)

    def _start_residuals(self) -> np.ndarray | None:
        opts = self.options
        return start_residuals(self.size, opts.seed, opts.round_) if opts.residuals else None

    def _settle(self) -> None:
        """Undo a fit that was interrupted, if its own attempt to do so was interrupted too."""
        if self._undo is not None and not self._in_callback:
            undo, exponents, steps, epochs, samples = self._undo
            undo.restore()
            self.exponents, self._steps, self._epochs, self._samples = exponents, steps, epochs, samples
            self._undo = None

    def _train(
        self,
        x: np.ndarray,
        targets: Targets,
        planned: int,
        on_step: Callable[[Step], None] | None,
    ) -> FitReport:
        """Train `planned` steps."""
        if self.exponents is None:
            self.exponents = exponents_of(self.segments, self._input_rms(x[:CALIBRATION_SAMPLES]))
        self._samples = max(self._samples, len(x))
        size = self.options.batch_size
        done, history = 0, list[tuple[float, float]]()
        while done < planned:
            order = shuffled(len(x), self.options.seed, self.options.round_, self._epochs)
            epoch = Outcome()
            for at in range(0, len(x), size):
                if done == planned:
                    break
                seen = self._step(x, targets, order[at : at + size])
                epoch.add(seen)
                done += 1
                if on_step:
                    self._in_callback = True
                    on_step(Step(done, planned, seen.mean, seen.share))
                    self._in_callback = False
            self._epochs += 1
            history.append((epoch.mean, epoch.share))
        layers = layer_reports(self.graph, self._states, self._engine)
        return FitReport(done, len(x), history, layers, self.metric)

    def _input_rms(self, x: np.ndarray) -> list[float]:
        """Measure the inputs of all operators in the session's own arena, before anything has moved."""
        return input_rms(self.graph, self._engine, self.plan.nodes, x, self.options.micro_batch)

    @property
    def metric(self) -> str:
        """What the share of hits is called that reports give as accuracy; "" if the loss has none."""
        return find_loss(self.options.loss).metric

    def _targets(self, y: np.ndarray | None, x: np.ndarray) -> Targets:
        opts = self.options
        checked = check_target(self.graph, opts.loss, y, len(x), n_anchors=opts.n_anchors)
        return make_targets(self.graph, opts.loss, checked, x)

    def _step(self, x: np.ndarray, targets: Targets, pick: np.ndarray) -> Outcome:
        """Train on one batch; return what the model gave before the step."""
        opts, seen = self.options, Outcome()
        if not opts.residuals:
            self._roll_keys()
        for at in range(0, len(pick), opts.micro_batch):
            part = pick[at : at + opts.micro_batch]
            last = at + opts.micro_batch >= len(pick)
            wanted = targets.pick(part)
            seen.add(
                self._engine.train(x[part], wanted, lr=opts.lr, batch=len(pick), cap=opts.cap, last=last)
            )
        self._steps += 1
        return seen

    def _roll_keys(self) -> None:
        """Set new keys for stochastic rounding."""
        for index in self._trained:
            keys = self._states[index].keys
            if keys is not None:
                made = rounding_keys(self.options.seed, self.options.round_, self._steps, index)
                keys[:] = np.frombuffer(made, np.uint8)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run the model as trained so far: int8 [n, outputs]."""
        self._settle()
        return Forward(self.graph, self._states).run(x)

    def layers(self) -> list[LayerReport]:
        """Return what happened to each trained operator."""
        self._settle()
        return layer_reports(self.graph, self._states, self._engine)

    def delta(self) -> RawDelta:
        """Trained minus received, in the units of the trainable vector.

        Returns
        -------
        RawDelta
            A weight coordinate in 1/256 LSB: 256*(q1 - q0) + r1 - r0. A bias coordinate in 2^j LSBs.
        """
        self._settle()
        if self.exponents is None:
            raise DataError(
                "there is no delta before the first fit", hint="bias exponents come from its samples"
            )
        values = np.empty(self.size, np.int32)
        limit = np.iinfo(np.int32)
        r0 = self._start_residuals()
        for segment, j in zip(self.segments, self.exponents, strict=True):
            state, param = self._states[segment.param], self.graph.params[segment.param]
            if segment.kind == "weight":
                change = 256 * (state.q.astype(np.int64) - param.q.reshape(-1))
                if state.r is not None and r0 is not None:
                    change += state.r.astype(np.int64) - r0[segment.offset : segment.stop]
            else:
                change = 256 * (state.b.astype(np.int64) - param.b)
                if state.rb is not None:
                    change += state.rb
                change = rne_shift(change, j + 8) if j + 8 >= 0 else change << -(j + 8)
            values[segment.offset : segment.stop] = np.clip(change, limit.min, limit.max)
        return RawDelta(values=values, samples=self._samples)

    def params(self) -> list[tuple[Segment, np.ndarray]]:
        """Trained tensors for writing back: each segment with q (int8, the weight's shape) or b (int32)."""
        self._settle()
        out: list[tuple[Segment, np.ndarray]] = []
        for segment in self.segments:
            state, param = self._states[segment.param], self.graph.params[segment.param]
            value = state.q.reshape(param.q.shape) if segment.kind == "weight" else state.b
            out.append((segment, value.copy()))
        return out

    def trained_sha256(self) -> str:
        """Conformance hash: all q then all r of each weight tensor, b (int32 LE) then rb of each bias."""
        self._settle()
        digest = hashlib.sha256()
        for segment in self.segments:
            state = self._states[segment.param]
            value = state.q if segment.kind == "weight" else state.b.astype("<i4")
            residual = state.r if segment.kind == "weight" else state.rb
            digest.update(value.tobytes())
            digest.update(bytes(segment.size) if residual is None else residual.tobytes())
        return digest.hexdigest()


def _check_exponents(exponents: Sequence[int], segments: Sequence[Segment]) -> list[int]:
    if len(exponents) != len(segments):
        raise DataError(
            f"{len(exponents)} bias exponents for {len(segments)} segments: one for each is needed"
        )
    for j, segment in zip(exponents, segments, strict=True):
        if segment.kind == "bias" and not MIN_EXPONENT <= j <= MAX_EXPONENT:
            raise DataError(f"bias exponent {j} is outside {MIN_EXPONENT}..{MAX_EXPONENT}")
    return list(exponents)
