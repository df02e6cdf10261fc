# SPDX-License-Identifier: Apache-2.0
"""Request signatures: RFC 9421's own example, refusals, fuzzing."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.wire.httpsig import (
    RequestRefused,
    SignatureInput,
    content_digest,
    parse_binary,
    parse_signature_input,
    sign_request,
    signature_base,
    verify_request,
)
from edgefl.wire.keys import public_key, signer, verify

SEED = b"\x11" * 32
SIGNER = signer(SEED)
PUBLIC = public_key(SEED)
HUB = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000
BODY = hashlib.sha256(b"\xa0").digest()
CALL = ("POST", "/v1/poll?x=1")


def signed(method="POST", target="/v1/poll?x=1", body=BODY, **values):
    values = {"signer": SIGNER, "audience": HUB, "created": NOW, "nonce": bytes(16), **values}
    return sign_request(method, target, body, **values)


def check(headers, method="POST", target="/v1/poll?x=1", now=NOW, audience=HUB):
    return verify_request(method, target, headers, audience=audience, key_of={SIGNER[0]: PUBLIC}.get, now=now)


def code_of(*args, **kwargs):
    with pytest.raises(RequestRefused) as caught:
        check(*args, **kwargs)
    return caught.value.code


def test_other_method_target_audience_or_digest_is_refused():
    good = signed()
    assert code_of(good, method="PUT") == "request.signature"
    assert code_of(good, target="/v1/poll?x=2") == "request.signature"
    assert code_of(good, target="/v1/poll") == "request.signature"
    assert code_of(good, target="/v1/Poll?x=1") == "request.signature"
    assert code_of(good, audience="enroll") == "request.signature"
    assert code_of({**good, "content-digest": content_digest(bytes(32))}) == "request.signature"


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest"])
def test_missing_header_is_refused(name):
    headers = signed()
    del headers[name]
    assert code_of(headers) == "request.signature"


def test_age_is_bounded_both_ways():
    for now in (NOW - 301, NOW + 301):
        assert code_of(signed(), now=now) == "request.age"
    for now in (NOW - 300, NOW + 300):
        check(signed(), now=now)


def test_age_is_told_only_to_a_key_that_signed():
    headers = signed()
    headers["signature"] = "edgefl=:" + base64.b64encode(bytes(64)).decode() + ":"
    assert code_of(headers, now=0) == "request.signature"


def test_unknown_key_is_refused():
    assert code_of(signed(signer=signer(b"\x12" * 32))) == "device.unknown"


def test_signature_of_another_key_under_this_id_is_refused():
    assert code_of(signed(signer=(SIGNER[0], signer(b"\x12" * 32)[1]))) == "request.signature"


def test_body_left_out_of_the_signature_is_refused():
    get = signed(method="GET", body=None)
    assert code_of({**get, "content-digest": content_digest(BODY)}) == "request.signature"
    assert check(get, method="GET").body_sha256 is None


def replaced(old: str, new: str) -> dict[str, str]:
    headers = signed()
    assert old in headers["signature-input"]
    return {**headers, "signature-input": headers["signature-input"].replace(old, new)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("edgefl=", "sig1="),
        (' "@query"', ""),
        ('"@method" "@path"', '"@path" "@method"'),
        ('"@path"', '"@path" "@path"'),
        ("created=1800000000", 'created="1800000000"'),
        ("created=1800000000", "created=01800000000"),
        ("created=1800000000", "created=-1"),
        ("created=1800000000", "created=1800000000.0"),
        ("created=1800000000", "created=1800000000;created=1800000000"),
        (";created=", "; created="),
        (';alg="ed25519"', ""),
        (';alg="ed25519"', ';alg="hmac-sha256"'),
        ('alg="ed25519"', 'alg="ed25519";expires=1900000000'),
        ('nonce="' + "00" * 16, 'nonce="' + "00" * 15),
        ('keyid="', 'keyid="A'),
        ("edgefl=(", "edgefl=( "),
        ("edgefl=(", "a=(),edgefl=("),
        ("tag=", "tag=\\"),
    ],
)
def test_other_spelling_of_the_parameters_is_refused(old, new):
    assert code_of(replaced(old, new)) == "request.signature"


GOOD_PARAMETERS = {
    "created": NOW,
    "nonce": "00" * 16,
    "keyid": SIGNER[0].hex(),
    "alg": "ed25519",
    "tag": f"edgefl/1/http/{HUB}",
}
COVERED = ("@method", "@path", "@query", "content-digest")


def signed_otherwise(parameters, components=COVERED, label="edgefl"):
    """Return headers that the device's own key signed over any parameters and components."""
    values = {
        "@method": "POST",
        "@path": "/v1/poll",
        "@query": "?x=1",
        "content-digest": content_digest(BODY),
    }
    described = SignatureInput(label, components, tuple(parameters.items()))
    signature = SIGNER[1](signature_base([(c, values[c]) for c in components], described.text))
    return {
        "content-digest": values["content-digest"],
        "signature-input": f"{label}={described.text}",
        "signature": f"{label}=:{base64.b64encode(signature).decode()}:",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {**GOOD_PARAMETERS, "expires": NOW + 9}},
        {"parameters": dict(reversed(GOOD_PARAMETERS.items()))},
        {"parameters": {**GOOD_PARAMETERS, "alg": "rsa-v1_5-sha256"}},
        {"parameters": {**GOOD_PARAMETERS, "tag": "edgefl/1/http/other"}},
        {"parameters": {**GOOD_PARAMETERS, "created": str(NOW)}},
        {"parameters": {**GOOD_PARAMETERS, "nonce": "00" * 15}},
        {"parameters": {k: v for k, v in GOOD_PARAMETERS.items() if k != "tag"}},
        {"parameters": GOOD_PARAMETERS, "components": COVERED[:2] + COVERED[3:]},
        {"parameters": GOOD_PARAMETERS, "components": COVERED[:3]},
        {"parameters": GOOD_PARAMETERS, "components": COVERED[::-1]},
        {"parameters": GOOD_PARAMETERS, "label": "sig1"},
    ],
)
def test_other_profile_with_a_good_signature_is_refused(options):
    check(signed_otherwise(GOOD_PARAMETERS))
    assert code_of(signed_otherwise(**options)) == "request.signature"


