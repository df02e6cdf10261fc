# SPDX-License-Identifier: Apache-2.0
"""Sealed reports: every bound field changed must be refused; secrets stay hidden."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

import nacl.bindings
import numpy as np
import pytest

from edgefl.errors import DataError, Refused
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.mask import mask
from edgefl.secagg.oneshot import BOX_BYTES, open_box, round_public, seal, verify_report
from edgefl.secagg.params import round_params
from edgefl.secagg.secret import Secret
from edgefl.types import Batch, MaskedUpdate, MaskedVector, RawDelta, RingVector
from edgefl.wire import cbor, keys, report
from edgefl.wire.messages import Helper, Leader, Manifest, Report

DEVICE_SEED, ROUND_SEED, S = b"\x11" * 32, b"\x22" * 32, b"\x5e" * 32
DEVICE_KEY = keys.public_key(DEVICE_SEED)
DEVICE, SIGN = keys.signer(DEVICE_SEED)
OTHER_SEED = b"\x77" * 32
CLASS = "any"


class Counted:
    """Entropy that a test can repeat: BLAKE2b of a counter."""

    def __init__(self, name: bytes = b"") -> None:
        self.name, self.calls = name, 0

    def token(self, n: int) -> bytes:
        self.calls += 1
        return blake2b(self.name + bytes([self.calls]), digest_size=n).digest()


def manifest(round_key: bytes | None = None, round_id: bytes = b"\x01" * 16) -> Manifest:
    return Manifest(
        round=round_id,
        number=0,
        task=bytes(32),
        model=bytes(32),
        mode="oneshot",
        quorum=2,
        n_max=8,
        width=16,
        bits=11,
        value_bits=8,
        dim=100,
        length=106,
        scale=1000,
        clip=30_000,
        deadline=0,
        leader=Leader(b"\xaa" * 16, "a"),
        helper=Helper(b"\xbb" * 16, "b", round_key or round_public(Secret(ROUND_SEED))),
    )


def terms(**change: bytes) -> tuple[Manifest, bytes]:
    m = manifest(**change)
    return m, keys.blake2b(m.encode())


def masked(m: Manifest, h: bytes) -> MaskedVector:
    ring = RingVector(np.arange(m.length, dtype=np.uint16), 16)
    return mask(ring, mask_key(S, device=DEVICE, h=h, width=m.width, dim=m.dim), m.bits)


def sealed(m: Manifest, h: bytes, **change: object) -> MaskedUpdate:
    args = {
        "device": DEVICE,
        "class_": CLASS,
        "attempt": 0,
        "credential": b"c" * 200,
        "sign": SIGN,
        "entropy": Counted(),
    }
    with Secret(S) as seed:
        return seal(masked(m, h), seed, m, h, **{**args, **change})


def header(update: MaskedUpdate) -> Report:
    return Report.decode(update.header)


def resign(r: Report, by: bytes = DEVICE_SEED) -> Report:
    """Sign a changed report by a device's own key: what a dishonest device could send."""
    message = cbor.dumps(
        [
            "edgefl/1/oneshot",
            r.round,
            r.device,
            r.class_,
            r.nonce,
            r.manifest,
            r.y_hash,
            keys.tagged_hash("edgefl/1/oneshot-boxhash", r.box),
            keys.tagged_hash("edgefl/1/oneshot-proof", r.proof),
        ]
    )
    return replace(r, signature=keys.signer(by)[1](message))


def test_report_round_trip_gives_the_seed_and_fits_the_uplink_budget() -> None:
    m, h = terms()
    update = sealed(m, h)
    got, payload = report.split(update.body, m.payload_bytes)
    assert payload == update.payload and got == header(update) and len(got.box) == BOX_BYTES
    assert keys.blake2b(payload) == got.y_hash
    verify_report(got, m, h, device_key=DEVICE_KEY, class_=CLASS)
    with open_box(got, m, h, round_secret=Secret(ROUND_SEED)) as seed:
        assert seed.data == S
    assert len(update.header) < 1000
    assert round_params(m).payload_bytes == m.payload_bytes


def test_report_signature_is_over_the_documented_array() -> None:
    got = header(sealed(*terms()))
    assert resign(got).signature == got.signature


