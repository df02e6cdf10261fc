# SPDX-License-Identifier: Apache-2.0
"""The helper hub's share of the sum: R = sum of PRG(KDF(s_i, h)) over the accepted set.

In: (device, seed) pairs.  Out: a ring vector [L], to be packed to M bits.  Memory does not grow with devices.
Invariant: R plus the leader's sum of y is the sum of the devices' integers mod 2^M.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgefl.native import masks
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.params import RingParams
from edgefl.secagg.secret import Secret

BATCH = 64  # keys expanded over one block of the vector while it is in L1


def helper_sum(seeds: Iterable[tuple[bytes, Secret]], p: RingParams, h: bytes) -> masks.Ring:
    """Return R over (device, s_i), uint16 or uint32 [L]; the seeds stay open, their owner erases them."""
    total = np.zeros(p.length, masks.dtype_of(p.width))
    keys: list[bytearray] = []
    try:
        for device, seed in seeds:
            keys.append(mask_key(seed.data, device=device, h=h, width=p.width, dim=p.dim))
            if len(keys) == BATCH:
                _add(total, keys)
        _add(total, keys)
    finally:
        _wipe(keys)
    return total


def _add(total: masks.Ring, keys: list[bytearray]) -> None:
    masks.expand(total, keys, [1] * len(keys))
    _wipe(keys)


def _wipe(keys: list[bytearray]) -> None:
    for key in keys:
        key[:] = bytes(len(key))
    keys.clear()