@pytest.mark.parametrize(
    "header",
    ["", "edgefl", "edgefl=()", 'edgefl=("a"', 'edgefl=("a");', 'edgefl=("a")' + ";a=1" * 400, 'é=("a")'],
)
def test_malformed_signature_input_is_refused(header):
    with pytest.raises(DataError):
        parse_signature_input(header)


@pytest.mark.parametrize(
    "header",
    ["", "sha-256=", "sha-256=:AAAA:", "sha-512=::", "sha-256=:!:", "sha-256=:" + "A" * 42 + "B=:"],
)
def test_malformed_digest_is_refused(header):
    with pytest.raises(DataError):
        parse_binary(header, "sha-256", 32)


def test_malformed_call_is_refused():
    assert code_of(signed(), target="http://other/v1/poll") == "request.signature"
    assert code_of(signed(), target="/v1/\npoll") == "request.signature"
    assert code_of(signed(), target="/" + "a" * 2000) == "request.signature"
    with pytest.raises(ValueError):
        signed(method="GET")
    with pytest.raises(ValueError):
        signed(nonce=b"short")


def test_good_request_names_its_signer():
    nonce = bytes(range(16))
    got = check(signed(nonce=nonce))
    assert (got.key_id, got.created, got.nonce, got.body_sha256) == (SIGNER[0], NOW, nonce, BODY)


@given(st.text(max_size=300))
def test_parse_any_text_raises_data_error_only(text):
    try:
        got = parse_signature_input(text)
    except DataError:
        return
    assert f"{got.label}={got.text}" == text


@given(st.data())
def test_mutated_headers_are_refused(data):
    headers = signed()
    name = data.draw(st.sampled_from(sorted(headers)))
    text = list(headers[name])
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.characters(exclude_characters=text[at]))
    headers[name] = "".join(text)
    assert code_of(headers) in ("request.signature", "device.unknown")


def test_example_of_rfc9421_b_2_6():
    """The key pair, request and signature printed in RFC 9421, B.1.4 and B.2.6."""
    seed = base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU=")
    public = base64.urlsafe_b64decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs=")
    assert public_key(seed) == public
    described = parse_signature_input(
        'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    assert isinstance(described, SignatureInput) and described.label == "sig-b26"
    request = {
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "@method": "POST",
        "@path": "/foo",
        "@authority": "example.com",
        "content-type": "application/json",
        "content-length": "18",
    }
    base = signature_base([(c, request[c]) for c in described.components], described.text)
    wanted = parse_binary(
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
        "sig-b26",
        64,
    )
    assert signer(seed)[1](base) == wanted
    assert verify(public, base, wanted)


def test_example_of_rfc9530_b_1():
    digest = hashlib.sha256(b'{"hello": "world"}\n').digest()
    assert content_digest(digest) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
