# SPDX-License-Identifier: Apache-2.0
"""What each loss takes and refuses: models, targets, class weights, anchors; all in one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle.test_losses import autoencoder, boxes, detector
from tinymodel import Net, small_cnn

from edgefl.errors import DataError, EdgeflError, ModelError, UsageError
from edgefl.model.graph import Graph
from edgefl.model.loss import check_target, loss_heads
from edgefl.model.read import read_model
from edgefl.train import Session
from edgefl.types import Batch


def graphs(name: str) -> Graph:
    """A model of each kind."""
    if name == "sigmoid":
        net = Net((1, 6), np.random.default_rng(0)).dense(3)
        at, net.at = net.at, net.f.tensor((1, 3), scale=1 / 256, zero=-128)
        net.f.op("LOGISTIC", [at], [net.at])
        return read_model(net.build())
    made = {"classes": small_cnn, "auto": autoencoder, "boxes": detector}
    return read_model(made[name]())


def inputs(graph: Graph, n: int = 6) -> np.ndarray:
    """Random samples."""
    return np.random.default_rng(0).integers(-128, 128, (n, graph.input_size)).astype(np.int8)


BAD: list[tuple[str, str, Any, type[EdgeflError], str]] = [
    ("classes", "softmax_ce", np.zeros(6), DataError, "integer class labels"),
    ("classes", "softmax_ce", np.full(6, 4), DataError, "classes 0..3"),
    ("classes", "softmax_ce", None, DataError, "no y"),
    ("classes", "kl", np.zeros(6, np.int64), DataError, "float probabilities"),
    ("classes", "kl", np.full((6, 4), 0.5), DataError, "add up to 1"),
    ("classes", "kl", np.full((6, 3), 1 / 3), DataError, "need [6, 4]"),
    ("classes", "kl", np.full((6, 4), np.nan), DataError, "NaN"),
    ("classes", "bce", np.zeros((6, 4)), ModelError, "SOFTMAX"),
    ("classes", "mse", None, ModelError, "SOFTMAX"),
    ("classes", "grid", np.zeros((6, 1, 5)), ModelError, "SOFTMAX"),
    ("sigmoid", "bce", np.full((6, 3), 1.5), DataError, "outside 0..1"),
    ("sigmoid", "bce", np.zeros((5, 3)), DataError, "need [6, 3]"),
    ("sigmoid", "bce", np.array([["a"] * 3] * 6), DataError, "numbers in 0..1"),
    ("sigmoid", "mse", None, DataError, "size of its input"),
    ("auto", "mse", np.zeros((6, 12), np.int64), DataError, "float values"),
    ("auto", "mse", np.full((6, 12), 1e10), DataError, "1e+09"),
    ("auto", "mse", np.zeros((6, 11)), DataError, "need [6, 12]"),
    ("auto", "mse", [0.0] * 6, DataError, "array"),
    ("boxes", "softmax_ce", np.zeros(6, np.int64), ModelError, "one row of classes"),
    ("boxes", "grid", np.zeros((6, 5)), DataError, "[6, boxes, 5]"),
    ("boxes", "grid", np.zeros((6, 300, 5)), DataError, "256"),
    ("boxes", "grid", np.array([[[2, 0.5, 0.5, 0.1, 0.1]]] * 6), DataError, "below 2"),
    ("boxes", "grid", np.array([[[0.5, 0.5, 0.5, 0.1, 0.1]]] * 6), DataError, "whole numbers"),
    ("boxes", "grid", np.array([[[0, 0.5, 1.5, 0.1, 0.1]]] * 6), DataError, "outside the image"),
    ("boxes", "grid", np.array([[[0, 0.5, 0.5, 0.0, 0.1]]] * 6), DataError, "above 0"),
    ("boxes", "grid", np.array([[[0, 0.5, 0.5, np.nan, 0.1]]] * 6), DataError, "y holds"),
]
ANCHORS = [(0.2, 0.3), (0.5, 0.4), (0.1, 0.1), (0.9, 0.9)]


@pytest.mark.parametrize(("model", "loss", "y", "error", "words"), BAD)
def test_bad_target_is_one_clear_line(
    model: str, loss: str, y: Any, error: type[EdgeflError], words: str
) -> None:
    graph = graphs(model)
    with pytest.raises(error) as caught:
        session = Session(graph, loss=loss, anchors=ANCHORS if loss == "grid" and model == "boxes" else None)
        before = session.trained_sha256()
        try:
            session.fit(Batch(inputs(graph), y))
        finally:
            assert session.trained_sha256() == before
    line = str(caught.value)
    assert words in line and "\n" not in line and len(line) < 170


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("auto", {"loss": "mse", "class_weights": [1.0] * 12}, "class_weights"),
        ("sigmoid", {"loss": "bce", "class_weights": [1.0] * 2}, "3 classes"),
        ("auto", {"loss": "mse", "anchors": ANCHORS}, "grid"),
        ("boxes", {"loss": "grid", "anchors": ANCHORS[:3]}, "[2, anchors, 2]"),
        ("boxes", {"loss": "grid", "anchors": [(0.0, 0.2)] * 4}, "above 0"),
        ("boxes", {"loss": "grid", "anchors": "wide"}, "pairs"),
        ("boxes", {"loss": "grid", "anchors": [(0.5, 0.5)] * 6}, "3 anchors"),
        ("boxes", {"loss": "grid", "anchors": [(0.5, 0.5)] * 10}, "5 anchors"),
    ],
)
def test_bad_option_of_a_loss_is_one_clear_line(model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, ModelError)) as caught:
        Session(graphs(model), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_bce_looks_before_a_final_logistic() -> None:
    graph = graphs("sigmoid")
    head = loss_heads(graph, "bce")
    assert head != (graph.output,) and loss_heads(graph, "mse") == (graph.output,)
    x, y = inputs(graph, 64), np.random.default_rng(1).integers(0, 2, (64, 3))
    session = Session(graph, loss="bce", layers="all", lr=1.0, batch_size=8, step_cap=0.1)
    history = session.fit(Batch(x, y), epochs=20).history
    assert history[-1][0] < history[0][0] and session.metric == "accuracy"


def test_own_input_its_values_and_its_stored_numbers_are_one_target() -> None:
    """The three forms of a target: none, float values, int8 in the output's own scale."""
    net = Net((1, 6), np.random.default_rng(0), scale=0.05, zero=4)
    graph = read_model(net.dense(4).dense(6).build())
    x = inputs(graph, 20)
    real = graph.tensors[graph.input].real(x)
    hashes = set()
    for y in (None, real, real.astype(np.float64)):
        session = Session(graph, loss="mse", layers="all", batch_size=8)
        session.fit(Batch(x, y))
        hashes.add(session.trained_sha256())
    assert len(hashes) == 1
    stored = np.random.default_rng(1).integers(-128, 128, (20, 6)).astype(np.int8)
    hashes = set()
    for y in (stored, graph.tensors[graph.output].real(stored)):
        session = Session(graph, loss="mse", layers="all", batch_size=8)
        session.fit(Batch(x, y))
        hashes.add(session.trained_sha256())
    assert len(hashes) == 1


