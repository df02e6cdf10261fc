# SPDX-License-Identifier: Apache-2.0
"""Scores against hand-made confusion tables."""

from __future__ import annotations

import numpy as np
import pytest

from edgefl.data.score import score_classes
from edgefl.errors import DataError


def test_score_counts_by_hand() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    p = np.array([0, 0, 0, 1, 1, 0, 2, 3])
    s = score_classes(y, p)
    # F1: class 0 2*3/(4+4), class 1 2*1/(2+2), class 2 2*1/(2+1), class 3 (never a label) 0.
    assert s.accuracy == pytest.approx(62.5)
    assert s.macro_f1 == pytest.approx(100 * (0.75 + 0.5 + 2 / 3 + 0) / 4)
    assert s.recall == {0: 75.0, 1: 50.0, 2: 50.0} and s.support == {0: 4, 1: 2, 2: 2}


def test_score_all_one_class_shows_in_macro_f1() -> None:
    y = np.array([0] * 9 + [1])
    s = score_classes(y, np.zeros(10, int))
    assert s.accuracy == 90.0 and s.macro_f1 == pytest.approx(100 * (18 / 19) / 2)


def test_score_wrong_lengths_are_refused() -> None:
    for y, p in [(np.zeros(3, int), np.zeros(4, int)), (np.zeros(0, int), np.zeros(0, int))]:
        with pytest.raises(DataError):
            score_classes(y, p)
