# SPDX-License-Identifier: Apache-2.0
"""Numbers of a round that follow from the manifest's few free ones; hub and device compute them alike.

In: W, b, n_max, d, S, all attacker-controlled.  Out: M, canary count, L, payload length, D^2.  Refuses
numbers outside the limits of wire/messages.py.  Exact integer arithmetic.
Invariant: a sum of n_max vectors never wraps 2^M.
Source: secure-aggregation design, sections 1.3, 2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from edgefl.errors import DataError
from edgefl.wire.messages import CANARY_BITS, MAX_DEVICES, MAX_DIM, MAX_SCALE, MAX_VALUE_BITS, Manifest


@dataclass(frozen=True)
class RingParams:
    """Shape of the vectors of one round."""

    width: int  # W, bits of a ring word in memory
    bits: int  # M, bits of a coordinate on the wire
    dim: int  # d, trained coordinates
    n_canaries: int  # ceil(64 / M)

    @property
    def length(self) -> int:
        """L = d + canaries: what masks, sums and payloads cover."""
        return self.dim + self.n_canaries

    @property
    def payload_bytes(self) -> int:
        """Length of a packed vector, exactly."""
        return (self.length * self.bits + 7) // 8


def require(name: str, value: int, low: int, high: int) -> int:
    """Return value if it is an integer in low..high."""
    if type(value) is not int or not low <= value <= high:
        raise DataError(f"{name} must be {low}..{high}, the manifest says {str(value)[:32]}")
    return value


def ring_params(width: int, value_bits: int, n_max: int, dim: int) -> RingParams:
    """Compute M = b + ceil(log2 n_max), the canaries and L.

    |q_i| <= 2^(b-1) - 1 and n <= n_max <= 2^(M-b), so |sum| < 2^(M-1): it does not wrap; nor do the
    canaries, since n_max <= 2^(M-b) < 2^(M-1) for b >= 2.

    Raises
    ------
    DataError
        A number outside its limit, or M above W.
    """
    if width not in (16, 32):
        raise DataError(f"ring width must be 16 or 32, the manifest says {str(width)[:32]}")
    require("bits of a coordinate", value_bits, 2, MAX_VALUE_BITS)
    require("largest number of devices", n_max, 1, MAX_DEVICES)
    require("number of coordinates", dim, 1, MAX_DIM)
    bits = value_bits + (n_max - 1).bit_length()
    if bits > width:
        raise DataError(f"{n_max} devices of {value_bits} bits need {bits} bits; the ring has {width}")
    return RingParams(width, bits, dim, -(-CANARY_BITS // bits))


def round_params(manifest: Manifest) -> RingParams:
    """Return the shape that a manifest states; a Manifest holds only numbers that follow from each other."""
    n_canaries = manifest.length - manifest.dim
    return RingParams(manifest.width, manifest.bits, manifest.dim, n_canaries)


def norm_bound(scale: int, dim: int) -> int:
    """Return D^2 = min(S^2 + d/4 + S + sqrt(d)/2, (S + sqrt d)^2), each root and quarter rounded down.

    The first is exceeded with probability at most 1/2 a try (mean S^2 + d/4, deviation at most
    S + sqrt(d)/2), the second never.
    """
    require("scale", scale, 1, MAX_SCALE)
    require("number of coordinates", dim, 1, MAX_DIM)
    typical = scale * scale + dim // 4 + scale + isqrt(dim // 4)
    always = scale * scale + dim + isqrt(4 * scale * scale * dim)
    return min(typical, always)
