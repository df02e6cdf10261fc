# SPDX-License-Identifier: Apache-2.0
"""`edgefl plan`, `edgefl train --layers auto` and `edgefl bench`: what they say is what a run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodel import FlatFile, Net, random_net, small_cnn

from edgefl.cli import main as cli
from edgefl.cli.samples import size
from edgefl.model.read import read_model
from edgefl.model.synthetic import NETS
from edgefl.train import Session
from edgefl.train.auto import session_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-128, 128, (60, 8, 8, 3)).astype(np.int8), rng.integers(0, 4, 60)
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], folder: Path, *args: str) -> tuple[int, str, str]:
    try:
        code = cli.main([str(folder / a) if a.endswith((".tflite", ".npz")) else a for a in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def plan(capsys: pytest.CaptureFixture[str], folder: Path, *args: str) -> dict[str, Any]:
    code, out, err = call(capsys, folder, "plan", "m.tflite", "--json", *args)
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.parametrize("layers", ["head", "bias+head", "all", "ops:5b,6"])
@pytest.mark.parametrize("micro", [(), ("--micro-batch", "3")])
def test_plan_bytes_are_those_of_the_run(
    capsys: pytest.CaptureFixture[str], folder: Path, layers: str, micro: tuple[str, ...]
) -> None:
    graph = read_model(small_cnn())
    layers = layers.replace("5b,6", f"{graph.params[2].op_index}b,{graph.params[3].op_index}")
    told = plan(capsys, folder, "--layers", layers, "--batch", "8", *micro)
    session = Session(graph, layers=layers, batch_size=8, micro_batch=3 if micro else None)
    assert told["memory"] == {f"{name}_bytes": held for name, held in vars(session.memory).items()}
    assert told["memory_bytes"] == session_bytes(session) and told["trained_numbers"] == session.size
    assert told["step_us"] > 0 and told["macs"] > 0 and told["interpreter"] == []
    trains = {op["index"]: op["trains"] for op in told["operators"] if op["trains"]}
    assert len(trains) == len({s.param for s in session.segments})


def test_plan_with_samples_names_tensors_that_never_move(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    told = plan(capsys, folder, "--layers", "all", "--data", "d.npz", "--lr", "1e-9")
    assert told["update_steps"] == 2 and len(told["tensors"]) == 8
    assert not any(t["moves"] or t["update_norm"] for t in told["tensors"])
    told = plan(capsys, folder, "--layers", "all", "--data", "d.npz", "--lr", "0.01")
    assert all(t["gradient_norm"] > 0 and t["update_norm"] > 0 for t in told["tensors"])
    code, out, _ = call(capsys, folder, "plan", "m.tflite", "--data", "d.npz", "--lr", "1e-9")
    assert code == 0 and "never moves at this rate" in out


def test_plan_names_shared_and_dead_parts(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    f = FlatFile()
    x, y, z = (f.tensor((1, 3), scale=0.1) for _ in range(3))
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    b = f.tensor((3,), "int32", data=np.arange(3, dtype=np.int32))
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, w, b], [z])
    (folder / "m.tflite").write_bytes(f.finish([x], [z]))
    told = plan(capsys, folder, "--layers", "all")
    assert [op["notes"] for op in told["operators"]] == [["weights shared: frozen"]] * 2
    assert [op["trains"] for op in told["operators"]] == ["", "bias"]
    f = FlatFile()
    x, y = f.tensor((1, 3), scale=0.1), f.tensor((1, 3), scale=0.1)
    q = np.array([[1, 2, 3], [0, 0, 0], [4, 5, 6]], np.int8)
    f.op("FULLY_CONNECTED", [x, f.tensor((3, 3), scale=[0.01, 0.01, 0.02], data=q), -1], [y])
    (folder / "m.tflite").write_bytes(f.finish([x], [y]))
    told = plan(capsys, folder, "--layers", "all")
    assert told["operators"][0]["notes"] == ["1 dead channel: frozen"]


@pytest.mark.parametrize("data", [(), ("--data", "d.npz")])
def test_plan_auto_keeps_the_budget_and_train_takes_the_same(
    capsys: pytest.CaptureFixture[str], folder: Path, data: tuple[str, ...]
) -> None:
    most = plan(capsys, folder, "--layers", "all")["memory_bytes"]
    least = plan(capsys, folder, "--layers", "head")["memory_bytes"]
    budget = str((most + least) // 2)
    told = plan(capsys, folder, "--layers", "auto", "--memory-budget", budget, *data)
    assert told["memory_bytes"] <= int(budget) and told["selection"].startswith("ops:")
    assert (told["share_of_all"] is None) == (not data)
    if data:
        args = ("train", "m.tflite", *data, "--layers", "auto", "--memory-budget", budget, "--json")
        code, out, _ = call(capsys, folder, *args)
        trained = json.loads(out)
        assert code == 0 and trained["selection"] == told["selection"]
        explicit = call(capsys, folder, "train", "m.tflite", *data, "--layers", told["selection"], "--json")
        assert json.loads(explicit[1])["trained_sha256"] == trained["trained_sha256"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--memory-budget", "10"), 64, "memory budget is 10"),
        (("--layers", "auto", "--memory-budget", "10"), 64, "below the least possible"),
        (("--memory-budget", "much"), 64, "no size"),
        (("--memory-budget", "0"), 64, "no size"),
        (("--layers", "some"), 64, "layers is"),
        (("--batch", "0"), 64, "batch_size"),
        (("--data", "absent.npz"), 66, "no"),
    ],
    ids=str,
)
def test_plan_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = call(capsys, folder, "plan", "m.tflite", *args)
    assert (got, out) == (code, "") and words in err and err.count("\n") == 1


def test_train_explicit_layers_above_the_budget_are_refused(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, _, err = call(
        capsys, folder, "train", "m.tflite", "--data", "d.npz", "--layers", "all", "--memory-budget", "9K"
    )
    assert code == 64 and "memory budget is 9216" in err


def test_sizes() -> None:
    assert [size(t) for t in ("1", "512K", "512k", "2M", "1G")] == [1, 1 << 19, 1 << 19, 1 << 21, 1 << 30]


def test_bench_prints_every_row(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = call(capsys, folder, "bench", "m.tflite", "--seconds", "0.001", "--json")
    told = json.loads(out)
    works = {(row["work"], row["batch"]) for row in told["rows"]}
    assert code == 0 and told["peak_rss_bytes"] > 0
    assert works == {("forward", 1), *((w, b) for w in ("head", "bias+head", "all") for b in (1, 32))}
    assert {row["isa"] for row in told["rows"]} >= {"ref"}
    assert all(row["us"] > 0 and 0 < row["arena"] <= row["bytes"] for row in told["rows"])
    code, out, _ = call(capsys, folder, "bench", "m.tflite", "--seconds", "0.001")
    assert code == 0 and len(out.splitlines()) == len(told["rows"]) + 3
    assert call(capsys, folder, "bench", "--seconds", "0")[0] == 64


def test_bench_of_a_model_that_cannot_train_has_forward_rows(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    net = Net((1, 6, 6, 2), np.random.default_rng(0)).mean()
    (folder / "m.tflite").write_bytes(net.build())
    code, out, _ = call(capsys, folder, "bench", "m.tflite", "--seconds", "0.001", "--json")
    assert code == 0 and {row["work"] for row in json.loads(out)["rows"]} == {"forward"}


@pytest.mark.parametrize("name", NETS)
def test_built_in_nets_train_and_repeat(name: str) -> None:
    data = NETS[name]()
    assert NETS[name]() == data
    graph = read_model(data)
    session = Session(graph, layers="all", batch_size=1)
    assert sum(p.q.size + p.channels for p in graph.params) == session.size


@pytest.mark.parametrize("seed", range(3))
def test_plan_of_random_models_runs(capsys: pytest.CaptureFixture[str], folder: Path, seed: int) -> None:
    (folder / "m.tflite").write_bytes(random_net(seed))
    assert plan(capsys, folder, "--layers", "all", "--batch", "2")["memory_bytes"] > 0
