# SPDX-License-Identifier: Apache-2.0
"""Report bodies: refusals, then chunks of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import REPORT

from edgefl.errors import DataError
from edgefl.types import MaskedUpdate
from edgefl.wire.report import MAX_HEADER, ReportStream, split

HEADER = REPORT.encode()


def body_of(header: bytes) -> bytes:
    return MaskedUpdate(round_id=REPORT.round, attempt=1, header=header, payload=b"p" * 100).body


BODY = body_of(HEADER)


@pytest.mark.parametrize("size", [0, MAX_HEADER + 1, (1 << 32) - 1])
def test_header_size_out_of_range_is_refused_at_once(size):
    with pytest.raises(DataError, match="at most"):
        ReportStream(100).feed(size.to_bytes(4, "big"))


def test_payload_of_another_size_is_refused():
    with pytest.raises(DataError, match="longer"):
        split(BODY, 99)
    with pytest.raises(DataError, match="short"):
        split(BODY, 101)
    with pytest.raises(DataError, match="short"):
        split(BODY[:50], 100)
    with pytest.raises(DataError, match="short"):
        split(b"", 0)


def test_malformed_header_is_refused():
    with pytest.raises(DataError):
        split(body_of(HEADER[:-1]), 100)


@given(st.lists(st.integers(1, 300), max_size=20))
def test_chunks_of_any_size_give_the_same(sizes):
    stream = ReportStream(100)
    payload, at = b"", 0
    for size in [*sizes, len(BODY)]:
        payload += stream.feed(BODY[at : at + size])
        at += size
    assert (stream.finish(), payload, stream.header_bytes) == (REPORT, b"p" * 100, HEADER)


@given(st.binary(max_size=600))
def test_random_bodies_raise_data_error_only(body):
    with pytest.raises(DataError):
        split(body, 10)


def test_body_is_length_header_payload():
    assert BODY == len(HEADER).to_bytes(4, "big") + HEADER + b"p" * 100
