# SPDX-License-Identifier: Apache-2.0
"""Every pass of the weighted operators against integer formulas, on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.kernel_oracle import Shape, conv, depthwise, requantise

from edgefl.native import ffi, lib
from edgefl.native.engine import isa_name, select_isa, supported_isas

small = st.integers


@pytest.fixture(autouse=True)
def best_isa_again() -> Iterator[None]:
    """Leave the process with the kernels it started with."""
    yield
    lib.efl_init()


@st.composite
def shapes(draw: st.DrawFn, kind: str) -> Shape:
    """Shapes with strides, dilation, uneven padding, groups or a depth multiplier; kernels of 1xN too."""
    groups = draw(st.sampled_from([1, 1, 2, 4])) if kind == "conv" else 1
    ci = groups * draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17]))
    mult = draw(st.sampled_from([1, 1, 2, 3])) if kind == "depthwise" else 1
    co = ci * mult if kind == "depthwise" else groups * draw(st.sampled_from([1, 3, 6, 7, 16, 33]))
    kh, kw = draw(st.sampled_from([(1, 1), (1, 9), (3, 3), (5, 2), (1, 5), (3, 1)]))
    dh, dw = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    rh, rw = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    pads = [draw(small(0, r - 1)) for r in (rh, rw, rh, rw)]
    return Shape(
        n=draw(small(1, 3)),
        hi=draw(small(rh, rh + 7)),
        wi=draw(small(rw, rw + 13)),
        ci=ci,
        co=co,
        kh=kh,
        kw=kw,
        sh=draw(small(1, 4)),
        sw=draw(small(1, 4)),
        dh=dh,
        dw=dw,
        pt=pads[0],
        pl=pads[1],
        pb=pads[2],
        pr=pads[3],
        groups=groups,
        mult=mult,
    )


def i8(a: np.ndarray) -> Any:
    return ffi.from_buffer("int8_t[]", a)


def i32(a: np.ndarray) -> Any:
    return ffi.from_buffer("int32_t[]", a)


def run_passes(
    name: str, s: Shape, x: np.ndarray, e: np.ndarray, w: np.ndarray, b: np.ndarray, mult: np.ndarray, rq: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, dx, dw) of the C core."""
    d = ffi.new("efl_dims *", s.dims())
    y, dx, dw = np.empty(e.shape, np.int8), np.empty(x.shape, np.int32), np.empty(w.shape, np.int32)
    call = {p: getattr(lib, f"efl_{name}_i8_{p}") for p in ("fwd", "bwd_x", "bwd_w")}
    size = {p: getattr(lib, f"efl_{name}_i8_{p}_scratch_bytes") for p in call}
    scratch = np.empty(max(size["fwd"](d), size["bwd_x"](d), size["bwd_w"](d)), np.int8)
    area = ffi.from_buffer(scratch)
    packed = ffi.from_buffer(np.empty(getattr(lib, f"efl_{name}_i8_packed_bytes")(d), np.int8))
    getattr(lib, f"efl_{name}_i8_pack")(packed, i8(w), i32(b), d, rq)
    call["fwd"](i8(y), i8(x), packed, d, rq, area)
    call["bwd_x"](i32(dx), i8(e), i8(w), d, area)
    call["bwd_w"](i32(dw), i8(e), i8(x), d, rq.x_zero, area)
    return y, dx, dw


def check(name: str, s: Shape, seed: int, per_channel: bool) -> None:
    rng = np.random.default_rng(seed)
    w_shape = (s.kh, s.kw, s.co) if name == "dwconv2d" else (s.co, s.kh, s.kw, s.ci // s.groups)
    x = rng.integers(-128, 128, (s.n, s.hi, s.wi, s.ci)).astype(np.int8)
    e = rng.integers(-127, 128, (s.n, s.ho, s.wo, s.co)).astype(np.int8)
    w = rng.integers(-128, 128, w_shape).astype(np.int8)
    b = rng.integers(-20000, 20000, s.co).astype(np.int32)
    mult = (rng.uniform(0.0001, 0.02, s.co if per_channel else 1)).astype(np.float32)
    x_zero, y_zero = (int(v) for v in rng.integers(-128, 128, 2))
    lo, hi = int(rng.integers(-128, 0)), int(rng.integers(0, 128))
    c_mult = ffi.from_buffer("float[]", mult)
    rq = ffi.new(
        "efl_requant_params *",
        {"mult": c_mult, "n_mult": mult.size, "x_zero": x_zero, "y_zero": y_zero, "lo": lo, "hi": hi},
    )
    oracle = depthwise if name == "dwconv2d" else conv
    acc, dx, dw = oracle(x.astype(np.int64) - x_zero, e, w, s)
    y = requantise((acc + b).astype(np.int32), mult, lo, hi, y_zero)
    for isa in supported_isas():
        select_isa(isa)
        for ours, theirs in zip(run_passes(name, s, x, e, w, b, mult, rq), (y, dx, dw), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=isa_name())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(shapes("conv"), st.integers(0, 1 << 30), st.booleans())
def test_conv2d_any_shape_equals_formula(s: Shape, seed: int, per_channel: bool) -> None:
    check("conv2d", s, seed, per_channel)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shapes("depthwise"), st.integers(0, 1 << 30), st.booleans())
