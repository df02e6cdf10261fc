# SPDX-License-Identifier: Apache-2.0
"""Keys of the protocol: keyed, personalised BLAKE2b-256 over CBOR arrays that start with their domain tag.

In: seeds, ids, hashes.  Out: 32 bytes in a buffer that its owner zeroes.  Refuses keys of another length.
Invariant: all context is in the message, so no two uses share a key.
Source: docs/protocol.md, "Round"; secure-aggregation design, sections 1.4 and 1.8.
"""

from __future__ import annotations

from hashlib import blake2b

from edgefl.errors import DataError
from edgefl.wire import cbor

HELPER = "helper"  # role of the hub that opens seeds


def derive(key: bytes | bytearray, person: bytes, tag: str, *context: object) -> bytearray:
    """Return BLAKE2b-256(key, person, CBOR [tag, context...])."""
    if len(key) != 32:  # an empty one would give an unkeyed hash
        raise DataError("a key must have 32 bytes")
    message = cbor.dumps([tag, *context])
    return bytearray(blake2b(message, digest_size=32, key=key, person=person).digest())


def mask_key(
    seed: bytes | bytearray, *, device: bytes, h: bytes, width: int, dim: int, role: str = HELPER
) -> bytearray:
    """Return KDF(s, h): the PRG key of one device's mask towards the hub of that role.

    Parameters
    ----------
    seed : the device's fresh 32 bytes s.
    device : 16 bytes.
    h : manifest hash, 32 bytes.
    width, dim : W and d.
    """
    return derive(seed, b"efl-os", "edgefl/1/kdf", role, device, h, width, dim)
