# SPDX-License-Identifier: Apache-2.0
"""Key stream: RFC 8439 vectors, Wycheproof through AEAD, kernels against each other, counter limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from edgefl.native._core import lib
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.native import masks
from tests.secagg.conftest import ISAS

KEY = bytes(range(32))
RFC_TEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
RFC_CIPHERTEXT = bytes.fromhex(
    "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab"
    "8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42"
    "874d"
)


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def oracle(n: int, key: bytes, nonce: bytes, counter: int) -> bytes:
    """OpenSSL's stream; its 16-byte nonce starts with the little-endian counter."""
    return Cipher(ChaCha20(key, counter.to_bytes(4, "little") + nonce), None).encryptor().update(bytes(n))


def test_key_stream_rfc8439_block_function_matches(isa: str) -> None:
    block = masks.key_stream(64, KEY, bytes.fromhex("000000090000004a00000000"), 1)
    assert block.hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9"
        "cbd083e8a2503c4e"
    )


def test_key_stream_rfc8439_encryption_matches(isa: str) -> None:
    stream = masks.key_stream(len(RFC_TEXT), KEY, bytes.fromhex("000000000000004a00000000"), 1)
    assert xor(RFC_TEXT, stream) == RFC_CIPHERTEXT


@pytest.mark.parametrize(
    ("key", "nonce", "counter", "start"),
    [  # RFC 8439 appendix A.1, vectors 1 to 5
        (bytes(32), bytes(12), 0, "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"),
        (bytes(32), bytes(12), 1, "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"),
        (bytes(31) + b"\1", bytes(12), 1, "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"),
        (
            b"\0\xff" + bytes(30),
            bytes(12),
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca",
        ),
        (bytes(32), bytes(11) + b"\2", 0, "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"),
    ],
)
def test_key_stream_rfc8439_appendix_matches(
    isa: str, key: bytes, nonce: bytes, counter: int, start: str
) -> None:
    assert masks.key_stream(32, key, nonce, counter).hex() == start


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 5000),
    key=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    counter=st.integers(0, 2**32 - 100),
)
def test_key_stream_any_kernel_equals_openssl(n: int, key: bytes, nonce: bytes, counter: int) -> None:
    expected = oracle(n, key, nonce, counter)
    before = lib.efl_isa_current()
    try:
        for isa in ISAS:
            assert lib.efl_isa_select(isa) == 0
            assert masks.key_stream(n, key, nonce, counter) == expected
    finally:
        lib.efl_isa_select(before)


def test_key_stream_last_block_is_given_and_wrap_refused(isa: str) -> None:
    last = 2**32 - 1
    assert masks.key_stream(64, KEY, bytes(12), last) == oracle(64, KEY, bytes(12), last)
    with pytest.raises(DataError, match="range"):
        masks.key_stream(65, KEY, bytes(12), last)


@pytest.mark.parametrize(
    ("key", "nonce", "counter"), [(KEY[:31], bytes(12), 0), (KEY, bytes(8), 0), (KEY, bytes(12), -1)]
)
def test_key_stream_wrong_lengths_refused(key: bytes, nonce: bytes, counter: int) -> None:
    with pytest.raises(DataError):
        masks.key_stream(1, key, nonce, counter)


def test_key_stream_wycheproof_decrypts_valid_cases(shared: Path, isa: str) -> None:
    """ChaCha20 stands inside the AEAD cases: valid ones must decrypt with our stream from block 1."""
    groups = json.loads((shared / "data/vectors/wycheproof/chacha20_poly1305_test.json").read_text())[
        "testGroups"
    ]
    cases = [t for g in groups for t in g["tests"] if g["ivSize"] == 96 and t["result"] == "valid"]
    assert len(cases) > 200
    for t in cases:
        ct = bytes.fromhex(t["ct"])
        stream = masks.key_stream(len(ct), bytes.fromhex(t["key"]), bytes.fromhex(t["iv"]), 1)
        assert xor(ct, stream).hex() == t["msg"], t["tcId"]
