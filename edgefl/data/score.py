# SPDX-License-Identifier: Apache-2.0
"""How good predicted classes are: accuracy, macro-F1, recall of each class, in percent.

In: labels and predictions, integers. Out: Scores. Refuses arrays of different length. Macro-F1 is the plain
mean of 2TP/(2TP+FP+FN) over the classes that occur among labels or predictions; accuracy alone misleads where
one class dominates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefl.errors import DataError


@dataclass(frozen=True)
class Scores:
    """Scores in percent."""

    samples: int
    accuracy: float
    macro_f1: float
    recall: dict[int, float]  # of each class that has labels
    support: dict[int, int]  # labels of each class


def score_classes(labels: np.ndarray, predicted: np.ndarray) -> Scores:
    """Compare predicted classes with labels.

    Parameters
    ----------
    labels, predicted : ndarray of integers, shape (n,)
        0 or more.

    Returns
    -------
    Scores
        In percent.
    """
    if labels.shape != predicted.shape or labels.ndim != 1 or len(labels) == 0:
        raise DataError(f"{labels.shape} labels and {predicted.shape} predictions cannot be compared")
    n_classes = int(max(labels.max(), predicted.max())) + 1
    support = np.bincount(labels, minlength=n_classes)
    found = np.bincount(predicted, minlength=n_classes)
    right = np.bincount(labels[labels == predicted], minlength=n_classes)
    occurs = support + found > 0
    f1 = 2.0 * right[occurs] / (support + found)[occurs]
    return Scores(
        samples=len(labels),
        accuracy=100.0 * int(right.sum()) / len(labels),
        macro_f1=100.0 * float(f1.mean()),
        recall={int(c): 100.0 * float(right[c] / support[c]) for c in np.flatnonzero(support)},
        support={int(c): int(support[c]) for c in np.flatnonzero(support)},
    )
