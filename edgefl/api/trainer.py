# SPDX-License-Identifier: Apache-2.0
"""`edgefl.Trainer`: train chosen layers of a Model in int8, on this device.

In: Model and hyper-parameters, then samples with labels. Out: the model with new weights; the update as
integers. Refuses bad samples, labels and numbers in one line. Invariant: the same file, data, seed and
numbers give the same bits on every machine; the model changes only when a fit has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgefl.api.model import Model
from edgefl.data.batch import make_batch
from edgefl.errors import UsageError
from edgefl.model.quantise import Samples
from edgefl.model.write import write_segments
from edgefl.train.auto import check_budget, choose_layers
from edgefl.train.fit import Session, Step
from edgefl.train.report import FitReport
from edgefl.types import Batch


class Trainer:
    """Trains one model; further fits continue where the last one ended.

    Parameters
    ----------
    model : Model
        Gets the trained weights at the end of every fit.
    layers : str
        "head", "bias+head" (all biases and the head's weights), "last:K", "all" or "ops:4b,7" (operators of
        the file, b: the bias only), or "auto": chosen at the first fit, by what its samples say.
    lr : float
        Rate of plain SGD in real units, so it carries over from float training.
    batch_size : int
        Samples of one step.
    loss : str
        What training drives down. "softmax_ce": cross-entropy of classes, on the values before the model's
        SOFTMAX. "bce": each output on its own, yes or no. "mse": squared error in real units. "kl": the
        probabilities of a teacher. "grid": boxes of a detector, all outputs together.
    seed, round : int
        Decide start residuals and the order of samples; every device of a federated round uses the same.
    step_cap : float
        Largest norm of a step, relative to the norm of the tensor's weights.
    class_weights : sequence of float, optional
        Factor of the loss for each class ("softmax_ce") or output channel ("bce").
    micro_batch : int, optional
        Samples of one pass; fewer take less memory and give slightly other bits. Default: batch_size.
    shadow : str
        "residual": weights keep 8 more bits while training. "none": stochastic rounding, less memory.
    anchors : sequence of (width, height), optional
        For "grid", in 0..1 of the image, dealt out to the outputs in their order. Default: one, the whole
        image.
    threads : int
        Cores to use, 1..16; the result is the same with any number.
    memory_budget : int, optional
        Most bytes that training may hold, apart from the model file and the samples.
    truncate : int, optional
        Time steps that the errors of an LSTM go back. Default: all.

    Raises
    ------
    UsageError, ModelError
        A number out of range; a model or selection in which nothing trains.

    Examples
    --------
    >>> model = edgefl.Model.open("kws.tflite")
    >>> trainer = edgefl.Trainer(model, layers="last:2", lr=0.01)
    >>> report = trainer.fit(x, y, epochs=3)
    >>> model.save("kws-mine.tflite")
    """

    def __init__(
        self,
        model: Model,
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
        anchors: Sequence[Sequence[float]] | np.ndarray | None = None,
        memory_budget: int | None = None,
        threads: int = 1,
        truncate: int | None = None,
    ) -> None:
        """Check the numbers and set up the working copies of what trains."""
        if not isinstance(model, Model):
            raise UsageError(f"model is {type(model).__name__}", hint="give an edgefl.Model")
        self.model = model
        self._graph = model.graph
        self._budget = memory_budget
        self._options: dict[str, Any] = {
            "lr": lr,
            "batch_size": batch_size,
            "loss": loss,
            "seed": seed,
            "step_cap": step_cap,
            "class_weights": class_weights,
            "micro_batch": micro_batch,
            "shadow": shadow,
            "round": round,
            "anchors": anchors,
            "threads": threads,
            "truncate": truncate,
        }
        self._undecided = layers == "auto"
        self._begin(
            choose_layers(self._graph, None, memory_budget, **self._options).layers
            if self._undecided
            else layers
        )

    def _begin(self, layers: str) -> None:
        """Set up the working copies of what trains."""
        self._layers = layers
        self._session = Session(self._graph, layers=layers, memory_budget=self._budget, **self._options)
        check_budget(self._session, self._budget)

    @property
    def layers(self) -> str:
        """What trains, as `layers` takes it; with "auto" the final choice from the first fit on."""
        return self._layers

    @property
    def size(self) -> int:
        """Coordinates of the trainable vector: trained weights and biases."""
        return self._session.size

    @property
    def metric(self) -> str:
        """What the share of hits is called that reports give as accuracy; "" if the loss has none."""
        return self._session.metric

    def fit(
        self,
        x: Samples,
        y: np.ndarray | None = None,
        epochs: int = 1,
        *,
        max_steps: int | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> FitReport:
        """Train, then put the new weights into the model.

        Parameters
        ----------
        x : ndarray of shape (n, ...), or one for each input
            Float values, or the model's own input dtype, as in `Model.predict`.
        y : ndarray, optional
            "softmax_ce": the class of each sample, integers (n,). "bce": 0..1 for each output (n, ...).
            "kl": probabilities (n, classes). "mse": float values (n, ...), or int8 as the output stores them;
            None: the input itself, for autoencoders. "grid": (n, boxes, 5), rows of class, cx, cy, w, h, the
            last four in 0..1 of the image; class -1 where there is no box.
        epochs : int
            Passes over all samples, each in a new order.
        max_steps : int, optional
            Stop after so many steps.
        on_step : callable, optional
            Called after each step with its number, loss and accuracy. Whatever ends a fit early, Ctrl-C or
            an exception of on_step, leaves model and trainer as they were before the call.

        Returns
        -------
        FitReport
            Steps, (loss, accuracy) of each epoch, and what the step cap did to each layer.

        Raises
        ------
        DataError
            Bad samples or targets.
        """
        return self.fit_batch(self.prepare(x, y), epochs, max_steps=max_steps, on_step=on_step)

    def prepare(self, x: Samples, y: np.ndarray | None, release: Callable[[], None] = lambda: None) -> Batch:
        """Check and quantise samples for `fit_batch`, so that the caller need not keep them.

        Parameters
        ----------
        x, y
            As for `fit`.
        release : callable
            Called after every part of x that was read; x in a mapping can give its pages back then.
        """
        opts = self._session.options
        return make_batch(self._graph, x, y, opts.loss, opts.n_anchors, release)

    def fit_batch(
        self,
        batch: Batch,
        epochs: int = 1,
        *,
        max_steps: int | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> FitReport:
        """Do what `fit` does, with samples that `prepare` gave."""
        if self._undecided:
            self._begin(choose_layers(self._graph, batch, self._budget, **self._options).layers)
        report = self._session.fit(batch, epochs=epochs, max_steps=max_steps, on_step=on_step)
        self._undecided = False
        params = self._session.params()
        targets = [(segment.param, segment.kind) for segment, _ in params]
        self.model.replace_weights(write_segments(self._graph, targets, [value for _, value in params]))
        return report

    def delta(self) -> np.ndarray:
        """Trained minus opened weights: what a device would mask and send.

        Returns
        -------
        ndarray of int32, shape (size,)
            In file order; a weight in 1/256 of its step, a bias in 2^j steps, j from the first 256 samples.

        Raises
        ------
        DataError
            Nothing was trained yet.
        """
        return self._session.delta().values

    def trained_sha256(self) -> str:
        """Hash of the trained weights with their fractions: equal on every machine for equal runs."""
        return self._session.trained_sha256()
