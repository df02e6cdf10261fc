# SPDX-License-Identifier: Apache-2.0
"""MNIST's test digits as trained_lstm_int8 takes them: (x/255 - .1307)/.3081, then its quantisation."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def mnist_int8(
    shared: Path, scale: float = 0.003921568859368563, zero: int = -128
) -> tuple[np.ndarray, np.ndarray]:
    """(int8 [10000,1,28,28], labels int64 [10000])."""
    folder = shared / "data/mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32)
    real = (pixels / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)
    q = np.rint(real / np.float32(scale)) + zero
    return np.clip(q, -128, 127).astype(np.int8), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
