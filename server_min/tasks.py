# SPDX-License-Identifier: Apache-2.0
"""A model becomes a task: settings checked, bias exponents measured, release 0 built.

In: model file, task.toml, calibration inputs (npz with `x`).  Out: Task, Settings, the first Release.
Refuses unknown keys, layers that cannot train, numbers that contradict each other (bits that do not fit the
ring, a quorum above n_max, a class weight too few), inputs of another shape or with NaN.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgefl.config.device import setting
from edgefl.errors import ConfigError, DataError, MissingInput, UsageError
from edgefl.model.forward import bias_exponents
from edgefl.model.graph import Graph
from edgefl.model.loss import check_weights, loss_heads
from edgefl.model.quantise import quantise
from edgefl.model.read import read_model
from edgefl.model.stream import start_residuals
from edgefl.model.vector import Segment, select_segments, start_master, vector_size
from edgefl.secagg.params import ring_params
from edgefl.wire.messages import Task
from server_min.store import Settings
from server_min.toml import read_flat

NANO = 10**9
MAX_PROBE = 64
MAX_CALIBRATION = 1 << 16
MAX_MODEL = 1 << 31


@dataclass(frozen=True)
class TaskToml:
    """task.toml: one flat table."""

    layers: str = setting(
        "all", 'what trains: "head", "bias+head", "last:K", "all" or "ops:4b,7" (edgefl plan)'
    )
    loss: str = setting(
        "softmax_ce",
        "what the devices' y is: classes, 0..1 for each output, values (none: x itself), probabilities",
        choices=("softmax_ce", "bce", "mse", "kl"),
    )
    class_weights: tuple[float, ...] = setting((), "weight of each class; empty: all 1", low=0, high=1000)
    lr: float = setting(0.01, "learning rate in real units", low=1e-9, high=10)
    epochs: int = setting(1, "local passes over the samples", low=1, high=1000)
    batch: int = setting(32, "samples a step", low=1, high=65536)
    micro_batch: int = setting(0, "samples a micro-batch; 0: the batch", low=0, high=65536)
    step_cap: float = setting(0.003, "largest step relative to a tensor's norm", low=1e-6, high=1)
    shadow: str = setting("residual", "fractions of the weights while training", choices=("residual", "none"))
    seed: int = setting(0, "seed of start residuals and shuffles", low=0, high=(1 << 63) - 1)
    clip: int = setting(
        48000, "largest norm of an update, in units of the trainable vector", low=1, high=(1 << 32) - 1
    )
    scale: int = setting(512, "integers that the clip norm becomes", low=1, high=1 << 20)
    value_bits: int = setting(8, "bits of one integer without head room", low=2, high=16)
    hub_rate: float = setting(1.0, "rate of the averaged update at the hub", low=1e-6, high=100)
    n_max: int = setting(256, "most devices in a round", low=2, high=4096)
    quorum: int = setting(2, "fewest reports that are opened", low=2, high=4096)
    close_at: int = setting(0, "reports that close a round early; 0: all that can come", low=0, high=4096)
    deadline_s: int = setting(600, "longest time from invitation to close", low=1, high=864000)


@dataclass(frozen=True)
class NewTask:
    """A task with what its first release is made of."""

    task: Task
    settings: Settings
    file: bytes
    master: np.ndarray  # int64 [d]
    probe_x: np.ndarray  # int8 [n, input size]


def prepare_task(name: str, model: Path, config: Path, calibration: Path) -> NewTask:
    """Check everything and measure the exponents.

    Raises
    ------
    MissingInput, ConfigError, ModelError, DataError, UsageError
    """
    toml = read_flat(config, "task", TaskToml)
    file = read_file(model, MAX_MODEL)
    graph = read_model(file)
    segments = select_segments(graph, toml.layers, loss_heads(graph, toml.loss))
    try:
        check_weights(graph, toml.loss, toml.class_weights or None)
    except UsageError as error:
        raise ConfigError(f"{config}: {error}") from None
    if not 0 <= toml.micro_batch <= toml.batch:
        raise ConfigError(f"{config}: micro_batch {toml.micro_batch} is above batch {toml.batch}")
    if not toml.quorum <= toml.n_max or (toml.close_at and not toml.quorum <= toml.close_at <= toml.n_max):
        raise ConfigError(f"{config}: quorum <= close_at <= n_max must hold (close_at 0: all that can come)")
    x = calibration_inputs(graph, calibration)
    of_segments = bias_exponents(graph, segments, x)
    exponents = tuple(j for s, j in zip(segments, of_segments, strict=True) if s.kind == "bias")
    dim = vector_size(segments)
    task = Task(
        name=name,
        layers=toml.layers,
        loss=toml.loss,
        class_weights_nano=tuple(nano(w) for w in toml.class_weights) or None,
        lr_nano=nano(toml.lr),
        epochs=toml.epochs,
        batch=toml.batch,
        micro_batch=toml.micro_batch or toml.batch,
        step_cap_nano=nano(toml.step_cap),
        shadow=toml.shadow,
        seed=toml.seed,
        exponents=exponents,
        mode="oneshot",
        width=ring_width(toml, config),
        value_bits=toml.value_bits,
        hub_rate_nano=nano(toml.hub_rate),
        clip=toml.clip,
        scale=toml.scale,
        dim=dim,
    )
    kept = toml.shadow == "residual"  # devices of the other mode start without residuals
    residuals = start_residuals(dim, toml.seed, 0) if kept else np.zeros(dim, np.int8)
    master = start_master(graph, segments, residuals, of_segments)
    settings = Settings(toml.n_max, toml.quorum, toml.close_at, toml.deadline_s)
    return NewTask(task, settings, file, master, x[:MAX_PROBE])


def ring_width(toml: TaskToml, config: Path) -> Literal[16, 32]:
    """Return the smallest ring word that a sum of n_max values fits."""
    bits = toml.value_bits + (toml.n_max - 1).bit_length()
    width: Literal[16, 32] = 16 if bits <= 16 else 32
    try:
        ring_params(width, toml.value_bits, toml.n_max, 1)
    except DataError as error:
        raise ConfigError(f"{config}: {error}") from None
    return width


def nano(value: float) -> int:
    """Return a real number in units of 10^-9."""
    return round(value * NANO)


def expand_exponents(segments: Sequence[Segment], exponents: Sequence[int]) -> list[int]:
    """Return j for each segment (0 for weights) from the task's list, which has the trained biases only."""
    given = iter(exponents)
    return [next(given) if s.kind == "bias" else 0 for s in segments]


def read_file(path: Path, limit: int) -> bytes:
    """Return a file's bytes."""
    try:
        if os.path.getsize(path) > limit:
            raise DataError(f"{path} has more than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        raise MissingInput(f"cannot read {path}: {error.strerror}") from None


def load_inputs(path: Path) -> np.ndarray:
    """Return `x` of an npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            x: np.ndarray = file["x"]
            return x
    except OSError as error:
        raise MissingInput(f"cannot read {path}: {error.strerror or 'not an npz file'}") from None
    except KeyError:
        raise DataError(f"{path} holds no array x", hint="save it with numpy.savez(path, x=inputs)") from None
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError, TypeError, IndexError):
        raise DataError(f"{path} is not an npz file of plain arrays") from None


def calibration_inputs(graph: Graph, path: Path) -> np.ndarray:
    """Return at most MAX_CALIBRATION inputs as the devices quantise them, int8 [n, size]."""
    x = load_inputs(path)
    try:
        q = quantise(graph, x[:MAX_CALIBRATION] if x.ndim else x)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return q.reshape(len(q), -1)
