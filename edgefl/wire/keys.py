# SPDX-License-Identifier: Apache-2.0
"""Ed25519 identities and the two hashes of the protocol.

In: 32-byte seeds and public keys.  Out: key ids, signatures, BLAKE2b-256 and SHA-256 digests.
Refuses keys and signatures of another length; a failed check is False, never an exception.
Source: docs/protocol.md, "Names and hashes".  Entropy is not drawn here: the seed comes from a port.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from edgefl.errors import DataError
from edgefl.wire import cbor

Sign = Callable[[bytes], bytes]
Signer = tuple[bytes, Sign]  # (key id, function that signs a message)


def key_id(public: bytes) -> bytes:
    """Return the name of a public key: the first 16 bytes of its SHA-256."""
    if len(public) != 32:
        raise DataError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
    return hashlib.sha256(public).digest()[:16]


def public_key(seed: bytes) -> bytes:
    """Return the public key of a 32-byte seed."""
    return bytes(_signing_key(seed).verify_key)


def signer(seed: bytes) -> Signer:
    """Return (key id, sign) of a 32-byte seed."""
    key = _signing_key(seed)
    return key_id(bytes(key.verify_key)), lambda message: bytes(key.sign(message).signature)


def _signing_key(seed: bytes) -> SigningKey:
    if len(seed) != 32:
        raise DataError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
    return SigningKey(seed)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature is good; malformed keys and signatures are not."""
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def blake2b(data: bytes) -> bytes:
    """Return BLAKE2b-256; of a manifest's payload it is h."""
    return hashlib.blake2b(data, digest_size=32).digest()


def tagged_hash(tag: str, *items: object) -> bytes:
    """Return H([tag, items...]): BLAKE2b-256 over the canonical CBOR array."""
    return blake2b(cbor.dumps([tag, *items]))


def sha256(data: bytes) -> bytes:
    """Return the content address of a file, patch, probe or envelope."""
    return hashlib.sha256(data).digest()
