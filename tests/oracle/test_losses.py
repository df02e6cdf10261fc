# SPDX-License-Identifier: Apache-2.0
"""Every loss: the C core against the oracle bit for bit, the oracle against finite differences in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import losses
from oracle.losses import Head
from oracle.step import Oracle
from tinymodel import Net, random_net

from edgefl.model.graph import Graph
from edgefl.model.loss import LOSSES, check_anchors, loss_heads
from edgefl.model.plan import Planner
from edgefl.model.read import read_model
from edgefl.native.engine import Engine, select_isa, supported_isas
from edgefl.native.loss import LossSpec, Targets
from edgefl.train.fit import Session
from edgefl.types import Batch

NAMES = list(LOSSES)


def autoencoder(seed: int = 0) -> bytes:
    """Twelve numbers, a bottleneck of 4, twelve numbers."""
    net = Net((1, 12), np.random.default_rng(seed), scale=0.03, zero=7)
    return net.dense(8, act="RELU").dense(4, act="RELU").dense(12).build()


def detector(seed: int = 0, classes: int = 2, anchors: int = 2) -> bytes:
    """Two grids, 2x3 and 4x6, on a shared trunk; the coarser one reads what the finer one's trunk made."""
    net = Net((1, 8, 12, 3), np.random.default_rng(seed))
    net.conv(6, stride=(2, 2))
    mark = net.mark()
    net.conv(anchors * (5 + classes), (1, 1), act="NONE")
    fine = net.at
    net.back_to(mark)
    net.depthwise(stride=(2, 2)).conv(anchors * (5 + classes), (1, 1), act="NONE")
    return net.f.finish([net.input], [net.at, fine])


def boxes(rng: np.random.Generator, n: int, most: int = 4, classes: int = 2) -> np.ndarray:
    """Random boxes with padding rows."""
    y = rng.random((n, most, 5)).astype(np.float32)
    y[:, :, 3:] = y[:, :, 3:] * 0.6 + 0.02
    y[:, :, 0] = rng.integers(-1, max(classes, 1), (n, most))
    y[:, -1] = y[:, 0]  # a second box in the same place
    return y


