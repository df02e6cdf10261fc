# SPDX-License-Identifier: Apache-2.0
"""RingVector -> MaskedVector in the worker, and the helper hub's sum of masks.  Imports numpy and the C core.

y = x - PRG(key) mod 2^W, then its low M bits, packed.
Invariant: a key masks one vector; without it y is uniform.
Source: docs/protocol.md, "Round"; secure-aggregation design, sections 1.3, 1.4 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgefl.errors import DataError
from edgefl.native import masks
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.params import RingParams
from edgefl.secagg.secret import Secret
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


def helper_sum(
    seeds: Iterable[tuple[bytes, Secret]], p: RingParams, *, manifest_hash: bytes, role: str = "helper"
) -> masks.Ring:
    """Return R = sum of PRG(KDF(s_i, h)) over (device, s_i), uint16 or uint32 [L]; memory is O(L)."""
    total = np.zeros(p.length, masks.dtype_of(p.width))
    batch: list[bytearray] = []
    try:
        for device, seed in seeds:
            batch.append(
                mask_key(
                    seed.data, role=role, device=device, manifest_hash=manifest_hash, width=p.width, dim=p.dim
                )
            )
            if len(batch) == 64:
                _add(total, batch)
        _add(total, batch)
    finally:
        _wipe(batch)
    return total


def _add(total: masks.Ring, keys: list[bytearray]) -> None:
    masks.expand(total, keys, [1] * len(keys))
    _wipe(keys)


def _wipe(keys: list[bytearray]) -> None:
    for key in keys:
        key[:] = bytes(len(key))
    keys.clear()
