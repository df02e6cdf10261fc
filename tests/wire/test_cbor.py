# SPDX-License-Identifier: Apache-2.0
"""Canonical CBOR: refusals first, then agreement with cbor2 and fuzzing."""

from __future__ import annotations

import tracemalloc

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.wire import cbor

REFUSED = {
    "empty": "",
    "trailing byte": "0000",
    "long form of 0": "1800",
    "long form of 23": "1817",
    "u16 form of 255": "1900ff",
    "u32 form of 65535": "1a0000ffff",
    "u64 form of 2^32-1": "1b00000000ffffffff",
    "long length of a string": "580161",
    "cut head": "19ff",
    "cut bytes": "4261",
    "cut list": "8201",
    "cut map": "a101",
    "declared 2^64-1 bytes": "5bffffffffffffffff",
    "declared 2^63 items": "9b8000000000000000",
    "declared 2^63 entries": "bb8000000000000000",
    "indefinite list": "9fff",
    "indefinite bytes": "5f4161ff",
    "indefinite map": "bfff",
    "break alone": "ff",
    "half float": "f90000",
    "float": "fa00000000",
    "double": "fb0000000000000000",
    "undefined": "f7",
    "simple 16": "f0",
    "simple 32": "f820",
    "long form of true": "f815",
    "tag": "c000",
    "bignum": "c249010000000000000000",
    "below -2^63": "3b8000000000000000",
    "bad UTF-8": "61ff",
    "surrogate in UTF-8": "63eda080",
    "keys out of order": "a2616201616102",
    "longer key first": "a2626161016162 02",
    "key repeated": "a2616101616102",
    "list as a key": "a18001",
    "map as a key": "a1a001",
    "bool as a key": "a1f501",
    "null as a key": "a1f601",
    "reserved length": "1c",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_loads_other_than_canonical_is_refused(text):
    with pytest.raises(DataError):
        cbor.loads(bytes.fromhex(text))


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        1 << 64,
        -(1 << 63) - 1,
        {1.5: 1},
        {None: 1},
        {(1,): 1},
        {True: 1},
        object(),
        "\ud800",
        {1},
    ],
)
def test_dumps_unknown_value_is_refused(value):
    with pytest.raises(DataError):
        cbor.dumps(value)


def test_loads_bounds_are_exact():
    assert cbor.loads(b"\x80", max_bytes=1) == []
    with pytest.raises(DataError, match="at most 1"):
        cbor.loads(b"\x81\x01", max_bytes=1)
    deep = b"\x81" * 16 + b"\x80"
    assert cbor.dumps(cbor.loads(deep)) == deep
    with pytest.raises(DataError, match="deep"):
        cbor.loads(b"\x81" + deep)
    with pytest.raises(DataError, match="deep"):
        cbor.loads(b"\x81" * 1_000_000)
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(DataError, match="deep"):
        cbor.dumps(cycle)


def test_loads_many_small_items_cost_little_memory():
    """An empty list is one byte on the wire and 64 in memory."""
    n = (1 << 20) - 5
    tracemalloc.start()
    for item in (b"\x80", b"\xa0"):
        with pytest.raises(DataError, match="items"):
            cbor.loads(b"\x9a" + n.to_bytes(4, "big") + item * n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    most = cbor.dumps([0] * (cbor.MAX_ITEMS - 1))
    assert len(cbor.loads(most)) == cbor.MAX_ITEMS - 1
    with pytest.raises(DataError, match="items"):
        cbor.loads(cbor.dumps([0] * cbor.MAX_ITEMS))


def test_dumps_example_of_the_design():
    assert cbor.dumps({256: 1, -1: 2}).hex() == "a2190100012002"
    encoded = cbor.dumps({256: 0, -1: 0, 1000: 0, "a": 0})
    assert list(cbor.loads(encoded)) == [256, 1000, -1, "a"]
    assert cbor.loads(encoded) == {256: 0, -1: 0, 1000: 0, "a": 0}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "00"), (23, "17"), (24, "1818"), (255, "18ff"), (256, "190100"), (65536, "1a00010000"),
        ((1 << 64) - 1, "1bffffffffffffffff"), (-1, "20"), (-(1 << 63), "3b7fffffffffffffff"),
        (b"", "40"), ("ü", "62c3bc"), ([], "80"), ({}, "a0"), (True, "f5"), (False, "f4"), (None, "f6"),
    ],
)  # fmt: skip
def test_dumps_values_of_rfc8949_appendix_a(value, text):
    assert cbor.dumps(value).hex() == text
    back = cbor.loads(bytes.fromhex(text))
    assert back == value and type(back) is type(value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.binary(max_size=300)
    | st.text(max_size=80)
)
keys = st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(keys, inner, max_size=8),
    max_leaves=40,
)


@given(values)
def test_round_trip_and_oracle(value):
    encoded = cbor.dumps(value)
    assert cbor.loads(encoded) == value
    assert cbor2.loads(encoded) == value


@given(scalars | st.lists(scalars, max_size=20))
def test_dumps_equals_cbor2_without_maps(value):
    assert cbor.dumps(value) == cbor2.dumps(value, canonical=True)


@given(st.binary(max_size=200))
def test_loads_random_bytes_are_refused_or_canonical(data):
    try:
        value = cbor.loads(data)
    except DataError:
        return
    assert cbor.dumps(value) == data


@given(values, st.data())
def test_loads_mutated_bytes_are_refused_or_canonical(value, data):
    raw = bytearray(cbor.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for candidate in (bytes(raw), cut):
        try:
            assert cbor.dumps(cbor.loads(candidate)) == candidate
        except DataError:
            pass
