# SPDX-License-Identifier: Apache-2.0
"""The command line: one clear line and a documented exit code for every kind of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinymodel import Net, small_cnn

from edgefl.cli import main as cli
from edgefl.cli import score
from edgefl.model.read import read_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and samples, sound and broken."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(-128, 128, (60, 8, 8, 3)).astype(np.int8), rng.integers(0, 4, 60)
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    (tmp_path / "broken.tflite").write_bytes(small_cnn()[:1000])
    f = Net((1, 6), rng).dense(2).f
    f.op("FLOOR", [0], [f.tensor((1, 6), scale=0.1)])
    (tmp_path / "odd.tflite").write_bytes(f.finish([0], [3]))
    np.savez(tmp_path / "d.npz", x=x, y=y)
    np.savez(tmp_path / "labels.npz", x=x, y=y + 1)
    np.savez(tmp_path / "nan.npz", x=np.full((60, 8, 8, 3), np.nan), y=y)
    np.savez(tmp_path / "nolabels.npz", x=x)
    np.savez(tmp_path / "objects.npz", x=np.array([None] * 60, object), y=y)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "auto.tflite").write_bytes(Net((1, 6), rng).dense(3, act="RELU").dense(6).build())
    normal = rng.normal(0, 0.8, (60, 2)) @ rng.normal(0, 1, (2, 6))  # of rank 2: three numbers can hold it
    np.savez(tmp_path / "normal.npz", x=normal)
    np.savez(tmp_path / "anomaly.npz", x=normal + rng.normal(0, 1, (60, 6)) * (y % 2)[:, None], y=y % 2)
    np.savez(tmp_path / "yes.npz", x=x, y=np.eye(4)[y])
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], folder: Path, *args: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of one command; names of files in the folder are completed."""
    full = [str(folder / a) if (folder / a).exists() or a.startswith("out") else a for a in args]
    try:
        code = cli.main(full)
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 64, "COMMAND"),
        (["frobnicate"], 64, "invalid choice"),
        (["eval"], 64, "MODEL"),
        (["eval", "m.tflite"], 64, "--data"),
        (["eval", "m.tflite", "--data", "none.npz"], 66, "no data file"),
        (["eval", "none.tflite", "--data", "d.npz"], 66, "no model file"),
        (["eval", "broken.tflite", "--data", "d.npz"], 65, "damaged"),
        (["eval", "odd.tflite", "--data", "d.npz"], 65, "operator 1 (FLOOR) is not supported"),
        (["eval", "d.npz", "--data", "d.npz"], 65, "not a .tflite file"),
        (["eval", "m.tflite", "--data", "m.tflite"], 65, "not an .npz"),
        (["eval", "m.tflite", "--data", "text.npz"], 65, "not an .npz"),
        (["eval", "m.tflite", "--data", "labels.npz"], 65, "classes 0..3"),
        (["eval", "m.tflite", "--data", "nan.npz"], 65, "NaN"),
        (["eval", "m.tflite", "--data", "nolabels.npz"], 65, "no array 'y'"),
        (["eval", "m.tflite", "--data", "objects.npz"], 65, "Python objects"),
        (["eval", ".", "--data", "d.npz"], 64, "folder"),
        (["train", "m.tflite", "--data", "labels.npz", "-o", "out"], 65, "classes 0..3"),
        (["train", "m.tflite", "--data", "nan.npz", "-o", "out"], 65, "NaN"),
        (["train", "m.tflite", "--data", "d.npz", "--layers", "some", "-o", "out"], 64, "layers"),
        (["train", "m.tflite", "--data", "d.npz", "--lr", "0", "-o", "out"], 64, "lr"),
        (["train", "m.tflite", "--data", "d.npz", "--lr", "x", "-o", "out"], 64, "--lr"),
        (["train", "m.tflite", "--data", "d.npz", "--batch", "0", "-o", "out"], 64, "batch"),
        (["train", "m.tflite", "--data", "d.npz", "--epochs", "0", "-o", "out"], 64, "epochs"),
        (["train", "m.tflite", "--data", "d.npz", "--max-steps", "0", "-o", "out"], 64, "max_steps"),
        (
            ["train", "m.tflite", "--data", "d.npz", "--class-weights", "1,2", "-o", "out"],
            64,
            "class_weights",
        ),
        (
            ["train", "m.tflite", "--data", "d.npz", "--class-weights", "1,b", "-o", "out"],
            64,
            "list of numbers",
        ),
        (["train", "m.tflite", "--data", "d.npz", "--loss", "hinge", "-o", "out"], 64, "invalid choice"),
        (["train", "m.tflite", "--data", "d.npz", "--loss", "mse", "-o", "out"], 65, "SOFTMAX"),
        (["train", "m.tflite", "--data", "d.npz", "--loss", "kl", "-o", "out"], 65, "float probabilities"),
        (["train", "m.tflite", "--data", "d.npz", "--anchors", "0.1,0.2", "-o", "out"], 64, "grid loss"),
        (["train", "m.tflite", "--data", "d.npz", "--anchors", "0.1", "-o", "out"], 64, "no height"),
        (["train", "auto.tflite", "--data", "normal.npz", "-o", "out"], 65, "no array 'y'"),
        (["train", "auto.tflite", "--data", "anomaly.npz", "--loss", "mse", "-o", "out"], 65, "float values"),
        (["train", "m.tflite", "--data", "d.npz", "-o", "/no/such/folder/o.tflite"], 66, "folder"),
        (["train", "odd.tflite", "--data", "d.npz", "-o", "out"], 65, "FLOOR"),
        (["model", "inspect", "broken.tflite"], 65, "damaged"),
        (["model", "inspect"], 64, "MODEL"),
        (["model"], 64, "ACTION"),
    ],
)
def test_bad_input_gives_one_line_and_its_code(
    capsys: pytest.CaptureFixture[str], folder: Path, args: list[str], code: int, words: str
) -> None:
    got, out, err = call(capsys, folder, *args)
    assert got == code and words in err, err
    assert out == "" and len(err.strip().splitlines()) == 1
    assert "Traceback" not in err and not (folder / "out").exists()


