# SPDX-License-Identifier: Apache-2.0
"""M-bit packing: round trip for every M, against big integers; other lengths and trailing bits refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.native import masks


@st.composite
def packed_rings(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    width = draw(st.sampled_from([16, 32]))
    bits = draw(st.integers(1, width))
    length = draw(st.integers(0, 200))
    seed = draw(st.integers(0, 2**32 - 1))
    ring = np.random.default_rng(seed).integers(0, 2**width, length).astype(masks.dtype_of(width))
    return ring, bits


def pack_by_definition(ring: np.ndarray, bits: int) -> bytes:
    number = sum((int(v) % (1 << bits)) << (i * bits) for i, v in enumerate(ring))
    return number.to_bytes((len(ring) * bits + 7) // 8, "little")


@settings(max_examples=300, deadline=None)
@given(packed_rings())
def test_pack_round_trip_keeps_low_bits(case: tuple[np.ndarray, int]) -> None:
    ring, bits = case
    payload = masks.pack(ring, bits)
    assert payload == pack_by_definition(ring, bits)
    width = masks.width_of(ring)
    kept = ring & ring.dtype.type((1 << bits) - 1)
    assert np.array_equal(masks.unpack(payload, ring.size, width, bits), kept)
    total = ring.copy()
    masks.add_packed(total, payload, bits)
    assert np.array_equal(total, ring + kept)


@settings(max_examples=300, deadline=None)
@given(packed_rings(), st.data())
def test_unpack_trailing_bit_set_is_refused(case: tuple[np.ndarray, int], data: st.DataObject) -> None:
    ring, bits = case
    used = ring.size * bits % 8
    if used == 0:
        return
    payload = bytearray(masks.pack(ring, bits))
    payload[-1] |= 1 << data.draw(st.integers(used, 7))
    before = ring.copy()
    with pytest.raises(DataError):
        masks.unpack(payload, ring.size, masks.width_of(ring), bits)
    with pytest.raises(DataError):
        masks.add_packed(ring, payload, bits)
    assert np.array_equal(ring, before)


@settings(max_examples=100, deadline=None)
@given(packed_rings(), st.integers(-3, 3).filter(bool))
def test_unpack_other_length_is_refused(case: tuple[np.ndarray, int], change: int) -> None:
    ring, bits = case
    payload = masks.pack(ring, bits)
    wrong = payload[:change] if change < 0 else payload + bytes(change)
    if len(wrong) == len(payload):
        return
    before = ring.copy()
    with pytest.raises(DataError):
        masks.unpack(wrong, ring.size, masks.width_of(ring), bits)
    with pytest.raises(DataError):
        masks.add_packed(ring, wrong, bits)
    assert np.array_equal(ring, before)


@pytest.mark.parametrize("bits", [1, 3, 8, 11, 13, 16])
def test_add_packed_in_pieces_equals_whole(bits: int) -> None:
    ring = np.random.default_rng(bits).integers(0, 1 << 16, 1003).astype(np.uint16)
    payload = masks.pack(ring, bits)
    whole, pieces = np.zeros(1003, np.uint16), np.zeros(1003, np.uint16)
    masks.add_packed(whole, payload, bits)
    for at in range(0, 1003, 104):
        stop = min(at + 104, 1003)
        masks.add_packed(pieces[at:stop], payload[at * bits // 8 : masks.packed_bytes(stop, bits)], bits)
    assert np.array_equal(whole, pieces)


@pytest.mark.parametrize(("width", "bits"), [(16, 0), (16, 17), (32, 33), (8, 8), (64, 16)])
def test_unpack_bad_width_or_bits_refused(width: int, bits: int) -> None:
    with pytest.raises(DataError):
        masks.unpack(bytes((8 * bits + 7) // 8), 8, width, bits)


@pytest.mark.parametrize("length", [-1, 2**28 + 1, 2**60])
def test_unpack_absurd_length_refused_before_allocation(length: int) -> None:
    with pytest.raises(DataError):
        masks.unpack(b"\0" * 8, length, 16, 11)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([(16, 11), (16, 16), (32, 18), (32, 32), (16, 1)]), st.integers(0, 2**32))
def test_unwrap_reads_twos_complement(case: tuple[int, int], seed: int) -> None:
    width, bits = case
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 50)
    noise_above = rng.integers(0, 2**width, 50) << bits  # bits above M must not matter
    ring = (values + noise_above).astype(masks.dtype_of(width))
    assert np.array_equal(masks.unwrap(ring, bits), values)


def test_add_wraps_and_refuses_other_shapes() -> None:
    a = np.array([65535, 1], np.uint16)
    masks.add(a, np.array([2, 3], np.uint16))
    assert a.tolist() == [1, 4]
    for other in (np.zeros(3, np.uint16), np.zeros(2, np.uint32)):
        with pytest.raises(DataError):
            masks.add(a, other)
