# SPDX-License-Identifier: Apache-2.0
"""What a session says it holds is what it uses: guard bytes around every buffer of real training runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodel import Net, random_net, small_cnn

import edgefl.native.engine as engine
import edgefl.train.fit as fit
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.native import lib
from edgefl.native.engine import ParamState, select_isa, supported_isas
from edgefl.train import Session
from edgefl.types import Batch

GUARD, FENCE = 256, 0xA5


class Fenced:
    """Buffers with guard bytes before and behind; `check` finds every byte written outside them."""

    def __init__(self, fill: int = 0x5A) -> None:
        self.fill = fill
        self.grounds: list[np.ndarray] = []
        self.allocated: list[int] = []

    def bytes(self, size: int, start: int = GUARD) -> np.ndarray:
        ground = np.full(start + size + GUARD, FENCE, np.uint8)
        self.grounds.append(ground)
        ground[start : start + size] = self.fill
        return ground[start : start + size]

    def allocate(self, size: int) -> np.ndarray:
        self.allocated.append(size)
        return self.bytes(size).view(np.int8)

    def copy(self, array: np.ndarray) -> np.ndarray:
        inside = self.bytes(array.nbytes)
        inside[:] = np.frombuffer(array.tobytes(), np.uint8)
        return inside.view(array.dtype)

    def check(self) -> None:
        for ground in self.grounds:
            assert (ground[:GUARD] == FENCE).all() and (ground[-GUARD:] == FENCE).all()

    def install(self, patch: pytest.MonkeyPatch) -> Fenced:
        real = fit.training_state

        def fenced_state(*args: Any, **options: Any) -> list[ParamState]:
            states = real(*args, **options)
            for state in states:
                for field in fields(state):
                    value = getattr(state, field.name)
                    if isinstance(value, np.ndarray):
                        setattr(state, field.name, self.copy(value))
            return states

        patch.setattr(fit, "training_state", fenced_state)
        patch.setattr(engine, "allocate", self.allocate)
        return self


def data(graph: Graph, n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (n, graph.input_size)).astype(np.int8)
    return Batch(x, rng.integers(0, graph.tensors[graph.logits].size, n))


def train_fenced(graph: Graph, fenced: Fenced, patch: pytest.MonkeyPatch, **options: Any) -> Session:
    with patch.context() as scope:
        fenced.install(scope)
        session = Session(graph, lr=0.05, step_cap=0.1, **options)
        session.fit(data(graph, 2 * session.options.batch_size + 1))
    fenced.check()
    memory = session.memory
    assert sorted(fenced.allocated) == sorted((memory.arena, memory.scratch, memory.packed))
    return session


@pytest.fixture(params=supported_isas())
def isa(request: pytest.FixtureRequest):
    select_isa(request.param)
    yield request.param
    lib.efl_init()


@pytest.mark.parametrize("layers", ["head", "bias+head", "last:2", "all"])
def test_session_writes_only_what_it_says(isa: int, layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(12):
        graph = read_model(random_net(seed))
        if layers == "last:2" and len(graph.trainable()) < 2:
            continue
        for options in (
            {"batch_size": 1},
            {"batch_size": 5, "micro_batch": 2},
            {"shadow": "none"},
            {"batch_size": 8, "threads": 2},
        ):
            plain = Session(graph, layers=layers, lr=0.05, step_cap=0.1, **options)
            plain.fit(data(graph, 2 * plain.options.batch_size + 1))
            fenced = train_fenced(graph, Fenced(), monkeypatch, layers=layers, **options)
            assert fenced.trained_sha256() == plain.trained_sha256()
            assert fenced.memory == plain.memory


def test_arena_is_used_to_its_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(12):
        graph = read_model(random_net(seed))
        used = []
        for fill in (0x5A, 0x3C):
            fenced = Fenced(fill)
            session = train_fenced(graph, fenced, monkeypatch, layers="all", batch_size=4)
            arena = fenced.grounds[[g.size for g in fenced.grounds].index(session.memory.arena + 2 * GUARD)]
            used.append(arena[GUARD:-GUARD] != fill)
        written = used[0] | used[1]
        assert written[-1] or session.memory.arena == 64  # 64 is the least that is allocated


@pytest.mark.parametrize(
    ("model", "most"), [("resnet8_int8", 400_000), ("kws_ref_model_int8", 230_000)], ids=str
)
def test_known_model_trains_all_within_its_figure(
    shared: Path, model: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = read_model((shared / f"data/models/mlperf-tiny/{model}.tflite").read_bytes())
    session = train_fenced(graph, Fenced(), monkeypatch, layers="all", batch_size=1)
    assert sum(vars(session.memory).values()) <= most
    train_fenced(graph, Fenced(), monkeypatch, layers="all", batch_size=8)


def test_budget_packs_fewer_weights_and_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net((1, 12, 12, 8), np.random.default_rng(0))
    for _ in range(5):
        net.conv(16)
    graph = read_model(net.mean().dense(3).softmax().build())
    options: dict[str, Any] = {"layers": "head", "batch_size": 2}
    free = Session(graph, **options)
    free.fit(data(graph, 5))
    whole, seen = sum(vars(free.memory).values()), set()
    for budget in range(whole, whole - free.memory.packed, -1024):
        session = train_fenced(graph, Fenced(), monkeypatch, memory_budget=budget, **options)
        seen.add(session.memory.packed)
        assert session.memory.packed == 0 or sum(vars(session.memory).values()) <= budget
        again = Session(graph, memory_budget=budget, **options)
        again.fit(data(graph, 5))
        assert again.trained_sha256() == free.trained_sha256()
    assert len(seen) > 3 and 0 in seen


def test_fence_notices_one_byte_outside() -> None:
    fenced = Fenced()
    inside = fenced.allocate(100)
    fenced.check()
    inside.base[GUARD + 100] = 0
    with pytest.raises(AssertionError):
        fenced.check()


def test_bias_training_keeps_no_inputs() -> None:
    net = Net((1, 8, 8, 4), np.random.default_rng(0))
    for _ in range(4):
        net.conv(16, act="NONE")
    graph = read_model(net.mean().dense(3).softmax().build())
    biases, weights = (Session(graph, layers=layers, batch_size=1).memory for layers in ("bias+head", "all"))
    assert biases.arena == 2 * 8 * 8 * 16 and weights.arena >= 4 * 8 * 8 * 16


@pytest.mark.parametrize("source", [small_cnn, lambda: random_net(3), lambda: random_net(17)])
def test_forward_with_shared_places_equals_one_place_each(
    source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Additions in place change no tensor of the graph, whichever is asked for."""
    graph = read_model(source())
    x = data(graph, 7).x
    shared_places = Forward(graph)
    monkeypatch.setattr("edgefl.model.lifetimes.IN_PLACE", ())
    apart = Forward(graph)
    for node in graph.nodes:
        assert np.array_equal(shared_places.run(x, node.output), apart.run(x, node.output))
