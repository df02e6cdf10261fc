# SPDX-License-Identifier: Apache-2.0
"""Scratch sizes: what is promised for n samples is enough for fewer, as a last short micro-batch needs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.native import ffi, lib


def dims(n: int, h: int, w: int, ci: int, co: int, k: int) -> object:
    """A SAME convolution of n samples."""
    return ffi.new(
        "efl_dims *",
        dict(n=n, hi=h, wi=w, ci=ci, ho=h, wo=w, co=co, kh=k, kw=k, sh=1, sw=1, dh=1, dw=1)
        | dict(pt=k // 2, pl=k // 2, groups=1, mult=1),
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.integers(2, 40),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 70),
    st.integers(1, 200),
    st.sampled_from([1, 3]),
)
def test_scratch_of_weight_gradient_covers_fewer_samples(
    n: int, h: int, w: int, ci: int, co: int, k: int
) -> None:
    most = lib.efl_conv2d_i8_bwd_w_scratch_bytes(dims(n, h, w, ci, co, k))
    assert all(lib.efl_conv2d_i8_bwd_w_scratch_bytes(dims(m, h, w, ci, co, k)) <= most for m in range(1, n))
