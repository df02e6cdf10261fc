# SPDX-License-Identifier: Apache-2.0
"""Where an activation clamps: bounds of the stored values.

In: activation, scale and zero point of the result. Out: bounds. Source: docs/training.md, "Forward".
"""

from __future__ import annotations

import numpy as np

from edgefl.model.graph import Act

Bounds = tuple[int, int]
LOWEST = {Act.RELU: 0, Act.RELU6: 0, Act.RELU_N1_TO_1: -1}
HIGHEST = {Act.RELU6: 6, Act.RELU_N1_TO_1: 1}


def act_bounds(act: Act, scale: float, zero: int) -> tuple[Bounds, Bounds]:
    """(lo, hi) of a fused activation's clamp, and the bounds where the error is masked (-129, 128: none)."""
    s = np.float32(scale)
    lo, hi = -129, 128
    if act in LOWEST:
        lo = max(zero + int(np.rint(np.float32(LOWEST[act]) / s)), -129)
    if act in HIGHEST:
        hi = min(zero + int(np.rint(np.float32(HIGHEST[act]) / s)), 128)
    return (max(lo, -128), min(hi, 127)), (lo, hi)


def standalone_bounds(act: Act, scale: float, zero: int) -> Bounds:
    """Give both bounds of an operator RELU, RELU6, RELU_N1_TO_1: half away from zero; -129, 128: none."""

    def stored(bound: int) -> int:
        size = int(np.floor(np.float32(abs(bound)) / np.float32(scale) + 0.5))
        return zero + (size if bound >= 0 else -size)

    lo = max(stored(LOWEST[act]), -129)
    hi = min(stored(HIGHEST[act]), 128) if act in HIGHEST else 128
    return lo, hi
