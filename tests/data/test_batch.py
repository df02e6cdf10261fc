# SPDX-License-Identifier: Apache-2.0
"""Arrays from outside -> Batch: quantisation, shapes, labels, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tinymodel import Net, small_cnn

from edgefl.data.batch import make_batch, quantise
from edgefl.errors import DataError
from edgefl.model.read import read_model

GRAPH = read_model(small_cnn())  # input [1, 8, 8, 3], scale 0.05, zero point -3, four classes


def test_quantise_own_dtype_is_taken_as_it_is() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (5, 8, 8, 3)).astype(np.int8)
    out = quantise(GRAPH, x)
    assert np.array_equal(out, x) and np.shares_memory(out, x)


@given(
    hnp.arrays(np.float32, (2, 8, 8, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
)
def test_quantise_float_rounds_to_even_and_clamps(x: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        exact = np.rint(x.astype(np.float32) / np.float32(0.05))
    expected = np.clip(exact.astype(np.float64) - 3, -128, 127)
    assert np.array_equal(quantise(GRAPH, x), expected.astype(np.int8))


def test_quantise_ties_go_to_even() -> None:
    graph = read_model(Net((1, 6), np.random.default_rng(0), scale=0.5, zero=0).dense(2).build())
    x = np.array([[0.25, 0.75, -0.25, -0.75, 1e9, -1e9]])
    assert quantise(graph, x).reshape(-1).tolist() == [0, 2, 0, -2, 127, -128]


def test_quantise_double_and_half_equal_single() -> None:
    x = (np.random.default_rng(0).integers(-40, 40, (3, 8, 8, 3)) / 8).astype(np.float16)
    single = quantise(GRAPH, x.astype(np.float32))
    assert np.array_equal(quantise(GRAPH, x), single)
    assert np.array_equal(quantise(GRAPH, x.astype(np.float64)), single)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 1, 8, 8, 3), (4, 8, 1, 8, 3, 1)])
def test_quantise_shapes_up_to_ones_are_taken(shape: tuple[int, ...]) -> None:
    assert quantise(GRAPH, np.zeros(shape, np.float32)).shape == (4, 8, 8, 3)


@pytest.mark.parametrize(
    "shape", [(4, 3, 8, 8), (4, 192), (4, 8, 24), (192,), (), (0, 8, 8, 3), (4, 8, 8, 4)]
)
def test_quantise_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"shape|no samples"):
        quantise(GRAPH, np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantise_not_finite_is_refused_with_the_sample(bad: float) -> None:
    x = np.zeros((4, 8, 8, 3), np.float32)
    x[2, 7, 7, 2] = bad
    with pytest.raises(DataError, match="sample 2"):
        quantise(GRAPH, x)


def test_quantise_double_beyond_single_is_refused() -> None:
    with pytest.raises(DataError, match="infinity"):
        quantise(GRAPH, np.full((1, 8, 8, 3), 1e300))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool, object, "U1", complex])
def test_quantise_other_dtypes_are_refused(dtype: object) -> None:
    with pytest.raises(DataError, match="this model takes float values"):
        quantise(GRAPH, np.zeros((1, 8, 8, 3)).astype(dtype))


def test_quantise_float_model_refuses_integers() -> None:
    graph = read_model(Net((1, 6), np.random.default_rng(0)).dense(2).build_float_io())
    assert quantise(graph, np.zeros((3, 6))).shape == (3, 1, 1, 6)
    with pytest.raises(DataError, match=r"takes float values$"):
        quantise(graph, np.zeros((3, 6), np.int8))


X = np.zeros((3, 8, 8, 3), np.int8)


def test_make_batch_labels_become_int64() -> None:
    batch = make_batch(GRAPH, X, np.array([0, 3, 1], np.uint8))
    assert batch.y.dtype == np.int64 and batch.y.tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 1, 4]), "labels 0..4, this model has classes 0..3"),
        (np.array([0, -1, 1]), "labels -1..1"),
        (np.array([2**63, 1, 1], np.uint64), "classes 0..3"),
        (np.array([0, 1]), "3 samples and y 2 labels"),
        (np.array([0.0, 1.0, 2.0]), "float64"),
        (np.array([[0], [1], [2]]), "shape"),
        (np.array(["a", "b", "c"]), "integer class labels"),
        (np.array([None, 1, 2], object), "object"),
    ],
)
def test_make_batch_bad_labels_are_refused(y: np.ndarray, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        make_batch(GRAPH, X, y)
