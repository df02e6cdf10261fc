# SPDX-License-Identifier: Apache-2.0
"""Scores against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgefl.demo.score import score
from edgefl.errors import DataError


def arrays(*columns: str) -> list[np.ndarray]:
    """Turn strings of N, S, V into class numbers."""
    return [np.array(["NSV".index(c) for c in column]) for column in columns]


def test_perfect_predictions_score_100() -> None:
    truth, predicted = arrays("NNSSVV", "NNSSVV")
    result = score(truth, predicted, np.full(6, 101, np.int16))
    assert result.macro_f1 == 100 and result.recall == (100, 100, 100)


def pooled(truth: str, predicted: str) -> float:
    t, p = arrays(truth, predicted)
    return score(t, p, np.full(len(t), 203, np.int16)).macro_f1


def test_all_normal_scores_a_third_of_its_f1() -> None:
    assert pooled("NNNNNNNNSV", "NNNNNNNNNN") == pytest.approx(100 * (16 / 18) / 3)


def test_class_that_never_occurs_is_left_out_of_the_mean() -> None:
    assert pooled("NNNV", "NNVV") == pytest.approx(100 * (2 * 2 / 5 + 2 * 1 / 3) / 2)


def test_class_that_is_only_predicted_counts_as_zero() -> None:
    """As in `edgefl eval`: false alarms of a class that a patient does not have are not forgiven."""
    assert pooled("NNNV", "NNSV") == pytest.approx(100 * (2 * 2 / 5 + 1 + 0) / 3)


def test_patients_keep_their_order_and_have_none_where_no_beat_counts() -> None:
    truth, predicted = arrays("NNNNVVNN", "NVNNVNNN")
    record = np.array([203, 203, 203, 203, 203, 203, 101, 101], np.int16)
    first, second = score(truth, predicted, record).patients
    assert (first.record, first.beats, first.v_recall, first.false_v_per_1000) == (203, 6, 50.0, 250.0)
    assert (second.record, second.beats, second.v_recall, second.false_v_per_1000) == (101, 2, None, 0.0)


def test_no_beats_cannot_be_scored() -> None:
    empty = np.zeros(0, np.int64)
    with pytest.raises(DataError):
        score(empty, empty, np.zeros(0, np.int16))
