# SPDX-License-Identifier: Apache-2.0
"""Where the canary coordinates stand: they hold the constant 1, so their sum is the number of devices.

In: h, L, count.  Out: ascending positions, the same at device and hub.  They catch accidents, not liars.
Source: secure-aggregation design, section 3, "Canaries".
"""

from __future__ import annotations

from edgefl.errors import DataError
from edgefl.wire.keys import tagged_hash


def canary_positions(h: bytes, length: int, count: int) -> tuple[int, ...]:
    """Return `count` distinct positions in 0..length-1, spread by the manifest hash.

    Candidate i is the first 8 bytes (little-endian) of H(["edgefl/1/canary", h, L, i]) mod L;
    repeats are skipped.
    """
    if not 0 <= count <= 64 or not count < length:
        raise DataError(f"{count} canaries do not fit a vector of {length}; at most 64 and below L")
    found: set[int] = set()
    i = 0
    while len(found) < count:
        found.add(int.from_bytes(tagged_hash("edgefl/1/canary", h, length, i)[:8], "little") % length)
        i += 1
    return tuple(sorted(found))