def test_report_holds_neither_seed_nor_device_secret() -> None:
    body = sealed(*terms()).body
    for secret in (
        S,
        DEVICE_SEED,
        ROUND_SEED,
        bytes(mask_key(S, device=DEVICE, h=terms()[1], width=16, dim=100)),
    ):
        assert secret not in body


def test_seal_draws_fresh_nonce_ephemeral_key_and_box_nonce() -> None:
    m, h = terms()
    a, b = (header(sealed(m, h, entropy=Counted(name))) for name in (b"a", b"b"))
    assert a.nonce != b.nonce and a.box[:32] != b.box[:32] and a.box[32:56] != b.box[32:56]
    assert a.y_hash == b.y_hash


@pytest.mark.parametrize("change", [{"length": 105}, {"bits": 10}, {"payload": bytes(145)}])
def test_seal_vector_of_another_shape_refused(change: dict[str, object]) -> None:
    m, h = terms()
    with Secret(S) as seed, pytest.raises(DataError):
        seal(
            replace(masked(m, h), **change),
            seed,
            m,
            h,
            device=DEVICE,
            class_=CLASS,
            attempt=0,
            credential=b"",
            sign=SIGN,
            entropy=Counted(),
        )


# ---- signed fields: a leader, a helper or a man in the middle changes one

FLIPS: dict[str, Callable[[Report], object]] = {
    "round": lambda r: b"\x02" * 16,
    "device": lambda r: b"\x03" * 16,
    "class_": lambda r: "other",
    "nonce": lambda r: b"\x04" * 16,
    "manifest": lambda r: b"\x05" * 32,
    "y_hash": lambda r: b"\x06" * 32,
    "box": lambda r: r.box[:-1] + bytes([r.box[-1] ^ 1]),
    "signature": lambda r: r.signature[:-1] + bytes([r.signature[-1] ^ 1]),
}


@pytest.mark.parametrize("field", FLIPS)
def test_verify_report_changed_field_refused(field: str) -> None:
    m, h = terms()
    got = header(sealed(m, h))
    bad = replace(got, **{field: FLIPS[field](got)})
    with pytest.raises(Refused):
        verify_report(bad, m, h, device_key=DEVICE_KEY, class_=bad.class_)


