# SPDX-License-Identifier: Apache-2.0
"""`task add`: what it refuses, and that its first release is what the task says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgefl.config.load import example_table
from edgefl.model.forward import Forward
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import key_id, public_key, sha256
from edgefl.wire.messages import Probe, Release
from hub.hubs import TASK, Pair, add_task, found_pair, tiny_model
from server_min.rounds.release import load_master
from server_min.tasks import TaskToml, prepare_task
from server_min.toml import read_flat

GOOD = TASK.format(n_max=16, quorum=2, close_at=0, deadline_s=20, epochs=1)


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    pair = found_pair(tmp_path_factory.mktemp("tasks"))
    add_task(pair)
    return pair


def add(
    hubs: Pair,
    folder: Path,
    toml: str = GOOD,
    x: object = None,
    model: bytes | None = None,
    name: str = "other",
) -> subprocess.CompletedProcess[str]:
    (folder / "task.toml").write_text(toml)
    (folder / "m.tflite").write_bytes(tiny_model() if model is None else model)
    inputs = np.zeros((3, 8, 8, 2), np.float32) if x is None else x
    if isinstance(inputs, bytes):
        (folder / "c.npz").write_bytes(inputs)
    else:
        np.savez(folder / "c.npz", **(inputs if isinstance(inputs, dict) else {"x": inputs}))
    return hubs.cli(
        "task", "add", name, str(folder / "m.tflite"), "--config", str(folder / "task.toml"),
        "--calibration", str(folder / "c.npz"), "--hub", str(hubs.leader), check=False,
    )  # fmt: skip


NAN = np.full((2, 8, 8, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "exit_code", "text"),
    [
        ({"toml": GOOD.replace("batch", "batches")}, 78, "batch"),
        ({"toml": GOOD + "class_weights = [1, 2]\n"}, 78, "3 classes"),
        ({"toml": GOOD + "class_weights = [1, 2, nan]\n"}, 78, "class_weights"),
        ({"toml": GOOD + 'loss = "hinge"\n'}, 78, "loss"),
        ({"toml": GOOD + 'loss = "mse"\n'}, 65, "mse needs"),
        ({"toml": GOOD + "micro_batch = 9\n"}, 78, "above batch 8"),
        ({"toml": GOOD.replace("lr = 0.05", "lr = 0")}, 78, "lr"),
        ({"toml": GOOD.replace("lr = 0.05", 'lr = "fast"')}, 78, "lr"),
        ({"toml": GOOD.replace("quorum = 2", "quorum = 17")}, 78, "quorum"),
        ({"toml": GOOD.replace("close_at = 0", "close_at = 1")}, 78, "close_at"),
        ({"toml": GOOD.replace('layers = "all"', 'layers = "some"')}, 64, "layers"),
        ({"toml": GOOD.replace('layers = "all"', 'layers = "last:9"')}, 64, "3 operators"),
        ({"toml": "lr ="}, 78, "TOML"),
        ({"x": np.zeros((2, 8, 8, 3), np.float32)}, 65, "[n, 8, 8, 2]"),
        ({"x": np.zeros((2, 2, 8, 8), np.float32)}, 65, "[n, 8, 8, 2]"),  # as many values, another order
        ({"x": np.float32(1)}, 65, "[n, 8, 8, 2]"),
        ({"x": np.zeros((0, 8, 8, 2), np.float32)}, 65, "no samples"),
        ({"x": NAN}, 65, "NaN"),
        ({"x": np.zeros((2, 8, 8, 2), np.int64)}, 65, "float values or its stored int8"),
        ({"x": {"y": np.zeros(3)}}, 65, "no array x"),
        ({"x": {"x": np.array([{}, {}], object)}}, 65, "plain arrays"),
        ({"x": b"PK not a zip"}, 65, "npz"),
        ({"x": b""}, 65, "npz"),
        ({"model": b"not a model"}, 65, ""),
        ({"model": b""}, 65, ""),
        ({"name": "a/b"}, 64, "task name"),
        ({"name": "tiny"}, 64, "exists already"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else None,
)
def test_bad_task_is_one_line_and_changes_nothing(
    hubs: Pair, tmp_path: Path, change: dict[str, object], exit_code: int, text: str
) -> None:
    done = add(hubs, tmp_path, **change)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
    assert text in done.stderr and len(done.stderr.strip().splitlines()) == 1
    with hubs.store() as store:
        assert [t.task.name for t in store.tasks.all()] == ["tiny"]


def test_first_release_is_the_model_with_its_probe_and_master(hubs: Pair) -> None:
    with hubs.store() as store:
        row = store.tasks.newest("tiny")
        assert row is not None
        publisher = public_key(hubs.hub().private("publisher"))
        envelope = store.blobs.read(row.envelope)
        release = Release.decode(open_envelope(envelope, "release", {key_id(publisher): publisher}))
        file = store.blobs.read(release.file)
        assert file == tiny_model() and sha256(file) == release.file
        probe = Probe.decode(store.blobs.read(release.probe.sha256))
        graph = read_model(file)
        x = np.frombuffer(probe.x, np.int8).reshape(probe.n, -1)
        assert probe.n == 64 and sha256(Forward(graph).run(x).tobytes()) == release.probe.outputs
        segments = select_segments(graph, "all")
        master = load_master(store.blobs, row)
        # By hand: 256q + r, r from ChaCha20 by an independent implementation; biases b*2^-j.
        key = sha256(b"edgefl/1/residual\0" + bytes(16))  # seed 0, round 0
        r = chacha20(key, len(master)).view(np.int8)
        exponents = iter(release.task.exponents)
        for s in segments:
            p, part = graph.params[s.param], slice(s.offset, s.offset + s.size)
            if s.kind == "weight":
                want = [(256 * int(q) + int(v)) << 16 for q, v in zip(p.q.reshape(-1), r[part], strict=True)]
            else:
                j = next(exponents)
                want = [int(b) << (16 - j) for b in p.b]
            assert master[part].tolist() == want
        assert next(exponents, None) is None
        assert release.task.dim == len(master) and release.task.width == 16


def chacha20(key: bytes, n: int) -> np.ndarray:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    stream = Cipher(ChaCha20(key, bytes(16)), None).encryptor().update(bytes(n))
    return np.frombuffer(stream, np.uint8)


def test_defaults_are_sane(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text("")
    toml = read_flat(tmp_path / "task.toml", "task", TaskToml)
    assert toml == TaskToml() and toml.value_bits + (toml.n_max - 1).bit_length() == 16


def test_float_inputs_are_quantised_like_int8_ones(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny_model())
    (tmp_path / "t.toml").write_text(GOOD)
    tensor = read_model(tiny_model()).tensors[0]
    q = np.random.default_rng(3).integers(-128, 128, (70, 8, 8, 2), dtype=np.int8)
    np.savez(tmp_path / "q.npz", x=q)
    np.savez(tmp_path / "f.npz", x=(q.astype(np.float32) - tensor.zero) * np.float32(tensor.scale))
    made = [
        prepare_task("t", tmp_path / "m.tflite", tmp_path / "t.toml", tmp_path / f)
        for f in ("q.npz", "f.npz")
    ]
    assert made[0].task == made[1].task and (made[0].probe_x == made[1].probe_x).all()


def test_parser_corpus_is_refused_in_one_line(hubs: Pair, tmp_path: Path, shared: Path) -> None:
    files = sorted(p for p in (shared / "data" / "models" / "parser-corpus").rglob("*") if p.is_file())[::9]
    assert files
    for file in files:
        done = add(hubs, tmp_path, model=file.read_bytes())
        assert done.returncode in (0, 64, 65) and "Traceback" not in done.stderr, file
        assert done.returncode == 0 or len(done.stderr.strip().splitlines()) == 1, file
        assert json.dumps(done.stderr)


def test_documentation_holds_the_example(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "task.toml"
    if not page.parent.is_dir():
        pytest.skip("needs the checkout's docs folder")
    text = example_table(TaskToml)
    assert page.read_text() == text, "write it anew: edgefl-hub task example > docs/task.toml"
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()
    )
    (tmp_path / "task.toml").write_text(uncommented)
    assert read_flat(tmp_path / "task.toml", "task", TaskToml) == TaskToml()


@pytest.mark.parametrize("shadow", ["residual", "none"])
def test_master_starts_where_the_devices_start(tmp_path: Path, shadow: str) -> None:
    """With shadow = "none" devices start without residuals, so the master has none either."""
    (tmp_path / "m.tflite").write_bytes(tiny_model())
    (tmp_path / "t.toml").write_text(f'{GOOD}\nshadow = "{shadow}"\n')
    np.savez(tmp_path / "c.npz", x=np.zeros((4, 8, 8, 2), np.int8))
    new = prepare_task("t", tmp_path / "m.tflite", tmp_path / "t.toml", tmp_path / "c.npz")
    graph = read_model(tiny_model())
    weights = [s for s in select_segments(graph, "all") if s.kind == "weight"]
    rest = np.concatenate(
        [(new.master[s.offset : s.stop] >> 16) - 256 * graph.params[s.param].q.reshape(-1) for s in weights]
    )
    assert rest.any() == (shadow == "residual")
