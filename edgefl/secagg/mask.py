# SPDX-License-Identifier: Apache-2.0
"""RingVector -> MaskedVector, in the worker: y = x - PRG(key) mod 2^W, then its low M bits, packed.

In: the encoded vector and KDF(s, h) from the supervisor.  Out: ceil(L*M/8) bytes.
Invariant: a key masks one vector; without it y is uniform.
Source: docs/protocol.md, "Round"; secure-aggregation design, sections 1.3, 1.4 and 3.
"""

from __future__ import annotations

from edgefl.errors import DataError
from edgefl.native import masks
from edgefl.types import MaskedVector, RingVector


def mask(ring: RingVector, key: bytes | bytearray, bits: int) -> MaskedVector:
    """Mask and pack one vector.

    Parameters
    ----------
    ring : the encoded vector; not changed.
    key : KDF(s, h) (`kdf.mask_key`), used for this vector and never again.
    bits : M.
    """
    if masks.width_of(ring.values) != ring.width:
        raise DataError(f"a ring vector of width {ring.width} cannot hold {ring.values.dtype}")
    masked = ring.values.copy()
    masks.expand(masked, [key], [-1])
    return MaskedVector(masks.pack(masked, bits), masked.size, bits)
