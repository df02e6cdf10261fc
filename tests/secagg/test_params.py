# SPDX-License-Identifier: Apache-2.0
"""Numbers that follow from the manifest: exact values, limits, no wrap at the extreme, canaries."""

from __future__ import annotations

from math import ceil, isqrt, log2, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.native import dp, masks
from edgefl.secagg.canary import canary_positions
from edgefl.secagg.params import norm_bound, ring_params, round_params
from edgefl.wire import cbor, messages
from edgefl.wire.keys import blake2b
from edgefl.wire.messages import MAX_DEVICES, MAX_DIM, MAX_SCALE
from tests.secagg.test_oneshot import manifest

GOOD = {"width": 16, "value_bits": 8, "n_max": 8, "dim": 17643}


@pytest.mark.parametrize(
    ("n_max", "bits", "canaries"), [(1, 8, 8), (2, 9, 8), (8, 11, 6), (9, 12, 6), (200, 16, 4), (256, 16, 4)]
)
def test_ring_params_known_values(n_max: int, bits: int, canaries: int) -> None:
    p = ring_params(16, 8, n_max, 1000)
    assert (p.bits, p.n_canaries, p.length) == (bits, canaries, 1000 + canaries)
    assert p.payload_bytes == ceil(p.length * bits / 8)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 8},
        {"width": 64},
        {"width": "16"},
        {"value_bits": 1},
        {"value_bits": 17},
        {"value_bits": True},
        {"n_max": 0},
        {"n_max": -1},
        {"n_max": MAX_DEVICES + 1},
        {"n_max": 257},
        {"n_max": 2**64},
        {"dim": 0},
        {"dim": MAX_DIM + 1},
        {"dim": 10**400},
        {"dim": 1.5},
        {"dim": None},
    ],
)
def test_ring_params_out_of_bounds_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError) as error:
        ring_params(**{**GOOD, **change})
    assert len(str(error.value)) < 200


def test_limits_of_the_wire_are_within_those_of_the_core() -> None:
    assert messages.MAX_CLIP == dp.CLIP_MAX and MAX_SCALE == dp.SCALE_MAX
    assert messages.MAX_VALUE_BITS <= dp.VALUE_BITS_MAX and MAX_DIM + 64 <= masks.RING_MAX
    assert norm_bound(MAX_SCALE, MAX_DIM) < 1 << 62


def test_manifest_and_ring_params_agree() -> None:
    m = manifest()
    assert round_params(m) == ring_params(m.width, m.value_bits, m.n_max, m.dim)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([16, 32]), st.integers(2, 16), st.integers(1, MAX_DEVICES))
def test_ring_params_extreme_sums_do_not_wrap(width: int, value_bits: int, n_max: int) -> None:
    try:
        p = ring_params(width, value_bits, n_max, 5)
    except DataError:
        assert value_bits + ceil(log2(n_max)) > width
        return
    assert n_max * (2 ** (value_bits - 1) - 1) < 2 ** (p.bits - 1)
    assert n_max < 2 ** (p.bits - 1) and p.n_canaries * p.bits >= 64 > (p.n_canaries - 1) * p.bits


@settings(max_examples=200, deadline=None)
@given(st.integers(1, MAX_SCALE), st.integers(1, MAX_DIM))
def test_norm_bound_is_below_the_real_number_and_close(scale: int, dim: int) -> None:
    real = min(scale**2 + dim / 4 + scale + sqrt(dim) / 2, (scale + sqrt(dim)) ** 2)
    assert real - 3 <= norm_bound(scale, dim) <= real * (1 + 1e-12)
    # The second branch never cuts off what rounding can reach.
    assert norm_bound(scale, dim) >= scale * scale or dim == 0
    assert norm_bound(scale, dim) <= (scale + isqrt(dim) + 1) ** 2


@pytest.mark.parametrize(("scale", "dim"), [(0, 5), (-1, 5), ((1 << 20) + 1, 5), (10, 0), (True, 5)])
def test_norm_bound_out_of_bounds_refused(scale: int, dim: int) -> None:
    with pytest.raises(DataError):
        norm_bound(scale, dim)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 64), st.integers(1, 100_000))
def test_canary_positions_are_distinct_ascending_and_fixed(h: bytes, count: int, spare: int) -> None:
    length = count + spare
    found = canary_positions(h, length, count)
    assert len(set(found)) == count and list(found) == sorted(found)
    assert 0 <= found[0] and found[-1] < length
    assert found == canary_positions(h, length, count)


def test_canary_positions_are_the_documented_formula() -> None:
    h, length = b"\x07" * 32, 10**6
    digests = [blake2b(cbor.dumps(["edgefl/1/canary", h, length, i])) for i in range(6)]
    assert canary_positions(h, length, 6) == tuple(
        sorted(int.from_bytes(d[:8], "little") % length for d in digests)
    )


def test_canary_positions_depend_on_h() -> None:
    assert canary_positions(bytes(32), 10**6, 6) != canary_positions(b"\1" * 32, 10**6, 6)


@pytest.mark.parametrize(("length", "count"), [(5, 5), (5, 6), (100, 65), (0, 0), (5, -1)])
def test_canary_positions_that_do_not_fit_refused(length: int, count: int) -> None:
    with pytest.raises(DataError):
        canary_positions(bytes(32), length, count)
