# SPDX-License-Identifier: Apache-2.0
"""Envelopes and credentials: what must not open, then what must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.errors import DataError, Refused
from edgefl.wire import cbor, credential
from edgefl.wire.envelope import countersign, open_envelope, seal
from edgefl.wire.keys import key_id, public_key, sha256, signer, tagged_hash, verify

SEEDS = [bytes([i]) * 32 for i in range(1, 5)]
SIGNERS = [signer(s) for s in SEEDS]
PUBLIC = [public_key(s) for s in SEEDS]
KEYS = {key_id(p): p for p in PUBLIC[:2]}
GOOD = seal("release", b"payload", SIGNERS[:2])


def test_open_other_kind_is_refused():
    with pytest.raises(Refused, match="wrong signature"):
        open_envelope(GOOD, "manifest", KEYS)


def test_open_changed_payload_is_refused():
    payload, signatures = cbor.loads(GOOD)
    with pytest.raises(Refused):
        open_envelope(cbor.dumps([payload + b"!", signatures]), "release", KEYS)


def test_open_unknown_key_counts_nothing():
    with pytest.raises(Refused, match="0 of 1"):
        open_envelope(seal("release", b"x", SIGNERS[2:]), "release", KEYS)
    with pytest.raises(Refused, match="1 of 2"):
        open_envelope(seal("release", b"x", SIGNERS[1:]), "release", KEYS, threshold=2)


def test_open_exact_refuses_a_further_signature():
    assert open_envelope(GOOD, "release", KEYS, exact=True) == b"payload"
    more = countersign(GOOD, "release", SIGNERS[2:3])
    assert open_envelope(more, "release", KEYS) == b"payload"
    with pytest.raises(Refused, match="unknown key"):
        open_envelope(more, "release", KEYS, exact=True)


def test_open_signature_under_another_name_is_refused():
    (name, _), (other, sign) = SIGNERS[:2]
    with pytest.raises(Refused):
        open_envelope(seal("release", b"x", [(name, sign), (other, sign)]), "release", KEYS, threshold=2)


def test_open_one_key_under_two_names_counts_once():
    alias = bytes(16)
    data = seal("release", b"x", [SIGNERS[0], (alias, SIGNERS[0][1])])
    with pytest.raises(Refused, match="1 of 2"):
        open_envelope(data, "release", {**KEYS, alias: PUBLIC[0]}, threshold=2)


def test_open_good_signature_does_not_hide_a_bad_one():
    payload, signatures = cbor.loads(GOOD)
    signatures[SIGNERS[1][0]] = bytes(64)
    with pytest.raises(Refused):
        open_envelope(cbor.dumps([payload, signatures]), "release", KEYS, threshold=1)


@pytest.mark.parametrize(
    "value",
    [
        [],
        [b"", {}, 0],
        ["text", {}],
        [b"", []],
        [b"", {"a": bytes(64)}],
        [b"", {bytes(16): bytes(63)}],
        [b"", {bytes(15): bytes(64)}],
        [b"", {bytes(16): 1}],
        [b"", {bytes([i]) * 16: bytes(64) for i in range(17)}],
    ],
)
def test_open_malformed_is_refused(value):
    with pytest.raises(DataError):
        open_envelope(cbor.dumps(value), "release", KEYS)


def test_open_threshold_zero_is_an_error_of_the_caller():
    with pytest.raises(ValueError):
        open_envelope(GOOD, "release", KEYS, threshold=0)


@given(st.data())
def test_open_mutated_envelope_never_yields_another_payload(data):
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert open_envelope(bytes(raw), "release", KEYS) == b"payload"
    except (DataError, Refused):
        pass


@given(st.binary(max_size=200))
def test_open_random_bytes_are_refused(data):
    with pytest.raises((DataError, Refused)):
        open_envelope(data, "release", KEYS)


def test_open_counts_distinct_signers():
    assert open_envelope(GOOD, "release", KEYS) == b"payload"
    assert open_envelope(GOOD, "release", KEYS, threshold=2) == b"payload"
    one = seal("release", b"payload", SIGNERS[:1])
    assert countersign(one, "release", SIGNERS[1:2]) == GOOD


def test_verify_malformed_inputs_are_false():
    assert not verify(b"", b"", bytes(64))
    assert not verify(PUBLIC[0], b"", b"short")
    assert not verify(bytes(32), b"", bytes(64))  # a key of small order
    assert key_id(PUBLIC[0]) == sha256(PUBLIC[0])[:16]
    assert tagged_hash("a", 1) != tagged_hash("a", 2) != tagged_hash("b", 2)
    with pytest.raises(DataError):
        signer(b"short")
    with pytest.raises(DataError):
        key_id(b"short")


# Credentials

NOW = 1_800_000_000


def test_credential_is_accepted_until_it_expires():
    data = credential.issue(SIGNERS[0], PUBLIC[3], "any", NOW)
    body = credential.check(data, PUBLIC[0], NOW + credential.LIFETIME_S - 1)
    assert (body.device, body.key, body.class_) == (key_id(PUBLIC[3]), PUBLIC[3], "any")
    assert len(data) <= 512  # it travels inside a report's header
    with pytest.raises(Refused, match="expired"):
        credential.check(data, PUBLIC[0], NOW + credential.LIFETIME_S)


def test_credential_of_another_ca_is_refused():
    with pytest.raises(Refused):
        credential.check(credential.issue(SIGNERS[1], PUBLIC[3], "any", NOW), PUBLIC[0], NOW)


def test_credential_with_a_foreign_id_is_refused():
    from edgefl.wire.messages import Credential

    body = Credential(device=key_id(PUBLIC[2]), key=PUBLIC[3], class_="any", expires=NOW + 9)
    with pytest.raises(Refused, match="device id"):
        credential.check(seal("credential", body.encode(), SIGNERS[:1]), PUBLIC[0], NOW)


def test_credential_malformed_payload_is_refused():
    with pytest.raises(DataError):
        credential.check(seal("credential", b"\xa0", SIGNERS[:1]), PUBLIC[0], NOW)
