# SPDX-License-Identifier: Apache-2.0
"""The trainable vector: which weights and biases train, in which order, and the hub's master of it.

In: Graph and a layer selection. Out: segments in file order (operators as listed, weight then bias of each).
A weight coordinate counts 1/256 LSB, a bias coordinate 2^j bias LSBs; the master is int64 in 2^-16 of these
units, so fractions are not lost between rounds. Refuses a selection that trains nothing. Invariant: all who
read the same file get the same segments. Source: docs/training.md, sections 2 ("Order") and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgefl.errors import DataError, ModelError
from edgefl.model.graph import Graph, Op
from edgefl.model.layers import wanted_params
from edgefl.model.write import write_segments

MIN_EXPONENT, MAX_EXPONENT = -14, 8  # of a bias coordinate: b * 2^(16 - j) stays below 2^61
MAX_BIAS = 1 << 30


@dataclass(frozen=True)
class Segment:
    """One trained tensor as a range of the trainable vector."""

    param: int  # index into Graph.params
    kind: Literal["weight", "bias"]
    offset: int  # first coordinate
    size: int

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.offset + self.size


def select_segments(graph: Graph, layers: str, heads: Sequence[int] = ()) -> list[Segment]:
    """Segments of a layer selection.

    Parameters
    ----------
    graph : Graph
        The model.
    layers : str
        "head" (the last operator with weights), "bias+head" (all biases and the head's weights), "last:K"
        (the last K operators with weights), "all" or "ops:4b,7" (listed ones, b: the bias only); of those
        that lead to the loss. Buffers used more than once stay frozen.
    heads : sequence of int
        Tensors that the loss looks at; default: the logits of the target output.

    Returns
    -------
    list of Segment
        In file order, without gaps.

    Raises
    ------
    UsageError
        `layers` is not one of these, or K or an operator is out of range.
    ModelError
        Nothing of the selection can train.
    """
    for node in graph.nodes_to(*(heads or (graph.logits,))):
        if node.kind is Op.SVDF:
            raise ModelError(
                f"operator {node.index} (SVDF) keeps state from sample to sample",
                hint="edgefl runs this model, but cannot train it",
            )
    trainable = graph.trainable(*heads)
    segments: list[Segment] = []
    offset = 0
    for i, wanted in wanted_params(graph, layers, trainable).items():
        param = graph.params[i]
        if wanted.weights and not param.shared:
            segments.append(Segment(i, "weight", offset, int(param.q.size)))
            offset = segments[-1].stop
        if wanted.bias and param.bias_offset is not None and not param.bias_shared:
            segments.append(Segment(i, "bias", offset, param.channels))
            offset = segments[-1].stop
    if not segments:
        raise ModelError(
            f"nothing trains with layers={layers!r}: no weights, or all are shared between operators"
        )
    return segments


def vector_size(segments: Sequence[Segment]) -> int:
    """Coordinates of the trainable vector (d)."""
    return segments[-1].stop


def start_master(
    graph: Graph, segments: Sequence[Segment], r: np.ndarray, exponents: Sequence[int]
) -> np.ndarray:
    """Master of round zero.

    Parameters
    ----------
    graph : Graph
        The file that round zero starts from.
    segments : sequence of Segment
        What trains.
    r : ndarray of int8, shape (d,)
        The start residuals of round 0 (ChaCha20 of the task's seed); bytes at bias coordinates are not used.
    exponents : sequence of int
        j of each segment, -14..8; entries of weight segments are not used.

    Returns
    -------
    ndarray of int64, shape (d,)
        256q + r and b*2^-j, times 2^16.
    """
    _check(segments, exponents)
    if r.dtype != np.int8 or r.shape != (vector_size(segments),):
        raise DataError(
            f"start residuals are {r.dtype} {list(r.shape)}, int8 [{vector_size(segments)}] is needed"
        )
    master = np.empty(vector_size(segments), np.int64)
    for segment, j in zip(segments, exponents, strict=True):
        param = graph.params[segment.param]
        part = slice(segment.offset, segment.stop)
        if segment.kind == "weight":
            master[part] = (param.q.reshape(-1).astype(np.int64) * 256 + r[part]) << 16
        else:
            master[part] = param.b.astype(np.int64) << (16 - j)
    return master


def apply_sum(
    master: np.ndarray, total: np.ndarray, *, hub_rate: float, clip: float, scale: int, count: int
) -> np.ndarray:
    """Add the averaged update of one round to the master.

    Parameters
    ----------
    master : ndarray of int64, shape (d,)
        The master before the round.
    total : ndarray of int64, shape (d,)
        Exact sum of the devices' integers.
    hub_rate, clip, scale, count
        Hub rate, clip norm C in vector units, scale S (norm C becomes S integers), devices in the sum.

    Returns
    -------
    ndarray of int64, shape (d,)
        m + rne(hub_rate*C*2^16*sum/(S*n)), float64, left to right.
    """
    if total.shape != master.shape:
        raise DataError(f"the sum has {total.size} coordinates, the master {master.size}")
    if not (0 < hub_rate < 1e3 and 0 < clip < 1e12 and scale > 0 and count > 0):
        raise DataError(
            f"hub rate {hub_rate}, clip {clip}, scale {scale} and count {count} must be above 0 and sane"
        )
    step = hub_rate * clip * 65536.0 * total.astype(np.float64) / float(scale * count)
    limit = float(1 << 61)
    moved: np.ndarray = np.clip(
        np.rint(np.clip(step, -limit, limit)).astype(np.int64) + master, -(1 << 62), 1 << 62
    )
    return moved


def publish(graph: Graph, segments: Sequence[Segment], master: np.ndarray, exponents: Sequence[int]) -> bytes:
    """Round the master into a new model file.

    Parameters
    ----------
    graph : Graph
        The file to patch (of any round of the same task).
    segments, master, exponents
        As in `start_master`.

    Returns
    -------
    bytes
        The file with q = (m + 2^23) >> 24 clamped to the weight range, and b = rne(m*2^(j-16)); same length.
    """
    _check(segments, exponents)
    values: list[np.ndarray] = []
    for segment, j in zip(segments, exponents, strict=True):
        param = graph.params[segment.param]
        m = master[segment.offset : segment.stop]
        if segment.kind == "weight":
            q = np.clip((m + (1 << 23)) >> 24, param.qmin, 127)
            values.append(q.astype(np.int8).reshape(param.q.shape))
        else:
            b = rne_shift(m, 16 - j)
            # A bias beyond the training bound that never moved stays as the file has it.
            b = np.where(b == param.b, b, np.clip(b, -MAX_BIAS, MAX_BIAS))
            values.append(b.astype(np.int32))
    return write_segments(graph, [(s.param, s.kind) for s in segments], values)


def rne_shift(x: np.ndarray, s: int) -> np.ndarray:
    """Shift int64 right by s >= 0, rounding to the nearest, ties to even; shifts of 63 and more give 0."""
    if s == 0:
        return x
    if s >= 63:
        return np.zeros_like(x)
    shifted: np.ndarray = (x + (1 << (s - 1)) - 1 + ((x >> s) & 1)) >> s
    return shifted


def _check(segments: Sequence[Segment], exponents: Sequence[int]) -> None:
    if len(exponents) != len(segments):
        raise DataError(
            f"{len(exponents)} bias exponents for {len(segments)} segments: one for each is needed"
        )
    for segment, j in zip(segments, exponents, strict=True):
        if segment.kind == "bias" and not MIN_EXPONENT <= j <= MAX_EXPONENT:
            raise DataError(f"bias exponent {j} is outside {MIN_EXPONENT}..{MAX_EXPONENT}")