def test_eval_json_has_scores_in_percent(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = call(capsys, folder, "eval", "m.tflite", "--data", "d.npz", "--json")
    result = json.loads(out)
    assert code == 0 and result["samples"] == 60
    assert 0 <= result["accuracy"] <= 100 and 0 <= result["macro_f1"] <= 100
    assert set(result["recall"]) == {"0", "1", "2", "3"}


def test_eval_prints_a_table(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = call(capsys, folder, "eval", "m.tflite", "--data", "d.npz")
    assert code == 0 and err == "" and "macro-F1" in out and len(out.splitlines()) == 8


def test_autoencoder_trains_on_its_input_and_eval_gives_the_auc(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    args = ("auto.tflite", "--data", "anomaly.npz", "--loss", "mse")
    before = json.loads(call(capsys, folder, "eval", *args, "--json")[1])
    more = ("--layers", "all", "--step-cap", "0.1", "--epochs", "40", "--lr", "0.1")
    train = ("train", "auto.tflite", "--data", "normal.npz", "--loss", "mse", *more)
    code, out, _ = call(capsys, folder, *train, "-o", "out.tflite", "--json")
    told = json.loads(out)
    assert code == 0 and told["loss_name"] == "mse" and set(told["epochs"][0]) == {"loss"}
    assert told["epochs"][-1]["loss"] < 0.7 * told["epochs"][0]["loss"]
    after = json.loads(call(capsys, folder, "eval", "out.tflite", *args[1:], "--json")[1])
    assert after["samples"] == 60 and after["loss"] < before["loss"] and 50 < after["auc"] <= 100
    code, out, _ = call(capsys, folder, "eval", "out.tflite", *args[1:])
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["samples", "loss", "auc"]
    code, out, _ = call(capsys, folder, *train, "--max-steps", "2")
    assert code == 0 and "accuracy" not in out


def test_kl_trains_to_soft_targets(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    args = ("m.tflite", "--data", "yes.npz", "--loss", "kl", "--json")
    code, out, _ = call(capsys, folder, "train", *args)
    assert code == 0 and set(json.loads(out)["epochs"][0]) == {"loss", "accuracy"}
    code, out, _ = call(capsys, folder, "eval", *args)
    assert code == 0 and set(json.loads(out)) == {"model", "loss_name", "samples", "loss", "accuracy"}


def test_loss_names_are_those_of_the_engine() -> None:
    from edgefl.cli.samples import LOSSES
    from edgefl.model import loss

    assert tuple(loss.LOSSES) == LOSSES


def test_train_writes_a_model_of_the_same_length(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    args = [
        "train",
        "m.tflite",
        "--data",
        "d.npz",
        "--layers",
        "all",
        "--lr",
        "0.1",
        "-o",
        "out.tflite",
        "--json",
    ]
    code, out, err = call(capsys, folder, *args)
    result = json.loads(out)
    assert code == 0 and err == ""
    assert len(result["trained_sha256"]) == 64 and result["steps"] == 2 and result["samples"] == 60
    assert result["loss"] > 0 and result["trained_numbers"] > 0 and len(result["layers"]) == 4
    old, new = (folder / "m.tflite").read_bytes(), (folder / "out.tflite").read_bytes()
    assert len(old) == len(new) and old != new
    read_model(new)


def test_train_without_output_says_so(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = call(capsys, folder, "train", "m.tflite", "--data", "d.npz", "--max-steps", "1")
    assert code == 0 and "not kept" in err and "1 steps" in out


def test_train_full_disk_is_74_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call(capsys, folder, "train", "m.tflite", "--data", "d.npz", "-o", "out.tflite")
    assert (
        code == 74
        and "No space left" in err
        and not list(folder.glob(".out*"))
        and not list(folder.glob("out*"))
    )


@pytest.mark.parametrize(
    ("name", "layers", "lr", "expected"),
    [("kws", "last:2", "0.01", "b1b0607282fc0d6134ae91132211f0e5f37d337b7b4e246f9d7ac0a00c4046ec")],
)
def test_train_real_model_prints_the_conformance_hash(
    capsys: pytest.CaptureFixture[str], shared: Path, name: str, layers: str, lr: str, expected: str
) -> None:
    model = shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite"
    data = shared / "data/kws01/kws01_mfcc_int8.npz"
    args = f"train {model} --data {data} --layers {layers} --lr {lr} --batch 32 --seed 1 --max-steps 5 --json"
    assert cli.main(args.split()) == 0
    assert json.loads(capsys.readouterr().out)["trained_sha256"] == expected


def test_eval_kws_scores_as_documented(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    model = shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite"
    assert (
        cli.main(["eval", str(model), "--data", str(shared / "data/kws01/kws01_mfcc_int8.npz"), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(100 * 628 / 700, abs=1e-4)


def test_inspect_json_lists_the_operators(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = call(capsys, folder, "model", "inspect", "m.tflite", "--json")
    result = json.loads(out)
    assert code == 0 and len(result["operators"]) == 7 and result["inputs"][0]["shape"] == [1, 8, 8, 3]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("boom\nsecond line"), 70),
        (MemoryError(), 70),
        (KeyboardInterrupt(), 130),
        (OSError(28, "full"), 74),
    ],
)
def test_unexpected_errors_give_one_line(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    def fail(args: object) -> None:
        raise error

    monkeypatch.setattr(score, "run_eval", fail)
    got, _, err = call(capsys, folder, "eval", "m.tflite", "--data", "d.npz")
    assert got == code and len(err.strip().splitlines()) == 1 and "Traceback" not in err


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEFL_DEBUG", "1")
    _, _, err = call(capsys, folder, "eval", "broken.tflite", "--data", "d.npz")
    assert "Traceback" in err


def test_version_and_help_work() -> None:
    for args in (["--version"], ["--help"], ["train", "--help"]):
        out = subprocess.run(
            [sys.executable, "-m", "edgefl", *args], capture_output=True, text=True, check=True
        )
        assert out.stdout and not out.stderr


def test_closed_pipe_is_quiet(folder: Path) -> None:
    """`edgefl model inspect m | head -0`: no complaint."""
    command = [sys.executable, "-m", "edgefl", "model", "inspect", str(folder / "m.tflite")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(30) == 0


def test_start_up_of_other_commands_brings_no_numpy() -> None:
    code = (
        "import sys; from edgefl.cli.main import build_parser; build_parser('eval'); "
        "print('numpy' in sys.modules, 'tflite' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
