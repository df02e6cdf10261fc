# SPDX-License-Identifier: Apache-2.0
"""Both conformance rows of docs/training.md, on every instruction set of this machine."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgefl.model.read import read_model
from edgefl.model.stream import shuffled, start_residuals
from edgefl.native import lib
from edgefl.native.engine import select_isa, supported_isas
from edgefl.train import Session
from edgefl.types import Batch

KWS = "b1b0607282fc0d6134ae91132211f0e5f37d337b7b4e246f9d7ac0a00c4046ec"
RESNET8 = "22dd9fdf5f49e4c60007257dee9fe2e06402816a3531b790ffc4b5661962b525"
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture(params=supported_isas())
def isa(request: pytest.FixtureRequest):
    select_isa(request.param)
    yield request.param
    lib.efl_init()


def test_streams_start_as_documented() -> None:
    assert start_residuals(4, 1, 0).tolist() == [-102, 80, 101, 48]
    assert shuffled(700, 1, 0, 0)[:4].tolist() == [29, 227, 528, 479]
    assert sorted(shuffled(50, 3, 1, 2).tolist()) == list(range(50))
    assert shuffled(1, 0, 0, 0).tolist() == [0]


def test_kws_last_two_gives_the_documented_hash(shared: Path, isa: int) -> None:
    data = np.load(shared / "data/kws01/kws01_mfcc_int8.npz")
    graph = read_model((shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite").read_bytes())
    session = Session(graph, layers="last:2", lr=0.01, batch_size=32, seed=1)
    session.fit(Batch(data["x"], data["y"].astype(np.int64)), max_steps=5)
    assert session.trained_sha256() == KWS
    assert session.delta().values[:8].tolist() == [3, 0, 1, 0, -2, 1, 5, 2]


def test_resnet8_all_gives_the_documented_hash(shared: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="decoding the images needs Pillow")
    archive = zipfile.ZipFile(shared / "data/cifar10-jpeg/cifar10_test_jpeg_dev.zip")
    names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
    pixels = np.stack([np.asarray(image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names])
    x = (pixels.astype(np.int16) - 128).astype(np.int8)
    assert hashlib.sha256(x.tobytes()).hexdigest().startswith("35667e8bea8d4430")
    y = np.array([CLASSES.index(n.split("/")[-2]) for n in names])
    graph = read_model((shared / "data/models/mlperf-tiny/resnet8_int8.tflite").read_bytes())
    session = Session(graph, layers="all", lr=0.0003, batch_size=32, seed=1)
    session.fit(Batch(x, y), max_steps=5)
    assert session.trained_sha256() == RESNET8
