# SPDX-License-Identifier: Apache-2.0
"""Scores of the demo: macro-F1 over N, S, V, recall per class, and what matters at a bedside.

In: labels and predicted classes, with the record of each beat.  Out: percentages (0..100) and false V alarms
per 1 000 normal beats.  A figure that has no beats to stand on is None, never 0.  An average over patients
would reward a model that calls everything normal, so figures are pooled; the patients stand beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefl.data.score import score_classes
from edgefl.demo.beats import CLASSES

N, S, V = range(3)


@dataclass(frozen=True)
class PatientScore:
    """One patient: V recall in percent and false V alarms per 1 000 normal beats, None without such beats."""

    record: int
    beats: int
    v_recall: float | None
    false_v_per_1000: float | None


@dataclass(frozen=True)
class Score:
    """Pooled figures in percent: macro-F1, recall per class in the order of `CLASSES`, and each patient's."""

    macro_f1: float
    recall: tuple[float | None, ...]
    patients: tuple[PatientScore, ...]


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return counts [true class, predicted class]."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def ratio(part: int, whole: int, unit: float = 100.0) -> float | None:
    """Return unit*part/whole, None if whole is 0."""
    return unit * part / whole if whole else None


def score(truth: NDArray[np.int64], predicted: NDArray[np.int64], record: NDArray[np.int16]) -> Score:
    """Score predictions.

    Parameters
    ----------
    truth, predicted : int64 [n], classes 0 N, 1 S, 2 V
    record : int16 [n], the patient of each beat

    Returns
    -------
    Score
        Patients in the order of their first beat. Macro-F1 is that of `edgefl eval`.

    Raises
    ------
    DataError
        There are no beats.
    """
    pooled = score_classes(truth, predicted)
    patients = []
    for number in dict.fromkeys(record.tolist()):
        own = confusion(truth[record == number], predicted[record == number])
        patients.append(
            PatientScore(
                record=number,
                beats=int(own.sum()),
                v_recall=ratio(int(own[V, V]), int(own[V].sum())),
                false_v_per_1000=ratio(int(own[N, V]), int(own[N].sum()), 1000.0),
            )
        )
    recall = tuple(pooled.recall.get(c) for c in range(len(CLASSES)))
    return Score(pooled.macro_f1, recall, tuple(patients))