def test_verify_report_every_signature_bit_counts() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    for i in range(0, 512, 7):
        bad = bytearray(got.signature)
        bad[i // 8] ^= 1 << i % 8
        with pytest.raises(Refused):
            verify_report(replace(got, signature=bytes(bad)), m, h, device_key=DEVICE_KEY, class_=CLASS)


def test_verify_report_class_moved_by_the_leader_refused() -> None:
    m, h = terms()
    with pytest.raises(Refused, match="class"):
        verify_report(header(sealed(m, h, class_="big")), m, h, device_key=DEVICE_KEY, class_="small")


def test_verify_report_for_another_round_with_good_signature_refused() -> None:
    """A replay: everything is right, for yesterday's round."""
    old, old_h = terms(round_id=b"\x09" * 16)
    m, h = terms()
    got = header(sealed(old, old_h))
    with pytest.raises(Refused, match="another round"):
        verify_report(got, m, h, device_key=DEVICE_KEY, class_=CLASS)
    relabelled = replace(got, round=m.round, manifest=h)
    with pytest.raises(Refused, match="signature"):
        verify_report(relabelled, m, h, device_key=DEVICE_KEY, class_=CLASS)


@pytest.mark.parametrize("field", ["round", "manifest"])
def test_verify_report_signed_for_another_round_or_other_terms_refused(field: str) -> None:
    """One of the two is right, and the device's own signature is good."""
    m, h = terms()
    got = header(sealed(m, h))
    with pytest.raises(Refused, match="another round"):
        verify_report(
            resign(replace(got, **{field: FLIPS[field](got)})), m, h, device_key=DEVICE_KEY, class_=CLASS
        )


def test_verify_report_other_key_or_all_zero_key_refused() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    for key in (keys.public_key(b"\x77" * 32), bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Refused, match="another device"):
            verify_report(got, m, h, device_key=key, class_=CLASS)
        with pytest.raises(Refused, match="signature"):
            verify_report(replace(got, device=keys.key_id(key)), m, h, device_key=key, class_=CLASS)
    with pytest.raises(DataError):
        verify_report(got, m, h, device_key=b"", class_=CLASS)


def test_verify_report_in_the_name_of_another_device_refused() -> None:
    """A device signs with its own enrolled key, but names somebody else."""
    m, h = terms()
    forged = resign(header(sealed(m, h)), OTHER_SEED)
    assert forged.device == DEVICE
    with pytest.raises(Refused, match="another device"):
        verify_report(forged, m, h, device_key=keys.public_key(OTHER_SEED), class_=CLASS)


@pytest.mark.parametrize("size", [0, 31, BOX_BYTES - 1, BOX_BYTES + 1, 512])
def test_box_of_another_length_refused_even_if_signed(size: int) -> None:
    m, h = terms()
    bad = resign(replace(header(sealed(m, h)), box=bytes(size)))
    with pytest.raises(Refused):
        verify_report(bad, m, h, device_key=DEVICE_KEY, class_=CLASS)
    with pytest.raises(Refused):
        open_box(bad, m, h, round_secret=Secret(ROUND_SEED))


# ---- the box: relabelled by a leader or made wrong by a device, with a good signature over it


@pytest.mark.parametrize("field", ["device", "nonce", "y_hash"])
def test_open_box_under_another_label_refused(field: str) -> None:
    m, h = terms()
    got = header(sealed(m, h))
    bad = resign(replace(got, **{field: FLIPS[field](got)}))
    with pytest.raises(Refused):
        open_box(bad, m, h, round_secret=Secret(ROUND_SEED))


def test_open_box_under_another_manifest_or_round_refused() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    with pytest.raises(Refused):
        open_box(got, m, b"\x05" * 32, round_secret=Secret(ROUND_SEED))
    with pytest.raises(Refused):
        open_box(got, replace(m, round=b"\x02" * 16), h, round_secret=Secret(ROUND_SEED))


def test_open_box_each_byte_changed_refused() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    for i in range(BOX_BYTES):
        box = bytearray(got.box)
        box[i] ^= 0x40
        with pytest.raises(Refused):
            open_box(replace(got, box=bytes(box)), m, h, round_secret=Secret(ROUND_SEED))


def test_open_box_of_another_device_copied_refused() -> None:
    """A device that resends somebody else's box under its own name and signature gains nothing."""
    m, h = terms()
    other = keys.public_key(OTHER_SEED)
    stolen = resign(replace(header(sealed(m, h)), device=keys.key_id(other)), OTHER_SEED)
    verify_report(stolen, m, h, device_key=other, class_=CLASS)
    with pytest.raises(Refused):
        open_box(stolen, m, h, round_secret=Secret(ROUND_SEED))


def test_open_box_with_another_round_key_refused() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    with pytest.raises(Refused, match="another round key"):
        open_box(got, m, h, round_secret=Secret(b"\x33" * 32))


def test_open_box_after_the_leader_substituted_the_helper_key_refused() -> None:
    mine, _ = terms()
    theirs, h = terms(round_key=round_public(Secret(b"\x33" * 32)))
    got = header(sealed(theirs, h))
    for m in (mine, theirs):
        with pytest.raises(Refused):
            open_box(got, m, h, round_secret=Secret(ROUND_SEED))


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda p: p[:2].hex())
def test_low_order_keys_refused_on_both_sides(point: bytes) -> None:
    m, h = terms()
    got = header(sealed(m, h))
    with pytest.raises(Refused, match="low order"):
        open_box(resign(replace(got, box=point + got.box[32:])), m, h, round_secret=Secret(ROUND_SEED))
    with pytest.raises(Refused, match="low order"):
        sealed(*terms(round_key=point))


def box_with(m: Manifest, h: bytes, plain: object, *, role: str = "helper") -> bytes:
    """Build a box as a dishonest device would, by the documented formula."""
    secret = b"\x44" * 32
    eph = nacl.bindings.crypto_scalarmult_base(secret)
    shared = nacl.bindings.crypto_scalarmult(secret, m.helper.round_key)
    message = cbor.dumps(["edgefl/1/oneshot-box", role, m.round, DEVICE, h, eph, m.helper.round_key])
    key = blake2b(message, digest_size=32, key=shared, person=b"efl-box").digest()
    aad = cbor.dumps([m.round, DEVICE, h])
    data = plain if isinstance(plain, bytes) else cbor.dumps(plain)
    nonce = b"\x55" * 24
    return eph + nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(data, aad, nonce, key)


def inner_of(r: Report, h: bytes) -> bytes:
    return keys.tagged_hash("edgefl/1/oneshot-inner", r.round, r.device, h, r.y_hash, r.nonce)


