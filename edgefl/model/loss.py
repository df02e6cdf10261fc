# SPDX-License-Identifier: Apache-2.0
"""Losses by name: which tensors each looks at, which targets it takes, what its hits are called.

In: Graph, name, targets from a caller.  Out: heads; checked arrays; Targets for the C core.  Refuses models
that a loss cannot train and targets of another form, in one line.  Invariant: what `check_target` returns it
also accepts, and the C core never refuses it.  Formulas: docs/training.md, "Losses".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefl.errors import DataError, ModelError, UsageError
from edgefl.model.detail import Table
from edgefl.model.graph import Graph, Op
from edgefl.native import loss as native
from edgefl.native.loss import Targets

TARGET_MAX = 1e9
SUM_SLACK = 1e-3


@dataclass(frozen=True)
class Loss:
    """One loss: its number in the C core, the name of its share of hits ("": none), whether classes weigh."""

    kind: int
    metric: str
    weighted: bool = False


LOSSES = {
    "softmax_ce": Loss(native.SOFTMAX_CE, "accuracy", weighted=True),
    "bce": Loss(native.BCE, "accuracy", weighted=True),
    "mse": Loss(native.MSE, ""),
    "kl": Loss(native.KL, "accuracy"),
    "grid": Loss(native.GRID, "found"),
}


def find_loss(name: str) -> Loss:
    """Look up a loss."""
    if name not in LOSSES:
        raise UsageError(f"loss is {name!r:.40}", hint=f"this version trains with {', '.join(LOSSES)}")
    return LOSSES[name]


def loss_heads(graph: Graph, name: str) -> tuple[int, ...]:
    """Tensors that a loss looks at.

    Parameters
    ----------
    graph : Graph
        The model.
    name : str
        One of LOSSES.

    Returns
    -------
    tuple of int
        "softmax_ce", "kl": the values before a final SOFTMAX. "bce": those before a final LOGISTIC. "mse":
        the target output. "grid": all outputs.

    Raises
    ------
    UsageError, ModelError
        An unknown loss; an output that the loss cannot train.
    """
    find_loss(name)
    if name in ("softmax_ce", "kl"):
        _check_row(graph, name)
        return (graph.logits,)
    heads = tuple(dict.fromkeys(p.tensor for p in graph.outputs)) if name == "grid" else (graph.output,)
    if name == "bce":
        heads = (_before_sigmoid(graph),)
    makers = {node.output: node for node in graph.nodes}
    for head in heads:
        if head not in makers:
            raise ModelError(f"an output is the model's input itself: {name} has nothing to train")
    if graph.logits != graph.output:
        raise ModelError(
            f"the model ends in a SOFTMAX, {name} needs outputs without one", hint="use softmax_ce"
        )
    return heads


def _before_sigmoid(graph: Graph) -> int:
    """Input of a final LOGISTIC (COPYs may follow it), else the target output."""
    makers = {node.output: node for node in graph.nodes}
    node = makers.get(graph.output)
    while node and node.kind is Op.COPY:
        node = makers.get(node.inputs[0])
    final = node is not None and isinstance(node.detail, Table) and node.detail.name == "LOGISTIC"
    return node.inputs[0] if node and final else graph.output


def _check_row(graph: Graph, name: str) -> None:
    """Refuse anything but one row of classes, with a plain SOFTMAX after it or none."""
    h, w, c = graph.tensors[graph.logits].shape
    if h * w != 1 or c < 2:
        raise ModelError(
            f"the model's output has {h}x{w}x{c} numbers a sample", hint=f"{name} needs one row of classes"
        )
    for node in graph.nodes:
        if node.kind is Op.SOFTMAX and node.inputs[0] == graph.logits and node.beta != 1.0:
            raise ModelError(
                f"operator {node.index} (SOFTMAX) has beta {node.beta:g}", hint="training needs 1"
            )


def check_anchors(graph: Graph, name: str, anchors: Any) -> np.ndarray | None:
    """Anchor boxes of a grid loss as float32 [heads, anchors, 2]; None for other losses.

    Parameters
    ----------
    graph : Graph
        The model.
    name : str
        The loss.
    anchors : sequence of (width, height), or one such sequence for each output
        In 0..1 of the image; a single sequence is dealt out to the outputs in their order. None: one anchor,
        the whole image.
    """
    if name != "grid":
        if anchors is not None:
            raise UsageError(f"anchors belong to the grid loss, not to {name}")
        return None
    heads = [graph.tensors[t].shape for t in loss_heads(graph, name)]
    try:
        values = np.ones((len(heads), 1, 2), "f4") if anchors is None else np.array(anchors, np.float32)
    except (TypeError, ValueError):
        raise UsageError("anchors must be pairs of numbers, as many for each output") from None
    if values.ndim == 2 and values.shape[1] == 2 and len(values) % len(heads) == 0:
        values = values.reshape(len(heads), -1, 2)
    if values.ndim != 3 or values.shape[::2] != (len(heads), 2) or not values.shape[1]:
        raise UsageError(f"anchors have shape {list(values.shape)}, [{len(heads)}, anchors, 2] is needed")
    if not ((values > 1e-6) & (values <= 1)).all():
        raise UsageError("anchors must lie in 0..1 of the image and be above 0")
    depths = {c for _, _, c in heads}
    if len(depths) != 1 or depths.pop() % values.shape[1] or heads[0][2] // values.shape[1] < 5:
        found = ", ".join("x".join(map(str, shape)) for shape in heads)
        raise ModelError(
            f"the outputs are {found}", hint=f"{values.shape[1]} anchors need (5 + classes) channels each"
        )
    return np.ascontiguousarray(values)


def check_target(
    graph: Graph, name: str, y: np.ndarray | None, n: int, *, n_anchors: int = 1
) -> np.ndarray | None:
    """Check what the outputs of n samples should be.

    Parameters
    ----------
    graph : Graph
        The model.
    name : str
        The loss.
    y : ndarray or None
        "softmax_ce": integer classes [n]. "bce": 0..1 for each output [n, ...]. "kl": probabilities [n,
        classes]. "mse": float values [n, ...], or int8 as the output stores them; None: the input itself.
        "grid": [n, boxes, 5], rows of (class, cx, cy, w, h), the last four in 0..1 of the image, class -1
        where there is no box.
    n : int
        Samples.
    n_anchors : int
        Anchors of a cell, for "grid".

    Returns
    -------
    ndarray or None
        int64 [n] (softmax_ce), int8 or float32 with the shape [n, outputs] ([n, boxes, 5] for grid), or None.

    Raises
    ------
    DataError
        What is wrong, with the limit.
    """
    if name == "mse" and y is None:
        _check_own_input(graph)
        return None
    if y is None:
        raise DataError(f"there is no y, {name} needs it for each sample")
    if not isinstance(y, np.ndarray):
        raise DataError(f"y is {type(y).__name__}, an array is needed")
    if name == "softmax_ce":
        return _check_labels(y, n, graph.tensors[graph.logits].size)
    if name == "grid":
        return _check_boxes(graph, y, n, n_anchors)
    outputs = graph.tensors[loss_heads(graph, name)[0]].size
    kinds = {"mse": "f", "kl": "f", "bce": "fbiu"}[name]
    if y.dtype.kind not in kinds and not (name == "mse" and y.dtype == np.int8):
        wanted = {"mse": "float values or the output's own int8", "kl": "float probabilities"}
        raise DataError(f"y is {y.dtype}, {name} takes {wanted.get(name, 'numbers in 0..1')}")
    if y.ndim < 1 or len(y) != n or y.size != n * outputs:
        raise DataError(
            f"y has shape {list(y.shape)}, {n} samples with {outputs} outputs need [{n}, {outputs}]"
        )
    y = y.reshape(n, outputs)
    if y.dtype == np.int8 and name == "mse":
        return np.ascontiguousarray(y)
    low, high = (-TARGET_MAX, TARGET_MAX) if name == "mse" else (0.0, 1.0)
    if not ((y >= low) & (y <= high)).all():  # NaN too
        raise DataError(f"y holds values outside {low:g}..{high:g}, or NaN")
    if name == "kl" and (np.abs(y.sum(axis=1, dtype=np.float64) - 1) > SUM_SLACK).any():
        raise DataError("the probabilities of a sample in y must add up to 1")
    return np.ascontiguousarray(y, np.float32)


def make_targets(graph: Graph, name: str, y: np.ndarray | None, x: np.ndarray) -> Targets:
    """Wrap what `check_target` returned for the C core; x int8 [n, size] is the target where y is None."""
    if name == "softmax_ce" and y is not None:
        return Targets(labels=np.ascontiguousarray(y, np.int32))
    if y is None or y.dtype == np.int8:
        t = graph.tensors[graph.input if y is None else graph.output]
        return Targets(stored=x if y is None else y, scale=t.scale, zero=t.zero)
    return Targets(values=y)


def _check_own_input(graph: Graph) -> None:
    """Refuse a model whose input cannot be its target."""
    if len(graph.inputs) > 1 or graph.tensors[graph.input].size != graph.tensors[graph.output].size:
        raise DataError(
            "there is no y, and the model's output has not the size of its input",
            hint="only an autoencoder is its own target",
        )


def _check_labels(y: np.ndarray, n: int, classes: int) -> np.ndarray:
    if y.dtype.kind not in "iu":
        raise DataError(f"y is {y.dtype}, integer class labels are needed")
    if y.ndim != 1:
        raise DataError(f"y has shape {list(y.shape)}, one label for each sample is needed: [n]")
    if len(y) != n:
        raise DataError(f"x has {n} samples and y {len(y)} labels; one label for each is needed")
    if y.size and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise DataError(
            f"y holds labels {int(y.min())}..{int(y.max())}, this model has classes 0..{classes - 1}"
        )
    return y.astype(np.int64)


def _check_boxes(graph: Graph, y: np.ndarray, n: int, n_anchors: int) -> np.ndarray:
    classes = graph.tensors[graph.output].shape[2] // n_anchors - 5
    if y.dtype.kind not in "fiu" or y.ndim != 3 or len(y) != n or y.shape[2] != 5:
        raise DataError(
            f"y is {y.dtype} {list(y.shape)}, grid takes [{n}, boxes, 5]: class, cx, cy, w, h in 0..1"
        )
    if not 1 <= y.shape[1] <= native.BOXES_MAX:
        raise DataError(f"y has room for {y.shape[1]} boxes a sample, 1..{native.BOXES_MAX} are possible")
    real = y[y[:, :, 0] >= 0]
    if np.isnan(y).any() or ((real[:, 0] % 1) != 0).any() or (real[:, 0] >= max(classes, 1)).any():
        raise DataError(
            f"y holds classes that are not whole numbers below {max(classes, 1)}", hint="-1: no box"
        )
    if not ((real[:, 1:] >= 0) & (real[:, 1:] <= 1)).all() or (real[:, 3:] < 1e-6).any():
        raise DataError("y holds boxes outside the image: cx, cy, w, h must lie in 0..1, w and h above 0")
    return np.ascontiguousarray(y, np.float32)


def check_weights(graph: Graph, name: str, weights: Sequence[float] | np.ndarray | None) -> np.ndarray | None:
    """Factors of the loss for each class (softmax_ce) or output channel (bce), float32; None: all 1."""
    if weights is None:
        return None
    if not find_loss(name).weighted:
        raise UsageError(f"class_weights do not go with {name}", hint="leave them out")
    classes = graph.tensors[loss_heads(graph, name)[0]].shape[2]
    try:
        values = np.array(weights, np.float32)
    except (TypeError, ValueError):
        raise UsageError("class_weights must be numbers, one for each class") from None
    if values.shape != (classes,):
        raise UsageError(f"{values.size} class_weights for {classes} classes: one for each is needed")
    if not np.isfinite(values).all() or (values < 0).any() or (values > 1e6).any() or not values.any():
        raise UsageError("class_weights must lie in 0..1000000 and not all be 0")
    return values
