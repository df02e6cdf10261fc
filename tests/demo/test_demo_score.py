# SPDX-License-Identifier: Apache-2.0
"""Scores against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgefl.demo.score import confusion, macro_f1, score


def arrays(*columns: str) -> list[np.ndarray]:
    """Turn strings of N, S, V into class numbers."""
    return [np.array(["NSV".index(c) for c in column]) for column in columns]


def test_perfect_predictions_score_100() -> None:
    truth, predicted = arrays("NNSSVV", "NNSSVV")
    result = score(truth, predicted, np.full(6, 101, np.int16))
    assert result.macro_f1 == 100 and result.recall == (100, 100, 100)


def test_all_normal_scores_a_third_of_its_f1() -> None:
    truth, predicted = arrays("NNNNNNNNSV", "NNNNNNNNNN")
    assert macro_f1(confusion(truth, predicted)) == pytest.approx(100 * (16 / 18) / 3)


def test_class_that_never_occurs_is_left_out_of_the_mean() -> None:
    truth, predicted = arrays("NNNV", "NNVV")
    assert macro_f1(confusion(truth, predicted)) == pytest.approx(100 * (2 * 2 / 5 + 2 * 1 / 3) / 2)


def test_patients_keep_their_order_and_have_none_where_no_beat_counts() -> None:
    truth, predicted = arrays("NNNNVVNN", "NVNNVNNN")
    record = np.array([203, 203, 203, 203, 203, 203, 101, 101], np.int16)
    first, second = score(truth, predicted, record).patients
    assert (first.record, first.beats, first.v_recall, first.false_v_per_1000) == (203, 6, 50.0, 250.0)
    assert (second.record, second.beats, second.v_recall, second.false_v_per_1000) == (101, 2, None, 0.0)


def test_no_beats_score_zero_without_recall() -> None:
    empty = np.zeros(0, np.int64)
    result = score(empty, empty, np.zeros(0, np.int16))
    assert result.macro_f1 == 0 and result.recall == (None, None, None) and result.patients == ()
