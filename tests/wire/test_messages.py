# SPDX-License-Identifier: Apache-2.0
"""Messages: refusals first, then round trips, fuzzing, and the comparison with docs/protocol.md."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import MANIFEST, RELEASE, REPORT, SAMPLES, TASK

from edgefl.errors import DataError
from edgefl.wire import cbor
from edgefl.wire import messages as m
from edgefl.wire.field import Row, wire_fields

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
messages = pytest.mark.parametrize("cls", m.MESSAGES, ids=lambda c: c.__name__)


def changed(message: m.Message, **values: object) -> m.Message:
    return dataclasses.replace(message, **values)


@messages
def test_decode_missing_field_is_refused(cls):
    plain = SAMPLES[cls].plain()
    for key in range(len(plain)) if issubclass(cls, Row) else list(plain):
        cut = (
            [v for i, v in enumerate(plain) if i != key]
            if issubclass(cls, Row)
            else {k: plain[k] for k in plain if k != key}
        )
        with pytest.raises(DataError):
            cls.decode(cbor.dumps(cut))


@messages
def test_decode_unknown_field_is_refused(cls):
    plain = SAMPLES[cls].plain()
    more = [*plain, 0] if issubclass(cls, Row) else {**plain, "extra": 0}
    with pytest.raises(DataError):
        cls.decode(cbor.dumps(more))


@messages
def test_decode_wrong_types_are_refused(cls):
    message = SAMPLES[cls]
    for _, (attribute, _) in wire_fields(cls).items():
        value = getattr(message, attribute)
        for other in (
            1.5,
            object(),
            [[]],
            {"a": 1},
            -(1 << 63),
            "\x1b[2J",
            "line\nbreak",
            b"?" * 3,
            True,
            "\ud800",
        ):
            if value is None or type(other) is type(value):
                continue
            with pytest.raises(DataError, match=r"^[A-Z]\w+\.\w+"):
                changed(message, **{attribute: other})


@messages
def test_decode_body_above_the_limit_is_refused(cls):
    with pytest.raises(DataError, match="bytes, at most"):
        cls.decode(bytes(cls.max_bytes + 1))


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (MANIFEST, {"quorum": 9}),
        (MANIFEST, {"bits": 12}),
        (MANIFEST, {"length": 17643}),
        (MANIFEST, {"width": 8}),
        (MANIFEST, {"mode": "sa1"}),
        (MANIFEST, {"n_max": m.MAX_DEVICES + 1}),
        (MANIFEST, {"dim": m.MAX_DIM + 1, "length": m.MAX_DIM + 7}),
        (MANIFEST, {"value_bits": 14, "bits": 17}),
        (MANIFEST, {"clip": 0}),
        (MANIFEST, {"clip": 1 << 32}),
        (MANIFEST, {"scale": 0}),
        (MANIFEST, {"scale": (1 << 20) + 1}),
        (TASK, {"clip": 0}),
        (TASK, {"scale": 0}),
        (MANIFEST, {"helper": dataclasses.replace(MANIFEST.helper, key=MANIFEST.leader.key)}),
        (RELEASE, {"expires": RELEASE.issued}),
        (RELEASE, {"model": "other"}),
        (RELEASE, {"model": "../../etc/passwd"}),
        (RELEASE, {"model": ""}),
        (RELEASE, {"sequence": 0}),
        (RELEASE, {"sequence": RELEASE.issued - 1}),
        (RELEASE, {"patches": RELEASE.patches * 2}),
        (TASK, {"layers": "last:0"}),
        (TASK, {"layers": "first"}),
        (TASK, {"layers": "ops:"}),
        (TASK, {"layers": "ops:1,b"}),
        (TASK, {"layers": "auto"}),
        (TASK, {"exponents": (64,)}),
        (TASK, {"epochs": 0}),
        (REPORT, {"attempt": 256}),
        (REPORT, {"proof": b"x"}),
        (REPORT, {"class_": "a/b"}),
        (SAMPLES[m.Probe], {"n": 3}),
        (SAMPLES[m.Probe], {"n": 65}),
        (SAMPLES[m.SetStatement], {"members": SAMPLES[m.SetStatement].members[::-1]}),
        (SAMPLES[m.SetStatement], {"members": SAMPLES[m.SetStatement].members[:1] * 2}),
        (SAMPLES[m.ReportsAnswer], {"reasons": ()}),
        (SAMPLES[m.Token], {"hubs": SAMPLES[m.Token].hubs[:1]}),
        (SAMPLES[m.Token], {"hubs": SAMPLES[m.Token].hubs[:1] * 2}),
        (SAMPLES[m.Token], {"url": "http://hub"}),
        (SAMPLES[m.Accepted], {"accepted": 1}),
        (SAMPLES[m.Problem], {"code": "Not A Code"}),
        (SAMPLES[m.Poll], {"n": True}),
        (SAMPLES[m.Poll], {"n": 1 << 63}),
        (SAMPLES[m.Poll], {"event": "x" * 201}),
        (SAMPLES[m.Poll], {"event": "é" * 101}),
        (SAMPLES[m.Poll], {"rejected": (bytes(32),) * 65}),
    ],
)
def test_message_outside_its_limits_is_refused(message, values):
    with pytest.raises(DataError):
        changed(message, **values)


def test_decode_other_order_of_a_map_is_refused():
    good = SAMPLES[m.Problem].encode()
    assert good[0] == 0xA2
    first = 1 + len(cbor.dumps("code")) + len(cbor.dumps("request.age"))
    with pytest.raises(DataError, match="order"):
        m.Problem.decode(good[:1] + good[first:] + good[1:first])


@messages
def test_round_trip(cls):
    message = SAMPLES[cls]
    encoded = message.encode()
    assert cls.decode(encoded) == message
    assert cls.decode(encoded).encode() == encoded
    assert hash(cls.decode(encoded)) == hash(message)


def test_lists_become_tuples():
    assert changed(MANIFEST).length == 17649
    poll = changed(SAMPLES[m.Poll], rejected=[bytes(32)])
    assert poll.rejected == (bytes(32),)


def test_manifest_sizes():
    assert MANIFEST.payload_bytes == (17649 * 11 + 7) // 8


@pytest.mark.parametrize(
    "text",
    ["", "edgefl1.", "edgefl2.aaaa", "edgefl1.!!!!", "edgefl1." + "a" * 9000, "edgefl1.aaaaa", "edgefl1.é"],
)
def test_token_malformed_is_refused(text):
    with pytest.raises(DataError):
        m.Token.from_text(text)


@pytest.mark.parametrize("cls", [m.Token, m.EnrollRequest])
def test_secret_of_a_token_is_not_shown(cls):
    message = changed(SAMPLES[cls], secret=b"0123456789abcdef" * 2)
    assert "0123456789" not in repr(message) + str(message) + f"{message}"


def test_token_round_trip():
    token = SAMPLES[m.Token]
    text = token.to_text()
    assert re.fullmatch(r"edgefl1\.[A-Za-z0-9_-]+", text)
    assert m.Token.from_text(f" {text}\n") == token
    with pytest.raises(DataError):
        m.Token.from_text(text[:-3])


@given(st.data())
def test_decode_mutated_messages_raise_data_error_only(data):
    cls = data.draw(st.sampled_from(m.MESSAGES))
    raw = bytearray(SAMPLES[cls].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for candidate in (bytes(raw), bytes(raw[: data.draw(st.integers(0, len(raw)))])):
        try:
            assert cls.decode(candidate).encode() == candidate
        except DataError:
            pass


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.binary(max_size=70)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.data())
def test_decode_fields_of_any_type_raise_data_error_only(data):
    cls = data.draw(st.sampled_from([c for c in m.MESSAGES if wire_fields(c)]))
    plain = SAMPLES[cls].plain()
    key = data.draw(st.sampled_from(range(len(plain)) if isinstance(plain, list) else sorted(plain)))
    plain[key] = data.draw(junk)
    try:
        cls.decode(cbor.dumps(plain))
    except DataError:
        pass


# The page


def maps_of_the_page() -> set[tuple[str, ...]]:
    """Return the keys of every map that docs/protocol.md writes as `{key: type, ...}`, nested ones too."""
    found = set()
    for span in re.findall(r"`([^`]*\{[^`]*)`", PROTOCOL.read_text()):
        stack: list[str] = []
        for char in span:
            if char == "{":
                stack.append("")
            elif char == "}":
                inner = stack.pop()
                if stack:
                    stack[-1] += "MAP"
                inner = re.sub(r"\([^)]*\)|\[[^]]*\]", "", inner)
                keys = tuple(part.split(":")[0].split("=")[0].strip() for part in inner.split(","))
                if ("," in inner or ":" in inner) and "key id" not in keys:
                    found.add(keys)
            elif stack:
                stack[-1] += char
    return found


def test_messages_are_those_of_the_page():
    ours = {
        tuple(wire_fields(c)): c.__name__ for c in m.MESSAGES if not issubclass(c, Row) and wire_fields(c)
    }
    page = maps_of_the_page()
    assert {ours[k] for k in ours if k not in page} == set(), (
        "messages that docs/protocol.md does not describe"
    )
    assert page - set(ours) == set(), "maps of docs/protocol.md without a message"


def test_refusal_codes_are_those_of_the_page():
    line = next(text for text in PROTOCOL.read_text().splitlines() if "Codes:" in text)
    assert tuple(re.findall(r"`([a-z_.]+)`", line.split("Codes:")[1])) == m.CODES
    for code in m.CODES:
        m.Problem(code=code, text="")
