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

from edgefl.errors import DataError, UsageError

MAX_BATCH = 65536
MAX_RATE = 1e4
LOSSES = ("softmax_ce",)
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
    residuals: bool


def check_options(
    *,
    lr: float,
    batch_size: int,
    micro_batch: int | None,
    loss: str,
    seed: int,
    round_: int,
    step_cap: float,
    class_weights: Sequence[float] | np.ndarray | None,
    shadow: str,
    classes: int,
) -> Options:
    """Check every hyper-parameter.

    Parameters
    ----------
    lr : rate in real units, above 0.
    batch_size : samples of a step, 1..65536.
    micro_batch : samples of one pass, 1..batch_size; None: batch_size.
    loss : "softmax_ce".
    seed, round_ : 0..2^64-1.
    step_cap : largest ratio of a step's norm to the weights' norm, 0.00001..1.
    class_weights : one factor for each class, 0..1e6, not all 0; None: all 1.
    shadow : "residual" or "none".
    classes : outputs of the model.
    """
    if not _is_number(lr) or not math.isfinite(lr) or not 0 < lr <= MAX_RATE:
        raise UsageError(f"lr is {lr!r}, it must be a number above 0 and at most {MAX_RATE:g}")
    check_whole("batch_size", batch_size, 1, MAX_BATCH)
    if micro_batch is None:
        micro_batch = batch_size
    check_whole("micro_batch", micro_batch, 1, batch_size)
    if loss not in LOSSES:
        raise UsageError(f"loss is {loss!r:.40}", hint=f"this version trains with {', '.join(LOSSES)}")
    if shadow not in SHADOWS:
        raise UsageError(f"shadow is {shadow!r:.40}", hint='use "residual" or "none"')
    check_whole("seed", seed, 0, 2**64 - 1)
    check_whole("round", round_, 0, 2**64 - 1)
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
        class_weights=_check_weights(class_weights, classes),
        residuals=shadow == "residual",
    )


def check_labels(y: np.ndarray, n: int, classes: int) -> np.ndarray:
    """Return labels as contiguous int32 [n], each in 0..classes-1."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        kind = getattr(y, "dtype", type(y).__name__)
        raise DataError(f"y is {kind}, softmax_ce takes integer class labels")
    if y.shape != (n,):
        raise DataError(f"y has shape {y.shape}, {n} samples need {n} labels")
    if n and (int(y.min()) < 0 or int(y.max()) >= classes):
        bad = int(y.min()) if int(y.min()) < 0 else int(y.max())
        raise DataError(f"label {bad} is out of range", hint=f"this model has classes 0..{classes - 1}")
    return np.ascontiguousarray(y, np.int32)


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Refuse anything but a whole number in least..most."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise UsageError(f"{name} is {value!r:.40}, it must be a whole number in {least}..{most}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _check_weights(weights: Sequence[float] | np.ndarray | None, classes: int) -> np.ndarray | None:
    if weights is None:
        return None
    try:
        values = np.array(weights, np.float32)
    except (TypeError, ValueError):
        raise UsageError("class_weights must be numbers, one for each class") from None
    if values.shape != (classes,):
        raise UsageError(f"{values.size} class_weights for {classes} classes: one for each is needed")
    if not np.isfinite(values).all() or (values < 0).any() or (values > 1e6).any() or not values.any():
        raise UsageError("class_weights must lie in 0..1000000 and not all be 0")
    return values