def test_checked_targets_are_accepted_again() -> None:
    for model, loss, y in (
        ("classes", "softmax_ce", np.arange(6, dtype=np.uint8) % 4),
        ("classes", "kl", np.full((6, 4), 0.25)),
        ("sigmoid", "bce", np.ones((6, 1, 3), bool)),
        ("auto", "mse", np.zeros((6, 12), np.int8)),
        ("boxes", "grid", np.array([[[1, 0.5, 0.5, 0.1, 0.1], [-1, 0, 0, 0, 0]]] * 6)),
    ):
        once = check_target(graphs(model), loss, y, 6, n_anchors=2)
        twice = check_target(graphs(model), loss, once, 6, n_anchors=2)
        np.testing.assert_array_equal(once, twice)


def test_detector_learns_to_find_boxes() -> None:
    """A bright square on a dark map: after training its cell says so, and the box is where it is."""
    rng = np.random.default_rng(0)
    net = Net((1, 12, 12, 1), rng, scale=0.02, zero=0)
    net.conv(8).conv(8, stride=(2, 2)).conv(8, stride=(2, 2)).conv(5, act="NONE")
    graph = read_model(net.build())
    n = 160
    x, y = np.full((n, 12, 12, 1), -100, np.int8), np.zeros((n, 1, 5), np.float32)
    for i in range(n):
        top, left = rng.integers(0, 9, 2)
        x[i, top : top + 4, left : left + 4] = 100
        y[i, 0, 1:] = (left + 2) / 12, (top + 2) / 12, 4 / 12, 4 / 12
    session = Session(
        graph, loss="grid", layers="all", lr=0.1, batch_size=8, step_cap=0.05, anchors=[(0.3, 0.3)]
    )
    report = session.fit(Batch(x, y), epochs=40)
    assert report.metric == "found" and report.history[-1][0] < 0.5 * report.history[0][0]
    assert report.history[-1][1] > 0.7


def test_grid_trains_the_last_head_alone() -> None:
    graph = graphs("boxes")
    rng = np.random.default_rng(2)
    session = Session(graph, loss="grid", layers="head", anchors=ANCHORS)
    assert {s.param for s in session.segments} == {graph.trainable(*loss_heads(graph, "grid"))[-1]}
    session.fit(Batch(inputs(graph, 40), boxes(rng, 40)))
    assert session.delta().values.any()
