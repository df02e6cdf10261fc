# SPDX-License-Identifier: Apache-2.0
"""How good predictions are: accuracy, macro-F1, recall of each class, area under the ROC curve, in percent.

In: labels and predictions. Out: Scores, or one number. Refuses arrays of different length. Macro-F1 is the
plain mean of 2TP/(2TP+FP+FN) over the classes that occur among labels or predictions; accuracy alone misleads
where one class dominates.
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


def score_ranking(labels: np.ndarray, values: np.ndarray) -> float:
    """Area under the ROC curve: how often an anomaly has the higher value of a random pair, ties half.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        0 for a normal sample, anything else for an anomaly.
    values : ndarray, shape (n,)
        The higher, the more of an anomaly.

    Returns
    -------
    float
        In percent; 50 is chance.
    """
    if labels.shape != values.shape or labels.ndim != 1:
        raise DataError(f"{labels.shape} labels and {values.shape} values cannot be compared")
    bad = labels != 0
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if not n_bad or not n_good:
        raise DataError(
            "the labels are all normal or all anomalies", hint="y is 0 for normal, 1 for an anomaly"
        )
    _, place, many = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(many) - (many - 1) / 2)[place]  # mean rank of equal values, from 1
    won = float(rank[bad].sum()) - n_bad * (n_bad + 1) / 2
    return 100.0 * won / (n_bad * n_good)
