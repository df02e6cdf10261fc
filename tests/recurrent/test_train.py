# SPDX-License-Identifier: Apache-2.0
"""Training an LSTM: the C core against the integer oracle bit for bit, and against float64; it learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.step import Oracle
from recurrent.mnist import mnist_int8
from recurrent.models import random_lstm

import edgefl
from edgefl.errors import ModelError, UsageError
from edgefl.model.graph import Graph, Op
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments
from edgefl.model.write import write_segments
from edgefl.native import lib
from edgefl.native.engine import isa_name, select_isa, supported_isas
from edgefl.train import Session
from edgefl.types import Batch

# docs/training.md: trained_lstm_int8, digits 5000..5159 of MNIST's test set, `all`, 5 batches of 32, seed 1.
DIGITS_SHA = "bc8407174f2a9566b64337ed92b45267c8469452b15b658026a51fd181bd6734"


@pytest.fixture(autouse=True)
def best_isa_again() -> Iterator[None]:
    """Leave the process with the kernels it started with."""
    yield
    lib.efl_init()


def digits_model(shared: Path) -> Graph:
    """The trained LSTM of TFLite Micro."""
    return read_model((shared / "data/models/tflite-micro/trained_lstm_int8.tflite").read_bytes())


def samples(graph: Graph, n: int, seed: int) -> Batch:
    """Random int8 inputs and labels."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (n, *graph.tensors[graph.input].shape)).astype(np.int8)
    return Batch(x, rng.integers(0, 5, n))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(["all", "bias+head", "last:2"]),
    st.sampled_from([0.3, 0.03, 0.001]),
    st.sampled_from([(7, 7), (8, 3), (5, 1)]),
    st.sampled_from([0.003, 0.1]),
    st.sampled_from([None, 1, 2, 3]),
)
def test_train_random_lstm_equals_oracle(
    seed: int, layers: str, lr: float, sizes: tuple[int, int], step_cap: float, truncate: int | None
) -> None:
    graph = read_model(random_lstm(seed))
    batch = samples(graph, 13, seed)
    oracle = Oracle(graph, layers, lr=lr, seed=3, step_cap=step_cap, truncate=truncate)
    theirs = oracle.fit(batch.x, batch.y, epochs=2, batch=sizes[0], micro_batch=sizes[1]).sha256()
    for isa in supported_isas():
        select_isa(isa)
        session = Session(
            graph,
            layers=layers,
            lr=lr,
            batch_size=sizes[0],
            micro_batch=sizes[1],
            seed=3,
            step_cap=step_cap,
            truncate=truncate,
        )
        session.fit(batch, epochs=2)
        assert session.trained_sha256() == theirs, isa_name()
    np.testing.assert_array_equal(session.delta().values, oracle.delta(session.exponents))


