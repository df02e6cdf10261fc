# SPDX-License-Identifier: Apache-2.0
"""The trainable vector: selections, the master's arithmetic against exact rationals, publishing."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodel import FlatFile, small_cnn

from edgefl.errors import DataError, ModelError, UsageError
from edgefl.model.layers import explicit_layers, wanted_params
from edgefl.model.read import read_model
from edgefl.model.vector import apply_sum, publish, rne_shift, select_segments, start_master, vector_size


def kinds(layers: str) -> list[tuple[int, str]]:
    """(param, kind) of a selection on the small model, which has four operators with weights."""
    return [(s.param, s.kind) for s in select_segments(read_model(small_cnn()), layers)]


def test_select_layers_in_file_order() -> None:
    every = [(i, kind) for i in range(4) for kind in ("weight", "bias")]
    assert kinds("all") == every
    assert kinds("last:4") == every
    assert kinds("last:2") == every[4:]
    assert kinds("head") == kinds("last:1") == every[6:]
    assert kinds("bias+head") == [(0, "bias"), (1, "bias"), (2, "bias"), (3, "weight"), (3, "bias")]


def test_select_offsets_have_no_gaps() -> None:
    graph = read_model(small_cnn())
    segments = select_segments(graph, "all")
    assert segments[0].offset == 0
    assert all(a.stop == b.offset for a, b in pairwise(segments))
    assert vector_size(segments) == sum(p.q.size + p.channels for p in graph.params)


@pytest.mark.parametrize(
    "layers", ["", "last", "last:", "last:0", "last:5", "last:-1", "last:1.5", "tail", "last:²", "ALL"]
)
def test_select_unknown_layers_are_refused(layers: str) -> None:
    with pytest.raises(UsageError):
        kinds(layers)


def test_select_listed_operators_and_back() -> None:
    graph = read_model(small_cnn())
    ops = [p.op_index for p in graph.params]
    assert kinds(f"ops:{ops[1]}b,{ops[3]}") == [(1, "bias"), (3, "weight"), (3, "bias")]
    for name in ("all", "bias+head", "last:2"):
        wanted = wanted_params(graph, name, graph.trainable())
        assert kinds(explicit_layers(graph, wanted)) == kinds(name)


@pytest.mark.parametrize("items", ["", "x", "{1},{0}", "{0},{0}", "99", "{0}c", "{0},", "-1", "٣", "{0} "])
def test_select_bad_list_is_refused_in_one_line(items: str) -> None:
    ops = [p.op_index for p in read_model(small_cnn()).params]
    with pytest.raises(UsageError) as caught:
        kinds("ops:" + items.format(*ops))
    assert len(str(caught.value)) < 160


def test_select_shared_buffers_stay_frozen() -> None:
    f = FlatFile()
    x, y, z = (f.tensor((1, 3), scale=0.1) for _ in range(3))
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    b = f.tensor((3,), "int32", data=np.arange(3, dtype=np.int32))
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, w, b], [z])
    graph = read_model(f.finish([x], [z]))
    assert [(s.param, s.kind) for s in select_segments(graph, "all")] == [(1, "bias")]
    f = FlatFile()
    x, y = (f.tensor((1, 3), scale=0.1) for _ in range(2))
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, w, -1], [z := f.tensor((1, 3), scale=0.1)])
    with pytest.raises(ModelError, match="nothing trains"):
        select_segments(read_model(f.finish([x], [z])), "all")


def test_publish_start_master_gives_the_same_file() -> None:
    """256q + r rounds back to q for every residual, b*2^-j to b for every j."""
    data = small_cnn()
    graph = read_model(data)
    segments = select_segments(graph, "all")
    r = np.random.default_rng(0).integers(-128, 128, vector_size(segments)).astype(np.int8)
    for j in (-14, -4, 0, 8):
        exponents = [j] * len(segments)
        assert publish(graph, segments, start_master(graph, segments, r, exponents), exponents) == data


def test_publish_moved_master_moves_weights_and_biases() -> None:
    graph = read_model(small_cnn())
    segments = select_segments(graph, "head")
    exponents = [0, -3]
    master = start_master(graph, segments, np.zeros(vector_size(segments), np.int8), exponents)
    q, b = graph.params[3].q, graph.params[3].b
    # One LSB is 256 units of 2^16; a bias LSB is 8 units at j = -3.
    step = np.concatenate([np.full(q.size, 256), np.full(b.size, 8)]).astype(np.int64)
    new = read_model(publish(graph, segments, master + (step << 16), exponents)).params[3]
    np.testing.assert_array_equal(new.q, np.clip(q.astype(int) + 1, -127, 127))
    np.testing.assert_array_equal(new.b, b + 1)
    # Half an LSB rounds up (weights), a hair less does not; biases go to even.
    half = np.concatenate([np.full(q.size, (1 << 23) - 1), np.full(b.size, 1 << 18)]).astype(np.int64)
    same = read_model(publish(graph, segments, master + half, exponents)).params[3]
    np.testing.assert_array_equal(same.q, q)
    np.testing.assert_array_equal(same.b, b + (b & 1))


def test_publish_far_master_saturates() -> None:
    graph = read_model(small_cnn())
    segments = select_segments(graph, "all")
    exponents = [-4] * len(segments)
    for sign in (-1, 1):
        far = np.full(vector_size(segments), sign * (1 << 61), np.int64)
        for p in read_model(publish(graph, segments, far, exponents)).params:
            assert set(np.unique(p.q)) == {127 if sign > 0 else -127}
            assert set(np.unique(p.b)) == {sign * (1 << 30)}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-(1 << 20), 1 << 20), min_size=1, max_size=20),
    st.integers(1, 1000),
    st.sampled_from([0.5, 1.0, 1.5]),
)
def test_apply_sum_is_the_documented_formula(total: list[int], count: int, hub_rate: float) -> None:
    master = np.arange(len(total), dtype=np.int64) << 30
    moved = apply_sum(
        master, np.array(total, np.int64), hub_rate=hub_rate, clip=48000.0, scale=512, count=count
    )
    for i, t in enumerate(total):
        exact = Fraction(hub_rate) * 48000 * 65536 * t / (512 * count)
        assert abs(int(moved[i]) - (i << 30) - exact) <= Fraction(1, 2) + abs(exact) / 2**51
        assert int(moved[i]) - (i << 30) == round(hub_rate * 48000.0 * 65536.0 * t / (512 * count))


def test_apply_sum_wrong_arguments_are_refused() -> None:
    m = np.zeros(3, np.int64)
    good = dict(hub_rate=1.0, clip=1.0, scale=1, count=1)
    for bad in (dict(hub_rate=0.0), dict(clip=-1.0), dict(clip=float("nan")), dict(scale=0), dict(count=0)):
        with pytest.raises(DataError):
            apply_sum(m, m, **{**good, **bad})
    with pytest.raises(DataError):
        apply_sum(m, np.zeros(4, np.int64), **good)


def test_start_master_wrong_arguments_are_refused() -> None:
    graph = read_model(small_cnn())
    segments = select_segments(graph, "head")
    d = vector_size(segments)
    for r, exponents in [
        (np.zeros(d - 1, np.int8), [0, 0]),
        (np.zeros(d, np.int64), [0, 0]),
        (np.zeros(d, np.int8), [0]),
        (np.zeros(d, np.int8), [0, -15]),
        (np.zeros(d, np.int8), [0, 9]),
    ]:
        with pytest.raises(DataError):
            start_master(graph, segments, r, exponents)


@given(st.integers(-(1 << 61), 1 << 61), st.integers(0, 80))
def test_rne_shift_is_rounding_half_to_even(x: int, s: int) -> None:
    expected = round(Fraction(x, 1 << s)) if s < 63 else 0
    assert int(rne_shift(np.array([x], np.int64), s)[0]) == expected
