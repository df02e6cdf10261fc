# SPDX-License-Identifier: Apache-2.0
"""The oracle itself: LiteRT's outputs, RFC vectors, both conformance rows of docs/training.md."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from oracle.forward import run
from oracle.step import Oracle
from oracle.stream import keystream, shuffle, start_residual

from edgefl.model.read import read_model

MODELS = {
    "arrhythmia_mlp_int8": "misc",
    "cifar10_q": "tinymaix",
    "conv_fc_mnist_srq_a8w8": "ai-edge-quantizer",
    "ecg_arrhythmia_int8": "ambiq",
    "hello_world_int8": "tflite-micro",
    "kws_ref_model_int8": "mlperf-tiny",
    "mbnet96_0.25_q": "tinymaix",
    "micro_speech_quantized": "tflite-micro",
    "mnist_dw_q": "tinymaix",
    "mnist_resnet_q": "tinymaix",
    "mnist_valid_q": "tinymaix",
    "resnet8_int8": "mlperf-tiny",
    "yolo_face_detect_int8": "nxp",
}
KWS_SHA = "b1b0607282fc0d6134ae91132211f0e5f37d337b7b4e246f9d7ac0a00c4046ec"
RESNET_SHA = "22dd9fdf5f49e4c60007257dee9fe2e06402816a3531b790ffc4b5661962b525"
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 3 000 JPEG images as the conformance row wants them."""
    image = pytest.importorskip("PIL.Image", reason="decoding JPEG needs Pillow")
    archive = zipfile.ZipFile(shared / "data/cifar10-jpeg/cifar10_test_jpeg_dev.zip")
    names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
    pixels = np.stack([np.asarray(image.open(io.BytesIO(archive.read(n)))) for n in names])
    return (pixels.astype(np.int16) - 128).astype(np.int8), np.array(
        [CIFAR.index(n.split("/")[-2]) for n in names]
    )


def test_keystream_rfc8439_zero_key_matches() -> None:
    """RFC 8439, appendix A.1, vectors 1 and 2."""
    stream = keystream(bytes(32), 128).tobytes()
    assert stream[:16].hex() == "76b8e0ada0f13d90405d6ae55386bd28"
    assert stream[64:80].hex() == "9f07e7be5551387a98ba977c732d080d"


def test_seeded_numbers_match_the_documented_starts() -> None:
    assert start_residual(4, 1, 0).tolist() == [-102, 80, 101, 48]
    assert shuffle(700, 1, 0, 0)[:4].tolist() == [29, 227, 528, 479]


@pytest.mark.parametrize("name", MODELS)
def test_forward_real_models_equal_litert(name: str, shared: Path) -> None:
    golden = np.load(shared / "data/model-golden/litert_golden.npz")
    graph = read_model((shared / "data/models" / MODELS[name] / f"{name}.tflite").read_bytes())
    y = run(graph, golden[f"{name}/in0"][:, 0])[graph.output]
    np.testing.assert_array_equal(y, golden[f"{name}/xnn_out0"].reshape(y.shape))


def test_train_kws_gives_the_conformance_hash(shared: Path) -> None:
    data = np.load(shared / "data/kws01/kws01_mfcc_int8.npz")
    graph = read_model((shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite").read_bytes())
    oracle = Oracle(graph, "last:2", lr=0.01, seed=1)
    state = oracle.fit(data["x"], data["y"].astype(np.int64), max_steps=5)
    assert state.sha256() == KWS_SHA
    assert oracle.delta([0, -4, 0, -4])[:8].tolist() == [3, 0, 1, 0, -2, 1, 5, 2]


def test_train_resnet8_gives_the_conformance_hash(shared: Path) -> None:
    x, y = cifar(shared)
    graph = read_model((shared / "data/models/mlperf-tiny/resnet8_int8.tflite").read_bytes())
    assert Oracle(graph, "all", lr=0.0003, seed=1).fit(x, y, max_steps=5).sha256() == RESNET_SHA