def test_dwconv2d_any_shape_equals_formula(s: Shape, seed: int, per_channel: bool) -> None:
    check("dwconv2d", s, seed, per_channel)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 40), st.integers(0, 1 << 30))
def test_dense_any_shape_equals_formula(n: int, k: int, co: int, seed: int) -> None:
    s = Shape(n, 1, 1, k, co, 1, 1, 1, 1, 1, 1, 0, 0)
    check("dense", s, seed, True)


def test_planted_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself works: an oracle that is off by one in one weight's gradient fails."""
    import native.test_kernels as here

    def wrong(x: Any, e: Any, w: Any, s: Shape) -> Any:
        acc, dx, dw = conv(x, e, w, s)
        dw.flat[-1] += 1
        return acc, dx, dw

    monkeypatch.setattr(here, "conv", wrong)
    with pytest.raises(AssertionError):
        here.check("conv2d", Shape(2, 5, 6, 3, 7, 3, 3, 2, 1, 1, 1, 1, 0), 1, True)


def row_of(**more: int) -> Any:
    """Dims of a 1x1 operator over one row."""
    names = "n hi wi ci ho wo co kh kw sh sw dh dw groups mult".split()
    return ffi.new("efl_dims *", dict.fromkeys(names, 1) | more)


def test_largest_sums_do_not_overflow() -> None:
    """65536 products of the largest values, in every pass."""
    n = lib.EFL_TERMS_MAX
    d = row_of(wi=n, wo=n)
    x, e, dw = np.full(n, 127, np.int8), np.full(n, 127, np.int8), np.empty(1, np.int32)
    scratch = np.empty(lib.efl_conv2d_i8_bwd_w_scratch_bytes(d), np.int8)
    for isa in supported_isas():
        select_isa(isa)
        lib.efl_conv2d_i8_bwd_w(i32(dw), i8(e), i8(x), d, -128, ffi.from_buffer(scratch))
        assert dw[0] == n * 127 * 255
    dense = row_of(ci=n)
    w, y, b = np.full(n, -128, np.int8), np.empty(1, np.int8), np.zeros(1, np.int32)
    mult = np.array([2.0**-25], np.float32)
    c_mult = ffi.from_buffer("float[]", mult)
    rq = ffi.new("efl_requant_params *", {"mult": c_mult, "n_mult": 1, "x_zero": -128, "lo": -128, "hi": 127})
    scratch = np.empty(lib.efl_dense_i8_fwd_scratch_bytes(dense), np.int8)
    packed = ffi.from_buffer(np.empty(lib.efl_dense_i8_packed_bytes(dense), np.int8))
    for isa in supported_isas():
        select_isa(isa)
        lib.efl_dense_i8_pack(packed, i8(w), i32(b), dense, rq)
        lib.efl_dense_i8_fwd(i8(y), i8(x), packed, dense, rq, ffi.from_buffer(scratch))
        assert y[0] == round(-n * 255 * 128 * 2.0**-25)


def test_subnormal_scales_give_the_zero_point() -> None:
    """Scales below 2^-126: the products round to 0 whether or not the machine flushes them."""
    s = Shape(1, 2, 2, 16, 16, 1, 1, 1, 1, 1, 1, 0, 0)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, 2, 2, 16)).astype(np.int8)
    e = rng.integers(-127, 128, (1, 2, 2, 16)).astype(np.int8)
    w = rng.integers(-128, 128, (16, 1, 1, 16)).astype(np.int8)
    b, mult = np.zeros(16, np.int32), np.full(16, 2.0**-140, np.float32)
    c_mult = ffi.from_buffer("float[]", mult)
    rq = ffi.new("efl_requant_params *", {"mult": c_mult, "n_mult": 16, "y_zero": 5, "lo": -128, "hi": 127})
    for isa in supported_isas():
        select_isa(isa)
        y, _, _ = run_passes("conv2d", s, x, e, w, b, mult, rq)
        assert (y == 5).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes("conv") | shapes("depthwise"), st.integers(0, 1 << 30))
