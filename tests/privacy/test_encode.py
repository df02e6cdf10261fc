# SPDX-License-Identifier: Apache-2.0
"""Encoding: equal to an independent big-integer version, norm bound, no bias, saturation, canaries."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from edgefl.native._core import lib
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.errors import DataError
from edgefl.native import dp, masks
from edgefl.privacy.encode import EncodeParams, encode
from edgefl.types import RawDelta

SEED = bytes(range(32))
I32_MIN, I32_MAX = -(2**31), 2**31 - 1


def bound(scale: int, dim: int) -> int:
    """D^2 as the design's section 4 states it."""
    typical = scale**2 + dim // 4 + scale + isqrt(dim // 4)
    return min(typical, scale**2 + dim + isqrt(4 * scale**2 * dim))


def ceil_norm(x: list[int]) -> int:
    total = sum(v * v for v in x)
    return isqrt(total - 1) + 1 if total else 0


def encode_by_definition(
    x: list[int], clip: int, scale: int, bits: int, norm2_max: int, seed: bytes
) -> list[int]:
    """Clip, scale, round and check with unbounded integers; only the key stream is the C core's."""
    factor = (scale << 40) // max(clip, ceil_norm(x))
    top = 2 ** (bits - 1) - 1
    for attempt in range(32 * 64):
        words = np.frombuffer(masks.key_stream(4 * len(x), seed, attempt.to_bytes(12, "little")), "<u4")
        q = [max(-top, min(top, (v * factor + (int(u) << 8)) >> 40)) for v, u in zip(x, words, strict=True)]
        if sum(v * v for v in q) <= norm2_max:
            return q
        if attempt % 32 == 31:
            factor -= factor >> 8
    raise AssertionError("no try met the bound")


deltas = st.lists(
    st.one_of(
        st.integers(-3000, 3000), st.integers(I32_MIN, I32_MAX), st.sampled_from([0, I32_MIN, I32_MAX])
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    deltas,
    st.integers(1, 2**32 - 1),
    st.integers(1, 1 << 20),
    st.integers(2, 24),
    st.binary(min_size=32, max_size=32),
)
def test_encode_equals_big_integers(x: list[int], clip: int, scale: int, bits: int, seed: bytes) -> None:
    norm2_max = bound(scale, len(x))
    q = dp.encode(np.array(x, np.int32), clip=clip, scale=scale, bits=bits, norm2_max=norm2_max, seed=seed)
    assert q.tolist() == encode_by_definition(x, clip, scale, bits, norm2_max, seed)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 4000), st.integers(0, 2**32 - 1), st.floats(0.1, 30))
