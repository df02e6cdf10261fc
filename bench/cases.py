# SPDX-License-Identifier: Apache-2.0
"""What bench/accuracy.py and bench/fp32.py train: models, data, splits, layers, rates and how it is scored.

In: the shared folder, the name of a case, a seed.  Out: Case.  One place for both arithmetics, so that
samples, their order, rates and layers are the same.  Needs NumPy, for the images Pillow.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import signals

from edgefl.data.score import score_classes, score_ranking
from edgefl.demo import beats
from edgefl.model.graph import Graph
from edgefl.model.quantise import quantise
from edgefl.model.read import read_model

MODELS = Path(__file__).parent / "models"
NEW_SPEAKER = "theo"
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Run:
    """Which layers train, at which rate, for how many epochs."""

    layers: str
    lr: float
    epochs: int = 3


@dataclass(frozen=True)
class Case:
    """One model with its samples; x int8 [n, ...] in the model's input quantisation.

    tests: what is scored, by name. y None: the input is the target; its tests then have 0 and 1 as labels.
    """

    graph: Graph
    x: np.ndarray
    y: np.ndarray | None
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    metric: str  # "accuracy", "macro-F1" or "AUC"
    runs: tuple[Run, ...]
    step_cap: float = 0.003
    weights: tuple[float, ...] | None = None
    batch: int = 32
    loss: str = field(default="softmax_ce")


def resnet8(shared: Path, seed: int) -> Case:
    """CIFAR-10 as JPEG: of each class 0000..0199 train, 0200..0299 test."""
    from PIL import Image

    archive = zipfile.ZipFile(shared / "data/cifar10-jpeg/cifar10_test_jpeg_dev.zip")
    names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names])
    x = (pixels.astype(np.int16) - 128).astype(np.int8)
    y = np.array([CIFAR.index(n.split("/")[-2]) for n in names])
    place = np.zeros(len(y), int)
    for c in range(10):
        place[y == c] = np.arange((y == c).sum())  # names are sorted
    train = place < 200
    runs = (Run("head", 0.03, 10), Run("bias+head", 0.01), Run("last:4", 0.0003, 10), Run("all", 0.0003))
    graph = _model(shared / "data/models/mlperf-tiny/resnet8_int8.tflite")
    return Case(graph, x[train], y[train], {"": (x[~train], y[~train])}, "accuracy", runs)


def ecg(shared: Path, seed: int) -> Case:
    """Take the demo's model on its devices' beats: own last fifths, and patients that no device has."""
    parts = list(beats.split_devices(len(beats.DEVICE_RECORDS)))
    x, y = (np.concatenate([getattr(train, k) for train, _ in parts]) for k in ("x", "y"))
    own = tuple(np.concatenate([getattr(test, k) for _, test in parts]) for k in ("x", "y"))
    other = beats.unseen()
    tests = {"own": (own[0], own[1]), "unseen": (other.x, other.y)}
    runs = (Run("bias+head", 0.02), Run("last:2", 0.02), Run("all", 0.02))
    return Case(_model(beats.MODEL_FILE), x, y, tests, "macro-F1", runs, 0.1, (1.0, 4.0, 2.0))


def kws(shared: Path, seed: int) -> Case:
    """Keywords: 500 of 700 maps train, another split for each seed."""
    data = np.load(shared / "data/kws01/kws01_mfcc_int8.npz")
    graph = _model(shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite")
    x, y = data["x"], data["y"].astype(np.int64)
    train, test = _split(len(y), 500, seed)
    runs = (Run("bias+head", 0.01), Run("last:2", 0.03), Run("all", 0.003))
    return Case(graph, x[train], y[train], {"": (x[test], y[test])}, "accuracy", runs)


def digits(shared: Path, seed: int) -> Case:
    """Spoken digits made one speaker's own: 150 recordings train, 100 test, another split for each seed."""
    maps, y, speaker = signals.digits(shared)
    graph = _model(MODELS / "digits_int8.tflite")
    mine = np.flatnonzero(speaker == NEW_SPEAKER)
    x, y = quantise(graph, maps[mine]), y[mine]
    train, test = _split(len(y), 150, seed)
    runs = tuple(Run(layers, 0.01, 20) for layers in ("bias+head", "last:2", "all"))
    return Case(graph, x[train], y[train], {"": (x[test], y[test])}, "accuracy", runs, 0.03, batch=8)


