# SPDX-License-Identifier: Apache-2.0
"""One-shot mode, two hubs: a device's sealed and signed report, and the hubs' checks of it.  No numpy.

In: MaskedVector, seed s, the round's manifest and its hash h.  Out: MaskedUpdate; at the helper s again.
Refuses a report whose signature, box or inner hash does not bind this very round, device, vector and nonce,
and X25519 keys of low order.  Invariant: the box goes to the round key that both hubs signed in the
manifest.  Source: docs/protocol.md, "Round"; secure-aggregation design, sections 1.8 and 3.
"""

from __future__ import annotations

from dataclasses import replace

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from edgefl.errors import DataError, Refused
from edgefl.ports import Entropy
from edgefl.secagg.kdf import HELPER, derive
from edgefl.secagg.secret import Secret
from edgefl.types import MaskedUpdate, MaskedVector
from edgefl.wire import cbor
from edgefl.wire.keys import Sign, blake2b, key_id, tagged_hash, verify
from edgefl.wire.messages import Manifest, Report

BOX_BYTES = 32 + 24 + 16 + 76  # ephemeral key, nonce, tag, CBOR ["helper", s, inner]


def seal(
    masked: MaskedVector,
    seed: Secret,
    manifest: Manifest,
    h: bytes,
    *,
    device: bytes,
    class_: str,
    attempt: int,
    credential: bytes,
    sign: Sign,
    entropy: Entropy,
) -> MaskedUpdate:
    """Build the report of one device: what leaves it, and all that leaves it.

    Parameters
    ----------
    masked : y, masked with KDF(seed, h).
    seed : s; the caller erases it afterwards.
    manifest, h : the round's terms, already checked against the device's policy, and their hash.
    device, class_, attempt, credential : who reports; `attempt` is the number of this try.
    sign : Ed25519 by the device's enrolled key.
    entropy : source of nonce, ephemeral key and box nonce.

    Returns
    -------
    MaskedUpdate
        Keep it for retries: another call would draw another nonce.

    Raises
    ------
    DataError
        A vector of another shape than the manifest's.
    Refused
        The helper's round key is of low order.
    """
    if (masked.length, masked.bits) != (manifest.length, manifest.bits):
        raise DataError(
            f"the masked vector has {masked.length} coordinates of {masked.bits} bits; the manifest says "
            f"{manifest.length} of {manifest.bits}"
        )
    if len(masked.payload) != manifest.payload_bytes:
        raise DataError(f"the payload has {len(masked.payload)} bytes, not {manifest.payload_bytes}")
    nonce = entropy.token(16)
    y_hash = blake2b(masked.payload)
    box = _seal_box(seed, manifest, h, device, _inner(manifest, device, h, y_hash, nonce), entropy)
    unsigned = Report(
        round=manifest.round,
        attempt=attempt,
        device=device,
        class_=class_,
        nonce=nonce,
        manifest=h,
        y_hash=y_hash,
        box=box,
        proof=b"",
        signature=bytes(64),
        credential=credential,
    )
    report = replace(unsigned, signature=sign(_signed_bytes(unsigned)))
    return MaskedUpdate(manifest.round, attempt, report.encode(), masked.payload)


def verify_report(report: Report, manifest: Manifest, h: bytes, *, device_key: bytes, class_: str) -> None:
    """Check a report's header at either hub; the leader also compares y_hash with the payload that came.

    Parameters
    ----------
    device_key, class_ : from the device's credential, already checked.

    Raises
    ------
    Refused
        Another round, manifest, device or class, a box of another length, or a wrong signature.
    """
    if report.round != manifest.round or report.manifest != h:
        raise Refused("the report belongs to another round or other terms")
    if report.device != key_id(device_key):
        raise Refused("the report names another device than the one whose key is checked")
    if report.class_ != class_:
        raise Refused("the report names another layer class than the device's credential")
    if len(report.box) != BOX_BYTES:
        raise Refused(f"the report's box has {len(report.box)} bytes, not {BOX_BYTES}")
    if not verify(device_key, _signed_bytes(report), report.signature):
        raise Refused("the report's signature is wrong")


