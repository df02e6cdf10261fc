# SPDX-License-Identifier: Apache-2.0
"""Models and samples of the shared data folder, for the benches.

In: names.  Out: bytes and arrays in the models' own input quantisation.  Exits with one line where the
folder is absent: EDGEFL_SHARED, or `shared` beside the checkout.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgefl.model.graph import Graph

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def shared() -> Path:
    """Folder `data` of the shared files."""
    root = Path(os.environ.get("EDGEFL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        raise SystemExit("needs the shared data folder beside the checkout (or EDGEFL_SHARED)")
    return root / "data"


def model_bytes(name: str) -> bytes:
    """Read a .tflite file, e.g. "mlperf-tiny/resnet8_int8"."""
    return (shared() / "models" / f"{name}.tflite").read_bytes()


def cifar(n: int) -> tuple[np.ndarray, np.ndarray]:
    """First n of the shuffled JPEG images (seed 0): int8 [n, 32, 32, 3], int64 [n]."""
    from PIL import Image

    archive = zipfile.ZipFile(shared() / "cifar10-jpeg/cifar10_test_jpeg_dev.zip")
    names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))[:n]]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(i))).convert("RGB")) for i in names])
    labels = np.array([CLASSES.index(name.split("/")[-2]) for name in names], np.int64)
    return (pixels.astype(np.int16) - 128).astype(np.int8), labels


def kws(n: int) -> tuple[np.ndarray, np.ndarray]:
    """First n of the 700 MFCC maps: int8 [n, 49, 10, 1], int64 [n]."""
    data = np.load(shared() / "kws01/kws01_mfcc_int8.npz")
    return data["x"][:n], data["y"][:n].astype(np.int64)


def digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """First n test digits: uint8 [n, 28, 28], int64 [n]."""
    folder = shared() / "mnist"
    pixels = np.frombuffer(gzip.open(folder / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(folder / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28)[:n], labels[:n].astype(np.int64)


def real_inputs(name: str, detail: dict[str, Any], n: int) -> np.ndarray | None:
    """Real samples for a model of the shared folder, as its first input (LiteRT's details) takes them."""
    shape, (scale, zero) = tuple(detail["shape"]), detail["quantization"]
    if name.startswith(("resnet8", "cifar10")):
        return cifar(n)[0].reshape(n, *shape)
    if name.startswith("kws"):
        return kws(n)[0].reshape(n, *shape)
    if "mnist" not in name and name != "trained_lstm_int8":
        return None
    real = digits(n)[0].astype(np.float32) / 255
    if name == "trained_lstm_int8":
        real = (real - 0.1307) / 0.3081
    if detail["dtype"] == np.float32:
        return real.reshape(n, *shape)
    limit = np.iinfo(detail["dtype"])
    stored = np.clip(np.rint(real / scale) + zero, limit.min, limit.max)
    return stored.astype(detail["dtype"]).reshape(n, *shape)


def noise(graph: Graph, n: int = 1) -> np.ndarray:
    """Uniform int8 samples of the graph's input shape."""
    shape = (n, *graph.tensors[graph.input].shape)
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
