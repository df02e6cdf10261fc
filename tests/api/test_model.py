# SPDX-License-Identifier: Apache-2.0
"""The public Model: open, predict, save."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle.forward import run
from tinymodel import Net, small_cnn

import edgefl
from edgefl.errors import DataError, MissingInput, ModelError, Refused, StorageError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small model on disk."""
    file = tmp_path / "m.tflite"
    file.write_bytes(small_cnn())
    return file


def test_import_edgefl_stays_light() -> None:
    """The supervisor imports edgefl: no numpy, no C core, no flatbuffers."""
    heavy = ("numpy", "tflite", "cffi", "_cffi_backend")
    code = f"import sys, edgefl; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_are_listed_and_unknown_ones_are_not() -> None:
    assert {"Model", "Trainer"} <= set(edgefl.__all__)
    with pytest.raises(AttributeError):
        _ = edgefl.Nothing


def test_open_describes_input_and_output(path: Path) -> None:
    model = edgefl.Model.open(path)
    assert model.input.shape == (1, 8, 8, 3) and model.input.dtype == "int8"
    assert model.input.scale == pytest.approx(0.05) and model.input.zero_point == -3
    assert model.output.shape == (1, 4) and model.output.scale == 1 / 256
    assert "operators" in repr(model)


def test_predict_values_fit_together(path: Path) -> None:
    model = edgefl.Model.open(path)
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3))
    real, stored, logits = (model.predict(x, values=v) for v in ("real", "stored", "logits"))
    assert real.dtype == np.float32 and real.shape == (40, 4)
    assert stored.dtype == np.int8 and logits.dtype == np.int8 and logits.shape == (40, 4)
    np.testing.assert_array_equal(real, (stored.astype(np.float32) + 128) / 256)
    assert np.abs(real.sum(axis=1) - 1).max() < 0.02
    assert np.array_equal(model.predict(x), real)


def test_predict_equals_the_oracle(path: Path) -> None:
    model = edgefl.Model.open(path)
    x = np.random.default_rng(1).integers(-128, 128, (33, 8, 8, 3)).astype(np.int8)
    values = run(model.graph, x)
    np.testing.assert_array_equal(
        model.predict(x, values="stored"), values[model.graph.output].reshape(33, 4)
    )
    np.testing.assert_array_equal(
        model.predict(x, values="logits"), values[model.graph.logits].reshape(33, 4)
    )


def test_predict_float_model_gives_float(tmp_path: Path) -> None:
    net = Net((1, 4, 4, 2), np.random.default_rng(0)).conv(3).mean().dense(2)
    (tmp_path / "f.tflite").write_bytes(net.build_float_io())
    model = edgefl.Model.open(tmp_path / "f.tflite")
    assert (model.input.dtype, model.output.dtype) == ("float32", "float32")
    assert model.predict(np.ones((3, 4, 4, 2), np.float32)).shape == (3, 2)


@pytest.mark.parametrize(
    "name", ["mlperf-tiny/resnet8_int8", "mlperf-tiny/kws_ref_model_int8", "tinymaix/mnist_dw_q"]
)
def test_predict_real_model_equals_litert(name: str, shared: Path) -> None:
    golden = np.load(shared / "data/model-golden/litert_golden.npz")
    model = edgefl.Model.open(shared / "data/models" / f"{name}.tflite")
    base = name.split("/")[1]
    y = model.predict(golden[f"{base}/in0"], values="stored")  # [8, 1, H, W, C]: a 1 too many is fine
    np.testing.assert_array_equal(y, golden[f"{base}/xnn_out0"].reshape(y.shape))


def test_save_untrained_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.tflite"
    edgefl.Model.open(path).save(target)
    assert target.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.tflite", "m.tflite"]


def test_save_keeps_the_mode_of_the_file_it_replaces(path: Path) -> None:
    path.chmod(0o640)
    edgefl.Model.open(path).save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_save_full_disk_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = edgefl.Model.open(path), path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_save_into_a_missing_folder_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        edgefl.Model.open(path).save(tmp_path / "no" / "m.tflite")


def test_open_bad_paths_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        edgefl.Model.open(tmp_path / "none.tflite")
    with pytest.raises(UsageError, match="folder"):
        edgefl.Model.open(tmp_path)
    (tmp_path / "x").write_bytes(b"not a model at all")
    with pytest.raises(ModelError):
        edgefl.Model.open(tmp_path / "x")
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(Refused):
            edgefl.Model.open(path)


def test_open_unknown_requant_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="xnnpack, gemmlowp"):
        edgefl.Model.open(path, requant="ruy")


def test_open_gemmlowp_keeps_its_rule_while_training(path: Path) -> None:
    models = [edgefl.Model.open(path, requant=rule) for rule in ("xnnpack", "gemmlowp")]
    x = np.random.default_rng(0).integers(-128, 128, (200, 8, 8, 3)).astype(np.int8)
    before = [model.predict(x, values="logits") for model in models]
    assert 0 < (before[0] != before[1]).sum() < before[0].size / 4
    edgefl.Trainer(models[1], layers="all").fit(x, np.arange(200) % 4)
    assert models[1].graph.requant == "gemmlowp"
    assert (models[1].predict(x, values="logits") != before[1]).any()


def test_predict_bad_input_is_refused(path: Path) -> None:
    model = edgefl.Model.open(path)
    with pytest.raises(DataError):
        model.predict(np.full((1, 8, 8, 3), np.nan))
    with pytest.raises(DataError):
        model.predict(np.zeros((1, 8, 8, 4)))
    with pytest.raises(UsageError):
        model.predict(np.zeros((1, 8, 8, 3)), values="prob")
