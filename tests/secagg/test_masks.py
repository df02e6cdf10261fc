# SPDX-License-Identifier: Apache-2.0
"""Masks and sums: cancel exactly, equal on every kernel, uniform; NumPy as an independent hub."""

from __future__ import annotations

import numpy as np
import pytest
from edgefl.native._core import ffi, lib

from edgefl.errors import DataError
from edgefl.native import masks
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.mask import mask
from edgefl.secagg.params import RingParams, ring_params
from edgefl.secagg.secret import Secret
from edgefl.secagg.unmask import helper_sum
from edgefl.types import RingVector
from tests.secagg.conftest import ISAS

LENGTHS = [1, 2, 3, 15, 16, 17, 31, 33, 1023, 1024, 1025, 2047, 2049, 4099, 40001]
H = bytes(range(32))


def seed_of(i: int) -> bytes:
    return bytes([i]) * 31 + b"\x5a"


def prg(key: bytes | bytearray, length: int, width: int) -> np.ndarray:
    """The mask by its definition: one key stream, little-endian words."""
    return np.frombuffer(masks.key_stream(length * width // 8, key), f"<u{width // 8}")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", [16, 32])
def test_expand_equals_one_stream_of_words(isa: str, width: int, length: int) -> None:
    ring = np.arange(length).astype(masks.dtype_of(width))
    masks.expand(ring, [seed_of(1), seed_of(2)], [1, -1])
    expected = (
        np.arange(length) + prg(seed_of(1), length, width).astype(np.int64) - prg(seed_of(2), length, width)
    )
    assert np.array_equal(ring, expected.astype(ring.dtype))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", [16, 32])
def test_expand_add_then_subtract_cancels(isa: str, width: int, length: int) -> None:
    start = np.random.default_rng(length).integers(0, 2**width, length).astype(masks.dtype_of(width))
    ring = start.copy()
    seeds = [seed_of(i) for i in range(5)]
    masks.expand(ring, seeds, [1, -1, 1, 1, -1])
    assert length < 8 or not np.array_equal(ring, start)
    masks.expand(ring, seeds, [-1, 1, -1, -1, 1])
    assert np.array_equal(ring, start)


def test_expand_is_equal_on_every_kernel() -> None:
    before = lib.efl_isa_current()
    rings = []
    for isa in ISAS:
        assert lib.efl_isa_select(isa) == 0
        ring = np.zeros(12345, np.uint16)
        masks.expand(ring, [seed_of(i) for i in range(9)], [1, -1, 1] * 3)
        rings.append(ring)
    lib.efl_isa_select(before)
    assert all(np.array_equal(ring, rings[0]) for ring in rings)


@pytest.mark.parametrize("width", [16, 32])
def test_expand_mask_is_uniform_over_the_ring(width: int) -> None:
    """Chi-square of the top and the low byte over 2^18 words; 255 degrees, 6 sigma."""
    ring = np.zeros(1 << 18, masks.dtype_of(width))
    masks.expand(ring, [seed_of(7)], [1])
    for shift in (0, width - 8):
        counts = np.bincount((ring >> shift).astype(np.int64) & 255, minlength=256)
        chi2 = ((counts - 1024.0) ** 2 / 1024).sum()
        assert abs(chi2 - 255) < 6 * (2 * 255) ** 0.5


def test_expand_bad_arguments_refused() -> None:
    ring = np.zeros(10, np.uint16)
    for bad_ring in (
        np.zeros(10, np.int16),
        np.zeros((2, 5), np.uint16),
        ring[::2],
        np.zeros(10, np.uint64),
        np.zeros(10, ">u2"),
        np.frombuffer(bytearray(21), np.uint16, offset=1),  # C reads aligned words
        [1, 2],
    ):
        with pytest.raises(DataError):
            masks.expand(bad_ring, [seed_of(1)], [1])
    for seeds, signs in (([seed_of(1)], []), ([b"short"], [1]), ([seed_of(1)], [0]), ([seed_of(1)], [2])):
        with pytest.raises(DataError):
            masks.expand(ring, seeds, signs)
    frozen = np.zeros(10, np.uint16)
    frozen.flags.writeable = False
    with pytest.raises(DataError):
        masks.expand(frozen, [seed_of(1)], [1])
    assert not ring.any()


def test_expand_core_refuses_what_python_would() -> None:
    ring = ffi.new("uint16_t[4]")
    one = ffi.new("int8_t[1]", [1])
    assert lib.efl_mask_expand(ring, one, 4, 1, 17, seed_of(1)) == lib.EFL_E_RANGE
    assert lib.efl_mask_expand(ring, ffi.new("int8_t[1]", [3]), 4, 1, 16, seed_of(1)) == lib.EFL_E_RANGE
    assert lib.efl_mask_expand(ffi.NULL, one, 4, 1, 16, seed_of(1)) == lib.EFL_E_NULL
    assert lib.efl_mask_expand(ring, one, lib.EFL_RING_MAX + 1, 1, 16, seed_of(1)) == lib.EFL_E_SHAPE
    assert list(ring) == [0, 0, 0, 0]


# ---- both hubs' arithmetic against NumPy, which sees everything


def devices(n: int) -> list[tuple[bytes, bytes]]:
    return [(bytes([i]) * 16, seed_of(i + 1)) for i in range(n)]


def ring_of(rng: np.random.Generator, p: RingParams, value_bits: int) -> tuple[np.ndarray, RingVector]:
    top = 2 ** (value_bits - 1) - 1
    x = rng.integers(-top, top + 1, p.length)
    return x, RingVector(x.astype(masks.dtype_of(p.width)), p.width)


def key_for(p: RingParams, device: bytes, seed: bytes) -> bytearray:
    return mask_key(seed, device=device, h=H, width=p.width, dim=p.dim)


@pytest.mark.parametrize(
    ("width", "value_bits", "n_max"), [(16, 8, 256), (16, 8, 8), (32, 8, 1000), (32, 16, 5), (16, 2, 1)]
)
@pytest.mark.parametrize("dim", [1, 7, 64, 1001])
def test_both_hubs_sum_is_exact_integer_for_integer(
    width: int, value_bits: int, n_max: int, dim: int
) -> None:
    p = ring_params(width, value_bits, n_max, dim)
    rng = np.random.default_rng(dim)
    fleet = devices(min(n_max, 70))
    total = np.zeros(p.length, np.int64)
    leader = np.zeros(p.length, masks.dtype_of(width))
    for device, seed in fleet:
        x, ring = ring_of(rng, p, value_bits)
        total += x
        masked = mask(ring, key_for(p, device, seed), p.bits)
        assert (masked.length, masked.bits, len(masked.payload)) == (p.length, p.bits, p.payload_bytes)
        masks.add_packed(leader, masked.payload, p.bits)
    helper = helper_sum([(d, Secret(s)) for d, s in fleet], p, H)
    masks.add_packed(leader, masks.pack(helper, p.bits), p.bits)
    assert np.array_equal(masks.unwrap(leader, p.bits), total)


def test_helper_sum_equals_numpy_by_definition() -> None:
    p = ring_params(16, 8, 8, 333)
    fleet = devices(8)
    expected = sum(prg(key_for(p, d, s), p.length, 16).astype(np.int64) for d, s in fleet)
    got = helper_sum([(d, Secret(s)) for d, s in fleet], p, H)
    assert np.array_equal(got, np.asarray(expected).astype(np.uint16))


@pytest.mark.parametrize("fault", ["other seed", "other device", "other h", "one missing"])
def test_both_hubs_planted_fault_shows(fault: str) -> None:
    p = ring_params(16, 8, 4, 500)
    fleet = devices(3)
    leader = np.zeros(p.length, np.uint16)
    for device, seed in fleet:
        zero = RingVector(np.zeros(p.length, np.uint16), 16)
        masks.add_packed(leader, mask(zero, key_for(p, device, seed), p.bits).payload, p.bits)
    seeds = {d: s for d, s in fleet}
    if fault == "other seed":
        seeds[fleet[0][0]] = seed_of(99)
    elif fault == "other device":
        seeds[b"\xee" * 16] = seeds.pop(fleet[0][0])
    elif fault == "one missing":
        del seeds[fleet[0][0]]
    h = bytes(32) if fault == "other h" else H
    masks.add(leader, helper_sum([(d, Secret(s)) for d, s in seeds.items()], p, h))
    assert np.count_nonzero(masks.unwrap(leader, p.bits)) > 400


def test_masked_vector_alone_is_uniform() -> None:
    """What the leader sees of one device: chi-square of the M-bit values of an all-zero vector."""
    p = ring_params(16, 8, 8, 1 << 18)
    zero = RingVector(np.zeros(p.length, np.uint16), 16)
    y = masks.unpack(mask(zero, key_for(p, bytes(16), seed_of(3)), p.bits).payload, p.length, 16, p.bits)
    counts = np.bincount(y, minlength=1 << p.bits)
    expected = p.length / (1 << p.bits)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    degrees = (1 << p.bits) - 1
    assert abs(chi2 - degrees) < 6 * (2 * degrees) ** 0.5


def test_mask_leaves_its_input_alone() -> None:
    ring = RingVector(np.ones(20, np.uint16), 16)
    mask(ring, seed_of(1), 11)
    assert (ring.values == 1).all()


def test_mask_wrong_width_refused() -> None:
    with pytest.raises(DataError):
        mask(RingVector(np.ones(20, np.uint32), 16), seed_of(1), 11)
