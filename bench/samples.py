# SPDX-License-Identifier: Apache-2.0
"""Models and samples of the shared data folder, for the benches.

In: names.  Out: bytes and arrays in the models' own input quantisation.  Exits with one line where the
folder is absent: EDGEFL_SHARED, or `shared` beside the checkout.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

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


def noise(graph: Graph, n: int = 1) -> np.ndarray:
    """Uniform int8 samples of the graph's input shape."""
    shape = (n, *graph.tensors[graph.input].shape)
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
