# SPDX-License-Identifier: Apache-2.0
"""The primitives that the protocol takes from libsodium, against Project Wycheproof, invalid cases too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nacl.bindings
import pytest
from nacl.exceptions import CryptoError

from edgefl.errors import Refused
from edgefl.secagg.oneshot import _box_key
from edgefl.secagg.secret import Secret
from edgefl.wire import keys
from tests.secagg.test_oneshot import DEVICE, terms


def cases(shared: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in json.loads((shared / f"data/vectors/wycheproof/{name}_test.json").read_text())["testGroups"]:
        for case in group["tests"]:
            yield group, case


def test_x25519_wycheproof_results_match_and_zero_results_are_refused(shared: Path) -> None:
    computed = refused = 0
    m, h = terms()
    for _, case in cases(shared, "x25519"):
        public, private = bytes.fromhex(case["public"]), bytes.fromhex(case["private"])
        if case["shared"] == "00" * 32:
            with pytest.raises(RuntimeError):
                nacl.bindings.crypto_scalarmult(private, public)
            with pytest.raises(Refused, match="low order"):
                _box_key(Secret(private), public, bytes(32), m, h, DEVICE)
            refused += 1
        else:
            assert nacl.bindings.crypto_scalarmult(private, public).hex() == case["shared"], case["tcId"]
            computed += 1
    assert computed > 450 and refused > 20


def test_ed25519_wycheproof_valid_accepted_and_invalid_refused(shared: Path) -> None:
    seen = {"valid": 0, "invalid": 0}
    for group, case in cases(shared, "ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        good = keys.verify(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        assert good == (case["result"] == "valid"), (case["tcId"], case["comment"])
        seen[case["result"]] += 1
    assert seen["valid"] > 50 and seen["invalid"] > 50


@pytest.mark.parametrize("name", ["xchacha20_poly1305", "chacha20_poly1305"])
def test_aead_wycheproof_valid_opens_and_invalid_does_not(shared: Path, name: str) -> None:
    decrypt = {
        "xchacha20_poly1305": nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt,
        "chacha20_poly1305": nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt,
    }[name]
    opened = refused = 0
    for _, case in cases(shared, name):
        sealed = bytes.fromhex(case["ct"] + case["tag"])
        key, nonce, aad = (bytes.fromhex(case[k]) for k in ("key", "iv", "aad"))
        if case["result"] == "valid":
            assert decrypt(sealed, aad, nonce, key).hex() == case["msg"], case["tcId"]
            opened += 1
        else:
            with pytest.raises((CryptoError, ValueError)):
                decrypt(sealed, aad, nonce, key)
            refused += 1
    assert opened > 200 and refused > 50
