# SPDX-License-Identifier: Apache-2.0
"""A training session as its callers see it: bad input, interruption, results, repeatability."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodel import Net, small_cnn

from edgefl.errors import DataError, EdgeflError, ModelError, UsageError
from edgefl.model.arena import Block, place_blocks
from edgefl.model.forward import Forward, bias_exponents
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments
from edgefl.native import lib
from edgefl.native.engine import select_isa, supported_isas
from edgefl.train import Session
from edgefl.types import Batch


@pytest.fixture()
def graph() -> Graph:
    return read_model(small_cnn())


def samples(graph: Graph, n: int = 40, classes: int = 4, seed: int = 0) -> Batch:
    """Inputs whose class is a brighter channel (the last class: none)."""
    rng = np.random.default_rng(seed)
    shape = graph.tensors[graph.input].shape
    x = rng.integers(-60, 60, (n, *shape))
    y = rng.integers(0, classes, n)
    for i, label in enumerate(y):
        x[i, :, :, label : label + 1] += 60
    return Batch(np.clip(x, -128, 127).astype(np.int8), y)


BAD_OPTIONS: list[dict[str, Any]] = [
    {"lr": 0},
    {"lr": -1.0},
    {"lr": math.nan},
    {"lr": math.inf},
    {"lr": "fast"},
    {"lr": 1e9},
    {"batch_size": 0},
    {"batch_size": 1 << 20},
    {"batch_size": 2.5},
    {"micro_batch": 0},
    {"micro_batch": 33},
    {"loss": "hinge"},
    {"seed": -1},
    {"round": 1 << 64},
    {"step_cap": 0.0},
    {"step_cap": math.nan},
    {"class_weights": [1.0]},
    {"class_weights": [1.0, 1.0, 1.0, math.nan]},
    {"class_weights": [0, 0, 0, 0]},
    {"class_weights": "heavy"},
    {"shadow": "sometimes"},
    {"layers": "last:9"},
    {"layers": "everything"},
]


@pytest.mark.parametrize("bad", BAD_OPTIONS, ids=str)
def test_session_bad_option_is_one_clear_line(graph: Graph, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Session(graph, **bad)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 160


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 4]),
        np.array([-1, 0]),
        np.array([0.0, 1.0]),
        np.array([0]),
        np.array([[0], [1]]),
        [0, 1],
        np.array([0, 2**40]),
    ],
    ids=str,
)
def test_fit_bad_labels_are_refused_and_nothing_trains(graph: Graph, y: Any) -> None:
    session = Session(graph, layers="all")
    before = session.trained_sha256()
    with pytest.raises(DataError):
        session.fit(Batch(samples(graph).x[:2], y))
    assert session.trained_sha256() == before


@pytest.mark.parametrize(
    "x",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8, 2), np.int8), np.zeros((0, 8, 8, 3), np.int8)],
    ids=str,
)
def test_fit_bad_samples_are_refused(graph: Graph, x: np.ndarray) -> None:
    with pytest.raises(DataError):
        Session(graph).fit(Batch(x, np.zeros(len(x), np.int64)))


def test_session_softmax_beta_is_refused() -> None:
    net = Net((1, 4, 4, 2), np.random.default_rng(0)).dense(3).softmax(beta=2.0)
    with pytest.raises(ModelError, match="beta 2"):
        Session(read_model(net.build()))


def test_session_map_output_is_refused() -> None:
    net = Net((1, 6, 6, 2), np.random.default_rng(0)).conv(3)
    with pytest.raises(ModelError, match="numbers a sample"):
        Session(read_model(net.build()))


def test_fit_interrupted_leaves_the_graph_unchanged(graph: Graph) -> None:
    before = [(p.q.tobytes(), p.b.tobytes()) for p in graph.params]
    session = Session(graph, layers="all", batch_size=8, lr=0.1)

    def stop(step: Any) -> None:
        if step.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.fit(samples(graph), on_step=stop)
    assert [(p.q.tobytes(), p.b.tobytes()) for p in graph.params] == before


@pytest.mark.parametrize("shadow", ["residual", "none"])
@pytest.mark.parametrize("micro", [None, 3])
def test_fit_learns_and_repeats_on_every_isa(graph: Graph, shadow: str, micro: int | None) -> None:
    hashes, report = set(), None
    for isa in supported_isas():
        select_isa(isa)
        session = Session(
            graph, layers="all", lr=0.02, batch_size=8, shadow=shadow, micro_batch=micro, step_cap=0.1
        )
        report = session.fit(samples(graph, 120), epochs=5)
        hashes.add(session.trained_sha256())
    lib.efl_init()
    assert len(hashes) == 1
    assert report is not None and report.steps == 75
    assert report.history[-1][0] < 0.8 * report.history[0][0]


def test_micro_batches_of_one_step_share_it(graph: Graph) -> None:
    session = Session(graph, layers="all", batch_size=8, micro_batch=3)
    report = session.fit(samples(graph, 16))
    assert report.steps == 2 and all(layer.steps == 2 for layer in report.layers)


def test_sums_of_more_than_65536_pixels_equal_the_oracle() -> None:
    """Five maps of 128x128: the int32 sums of the gradient are chunked and joined in int64."""
    from oracle.step import Oracle

    net = Net((1, 128, 128, 1), np.random.default_rng(1))
    net.conv(2).depthwise(stride=(2, 2)).mean().dense(3).softmax()
    graph = read_model(net.build())
    data = samples(graph, 10, classes=3)
    for micro in (5, 4):
        session = Session(graph, layers="all", lr=0.1, batch_size=5, micro_batch=micro, seed=2)
        session.fit(data)
        state = Oracle(graph, "all", lr=0.1, seed=2).fit(data.x, data.y, epochs=1, batch=5, micro_batch=micro)
        assert session.trained_sha256() == state.sha256()


def test_map_beyond_65536_pixels_trains_later_layers_only() -> None:
    net = Net((1, 300, 300, 1), np.random.default_rng(1))
    net.conv(1).depthwise(stride=(4, 4)).mean().dense(3).softmax()
    graph = read_model(net.build())
    with pytest.raises(ModelError, match="90000 pixels"):
        Session(graph, layers="all")
    assert Session(graph, layers="head", batch_size=4).fit(samples(graph, 4, classes=3)).steps == 1


def test_rounds_and_seeds_give_other_residuals(graph: Graph) -> None:
    hashes = {Session(graph, seed=s, round=r).trained_sha256() for s in (0, 1) for r in (0, 1)}
    assert len(hashes) == 4


def test_delta_is_the_change_in_vector_units(graph: Graph) -> None:
    session = Session(graph, layers="all", lr=0.05, batch_size=8, step_cap=0.1)
    data = samples(graph)
    assert session.fit(data, epochs=2).steps == 10
    delta = session.delta()
    assert delta.values.dtype == np.int32 and delta.values.shape == (session.size,) and delta.samples == 40
    exponents = bias_exponents(graph, session.segments, data.x)
    for (segment, value), j in zip(session.params(), exponents, strict=True):
        part = delta.values[segment.offset : segment.stop]
        param = graph.params[segment.param]
        if segment.kind == "weight":
            whole = (value.astype(np.int64) - param.q).reshape(-1) * 256
            assert np.abs(part - whole).max() <= 255
        else:
            assert np.abs(part * 2.0**j - (value - param.b)).max() <= 0.5 + 2.0**j


def test_params_written_into_a_new_graph_predict_the_same(graph: Graph) -> None:
    from edgefl.model.write import write_segments

    session = Session(graph, layers="last:2", lr=0.05, batch_size=8, step_cap=0.1)
    data = samples(graph)
    session.fit(data)
    trained = session.params()
    names = [(segment.param, segment.kind) for segment, _ in trained]
    again = read_model(write_segments(graph, names, [value for _, value in trained]))
    np.testing.assert_array_equal(Forward(again).run(data.x), session.predict(data.x))
    assert (Forward(graph).run(data.x) != session.predict(data.x)).any()


def test_delta_before_any_fit_is_refused(graph: Graph) -> None:
    with pytest.raises(EdgeflError, match="before the first fit"):
        Session(graph).delta()
    assert (
        not Session(graph, bias_exponents=[0] * len(select_segments(graph, "bias+head"))).delta().values.any()
    )


def test_bias_exponents_of_wrong_number_or_range_are_refused(graph: Graph) -> None:
    n = len(select_segments(graph, "bias+head"))
    for bad in ([0] * (n + 1), [99] * n):
        with pytest.raises(DataError):
            Session(graph, bias_exponents=bad)


def test_class_weight_zero_ignores_a_class(graph: Graph) -> None:
    data = samples(graph)
    only = Batch(data.x, np.zeros(len(data.y), np.int64))
    session = Session(graph, class_weights=[0.0, 1.0, 1.0, 1.0])
    session.fit(only)
    assert not session.delta().values.any()


def test_high_rate_is_capped_and_said(graph: Graph) -> None:
    session = Session(graph, layers="all", lr=50.0, batch_size=8)
    report = session.fit(samples(graph))
    assert any("capped" in line and "step_cap" in line for line in report.warnings)


def test_memory_is_reported_and_shrinks_with_micro_batches(graph: Graph) -> None:
    whole, parts = Session(graph).memory, Session(graph, micro_batch=4).memory
    assert parts.arena < whole.arena and parts.state > whole.state and whole.scratch > 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 8)), max_size=30))
def test_arena_blocks_alive_together_never_overlap(raw: list[tuple[int, int, int]]) -> None:
    blocks = [Block(size, born, born + length) for size, born, length in raw]
    offsets, total = place_blocks(blocks)
    for i, a in enumerate(blocks):
        assert offsets[i] % 64 == 0 and offsets[i] + a.size <= total
        for j, b in enumerate(blocks[:i]):
            together = a.born <= b.dies and b.born <= a.dies
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert not together or apart


@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("batch_size", [8, 1])
def test_threads_any_number_give_the_same_bits(graph: Graph, batch_size: int, micro: int | None) -> None:
    if micro and micro > batch_size:
        pytest.skip("a micro-batch is at most the batch")
    hashes = set()
    for threads in (1, 2, 5):
        session = Session(
            graph, layers="all", lr=0.02, batch_size=batch_size, micro_batch=micro, threads=threads
        )
        session.fit(samples(graph, 60), epochs=2)
        hashes.add(session.trained_sha256())
    assert lib.efl_threads_set(1) == 0
    assert len(hashes) == 1


def test_forked_child_trains_with_threads_of_its_own(graph: Graph) -> None:
    def trained(threads: int) -> str:
        session = Session(graph, layers="all", lr=0.02, batch_size=8, threads=threads)
        session.fit(samples(graph, 40), epochs=2)
        return session.trained_sha256()

    expected = trained(2)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, trained(2).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == expected
    assert os.waitpid(child, 0)[1] == 0
    assert lib.efl_threads_set(1) == 0
