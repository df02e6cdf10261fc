# SPDX-License-Identifier: Apache-2.0
"""Masked sum and R become the exact sum of the devices' integers.

In: the leader's sum of y mod 2^W, R packed, the manifest.  Out: AggregateSum.  Refuses a sum whose canary
coordinates are not |S|: then some vector was not what its report said, and nothing of it may be used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgefl.errors import DataError
from edgefl.native import masks
from edgefl.secagg.canary import canary_positions
from edgefl.types import AggregateSum
from edgefl.wire.messages import Manifest


def unmask(masked_sum: masks.Ring, r_packed: bytes, manifest: Manifest, h: bytes, count: int) -> AggregateSum:
    """Return the sum over S.

    Parameters
    ----------
    masked_sum : uint16 or uint32 [L], the sum of y over S.
    r_packed : R, L coordinates of M bits.
    count : |S|.

    Raises
    ------
    DataError
        A canary coordinate is not |S|.
    """
    total = masked_sum.copy()
    masks.add_packed(total, r_packed, manifest.bits)
    values = masks.unwrap(total, manifest.bits)
    where = list(canary_positions(h, manifest.length, manifest.length - manifest.dim))
    found = sorted({int(v) for v in values[where]})
    if found != [count]:
        raise DataError(f"the canaries sum to {found[:4]}, {count} devices reported: the sum is not used")
    return AggregateSum(np.delete(values, where), count)


def sum_payloads(payloads: Sequence[bytes], manifest: Manifest) -> masks.Ring:
    """Return the sum of packed vectors mod 2^W."""
    total = np.zeros(manifest.length, masks.dtype_of(manifest.width))
    for payload in payloads:
        masks.add_packed(total, payload, manifest.bits)
    return total