@pytest.mark.parametrize("fault", ["slope", "truncation", "recurrent weights", "cell"])
def test_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: each fault in the oracle changes the hash of some of eight models."""
    import oracle.lstm_backward as oracle

    if fault == "slope":
        monkeypatch.setattr(oracle, "_slope", lambda s: (s * (32768 - s)) >> 15)
    elif fault == "recurrent weights":
        plain = oracle._through
        monkeypatch.setattr(
            oracle,
            "_through",
            lambda g, w, s: plain(g, [v.T if v.shape[0] == v.shape[1] else v for v in w], s),
        )
    elif fault == "cell":
        monkeypatch.setattr(
            oracle, "_cell_error", lambda h, u, later, f, p=oracle._cell_error: p(h, u, None, f)
        )
    noticed = 0
    for seed in range(8):
        graph = read_model(random_lstm(seed))
        batch = samples(graph, 8, seed)
        session = Session(graph, layers="all", lr=0.3, batch_size=4, seed=3, step_cap=0.1)
        session.fit(batch)
        judge = Oracle(
            graph, "all", lr=0.3, seed=3, step_cap=0.1, truncate=1 if fault == "truncation" else None
        )
        noticed += session.trained_sha256() != judge.fit(batch.x, batch.y, batch=4).sha256()
    assert noticed > 0


def test_digits_give_the_documented_hash(shared: Path) -> None:
    """A seeded run on real data, the same bits on every instruction set."""
    graph = digits_model(shared)
    x, y = mnist_int8(shared)
    for isa in supported_isas():
        select_isa(isa)
        session = Session(graph, layers="all", lr=0.03, batch_size=32, seed=1)
        session.fit(Batch(x[5000:5160], y[5000:5160]))
        assert session.trained_sha256() == DIGITS_SHA, isa_name()


def test_turned_digits_are_learnt(shared: Path) -> None:
    """Digits with rows and columns exchanged, which the model reads badly: all of it trains, loss falls."""
    graph = digits_model(shared)
    x, y = mnist_int8(shared)
    x = np.ascontiguousarray(x.transpose(0, 1, 3, 2))
    session = Session(graph, layers="all", lr=0.1, batch_size=32, seed=1, step_cap=0.03)
    before = float((session.predict(x[:1000]).argmax(1) == y[:1000]).mean())
    report = session.fit(Batch(x[2000:4000], y[2000:4000]), epochs=3)
    after = float((session.predict(x[:1000]).argmax(1) == y[:1000]).mean())
    assert before < 0.5 and after > 0.85
    assert report.history[-1][0] < 0.5 * report.history[0][0]
    moved = {layer.op_index: layer.moved for layer in report.layers}
    assert len(report.layers) == 9 and all(moved.values())
    assert [layer.part for layer in report.layers[3:6]] == [
        "output gate",
        "recurrent input gate",
        "recurrent forget gate",
    ]


def test_segments_come_in_the_documented_order() -> None:
    graph = read_model(random_lstm(3))
    lstm = next(n for n in graph.nodes if n.kind is Op.LSTM)
    kinds = [(s.param, s.kind) for s in select_segments(graph, "all") if s.param in lstm.params]
    first = lstm.param
    expected = [(first + g, kind) for g in range(4) for kind in ("weight", "bias")]
    assert kinds == expected + [(first + 4 + g, "weight") for g in range(4)]


def test_last_counts_an_lstm_as_one_operator() -> None:
    graph = read_model(random_lstm(3))
    params = {s.param for s in select_segments(graph, "last:2")}
    lstm = [n for n in graph.nodes if n.kind is Op.LSTM][-1]
    assert params == {*lstm.params, graph.nodes[-1].param if graph.nodes[-1].param >= 0 else max(params)}


def test_trained_weights_return_to_the_file(shared: Path) -> None:
    graph = digits_model(shared)
    x, y = mnist_int8(shared)
    session = Session(graph, layers="all", lr=0.1, batch_size=16, seed=1, step_cap=0.1)
    session.fit(Batch(x[:64], y[:64]))
    trained = session.params()
    data = write_segments(graph, [(s.param, s.kind) for s, _ in trained], [v for _, v in trained])
    again = Session(read_model(data), layers="all")
    np.testing.assert_array_equal(again.predict(x[:100]), session.predict(x[:100]))


def test_trainer_hands_truncation_on(shared: Path) -> None:
    """One step back gives other weights than all 28."""
    x, y = mnist_int8(shared)
    found = set()
    for truncate in (None, 28, 1):
        trainer = edgefl.Trainer(edgefl.Model(digits_model(shared)), layers="all", lr=0.1, truncate=truncate)
        trainer.fit(x[:64], y[:64])
        found.add(trainer.trained_sha256())
    assert len(found) == 2


def test_truncate_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="truncate is 0"):
        Session(read_model(random_lstm(1)), truncate=0)


def test_svdf_is_not_trained() -> None:
    from recurrent.test_forward import svdf_net

    with pytest.raises(ModelError, match=r"operator 0 \(SVDF\) keeps state"):
        Session(read_model(svdf_net(1)))