def lstm(shared: Path, seed: int) -> Case:
    """Take an LSTM of MNIST digits to others' handwriting (FEMNIST): 3 000 train, 1 492 test."""
    data = np.load(shared / "data/femnist-digits/femnist_digits.npz")
    graph = _model(shared / "data/models/tflite-micro/trained_lstm_int8.tflite")
    real = (((255 - data["x"]) / 255 - 0.1307) / 0.3081).astype(np.float32)
    x = quantise(graph, real.reshape(len(real), *graph.tensors[graph.input].sample_shape))
    y = data["y"].astype(np.int64)
    train, test = _split(len(y), 3000, seed)
    runs = (Run("head", 0.01), Run("all", 0.01))
    return Case(graph, x[train], y[train], {"": (x[test], y[test])}, "accuracy", runs, 0.03)


def fan(shared: Path, seed: int) -> Case:
    """Teach the autoencoder of a slow fan the other speeds; AUC against a weighted blade."""
    graph = _model(MODELS / "fan_autoencoder_int8.tflite")
    parts = fan_parts(shared)
    x = quantise(graph, parts["train"])
    test = quantise(graph, np.concatenate([parts["normal"], parts["anomaly"]]))
    labels = np.repeat([0, 1], [len(parts["normal"]), len(parts["anomaly"])])
    runs = tuple(Run(layers, 0.1, 10) for layers in ("bias+head", "last:2", "all"))
    return Case(graph, x, None, {"": (test, labels)}, "AUC", runs, 0.03, loss="mse")


def fan_parts(shared: Path) -> dict[str, np.ndarray]:
    """Spectra by use: before deployment, training there, and the last two fifths in time for the test."""
    x, kind, seq = signals.fan(shared)

    def pick(names: tuple[str, ...], low: float, high: float) -> np.ndarray:
        rows = []
        for name in names:
            here = np.flatnonzero(kind == name)
            share = seq[here] / (seq[here].max() + 1)
            rows.append(here[(share >= low) & (share < high)])
        return x[np.concatenate(rows)]

    whole = tuple(f"fan_0_{speed}_0_weight" for speed in ("off", "low", "med", "high"))
    weighted = tuple(f"fan_0_{speed}_1_weight" for speed in ("low", "med", "high"))
    return {
        "pretrain": pick(whole[:2], 0.0, 0.3),
        "train": pick(whole, 0.3, 0.6),
        "normal": pick(whole, 0.6, 1.0),
        "anomaly": pick(weighted, 0.6, 1.0),
    }


CASES: dict[str, Callable[[Path, int], Case]] = {
    "resnet8": resnet8,
    "ecg": ecg,
    "kws": kws,
    "digits": digits,
    "lstm": lstm,
    "fan": fan,
}


def score(case: Case, name: str, outputs: np.ndarray) -> float:
    """Score real outputs [n, size] of a test, in percent."""
    x, y = case.tests[name]
    if case.metric == "AUC":
        wanted = case.graph.tensors[case.graph.input].real(x).reshape(outputs.shape)
        return score_ranking(y, ((outputs.astype(np.float64) - wanted) ** 2).mean(axis=1))
    scores = score_classes(y, outputs.argmax(axis=1))
    return scores.accuracy if case.metric == "accuracy" else scores.macro_f1


def _model(path: Path) -> Graph:
    return read_model(path.read_bytes())


def _split(n: int, n_train: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    return order[:n_train], order[n_train:]