def targets(name: str, rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Targets of one loss for outputs of `size` numbers."""
    if name == "softmax_ce":
        return rng.integers(0, size, n)
    if name == "kl":
        return rng.dirichlet(np.ones(size), n).astype(np.float32)
    if name == "bce":
        return rng.choice([0.0, 1.0, 0.25], (n, size)).astype(np.float32)
    return (4 * rng.standard_normal((n, size))).astype(np.float32)


def graph_of(name: str, seed: int) -> Graph:
    """A model that the loss can train."""
    if name == "grid":
        return read_model(detector(seed, classes=seed % 3, anchors=1 + seed % 2))
    if name == "mse" or (name == "bce" and seed % 2):
        return read_model(autoencoder(seed))
    if name == "bce":
        net = Net((1, 6, 6, 2), np.random.default_rng(seed))
        return read_model(net.conv(4).conv(2, act="NONE").build())
    return read_model(random_net(seed))


ANCHORS = {1: [(0.2, 0.3), (0.5, 0.4)], 2: [(0.1, 0.2), (0.3, 0.3), (0.4, 0.5), (0.6, 0.5)]}


def setting(name: str, seed: int, n: int) -> tuple[Graph, np.ndarray, np.ndarray, dict[str, Any]]:
    """Model, inputs, targets and options of one case."""
    rng = np.random.default_rng(seed)
    graph = graph_of(name, seed)
    x = rng.integers(-128, 128, (n, *graph.tensors[graph.input].shape)).astype(np.int8)
    more: dict[str, Any] = {}
    if name == "grid":
        return graph, x, boxes(rng, n, classes=seed % 3), {"anchors": ANCHORS[1 + seed % 2]}
    head = graph.tensors[loss_heads(graph, name)[0]]
    if LOSSES[name].weighted and seed % 3 == 0:
        more = {"class_weights": rng.random(head.shape[2]).astype(np.float32) + np.float32(0.1)}
    return graph, x, targets(name, rng, n, head.size), more


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 1 << 20),
    st.sampled_from([(7, 7), (8, 3), (5, 1)]),
    st.sampled_from([0.3, 0.01]),
)
def test_train_any_loss_equals_oracle(name: str, seed: int, sizes: tuple[int, int], lr: float) -> None:
    graph, x, y, more = setting(name, seed, 13)
    session = Session(
        graph, loss=name, layers="all", lr=lr, batch_size=sizes[0], micro_batch=sizes[1], seed=1, **more
    )
    session.fit(Batch(x, y), epochs=2)
    anchors = check_anchors(graph, name, more.get("anchors"))
    oracle = Oracle(
        graph, "all", lr=lr, seed=1, loss=name, anchors=anchors, class_weights=more.get("class_weights")
    )
    state = oracle.fit(x, y, epochs=2, batch=sizes[0], micro_batch=sizes[1])
    assert session.trained_sha256() == state.sha256()


@pytest.mark.parametrize("name", NAMES)
def test_every_isa_gives_the_same_bits(name: str) -> None:
    graph, x, y, more = setting(name, 6, 20)
    hashes, reports = set(), set()
    before = supported_isas()
    for isa in before:
        select_isa(isa)
        session = Session(graph, loss=name, layers="all", lr=0.05, batch_size=8, **more)
        reports.add(tuple(session.fit(Batch(x, y)).history))
        hashes.add(session.trained_sha256())
    from edgefl.native import lib

    lib.efl_init()
    assert len(hashes) == 1 and len(reports) == 1


def random_heads(name: str, rng: np.random.Generator, n: int) -> list[Head]:
    """Stored outputs of one sample shape; two grids for `grid`."""
    shapes = {"grid": [(2, 3, 14), (4, 6, 14)], "bce": [(2, 3, 4)], "mse": [(3, 2, 5)]}.get(name, [(1, 1, 7)])
    scale, zero = float(np.float32(rng.uniform(0.005, 0.2))), int(rng.integers(-60, 60))
    return [Head(rng.integers(-128, 128, (n, *s)).astype(np.int8), scale, zero) for s in shapes]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.integers(0, 1 << 30))
def test_error_is_the_derivative_of_the_loss(name: str, seed: int) -> None:
    """Central differences of the textbook loss in float64.

    The bound: the table rounds exp to 2^-25 of its largest value, so p is off by at most 2^-24 here, and
    float32 adds 2^-22 of the value; a difference of step h adds about h^2.
    """
    rng = np.random.default_rng(seed)
    heads = random_heads(name, rng, 1)
    anchors = check_array(name)
    y = boxes(rng, 1) if name == "grid" else targets(name, rng, 1, heads[0].y[0].size)
    found = losses.errors(name, heads, y, None, anchors)
    values = [h.l * float(np.float32(h.scale)) for h in heads]
    step = 1e-4
    for k, value in enumerate(values):
        for flat in rng.integers(0, value.size, 12):
            at = np.unravel_index(flat, value.shape)
            moved = []
            for sign in (1, -1):
                shifted = [v.copy() for v in values]
                shifted[k][at] += sign * step
                moved.append(losses.smooth_loss(name, shifted, y, anchors))
            slope = (moved[0] - moved[1]) / (2 * step)
            assert abs(found[k][at] - slope) < 2e-6 + 1e-5 * abs(slope)


def check_array(name: str) -> np.ndarray | None:
    """Anchors of two grids."""
    if name != "grid":
        return None
    return np.array(ANCHORS[2], np.float32).reshape(2, 2, 2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.integers(0, 1 << 20))
def test_reported_loss_is_the_textbook_loss(name: str, seed: int) -> None:
    """The score of a model equals the float64 loss of its own outputs.

    The table holds exp to 2^-25: a probability p is off by 2^-25/p, so its logarithm by 3e-5 at 2^-10; far
    below, up to the floor at 2^-25, the report is coarse.
    """
    graph, x, y, more = setting(name, seed, 3)
    anchors = check_anchors(graph, name, more.get("anchors"))
    heads = loss_heads(graph, name)
    spec = Planner(graph, None, heads).spec(_params(graph), 3, LossSpec(LOSSES[name].kind, None, anchors))
    engine = Engine(spec)
    wanted = Targets(labels=y.astype(np.int32)) if name == "softmax_ce" else Targets(values=y)
    seen = engine.score(x.reshape(3, -1), wanted)
    total, spread = 0.0, 0.0
    for i in range(3):
        outputs = [
            graph.tensors[t]
            .real(engine.tensor(t, 3)[i])
            .astype(np.float64)
            .reshape(1, *graph.tensors[t].shape)
            for t in heads
        ]
        total += losses.smooth_loss(name, outputs, y[i : i + 1], anchors)
        if name == "kl":
            total += float((y[i] * np.log(np.maximum(y[i].astype(np.float64), 2.0**-25))).sum())
        spread = max(
            spread, *(float(np.ptp(v) if name in ("kl", "softmax_ce") else np.abs(v).max()) for v in outputs)
        )
    fine = name == "mse" or spread < np.log(2.0**9)
    assert seen.loss == pytest.approx(total, rel=1e-4, abs=1e-5) if fine else seen.loss < total + 0.1
    assert seen.samples == 3 and 0 <= seen.hits <= seen.terms


def _params(graph: Graph) -> list[Any]:
    from edgefl.model.forward import graph_params

    return graph_params(graph)


@pytest.mark.parametrize("fault", ["no slope", "last box wins", "terms of a head", "no half"])
def test_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: each fault in the oracle changes the trained bits."""
    name = "mse" if fault == "no half" else "grid"
    plain = losses.grid
    if fault == "no half":
        monkeypatch.setattr(losses, "mse", lambda h, t: plain_mse(h, t) / np.float32(2))
    elif fault == "last box wins":
        monkeypatch.setattr(losses, "places", lambda h, a, b: good_places(h, a, b[::-1]))
    elif fault == "terms of a head":
        monkeypatch.setattr(losses, "grid", lambda h, a, b: [plain([one], a[i : i + 1], b)[0] for i, one in
                                                             enumerate(h)])  # fmt: skip
    else:
        monkeypatch.setattr(losses, "sigmoid", lambda h: (good_sigmoid(h)[0], np.ones(h.y.shape, np.float32)))
    noticed = 0
    for seed in range(4):
        graph, x, y, more = setting(name, seed, 8)
        if name == "grid":
            y[:, -1, 4] *= 0.9  # of two boxes in one place the order decides
        session = Session(graph, loss=name, layers="all", lr=0.05, batch_size=4, **more)
        session.fit(Batch(x, y))
        anchors = check_anchors(graph, name, more.get("anchors"))
        state = Oracle(graph, "all", lr=0.05, loss=name, anchors=anchors).fit(x, y, batch=4)
        noticed += session.trained_sha256() != state.sha256()
    assert noticed > 0


plain_mse, good_places, good_sigmoid = losses.mse, losses.places, losses.sigmoid


def test_real_detector_with_three_heads_equals_oracle(shared: Path) -> None:
    """The face detector: 4x5, 8x10 and 16x20 cells, three anchors each."""
    graph = read_model((shared / "data/models/nxp/yolo_face_detect_int8.tflite").read_bytes())
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (4, graph.input_size)).astype(np.int8)
    y = boxes(rng, 4, classes=1)
    anchors = [(0.1 * k, 0.09 * k) for k in (7, 5, 4, 3, 2.5, 2, 1.5, 1, 0.5)]
    options = dict(loss="grid", lr=0.001, seed=1)
    session = Session(graph, layers="last:3", batch_size=2, anchors=anchors, **options)
    history = session.fit(Batch(x, y)).history
    checked = check_anchors(graph, "grid", anchors)
    state = Oracle(graph, "last:3", anchors=checked, **options).fit(x, y, batch=2)
    assert session.trained_sha256() == state.sha256() and history[0][0] > 0
