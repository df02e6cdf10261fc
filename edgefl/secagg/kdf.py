# SPDX-License-Identifier: Apache-2.0
"""Hashes and keys of the protocol: BLAKE2b-256 over canonical CBOR arrays that start with their domain tag.

In: seeds, ids, hashes.  Out: 32 bytes.  Invariant: all context is in the message, so no two uses share a key.
Source: docs/protocol.md; secure-aggregation design, sections 1.4 and 1.8.
"""

from __future__ import annotations

from hashlib import blake2b

from edgefl.wire import cbor

HASH_BYTES = 32


def digest(*fields: object) -> bytes:
    """Return H(fields): BLAKE2b-256 of the canonical CBOR array; the first field is the domain tag."""
    return blake2b(cbor.dumps(list(fields)), digest_size=HASH_BYTES).digest()


def keyed_digest(key: bytes | bytearray, person: bytes, *fields: object) -> bytearray:
    """Return BLAKE2b-256(key, person, canonical CBOR array) in a buffer that its owner zeroes."""
    return bytearray(
        blake2b(cbor.dumps(list(fields)), digest_size=HASH_BYTES, key=key, person=person).digest()
    )


def mask_key(
    seed: bytes | bytearray, *, role: str, device: bytes, manifest_hash: bytes, width: int, dim: int
) -> bytearray:
    """Return KDF(s, h): the PRG key of one device's mask towards the hub of that role.

    Parameters
    ----------
    seed : the device's fresh 32 bytes s.
    role : "helper".
    device : 16 bytes.
    manifest_hash : h, 32 bytes.
    width, dim : W and d.
    """
    return keyed_digest(seed, b"efl-os", "edgefl/1/kdf", role, device, manifest_hash, width, dim)
