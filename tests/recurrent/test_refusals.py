# SPDX-License-Identifier: Apache-2.0
"""LSTM and SVDF layers that edgefl does not take, or whose numbers make no sense: one line each."""

from __future__ import annotations

import numpy as np
import pytest
from recurrent.models import add_lstm, add_svdf
from tinymodel import Net

from edgefl.errors import ModelError
from edgefl.model.read import read_model


def lstm(**changes: object) -> bytes:
    """A file with one LSTM, changed."""
    return add_lstm(Net((1, 4, 5), np.random.default_rng(0)), 3, **changes).build()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            dict(slots={1: -1}),
            r"operator 0 \(UNIDIRECTIONAL_SEQUENCE_LSTM\) has no input gate weights \(CIFG\)",
        ),
        (dict(slots={5: -1}), "has no recurrent input gate weights"),
        (dict(slots={12: -1}), "has no input gate bias"),
        (dict(slots={9: 1}), "has peepholes"),
        (dict(slots={16: 1}), "has a projection"),
        (dict(slots={20: 1}), "has layer normalisation"),
        (dict(slots={2: -1}), "has no input 2"),
        (dict(slots={2: 0}), "constants at input 2"),
        (dict(slots={5: 1}), r"needs weights \[3, 3\] with one scale"),
        (dict(slots={18: 0}), "a state whose scale is not its output's"),
        (dict(slots={19: 0}), "keeps int8 outputs and int8 cells"),
        (dict(cell_bits=8), "cell scale of 2\\^-9"),
        (dict(cell_bits=16), "cell scale of 2\\^-9"),
        (dict(cell_bits=11.5), "cell scale of 2\\^-9"),
        (dict(clip=-1.0), "has the cell clip -1"),
        (dict(clip=float("nan")), "has the cell clip nan"),
        (dict(TimeMajor=True), "is time-major"),
        (dict(FusedActivationFunction=1), "has activation 1"),
        (dict(spread=1e38), "ratio is 0, or 2"),
    ],
)
def test_read_odd_lstm_is_refused_in_one_line(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(ModelError, match=expected) as caught:
        read_model(lstm(**changes))
    assert "\n" not in str(caught.value)


def test_read_lstm_of_a_map_is_refused() -> None:
    net = Net((1, 2, 4, 5), np.random.default_rng(0))
    net.shape = (1, 4, 5)
    with pytest.raises(ModelError, match=r"takes \[1, 2, 4, 5\]"):
        read_model(add_lstm(net, 3).build())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(rank=3, Rank=2), "has rank 2 for 9 filters"),
        (dict(Rank=0), "has rank 0"),
        (dict(FusedActivationFunction=0), "has activation 0"),
        (dict(slots={4: 0}), "keeps a int8 state"),
        (dict(slots={2: 1}), r"has weights \[3, 5\]|keeps a int16 state"),
        (dict(slots={4: -1}), "has no input 4"),
    ],
)
def test_read_odd_svdf_is_refused_in_one_line(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        read_model(add_svdf(Net((1, 5), np.random.default_rng(0)), 3, **changes).build())
