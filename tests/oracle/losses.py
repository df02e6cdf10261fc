# SPDX-License-Identifier: Apache-2.0
"""Independent losses in NumPy: float32 errors of int8 outputs, and the reported losses in float64.

In: int8 outputs of the loss's heads, their scale and zero point, targets. Out: E [n,h,w,c] of each head, the
mean loss of each sample. Source: docs/training.md, "Losses".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from oracle.numbers import F

FLOOR = 2.0**-25


@dataclass(frozen=True)
class Head:
    """Stored outputs int8 [n,h,w,c] of one head with their quantisation."""

    y: np.ndarray
    scale: float
    zero: int

    @property
    def l(self) -> np.ndarray:  # noqa: E743 (the formulas' own name)
        """Logits in LSBs."""
        return self.y.astype(np.int64) - self.zero


def exp_table(scale: float) -> np.ndarray:
    """exp(-d*scale) in 2^-24, d = 0..255, without libm."""
    table = []
    for d in range(256):
        t = float(d) * float(F(scale))
        n = int(t * 1.4426950408889634)
        r = t - n * 0.6931471805599453
        p = 1.0
        for i in range(13, 0, -1):
            p = 1.0 - r * p / i
        table.append(0 if n > 24 else int(np.rint(p * 2.0 ** (24 - n))))
    return np.array(table, np.int64)


def softmax(head: Head) -> np.ndarray:
    """Probabilities float32 [n,C]."""
    x = head.y.reshape(len(head.y), -1).astype(np.int64)
    q = exp_table(head.scale)[x.max(axis=1, keepdims=True) - x]
    return q.astype(F) / q.sum(axis=1, keepdims=True).astype(F)


def sigmoid(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """p and 1 - p, float32 [n,h,w,c]."""
    q = exp_table(head.scale)[np.abs(head.l)]
    large, small = F(1 << 24) / (q + (1 << 24)).astype(F), q.astype(F) / (q + (1 << 24)).astype(F)
    return np.where(head.l >= 0, large, small), np.where(head.l >= 0, small, large)


def softmax_ce(head: Head, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Cross-entropy with classes."""
    error = softmax(head)
    error[np.arange(len(labels)), labels] -= F(1)
    if weights is not None:
        error = error * weights.astype(F)[labels][:, None]
    return error.reshape(head.y.shape)


def kl(head: Head, target: np.ndarray) -> np.ndarray:
    """KL divergence to soft targets."""
    return (softmax(head) - target.astype(F)).reshape(head.y.shape)