def test_encode_norm_bound_always_holds(dim: int, scale: int, seed: int, size: float) -> None:
    """Deltas at and far beyond the clip, with and without saturation."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(dim) * 1000).astype(np.int32)
    clip = max(1, int(ceil_norm(x.tolist()) / size))
    norm2_max = bound(scale, dim)
    q = dp.encode(x, clip=clip, scale=scale, bits=24, norm2_max=norm2_max, seed=rng.bytes(32)).astype(
        np.int64
    )
    assert (q * q).sum() <= norm2_max


def test_encode_retries_until_the_bound_holds() -> None:
    """A bound just under the mean: the first tries fail, the answer meets it, by another key stream."""
    x = np.full(1000, 5, np.int32)
    clip = ceil_norm(x.tolist())
    loose, tight = 10**9, 16**2 + 200
    first = dp.encode(x, clip=clip, scale=16, bits=8, norm2_max=loose, seed=SEED)
    later = dp.encode(x, clip=clip, scale=16, bits=8, norm2_max=tight, seed=SEED)
    assert (first.astype(np.int64) ** 2).sum() > tight >= (later.astype(np.int64) ** 2).sum()
    assert later.tolist() == encode_by_definition(x.tolist(), clip, 16, 8, tight, SEED)


def test_encode_bound_out_of_reach_refused() -> None:
    with pytest.raises(DataError):
        dp.encode(np.full(100, 1000, np.int32), clip=1000, scale=1000, bits=16, norm2_max=10, seed=SEED)


@pytest.mark.parametrize("fault", ["nearest", "no clip", "no retry", "other seed"])
def test_encode_planted_fault_differs_from_the_core(fault: str) -> None:
    """The comparison with big integers notices each of these."""
    x, clip, scale = list(range(-300, 301)), 1000, 16
    tight = scale**2 + 60  # below the mean of sum q^2, so that the first try fails
    q = dp.encode(np.array(x, np.int32), clip=clip, scale=scale, bits=8, norm2_max=tight, seed=SEED).tolist()
    assert q == encode_by_definition(x, clip, scale, 8, tight, SEED)
    wrong = {
        "nearest": [round(v * scale / ceil_norm(x)) for v in x],
        "no clip": [round(v * scale / clip) for v in x],
        "no retry": encode_by_definition(x, clip, scale, 8, 10**9, SEED),
        "other seed": encode_by_definition(x, clip, scale, 8, tight, SEED[::-1]),
    }
    assert q != wrong[fault]


def test_encode_rounding_is_unbiased() -> None:
    """Mean over 4096 seeds x 64 equal coordinates, 6 sigma; negative and positive fractions."""
    x = np.repeat(np.array([-700, -300, -1, 1, 300, 500, 999, 1500], np.int32), 64)
    total = np.zeros(x.size, np.int64)
    tries = 4096
    for i in range(tries):
        total += dp.encode(x, clip=100_000, scale=100, bits=8, norm2_max=10**6, seed=i.to_bytes(32, "little"))
    means = total.reshape(8, 64).mean(axis=1) / tries
    expected = np.array([-0.7, -0.3, -0.001, 0.001, 0.3, 0.5, 0.999, 1.5])
    assert np.all(np.abs(means - expected) < 6 * 0.5 / np.sqrt(64 * tries))


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 24])
def test_encode_saturates_symmetrically(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    scale = 1 << 20
    for sign in (1, -1):
        q = dp.encode(
            np.array([sign * 10**6], np.int32),
            clip=10,
            scale=scale,
            bits=bits,
            norm2_max=bound(scale, 1),
            seed=SEED,
        )
        assert abs(int(q[0])) == min(top, scale) and np.sign(q[0]) == sign


def test_encode_zero_stays_zero_and_whole_numbers_are_exact() -> None:
    args = {"bits": 16, "norm2_max": 10**9, "seed": SEED}
    assert not dp.encode(np.zeros(5000, np.int32), clip=1, scale=1 << 20, **args).any()
    x = np.arange(-500, 501, dtype=np.int32)
    assert np.array_equal(dp.encode(x, clip=1 << 20, scale=1 << 20, **args), x)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(I32_MIN, I32_MAX), max_size=40))
def test_norm_equals_big_integers(x: list[int]) -> None:
    assert dp.norm(np.array(x, np.int32)) == ceil_norm(x)


def test_delta_at_an_odd_address_is_read_right() -> None:
    x = np.frombuffer(b"?" + np.arange(-50, 51, dtype=np.int32).tobytes(), np.int32, offset=1)
    assert not x.flags.aligned and dp._require_delta(x).flags.aligned
    assert dp.norm(x) == ceil_norm(x.tolist())


@pytest.mark.parametrize("n", [1, 4, 1 << 20])
def test_norm_of_the_largest_delta_does_not_overflow(n: int) -> None:
    assert dp.norm(np.full(n, I32_MIN, np.int32)) == ceil_norm([I32_MIN]) * isqrt(n)


def test_encode_is_equal_on_every_kernel() -> None:
    x = np.random.default_rng(0).integers(-2000, 2001, 5001).astype(np.int32)
    before = lib.efl_isa_current()
    results = []
    for isa in range(lib.EFL_ISA_COUNT):
        if lib.efl_isa_supported() >> isa & 1:
            lib.efl_isa_select(isa)
            results.append(
                dp.encode(x, clip=10**5, scale=4000, bits=8, norm2_max=bound(4000, 5001), seed=SEED)
            )
    lib.efl_isa_select(before)
    assert all(np.array_equal(q, results[0]) for q in results)


# ---- RawDelta -> RingVector


def params(dim: int, canaries: tuple[int, ...] = (), **change: object) -> EncodeParams:
    good = {"clip": 30_000, "scale": 1000, "bits": 8, "width": 16, "dim": dim, "norm2_max": bound(1000, dim)}
    return EncodeParams(**{**good, "canaries": canaries, **change})


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(0, 8), st.sampled_from([16, 32]), st.integers(0, 2**32 - 1))
def test_ring_holds_the_integers_and_the_canaries(dim: int, count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-5000, 5001, dim).astype(np.int32)
    canaries = tuple(sorted(rng.choice(dim + count, count, replace=False).tolist()))
    p = params(dim, canaries, width=width)
    ring = encode(RawDelta(x, 5), p, SEED)
    assert ring.width == width and ring.values.dtype == masks.dtype_of(width)
    signed = masks.unwrap(ring.values, width)
    q = dp.encode(x, clip=p.clip, scale=p.scale, bits=p.bits, norm2_max=p.norm2_max, seed=SEED)
    assert all(signed[i] == 1 for i in canaries)
    assert np.array_equal(np.delete(signed, list(canaries)), q)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(9, np.int32),
        np.zeros((5, 2), np.int32),
        np.zeros(10, np.int64),
        np.zeros(10, np.float32),
        np.array([np.nan] * 10, np.float32),
        np.array([np.inf] * 10),
        [0] * 10,
    ],
)
def test_encode_delta_of_another_kind_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError):
        encode(RawDelta(values, 1), params(10), SEED)


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 0},
        {"clip": 1 << 32},
        {"scale": 0},
        {"scale": (1 << 20) + 1},
        {"bits": 1},
        {"bits": 17},
        {"bits": 25, "width": 32},
        {"width": 8},
        {"norm2_max": -1},
        {"norm2_max": (1 << 62) + 1},
        {"canaries": (3, 3)},
        {"canaries": (5, 3)},
        {"canaries": (-1, 3)},
        {"canaries": (3, 12)},
    ],
)
def test_encode_parameters_out_of_bounds_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError):
        encode(RawDelta(np.zeros(10, np.int32), 1), params(10, **{"canaries": (1, 4), **change}), SEED)


def test_encode_seed_of_another_length_refused() -> None:
    with pytest.raises(DataError):
        encode(RawDelta(np.zeros(10, np.int32), 1), params(10), SEED[:16])
