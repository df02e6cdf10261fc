# SPDX-License-Identifier: Apache-2.0
"""RawDelta -> RingVector: clip, scale, stochastic rounding, exact norm check, saturation, canaries, mod 2^W.

In: int32 [d], numbers of the round manifest, 32 fresh bytes.  Out: uint16 or uint32 [L].  Refuses a delta
that is not int32 [d] (so NaN and Inf cannot come in) and numbers that do not fit each other.
Invariant: the integers that leave, canaries aside, have sum q_i^2 <= norm2_max.
Source: secure-aggregation design, section 4, steps 1 to 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefl.errors import DataError
from edgefl.native import dp, masks
from edgefl.types import RawDelta, RingVector


@dataclass(frozen=True)
class EncodeParams:
    """Numbers of one round, all from the manifest (edgefl/secagg/params.py computes and checks them)."""

    clip: int  # C, in units of the delta
    scale: int  # S: norm C becomes S
    bits: int  # b, bits of a coordinate
    width: int  # W: 16 or 32
    dim: int  # d
    norm2_max: int  # D^2
    canaries: tuple[int, ...]  # ascending positions in 0..L-1 that hold the constant 1


def encode(delta: RawDelta, p: EncodeParams, seed: bytes | bytearray) -> RingVector:
    """Encode one delta for the ring; `seed` feeds the rounding and nothing else.

    Raises
    ------
    DataError
        A delta that is not int32 [d], or parameters that do not fit each other.
    """
    values = delta.values
    if not isinstance(values, np.ndarray) or values.dtype != np.int32 or values.shape != (p.dim,):
        raise DataError(f"the delta must be int32 with {p.dim} coordinates, as the manifest says")
    if p.bits > p.width:
        raise DataError(f"{p.bits} bits a coordinate do not fit a ring of {p.width}")
    length = p.dim + len(p.canaries)
    if any(a >= b for a, b in zip((-1, *p.canaries), (*p.canaries, length), strict=True)):
        raise DataError("canary positions must ascend within the vector")
    q = dp.encode(values, clip=p.clip, scale=p.scale, bits=p.bits, norm2_max=p.norm2_max, seed=seed)
    ring = np.ones(length, masks.dtype_of(p.width))
    is_value = np.ones(length, bool)
    is_value[list(p.canaries)] = False
    ring[is_value] = q.astype(ring.dtype)  # two's complement: q mod 2^W
    return RingVector(ring, p.width)
