# SPDX-License-Identifier: Apache-2.0
"""The public Trainer: fit, delta, what it does to the model, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle.step import Oracle
from tinymodel import small_cnn

import edgefl
from edgefl.errors import DataError, UsageError
from edgefl.model.read import read_model


@pytest.fixture
def model(tmp_path: Path) -> edgefl.Model:
    """A small model with four classes."""
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    return edgefl.Model.open(tmp_path / "m.tflite")


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four classes told apart by the colour channel that is bright, if any."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = rng.normal(0, 1, (n, 8, 8, 4))
    x[np.arange(n), :, :, y] += 2
    return x[..., :3].astype(np.float32), y


def test_fit_learns_and_the_model_has_the_weights(model: edgefl.Model) -> None:
    x, y = blobs(400)
    before = (model.predict(x).argmax(axis=1) == y).mean()
    trainer = edgefl.Trainer(model, layers="all", lr=0.03, step_cap=0.1, seed=1)
    report = trainer.fit(x, y, epochs=6)
    after = (model.predict(x).argmax(axis=1) == y).mean()
    assert before < 0.5 < 0.8 < after
    assert (
        report.steps == 6 * 13 and len(report.history) == 6 and report.history[-1][0] < report.history[0][0]
    )


def test_fit_equals_the_oracle_on_float_input(model: edgefl.Model) -> None:
    x, y = blobs(50)
    graph = model.graph
    trainer = edgefl.Trainer(model, layers="last:2", lr=0.01, batch_size=16, seed=5, round=1)
    trainer.fit(x, y, epochs=2)
    q = np.clip(np.rint(x / np.float32(graph.tensors[graph.input].scale)) - 3, -128, 127).astype(np.int8)
    oracle = Oracle(graph, "last:2", lr=0.01, seed=5, round_=1)
    assert oracle.fit(q, y, epochs=2, batch=16).sha256() == trainer.trained_sha256()
    for ours, theirs in zip(model.graph.params, oracle.state.graph.params, strict=True):
        np.testing.assert_array_equal(ours.q, theirs.q)
        np.testing.assert_array_equal(ours.b, theirs.b)


def test_fit_runs_repeat_bit_by_bit_and_depend_on_the_seed(tmp_path: Path) -> None:
    x, y = blobs(60)
    hashes = []
    for seed in (1, 1, 2):
        trainer = edgefl.Trainer(edgefl.Model(read_model(small_cnn())), lr=0.01, seed=seed)
        trainer.fit(x, y)
        hashes.append(trainer.trained_sha256())
    assert hashes[0] == hashes[1] != hashes[2]


def test_fit_twice_continues(model: edgefl.Model) -> None:
    x, y = blobs(60)
    once = edgefl.Trainer(edgefl.Model(model.graph), layers="all", lr=0.01)
    once.fit(x, y, epochs=2)
    twice = edgefl.Trainer(model, layers="all", lr=0.01)
    twice.fit(x, y)
    twice.fit(x, y)
    assert once.trained_sha256() == twice.trained_sha256()


def test_delta_matches_the_saved_weights(model: edgefl.Model) -> None:
    x, y = blobs(100)
    graph = model.graph
    trainer = edgefl.Trainer(model, layers="head", lr=0.5, step_cap=0.1)
    trainer.fit(x, y, epochs=3)
    delta = trainer.delta()
    weights = graph.params[-1].q.size
    assert delta.dtype == np.int32 and delta.shape == (trainer.size,) and weights + 4 == trainer.size
    moved = model.graph.params[-1].q.astype(int) - graph.params[-1].q
    # The delta also holds fractions: q1 + r1/256 - q0 - r0/256.
    assert np.abs(delta[:weights].reshape(moved.shape) / 256 - moved).max() <= 1
    assert np.abs(moved).max() > 0


def test_delta_before_fit_is_refused(model: edgefl.Model) -> None:
    with pytest.raises(DataError):
        edgefl.Trainer(model).delta()


def test_fit_stopped_by_the_callback_leaves_the_model(model: edgefl.Model) -> None:
    x, y = blobs(100)
    before = model.graph.data

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edgefl.Trainer(model, layers="all", lr=0.1).fit(x, y, on_step=stop)
    assert model.graph.data == before


@pytest.mark.parametrize(
    "bad",
    [
        dict(layers="none"),
        dict(layers="last:9"),
        dict(lr=0.0),
        dict(lr=float("nan")),
        dict(lr="fast"),
        dict(batch_size=0),
        dict(batch_size=2.5),
        dict(micro_batch=64),
        dict(loss="hinge"),
        dict(seed=-1),
        dict(step_cap=0.0),
        dict(step_cap=2.0),
        dict(class_weights=[1.0]),
        dict(class_weights=[1.0, 2.0, np.inf, 1.0]),
        dict(shadow="full"),
        dict(round=-1),
    ],
)
def test_trainer_bad_numbers_are_refused(model: edgefl.Model, bad: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        edgefl.Trainer(model, **bad)
    assert "\n" not in str(caught.value)


def test_trainer_without_a_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"edgefl\.Model"):
        edgefl.Trainer("m.tflite")


def test_fit_bad_samples_are_refused(model: edgefl.Model) -> None:
    x, y = blobs(10)
    trainer = edgefl.Trainer(model)
    for bad_x, bad_y in [(x, y + 1), (x[:5], y), (x * np.nan, y), (x, y.astype(float)), (x[:0], y[:0])]:
        with pytest.raises(DataError):
            trainer.fit(bad_x, bad_y)
    with pytest.raises(UsageError):
        trainer.fit(x, y, epochs=0)


def test_class_weights_shift_the_predictions(model: edgefl.Model) -> None:
    x, y = blobs(200)
    y[:] = np.where(np.arange(200) % 4, 0, 1)  # labels say nothing: three quarters are class 0
    plain, heavy = (
        edgefl.Trainer(edgefl.Model(model.graph), layers="head", lr=0.1, step_cap=0.1, class_weights=w)
        for w in (None, [1, 8, 1, 1])
    )
    counts = []
    for trainer in (plain, heavy):
        trainer.fit(x, y, epochs=3)
        counts.append(int((trainer.model.predict(x).argmax(axis=1) == 1).sum()))
    assert counts[0] < 50 < 100 < counts[1]
