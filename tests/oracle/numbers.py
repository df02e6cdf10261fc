# SPDX-License-Identifier: Apache-2.0
"""Numbers that the oracle's passes share: rounding, int8 errors with powers of two, activation bounds.

Uses nothing of edgefl but the Graph. Source: docs/training.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefl.model.graph import Act, Graph, Node

F = np.float32


def rne(x: np.ndarray) -> np.ndarray:
    """Nearest, ties to even."""
    return np.rint(x)


def act_bounds(node: Node, graph: Graph) -> tuple[int, int]:
    """Lowest and highest int8 value that the fused activation lets through."""
    y = graph.tensors[node.output]
    lo, hi = -128, 127
    if node.act in (Act.RELU, Act.RELU6):
        lo = max(lo, y.zero)
    if node.act is Act.RELU6:
        hi = min(hi, int(rne(F(6) / F(y.scale))) + y.zero)
    if node.act is Act.RELU_N1_TO_1:
        lo = max(lo, int(rne(F(-1) / F(y.scale))) + y.zero)
        hi = min(hi, int(rne(F(1) / F(y.scale))) + y.zero)
    return lo, hi


@dataclass(frozen=True)
class Error8:
    """Error of one tensor: int8 values e, real value e * 2^k; None stands for an all-zero tensor."""

    e: np.ndarray  # int64 holding -127..127, [n,H,W,C]
    k: int


def rne_shift(x: np.ndarray, s: int) -> np.ndarray:
    """int64 right shift, nearest, ties to even."""
    if s <= 0:
        return x
    return (x + (1 << (s - 1)) - 1 + ((x >> s) & 1)) >> s if s < 63 else np.zeros_like(x)


def ceil_log2(m: float) -> int:
    """Least k with m <= 2^k, m > 0."""
    mantissa, exponent = np.frexp(m)
    return int(exponent) - (1 if mantissa == 0.5 else 0)


def float_to8(error: np.ndarray) -> Error8 | None:
    """Quantise float32 errors."""
    m = np.abs(error).max(initial=F(0))
    if m < F(2.0**-60):
        return None
    k = ceil_log2(m) - 7
    return Error8(np.clip(rne(np.ldexp(error, -k)), -127, 127).astype(np.int64), k)


def int_to8(x: np.ndarray, k: int) -> Error8 | None:
    """Shift integer errors of exponent k into int8."""
    m = int(np.abs(x).max(initial=0))
    if m == 0:
        return None
    assert m < 1 << 31, "the engine's int32 would overflow"
    sh = max(0, ceil_log2(m) - 7)
    return Error8(np.clip(rne_shift(x, sh), -127, 127), k + sh)


def fan_in(parts: list[Error8 | None]) -> Error8 | None:
    """Sum of the errors that several readers of one tensor send back."""
    real = [p for p in parts if p is not None]
    if len(real) < 2:
        return real[0] if real else None
    low = max(min(p.k for p in real), max(p.k for p in real) - 20)
    total = sum(p.e << (p.k - low) if p.k >= low else rne_shift(p.e, low - p.k) for p in real)
    return int_to8(np.asarray(total), low)