def test_packed_weights_are_the_same_on_every_instruction_set(s: Shape, seed: int) -> None:
    """Packed under one set, they may be read under another; a new bias is folded in without packing."""
    rng = np.random.default_rng(seed)
    name = "dwconv2d" if s.co == s.ci * s.mult and s.groups == 1 else "conv2d"
    length = s.kh * s.kw * s.co * (1 if name == "dwconv2d" else s.ci // s.groups)
    w = rng.integers(-128, 128, length).astype(np.int8)
    b, other = (rng.integers(-20000, 20000, s.co).astype(np.int32) for _ in range(2))
    mult = rng.uniform(0.0001, 0.02, s.co).astype(np.float32)
    c_mult = ffi.from_buffer("float[]", mult)
    rq = ffi.new("efl_requant_params *", {"mult": c_mult, "n_mult": s.co, "x_zero": -7})
    d = ffi.new("efl_dims *", s.dims())
    images = []
    for isa in supported_isas():
        select_isa(isa)
        for first in (b, other):
            packed = np.zeros(getattr(lib, f"efl_{name}_i8_packed_bytes")(d), np.int8)
            area = ffi.from_buffer(packed)
            getattr(lib, f"efl_{name}_i8_pack")(area, i8(w), i32(first), d, rq)
            getattr(lib, f"efl_{name}_i8_fold")(area, i32(b), d, rq)
            images.append(packed.tobytes())
    assert len(set(images)) == 1


@settings(max_examples=120, deadline=None, derandomize=True)
@given(shapes("conv") | shapes("depthwise"), st.integers(0, 1 << 30))
def test_weights_with_a_zero_point_equal_formula(s: Shape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    name = "dwconv2d" if s.co == s.ci * s.mult and s.groups == 1 else "conv2d"
    w_shape = (s.kh, s.kw, s.co) if name == "dwconv2d" else (s.co, s.kh, s.kw, s.ci // s.groups)
    x = rng.integers(-128, 128, (s.n, s.hi, s.wi, s.ci)).astype(np.int8)
    w = rng.integers(-128, 128, w_shape).astype(np.int8)
    b = rng.integers(-20000, 20000, s.co).astype(np.int32)
    mult = rng.uniform(0.0001, 0.02, 1).astype(np.float32)
    w_zero = int(rng.choice([v for v in range(-127, 128) if v]))
    x_zero, y_zero = (int(v) for v in rng.integers(-128, 128, 2))
    c_mult = ffi.from_buffer("float[]", mult)
    rq = ffi.new(
        "efl_requant_params *",
        {"mult": c_mult, "n_mult": 1, "x_zero": x_zero, "y_zero": y_zero, "lo": -128, "hi": 127},
    )
    e = np.zeros((s.n, s.ho, s.wo, s.co), np.int8)
    oracle = depthwise if name == "dwconv2d" else conv
    acc = oracle(x.astype(np.int64) - x_zero, e, w.astype(np.int64) - w_zero, s)[0]
    d = ffi.new("efl_dims *", s.dims() | {"w_zero": w_zero})
    call = {
        p: getattr(lib, f"efl_{name}_i8_{p}") for p in ("packed_bytes", "pack", "fwd", "fwd_scratch_bytes")
    }
    for isa in supported_isas():
        select_isa(isa)
        packed = ffi.from_buffer(np.full(call["packed_bytes"](d), 85, np.int8))
        scratch = ffi.from_buffer(np.full(call["fwd_scratch_bytes"](d), 85, np.int8))
        call["pack"](packed, i8(w), i32(b), d, rq)
        y = np.empty(e.shape, np.int8)
        call["fwd"](i8(y), i8(x), packed, d, rq, scratch)
        wanted = requantise((acc + b).astype(np.int32), mult, -128, 127, y_zero)
        np.testing.assert_array_equal(y, wanted, err_msg=isa_name())