def round_public(round_secret: Secret) -> bytes:
    """Return the X25519 public key that the helper names in the manifest."""
    return bytes(crypto_scalarmult_base(bytes(round_secret.data)))


def open_box(report: Report, manifest: Manifest, h: bytes, *, round_secret: Secret) -> Secret:
    """Return s from a report that `verify_report` accepted, at the helper.

    Raises
    ------
    Refused
        The manifest names another round key, the box was made for another round, device, manifest or role,
        or its inner hash does not match the report.
    """
    if round_public(round_secret) != manifest.helper.round_key:
        raise Refused("the manifest names another round key than this helper's")
    if len(report.box) != BOX_BYTES:
        raise Refused(f"the report's box has {len(report.box)} bytes, not {BOX_BYTES}")
    eph, nonce, sealed = report.box[:32], report.box[32:56], report.box[56:]
    key = _box_key(round_secret, eph, eph, manifest, h, report.device)
    try:
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, _associated(manifest, h, report.device), nonce, bytes(key)
        )
        fields = cbor.loads(plain, max_bytes=BOX_BYTES)
    except (CryptoError, DataError):
        raise Refused("the report's box does not open for this round, device and terms") from None
    finally:
        key[:] = bytes(len(key))
    inner = _inner(manifest, report.device, h, report.y_hash, report.nonce)
    match fields:
        case [str(role), bytes(seed), bytes(found)] if role == HELPER and len(seed) == 32 and found == inner:
            return Secret(seed)
    raise Refused("the report's box holds another vector's hash")


def _inner(manifest: Manifest, device: bytes, h: bytes, y_hash: bytes, nonce: bytes) -> bytes:
    return tagged_hash("edgefl/1/oneshot-inner", manifest.round, device, h, y_hash, nonce)


def _associated(manifest: Manifest, h: bytes, device: bytes) -> bytes:
    return cbor.dumps([manifest.round, device, h])


def _box_key(
    secret: Secret, other: bytes, eph: bytes, manifest: Manifest, h: bytes, device: bytes
) -> bytearray:
    """Return the AEAD key between an ephemeral key and the round key; either side's secret will do."""
    try:
        shared = crypto_scalarmult(bytes(secret.data), other)
    except RuntimeError:  # libsodium refuses an all-zero result: a key of low order
        raise Refused("an X25519 key of low order was offered") from None
    round_key = manifest.helper.round_key
    return derive(
        shared, b"efl-box", "edgefl/1/oneshot-box", HELPER, manifest.round, device, h, eph, round_key
    )


def _seal_box(
    seed: Secret, manifest: Manifest, h: bytes, device: bytes, inner: bytes, entropy: Entropy
) -> bytes:
    with Secret(entropy.token(32)) as eph_secret:
        eph = bytes(crypto_scalarmult_base(bytes(eph_secret.data)))
        key = _box_key(eph_secret, manifest.helper.round_key, eph, manifest, h, device)
    nonce = entropy.token(24)
    plain = cbor.dumps([HELPER, bytes(seed.data), inner])
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
        plain, _associated(manifest, h, device), nonce, bytes(key)
    )
    key[:] = bytes(len(key))
    return eph + nonce + bytes(sealed)


def _signed_bytes(r: Report) -> bytes:
    """Return the CBOR array that a device signs: all of the header but attempt and credential."""
    box_hash = tagged_hash("edgefl/1/oneshot-boxhash", r.box)
    proof_hash = tagged_hash("edgefl/1/oneshot-proof", r.proof)
    return cbor.dumps(
        ["edgefl/1/oneshot", r.round, r.device, r.class_, r.nonce, r.manifest, r.y_hash, box_hash, proof_hash]
    )
