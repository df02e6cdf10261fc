# SPDX-License-Identifier: Apache-2.0
"""layers="auto" and what it looks at: gradients against real steps, budgets kept, equal everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodel import Net, random_net, small_cnn

from edgefl.errors import UsageError
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments
from edgefl.native import lib
from edgefl.native.engine import select_isa, supported_isas
from edgefl.train import Session
from edgefl.train.auto import choose_layers, session_bytes, step_macs
from edgefl.train.gradient import measure_gradients
from edgefl.types import Batch


@pytest.fixture()
def graph() -> Graph:
    return read_model(small_cnn())


def data(graph: Graph, n: int = 40, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (n, graph.input_size)).astype(np.int8)
    return Batch(x, rng.integers(0, graph.tensors[graph.logits].size, n))


@pytest.mark.parametrize("micro", [8, 3])
def test_gradients_predict_the_steps_that_training_takes(micro: int) -> None:
    checked = 0
    for seed in range(8):
        graph = read_model(random_net(seed))
        options: dict[str, Any] = dict(layers="all", lr=0.001, batch_size=8, micro_batch=micro, step_cap=1.0)
        exponents = [-8] * len(select_segments(graph, "all"))
        session = Session(graph, **options, bias_exponents=exponents)
        batch = data(graph, 8)
        found = measure_gradients(session, batch, batches=1)
        session.fit(batch, max_steps=1)
        reports = {layer.op_index: layer for layer in session.layers()}
        values = session.delta().values.astype(float)
        for segment, gradient in zip(session.segments, found, strict=True):
            taken = np.linalg.norm(values[segment.offset : segment.stop])
            bound = 0.5 * np.sqrt(segment.size) + 1e-5 * gradient.step  # each number is rounded
            assert gradient.kind == segment.kind and gradient.size == segment.size
            layer = reports[graph.params[segment.param].op_index]
            if not (layer.clamped or layer.capped):
                assert abs(taken - gradient.step) <= bound
                checked += 1
            assert gradient.still == (taken == 0)
    assert checked > 30


def test_still_tensor_is_named_and_worth_nothing(graph: Graph) -> None:
    found = measure_gradients(Session(graph, layers="all", lr=1e-9), data(graph))
    assert all(g.still and g.decrease == 0 for g in found)
    found = measure_gradients(Session(graph, layers="all", lr=0.01), data(graph))
    assert any(not g.still and g.decrease > 0 and g.ratio > 0 for g in found)


def test_measuring_moves_nothing(graph: Graph) -> None:
    session = Session(graph, layers="all")
    before = session.trained_sha256()
    measure_gradients(session, data(graph))
    assert session.trained_sha256() == before


@pytest.mark.parametrize("known", [True, False])
def test_choice_keeps_every_budget_and_gets_better_with_it(graph: Graph, known: bool) -> None:
    batch = data(graph) if known else None
    least = min(session_bytes(Session(graph, layers=layers)) for layers in ("head", "ops:5b"))
    most = session_bytes(Session(graph, layers="all"))
    numbers = []
    for budget in np.linspace(least, most, 6).astype(int).tolist():
        choice = choose_layers(graph, batch, budget)
        session = Session(graph, layers=choice.layers, memory_budget=budget)
        assert session_bytes(session) == choice.bytes <= budget
        assert step_macs(session.plan) == choice.macs
        numbers.append(choice.share if known else session.size)
    assert numbers[-1] >= numbers[0]
    assert known or choose_layers(graph, None).layers == "ops:" + ",".join(
        str(p.op_index) for p in graph.params
    )


def test_budget_below_the_least_is_one_line_with_the_least(graph: Graph) -> None:
    with pytest.raises(UsageError) as caught:
        choose_layers(graph, data(graph), 10)
    text = str(caught.value)
    named = int(re.search(r"least possible, (\d+) bytes", text)[1])  # type: ignore[index]
    assert choose_layers(graph, data(graph), named).bytes == named
    with pytest.raises(UsageError):
        choose_layers(graph, data(graph), named - 1)
    small = int(re.search(r"the head takes (\d+) bytes", text)[1])  # type: ignore[index]
    assert choose_layers(graph, data(graph), small, micro_batch=1).bytes <= small


def test_choice_is_the_same_on_every_isa() -> None:
    for seed in range(6):
        graph = read_model(random_net(seed))
        batch = data(graph)
        gradients, chosen = set(), set()
        for isa in supported_isas():
            select_isa(isa)
            session = Session(graph, layers="all")
            gradients.add(repr(measure_gradients(session, batch)))
            chosen.add(choose_layers(graph, batch).layers)
        lib.efl_init()
        assert len(gradients) == 1 and len(chosen) == 1


def test_step_macs_of_a_small_net() -> None:
    net = Net((1, 4, 4, 2), np.random.default_rng(0)).conv(3, (3, 3)).mean().dense(4).softmax()
    graph = read_model(net.build())
    conv, dense = 16 * 3 * 9 * 2, 12
    counted = {name: step_macs(Session(graph, layers=name).plan) for name in ("head", "bias+head", "all")}
    assert counted == {
        "head": conv + 2 * dense,
        "bias+head": conv + 3 * dense,
        "all": 2 * conv + 3 * dense,
    }


def test_known_model_gets_more_than_its_head(shared: Path) -> None:

    file = np.load(shared / "data/kws01/kws01_mfcc_int8.npz")
    graph = read_model((shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite").read_bytes())
    batch = Batch(file["x"][:256], file["y"][:256].astype(np.int64))
    choice = choose_layers(graph, batch, 150_000, batch_size=1, lr=0.001)
    head = session_bytes(Session(graph, layers="head", batch_size=1))
    assert head < choice.bytes <= 150_000 and choice.share is not None and choice.share > 0.02
