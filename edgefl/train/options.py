# SPDX-License-Identifier: Apache-2.0
"""Checked hyper-parameters of a training run.

In: numbers from a task, a command line or a caller.  Out: Options.  Refuses what is out of range in one line,
with the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefl.errors import UsageError
from edgefl.model.graph import Graph
from edgefl.model.loss import check_anchors, check_weights, find_loss
from edgefl.native.engine import THREADS_MAX

MAX_BATCH = 65536
MAX_RATE = 1e4
SHADOWS = ("residual", "none")


@dataclass(frozen=True)
class Options:
    """See `check_options`; cap is K = round(1 / step_cap^2)."""

    lr: float
    batch_size: int
    micro_batch: int
    loss: str
    seed: int
    round_: int
    cap: int
    class_weights: np.ndarray | None
    anchors: np.ndarray | None
    residuals: bool
    threads: int

    @property
    def n_anchors(self) -> int:
        """Anchors of a cell."""
        return 1 if self.anchors is None else int(self.anchors.shape[1])


def check_options(
    graph: Graph,
    *,
    lr: float,
    batch_size: int,
    micro_batch: int | None,
    loss: str,
    seed: int,
    round_: int,
    step_cap: float,
    class_weights: Sequence[float] | np.ndarray | None,
    anchors: Any,
    shadow: str,
    threads: int = 1,
) -> Options:
    """Check every hyper-parameter.

    Parameters
    ----------
    lr : rate in real units, above 0.
    batch_size : samples of a step, 1..65536.
    micro_batch : samples of one pass, 1..batch_size; None: batch_size.
    loss : a name of edgefl.model.loss.LOSSES.
    seed, round_ : 0..2^64-1.
    step_cap : largest ratio of a step's norm to the weights' norm, 0.00001..1.
    class_weights : one factor for each class, 0..1e6, not all 0; None: all 1.
    anchors : of a grid loss, see edgefl.model.loss.check_anchors.
    shadow : "residual" or "none".
    threads : 1..16; they change the time only, never the result.
    """
    if not _is_number(lr) or not math.isfinite(lr) or not 0 < lr <= MAX_RATE:
        raise UsageError(f"lr is {lr!r}, it must be a number above 0 and at most {MAX_RATE:g}")
    check_whole("batch_size", batch_size, 1, MAX_BATCH)
    if micro_batch is None:
        micro_batch = batch_size
    check_whole("micro_batch", micro_batch, 1, batch_size)
    find_loss(loss)
    if shadow not in SHADOWS:
        raise UsageError(f"shadow is {shadow!r:.40}", hint='use "residual" or "none"')
    check_whole("seed", seed, 0, 2**64 - 1)
    check_whole("round", round_, 0, 2**64 - 1)
    check_whole("threads", threads, 1, THREADS_MAX)
    if not _is_number(step_cap) or not 1e-5 <= step_cap <= 1:
        raise UsageError(f"step_cap is {step_cap!r}, it must lie in 0.00001..1")
    return Options(
        lr=float(lr),
        batch_size=int(batch_size),
        micro_batch=int(micro_batch),
        loss=loss,
        seed=int(seed),
        round_=int(round_),
        cap=round(1 / float(step_cap) ** 2),
        class_weights=check_weights(graph, loss, class_weights),
        anchors=check_anchors(graph, loss, anchors),
        residuals=shadow == "residual",
        threads=int(threads),
    )


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Refuse anything but a whole number in least..most."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise UsageError(f"{name} is {value!r:.40}, it must be a whole number in {least}..{most}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