def test_open_box_built_by_the_documented_formula_opens() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    good = replace(got, box=box_with(m, h, ["helper", S, inner_of(got, h)]))
    assert open_box(good, m, h, round_secret=Secret(ROUND_SEED)).data == S


@pytest.mark.parametrize(
    "case",
    [
        "inner hash",
        "role inside",
        "role in the key",
        "seed of 31",
        "more fields",
        "a map",
        "not CBOR",
        "text seed",
    ],
)
def test_open_box_wrong_content_refused(case: str) -> None:
    m, h = terms()
    got = header(sealed(m, h))
    inner = inner_of(got, h)
    role = "leader" if case == "role in the key" else "helper"
    plain = {
        "inner hash": ["helper", S, bytes(32)],
        "role inside": ["leader", S, inner],
        "role in the key": ["helper", S, inner],
        "seed of 31": ["helper", S[:31], inner + b"x"],
        "more fields": ["helper", S, inner, 0],
        "a map": {"helper": S, "inner": inner},
        "not CBOR": b"\xff" * 76,
        "text seed": ["helper", "s" * 32, inner],
    }[case]
    bad = resign(replace(got, box=box_with(m, h, plain, role=role)))
    with pytest.raises(Refused):
        open_box(bad, m, h, round_secret=Secret(ROUND_SEED))


def test_refusals_never_hold_a_secret() -> None:
    m, h = terms()
    got = header(sealed(m, h))
    bad = resign(replace(got, box=box_with(m, h, ["helper", S, bytes(32)])))
    with pytest.raises(Refused) as error:
        open_box(bad, m, h, round_secret=Secret(ROUND_SEED))
    for secret in (S, ROUND_SEED):
        assert secret.hex() not in repr(error.value) and repr(secret)[2:-1] not in repr(error.value)
    assert error.value.__cause__ is None


# ---- secrets


def test_secret_hides_and_erases() -> None:
    secret = Secret(S)
    buffer = secret.data
    assert S.hex() not in repr(secret) + str(secret) + f"{secret!r:>40}" and "^" not in repr(secret)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(secret)
    secret.wipe()
    assert buffer == bytes(32)
    secret.wipe()
    with pytest.raises(DataError):
        _ = secret.data


def test_private_vectors_are_not_shown() -> None:
    """What a worker holds in the clear may stand in an exception's arguments or a debugger's line."""
    values = np.full(3, 1234, np.int32)
    for private in (Batch(values, values), RawDelta(values, 1), RingVector(values, 16)):
        assert "1234" not in repr(private)


def test_secret_is_erased_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), Secret(S) as secret:
        buffer = secret.data
        _ = 1 / 0
    assert buffer == bytes(32)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_secret_of_another_length_refused(size: int) -> None:
    with pytest.raises(DataError):
        Secret(bytes(size))


def test_mask_key_binds_every_input() -> None:
    base = {"device": DEVICE, "h": bytes(32), "width": 16, "dim": 100, "role": "helper"}
    changes = [{"device": b"\x03" * 16}, {"h": b"\x01" * 32}, {"width": 32}, {"dim": 101}, {"role": "leader"}]
    made = {bytes(mask_key(S, **base)), bytes(mask_key(S[::-1] + b"", **base))}
    made |= {bytes(mask_key(S, **{**base, **change})) for change in changes}
    made.add(bytes(mask_key(b"\x5f" + S[1:], **base)))
    assert len(made) == 1 + len(changes) + 1  # S reversed is S


@pytest.mark.parametrize("size", [0, 31, 33, 65])
def test_mask_key_from_a_seed_of_another_length_refused(size: int) -> None:
    """BLAKE2b with an empty key is an unkeyed hash: a mask that everybody knows."""
    with pytest.raises(DataError, match="32 bytes"):
        mask_key(bytes(size), device=DEVICE, h=bytes(32), width=16, dim=100)


def test_mask_key_is_the_documented_formula() -> None:
    message = cbor.dumps(["edgefl/1/kdf", "helper", DEVICE, bytes(32), 16, 100])
    expected = nacl.bindings.crypto_generichash_blake2b_salt_personal(message, 32, S, b"", b"efl-os")
    assert mask_key(S, device=DEVICE, h=bytes(32), width=16, dim=100) == expected
