# SPDX-License-Identifier: Apache-2.0
"""Losses of the C core (csrc/nn/loss*.c): what a plan drives down, and the targets of a call.

In: kinds, heads and NumPy arrays.  Out: the structs that edgefl/native/engine.py hands over.  Refuses arrays
of another dtype, size or layout.  Invariant: the C core never reads beyond an array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefl.native._core import ffi, lib

SOFTMAX_CE: int = lib.EFL_LOSS_SOFTMAX_CE
BCE: int = lib.EFL_LOSS_BCE
MSE: int = lib.EFL_LOSS_MSE
KL: int = lib.EFL_LOSS_KL
GRID: int = lib.EFL_LOSS_GRID
BOXES_MAX: int = lib.EFL_BOXES_MAX


@dataclass(frozen=True)
class HeadSpec:
    """A tensor that the loss looks at, [h,w,c], its scale, and the edge where its error goes (-1: none)."""

    tensor: int
    edge: int
    shape: tuple[int, int, int]
    scale: float


@dataclass(frozen=True)
class LossSpec:
    """A loss: its kind, factors float32 [c] of classes, anchors float32 [heads, anchors, 2] of a grid."""

    kind: int
    weights: npt.NDArray[np.float32] | None = None
    anchors: npt.NDArray[np.float32] | None = None
    heads: tuple[HeadSpec, ...] = ()


@dataclass(frozen=True)
class Targets:
    """What the outputs of n samples should be: one of the arrays, its first axis counts samples.

    labels int32 [n]; values float32 [n, outputs], boxes [n, b, 5] for a grid; stored int8 [n, outputs], real
    value scale * (stored - zero).
    """

    labels: npt.NDArray[np.int32] | None = None
    values: npt.NDArray[np.float32] | None = None
    stored: npt.NDArray[np.int8] | None = None
    scale: float = 1.0
    zero: int = 0

    def pick(self, rows: npt.NDArray[Any]) -> Targets:
        """Targets of some of the samples."""
        labels, values, stored = (
            None if a is None else a[rows] for a in (self.labels, self.values, self.stored)
        )
        return Targets(labels, values, stored, self.scale, self.zero)


@dataclass
class Outcome:
    """What the model gave before a step, summed over samples: loss, and hits of so many answers (terms)."""

    loss: float = 0.0
    hits: int = 0
    terms: int = 0
    samples: int = 0

    def add(self, other: Outcome) -> None:
        """Take in another one."""
        self.loss += other.loss
        self.hits += other.hits
        self.terms += other.terms
        self.samples += other.samples

    @property
    def mean(self) -> float:
        """Loss of a sample."""
        return self.loss / self.samples

    @property
    def share(self) -> float:
        """Hits of all answers; 0 where the loss has none."""
        return self.hits / self.terms if self.terms else 0.0


def loss_struct(spec: LossSpec, make: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Fields of efl_loss; `make` allocates C memory that stays alive."""
    heads, channels = [], {head.shape[2] for head in spec.heads}
    for head in spec.heads:
        table = make("uint32_t[]", 256)
        lib.efl_softmax_tables(ffi.NULL, table, head.scale, 1.0)
        h, w, c = head.shape
        heads.append({"tensor": head.tensor, "edge": head.edge, "h": h, "w": w, "c": c, "table": table})
    weights = anchors = ffi.NULL
    n_anchors = 0
    if spec.weights is not None:
        if {spec.weights.size} != channels:
            raise ValueError(f"{spec.weights.size} weights for heads of {channels} channels")
        weights = make("float[]", spec.weights.tolist())
    if spec.anchors is not None:
        if spec.anchors.ndim != 3 or spec.anchors.shape[::2] != (len(spec.heads), 2):
            raise ValueError("anchors must be [heads, anchors, 2]")
        n_anchors = spec.anchors.shape[1]
        anchors = make("float[]", spec.anchors.reshape(-1).tolist())
    return {
        "kind": spec.kind,
        "n_heads": len(heads),
        "heads": make("efl_head[]", heads),
        "weights": weights,
        "anchors": anchors,
        "n_anchors": n_anchors,
    }


def target_struct(spec: LossSpec, targets: Targets, n: int) -> Any:
    """Struct efl_target of n samples; it borrows the arrays."""
    outputs = sum(head.shape[0] * head.shape[1] * head.shape[2] for head in spec.heads)
    fields: dict[str, Any] = {"scale": targets.scale, "zero": targets.zero}
    if spec.kind == SOFTMAX_CE:
        fields["labels"] = _borrow("int32_t[]", targets.labels, np.int32, n)
    elif spec.kind == GRID:
        boxes = 0 if targets.values is None else targets.values.size // (5 * n)
        fields["values"] = _borrow("float[]", targets.values, np.float32, 5 * boxes * n)
        fields["n_boxes"] = boxes
    elif targets.stored is not None:
        fields["stored"] = _borrow("int8_t[]", targets.stored, np.int8, n * outputs)
    else:
        fields["values"] = _borrow("float[]", targets.values, np.float32, n * outputs)
    return ffi.new("efl_target *", fields)


def _borrow(kind: str, array: npt.NDArray[Any] | None, dtype: Any, size: int) -> Any:
    if array is None or array.dtype != dtype or not array.flags.c_contiguous or array.size != size:
        raise ValueError(f"a target must be contiguous {np.dtype(dtype)} of {size} elements")
    return ffi.from_buffer(kind, array)