def bce(head: Head, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Binary cross-entropy of each number."""
    error = sigmoid(head)[0] - target.astype(F).reshape(head.y.shape)
    if weights is not None:
        error = error * weights.astype(F)
    return error / F(head.y[0].size)


def mse(head: Head, target: np.ndarray) -> np.ndarray:
    """Mean squared error in real units."""
    v = head.l.astype(F) * F(head.scale)
    return F(2) * (v - target.astype(F).reshape(v.shape)) / F(head.y[0].size)


def places(heads: list[Head], anchors: np.ndarray, boxes: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """(head, row, column, anchor) -> box of one sample."""
    taken: dict[tuple[int, ...], np.ndarray] = {}
    for box in boxes.astype(F):
        if box[0] < 0:
            continue
        flat = anchors.reshape(-1, 2).astype(F)
        inner = np.minimum(flat[:, 0], box[3]) * np.minimum(flat[:, 1], box[4])
        overlap = inner / (flat[:, 0] * flat[:, 1] + box[3] * box[4] - inner)
        head, anchor = divmod(int(overlap.argmax()), anchors.shape[1])
        h, w = heads[head].y.shape[1:3]
        row, column = min(int(box[2] * F(h)), h - 1), min(int(box[1] * F(w)), w - 1)
        taken.setdefault((head, row, column, anchor), box)
    return taken


def grid(heads: list[Head], anchors: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Boxes of a detector."""
    n_anchors = anchors.shape[1]
    total = sum(h.y.shape[1] * h.y.shape[2] * n_anchors for h in heads)
    errors = []
    maps = []
    for head in heads:
        n, h, w, _ = head.y.shape
        p, rest = (v.reshape(n, h, w, n_anchors, -1) for v in sigmoid(head))
        v = (head.l.astype(F) * F(head.scale)).reshape(p.shape)
        error = np.zeros(p.shape, F)
        error[..., 4] = p[..., 4] / F(total)
        errors.append(error)
        maps.append((p, rest, v))
    for i, sample in enumerate(boxes):
        taken = places(heads, anchors, sample)
        for (k, row, column, anchor), box in taken.items():
            at = (i, row, column, anchor)
            p, rest, v = (m[at] for m in maps[k])
            h, w = heads[k].y.shape[1:3]
            error, many = errors[k][at], F(4 * len(taken))
            centre = box[1] * F(w) - F(column), box[2] * F(h) - F(row)
            for j in range(2):
                error[j] = F(2) * (p[j] - centre[j]) * (p[j] * rest[j]) / many
                size = F(np.log(float(box[3 + j]) / float(F(anchors[k, anchor, j]))))
                error[2 + j] = F(2) * (v[2 + j] - size) / many
            error[4] = (p[4] - F(1)) / F(total)
            wanted = np.arange(len(error) - 5) == int(box[0])
            error[5:] = (p[5:] - wanted.astype(F)) / F(len(taken) * max(len(wanted), 1))
    return [e.reshape(h.y.shape) for e, h in zip(errors, heads, strict=True)]


def errors(
    loss: str,
    heads: list[Head],
    target: np.ndarray,
    weights: np.ndarray | None = None,
    anchors: np.ndarray | None = None,
) -> list[np.ndarray]:
    """E of every head."""
    if loss == "grid":
        assert anchors is not None
        return grid(heads, anchors, target)
    if loss in ("kl", "mse"):
        return [{"kl": kl, "mse": mse}[loss](heads[0], target)]
    return [{"softmax_ce": softmax_ce, "bce": bce}[loss](heads[0], target, weights)]


def smooth_loss(
    loss: str, values: list[np.ndarray], target: np.ndarray, anchors: np.ndarray | None = None
) -> float:
    """Textbook loss of one sample in float64, of real outputs [1,h,w,c]: for finite differences."""
    v = values[0][0]
    if loss in ("softmax_ce", "kl"):
        log_p = v.reshape(-1) - np.logaddexp.reduce(v.reshape(-1))
        t = np.eye(v.size)[target[0]] if loss == "softmax_ce" else target[0].astype(np.float64)
        return float(-(t * log_p).sum())
    if loss == "mse":
        return float(((v.reshape(-1) - target[0].reshape(-1)) ** 2).mean())
    if loss == "bce":
        t = target[0].reshape(v.shape)
        return float((np.logaddexp(0, v) - t * v).mean())
    assert anchors is not None
    shells = [Head(value.astype(np.int8), 1.0, 0) for value in values]
    taken = places(shells, anchors, target[0])
    maps = [x[0].reshape(*x.shape[1:3], anchors.shape[1], -1) for x in values]
    count = sum(m[..., 4].size for m in maps)
    object_ = sum(np.logaddexp(0, m[..., 4]).sum() for m in maps) / count
    box_sum = class_sum = 0.0
    classes = maps[0].shape[-1] - 5
    for (k, row, column, anchor), box in taken.items():
        x = maps[k][row, column, anchor]
        h, w = maps[k].shape[:2]
        object_ -= x[4] / count
        p = 1 / (1 + np.exp(-x[:2]))
        box_sum += (p[0] - (box[1] * w - column)) ** 2 + (p[1] - (box[2] * h - row)) ** 2
        box_sum += ((x[2:4] - np.log(box[3:].astype(np.float64) / anchors[k, anchor])) ** 2).sum()
        class_sum += np.logaddexp(0, x[5:]).sum() - (x[5 + int(box[0])] if classes else 0)
    if not taken:
        return float(object_)
    return float(object_ + box_sum / (4 * len(taken)) + class_sum / (len(taken) * max(classes, 1)))
