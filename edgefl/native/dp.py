# SPDX-License-Identifier: Apache-2.0
"""Norm, clipping and stochastic rounding of the C core (csrc/dp) on NumPy arrays.

In: int32 [n] deltas, plain numbers, 32 seed bytes.  Out: int32 [n].  Refuses other dtypes, so NaN and Inf
cannot occur.
Invariant: what encode() returns has sum q_i^2 <= norm2_max, counted in integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgefl.errors import DataError
from edgefl.native._core import ffi, lib
from edgefl.native.status import check

SCALE_MAX: int = lib.EFL_SCALE_MAX
VALUE_BITS_MAX: int = lib.EFL_VALUE_BITS_MAX
CLIP_MAX = (1 << 32) - 1

Delta = npt.NDArray[np.int32]


def _require_delta(x: Delta) -> Delta:
    if not isinstance(x, np.ndarray) or x.dtype != np.int32 or x.ndim != 1:
        raise DataError("a delta must be an int32 array with one axis")
    return np.require(x, requirements=["C", "A"])


def norm(x: Delta) -> int:
    """Return the smallest integer N with N^2 >= sum x_i^2."""
    x = _require_delta(x)
    out = ffi.new("uint64_t *")
    check(lib.efl_delta_norm_i32(out, ffi.from_buffer("int32_t[]", x), x.size), "delta")
    return int(out[0])


def encode(x: Delta, *, clip: int, scale: int, bits: int, norm2_max: int, seed: bytes | bytearray) -> Delta:
    """Clip x to norm `clip`, multiply by scale/clip, round stochastically, saturate to `bits` bits.

    Parameters
    ----------
    x : int32 [n].
    clip : C >= 1 in the units of x.
    scale : S, 1 .. SCALE_MAX: norm C becomes S.
    bits : b, 2 .. VALUE_BITS_MAX: |q_i| <= 2^(b-1) - 1.
    norm2_max : D^2; the returned integers have sum q_i^2 <= D^2.
    seed : 32 fresh bytes, never a mask's seed.

    Returns
    -------
    int32 [n], a function of the arguments on every machine.

    Raises
    ------
    DataError
        A number outside its range, or a bound that cannot be met.
    """
    x = _require_delta(x)
    limits = (("clip", clip, 1, CLIP_MAX), ("scale", scale, 1, SCALE_MAX), ("bits", bits, 2, VALUE_BITS_MAX))
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise DataError(f"{name} is {value}; it must be {low}..{high}")
    if not 0 <= norm2_max <= lib.EFL_NORM2_MAX:
        raise DataError(f"norm bound {norm2_max} is outside 0..2^62")
    if len(seed) != 32:
        raise DataError("the rounding seed must have 32 bytes")
    q = np.empty_like(x)
    params = ffi.new(
        "efl_encode_params *", {"clip": clip, "scale": scale, "bits": bits, "norm2_max": norm2_max}
    )
    status = lib.efl_delta_encode_i32(
        ffi.from_buffer("int32_t[]", q, require_writable=True),
        ffi.from_buffer("int32_t[]", x),
        x.size,
        params,
        ffi.from_buffer("uint8_t[]", seed),
    )
    check(status, "norm bound of the encoded delta")
    return q
