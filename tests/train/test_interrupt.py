# SPDX-License-Identifier: Apache-2.0
"""A fit that is interrupted has not happened: real signals at random moments, here and in other processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodel import small_cnn

import edgefl
from edgefl.errors import DataError, UsageError
from edgefl.model.read import read_model
from edgefl.train import Session
from edgefl.types import Batch

Options = dict[str, Any]
OPTIONS: list[Options] = [
    {"layers": "all"},
    {"layers": "all", "micro_batch": 3},
    {"layers": "bias+head"},
    {"layers": "all", "shadow": "none"},
]


def samples(n: int = 200) -> Batch:
    """Random inputs and labels."""
    rng = np.random.default_rng(0)
    return Batch(rng.integers(-128, 128, (n, 8, 8, 3)).astype(np.int8), rng.integers(0, 4, n))


def session(options: Options) -> Session:
    """A session on a small model whose every step moves weights."""
    return Session(read_model(small_cnn()), lr=0.05, batch_size=8, step_cap=0.1, seed=1, **options)


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raise KeyboardInterrupt after so many seconds, from a real signal; again and again every 50 us."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    yield lambda after: signal.setitimer(signal.ITIMER_REAL, after)  # type: ignore[misc]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("fitted", [0, 1])
def test_fit_interrupted_at_random_moments_has_not_happened(
    options: Options, fitted: int, alarm: Callable[[float], None]
) -> None:
    data, ours, calm = samples(), session(options), session(options)
    for _ in range(fitted):
        ours.fit(data)
        calm.fit(data)
    begun = time.perf_counter()
    session(options).fit(data, epochs=2)
    length = time.perf_counter() - begun
    before, counts = ours.trained_sha256(), ours.layers()
    rng, stopped = random.Random(fitted), 0
    for _ in range(12):
        try:
            alarm(rng.random() * length)
            ours.fit(data, epochs=40)
            alarm(0)
        except KeyboardInterrupt:
            stopped += 1
        alarm(0)
        assert ours.trained_sha256() == before and ours.layers() == counts
        if not fitted:
            with pytest.raises(DataError, match="before the first fit"):
                ours.delta()
    assert stopped == 12
    calm.fit(data, epochs=2)
    ours.fit(data, epochs=2)
    assert ours.trained_sha256() == calm.trained_sha256() and ours.layers() == calm.layers()
    np.testing.assert_array_equal(ours.delta().values, calm.delta().values)


def test_interruption_of_the_undoing_is_made_good_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C arrives while the first one is answered."""
    from edgefl.train.undo import Undo

    data, ours = samples(), session({"layers": "all"})
    ours.fit(data)
    before = ours.trained_sha256()
    plain, calls = Undo.restore, [0]

    def interrupted(self: Undo) -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise KeyboardInterrupt
        plain(self)

    monkeypatch.setattr(Undo, "restore", interrupted)

    def stop(step: Any) -> None:
        if step.number == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours.fit(data, on_step=stop)
    assert calls[0] == 1 and ours.trained_sha256() == before and calls[0] == 2


def test_callback_sees_the_weights_move_but_may_not_fit() -> None:
    data, ours, seen = samples(), session({"layers": "all"}), set()

    def look(step: Any) -> None:
        seen.add(ours.trained_sha256())

    ours.fit(data, on_step=look)
    assert len(seen) == 25 and ours.trained_sha256() in seen
    before = ours.trained_sha256()
    with pytest.raises(UsageError, match="on_step"):
        ours.fit(data, on_step=lambda step: ours.fit(data) and None)
    assert ours.trained_sha256() == before


def test_trainer_interrupted_keeps_model_and_state(tmp_path: Path, alarm: Callable[[float], None]) -> None:
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    model = edgefl.Model.open(tmp_path / "m.tflite")
    data = samples()
    trainer = edgefl.Trainer(model, layers="all", lr=0.05, batch_size=8, step_cap=0.1)
    trainer.fit(data.x, data.y)
    file, outputs, hash_ = model.graph.data, model.predict(data.x), trainer.trained_sha256()
    for after in (0.001, 0.01, 0.03, 0.07):
        with pytest.raises(KeyboardInterrupt):
            alarm(after)
            trainer.fit(data.x, data.y, 10**6)
        assert model.graph.data == file and trainer.trained_sha256() == hash_
        np.testing.assert_array_equal(model.predict(data.x), outputs)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_command_stopped_by_a_signal_leaves_the_files(number: int, code: int, tmp_path: Path) -> None:
    data = samples()
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    (tmp_path / "out.tflite").write_bytes(b"an older result")
    np.savez(tmp_path / "d.npz", x=data.x, y=data.y)
    names = sorted(p.name for p in tmp_path.iterdir())
    rng = random.Random(number)
    for _ in range(3):
        command = [sys.executable, "-m", "edgefl", "train", "m.tflite", "--data", "d.npz", "-o", "out.tflite"]
        process = subprocess.Popen(
            [*command, "--layers", "all", "--epochs", "1000000", "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
            env={"PYTHONPATH": str(Path(edgefl.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        )
        wait_for_training(process)
        time.sleep(rng.random() * 0.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, ""), err
        assert err == "edgefl: interrupted; nothing was written\n"
        assert sorted(p.name for p in tmp_path.iterdir()) == names
        assert (tmp_path / "out.tflite").read_bytes() == b"an older result"


def wait_for_training(process: subprocess.Popen[str]) -> None:
    """Return when the process has burnt half a second: imports take less than the steps after them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        loaded = "_core.abi3" in Path(f"/proc/{process.pid}/maps").read_text()
        if loaded and int(fields[11]) + int(fields[12]) > 100:
            return
        time.sleep(0.02)
    raise AssertionError("training did not begin")


def test_file_written_half_when_a_signal_comes_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from edgefl.adapters.files import write_durable

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_durable(tmp_path / "f", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_bytes() == b"old"
