# SPDX-License-Identifier: Apache-2.0
"""Signed statements: CBOR [payload, {key id: signature}] over `edgefl/1/<kind>`, 0x00, payload.

In: a kind, a payload and signers, or an envelope and the keys that are trusted for this kind.  Out: the
envelope, or the payload.  Refuses too few good signatures, a bad one by a trusted key, and more than 16
signatures; those by unknown keys are ignored, or refused if `exact`.  Invariant: a payload comes out only
with `threshold` distinct keys behind it, and a signature of one kind is worthless for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgefl.errors import DataError, Refused
from edgefl.wire import cbor
from edgefl.wire.keys import Signer, key_id, verify

__all__ = ["countersign", "key_id", "open_envelope", "seal"]

MAX_BYTES = 1 << 20
MAX_SIGNATURES = 16


def _signed_bytes(kind: str, payload: bytes) -> bytes:
    return b"edgefl/1/" + kind.encode() + b"\0" + payload


def seal(kind: str, payload: bytes, signers: Iterable[Signer]) -> bytes:
    """Return the envelope of a payload, signed by every signer (key id, sign)."""
    message = _signed_bytes(kind, payload)
    return cbor.dumps([payload, {name: sign(message) for name, sign in signers}])


def countersign(data: bytes, kind: str, signers: Iterable[Signer]) -> bytes:
    """Return the envelope with further signatures; the caller has checked those that it holds."""
    payload, signatures = _split(data)
    message = _signed_bytes(kind, payload)
    return cbor.dumps([payload, signatures | {name: sign(message) for name, sign in signers}])


def open_envelope(
    data: bytes, kind: str, keys: Mapping[bytes, bytes], threshold: int = 1, *, exact: bool = False
) -> bytes:
    """Return the payload if at least `threshold` of the keys signed it.

    Parameters
    ----------
    data : bytes
        The envelope.
    kind : str
        What the statement is about, such as `release`.
    keys : Mapping[bytes, bytes]
        Trusted public keys by key id.
    threshold : int
        Distinct keys needed, at least 1.
    exact : bool
        Refuse signatures by other keys too: where the envelope's hash is a name, nobody else may give the
        same statement a second one.

    Raises
    ------
    DataError
        Not an envelope.
    Refused
        Too few signatures, a wrong one by a trusted key, or with `exact` one by another key.
    """
    if threshold < 1:
        raise ValueError("a threshold below 1 accepts unsigned statements")
    payload, signatures = _split(data)
    message = _signed_bytes(kind, payload)
    good = set()
    for name, signature in signatures.items():
        public = keys.get(name)
        if public is None:
            continue
        if not verify(public, message, signature):
            raise Refused(f"the {kind} has a wrong signature by key {name.hex()}")
        good.add(public)
    if len(good) < threshold:
        raise Refused(f"the {kind} has {len(good)} of {threshold} trusted signatures")
    if exact and signatures.keys() - keys.keys():
        raise Refused(f"the {kind} has a signature by an unknown key too")
    return payload


def _split(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    match cbor.loads(data, max_bytes=MAX_BYTES, max_depth=2):
        case [bytes(payload), dict(entries)] if len(entries) <= MAX_SIGNATURES:
            pass
        case _:
            raise DataError(f"not an envelope: [payload, up to {MAX_SIGNATURES} signatures]")
    signatures: dict[bytes, bytes] = {}
    for name, value in entries.items():
        if not (
            isinstance(name, bytes) and isinstance(value, bytes) and len(name) == 16 and len(value) == 64
        ):
            raise DataError("a signature must be 64 bytes under a key id of 16 bytes")
        signatures[name] = value
    return payload, signatures
