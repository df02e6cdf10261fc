# SPDX-License-Identifier: Apache-2.0
"""CMSIS-NN's own int8 test cases, bit for bit: the `gemmlowp` rule and the operators that need no rounding.

Every case is either run or listed in UNUSABLE with the reason. Where two generations of the generator left
files in one case, the sizes tell which belong together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.model.detail import Rule
from edgefl.model.ops_binary import merged_axes
from edgefl.native import ffi, lib
from edgefl.native.engine import isa_name, select_isa, supported_isas

UNUSABLE = {
    "batch_matmul": "an operator that edgefl does not run",
    "transpose_conv": "an operator that edgefl does not run",
    "reverse_transpose_conv": "an operator that edgefl does not run",
    "transpose": "the shapes and the permutation are not in the file",
    "softmax": "fixed-point exponentials; edgefl's softmax is LiteRT's",
    "fully_connected_w_zp": "the weights have a zero point",
    "lstm": "states between the steps are CMSIS-NN's own; LSTM is compared with LiteRT",
}


class Case:
    """Arrays and #defines of one case."""

    def __init__(self, file: Any, name: str) -> None:
        self.name = name
        self.defines = {
            k.lower().removeprefix(name.lower() + "_"): v
            for k, v in json.loads(str(file["config_json"]))[name].items()
        }
        self.arrays = {k.split("/", 1)[1]: file[k] for k in file.files if k.startswith(name + "/")}

    def n(self, *names: str) -> list[int]:
        """Give #defines as numbers."""
        return [int(self.defines[k]) for k in names]

    def array(self, part: str, size: int, dtype: type = np.int8) -> np.ndarray:
        """Give the array whose name ends in `part` and that has this many elements."""
        found = [v for k, v in self.arrays.items() if k.endswith(part) and v.size >= size]
        exact = [v for v in found if v.size == size]
        assert exact or found, f"{self.name}: no {part} of {size}"
        return np.ascontiguousarray((exact or found)[0].reshape(-1)[:size].astype(dtype))


def pointer(a: np.ndarray, kind: str = "int8_t *") -> Any:
    return ffi.cast(kind, ffi.from_buffer(a))


def fixed(m: np.ndarray, shift: np.ndarray) -> Any:
    return ffi.new("efl_fixed[]", [(int(a), int(b)) for a, b in zip(m, shift, strict=True)])


def weighted(case: Case, kind: int, dims: dict[str, int], per_channel: bool = True) -> tuple[Any, Any]:
    """Run CONV2D, DWCONV2D or DENSE; give (ours, theirs)."""
    full = {"n": 1} | dict.fromkeys("hi wi ci ho wo co kh kw sh sw dh dw groups mult".split(), 1)
    d = ffi.new("efl_dims *", full | dims)
    assert lib.efl_dims_check(d, kind) == 0
    terms = d.kh * d.kw * (1 if kind == lib.EFL_OP_DWCONV2D else d.ci // d.groups)
    terms = d.hi * d.wi * d.ci if kind == lib.EFL_OP_DENSE else terms
    x = case.array("_input", d.n * d.hi * d.wi * d.ci)
    w = case.array("_weights", d.co * terms)
    b = np.zeros(d.co, np.int32)
    if any(k.endswith(("_biases", "_bias")) for k in case.arrays):
        b = case.array("_biases" if any("_biases" in k for k in case.arrays) else "_bias", d.co, np.int32)
    if per_channel:
        suffix = (
            "_output_mult" if any(k.endswith("_output_mult") for k in case.arrays) else "_output_multiplier"
        )
        factors = fixed(case.array(suffix, d.co, np.int64), case.array("_output_shift", d.co, np.int64))
    else:
        m, shift = case.n("output_multiplier", "output_shift")
        factors = fixed(np.array([m]), np.array([shift]))
    offset, zero, lo, hi = case.n("input_offset", "output_offset", "out_activation_min", "out_activation_max")
    mult = np.ones(d.co, np.float32)  # of the other rule
    rq = ffi.new(
        "efl_requant_params *",
        {"mult": pointer(mult, "float *"), "fixed": factors, "n_mult": d.co if per_channel else 1,
         "x_zero": -offset, "y_zero": zero, "lo": lo, "hi": hi},
    )  # fmt: skip
    name = {lib.EFL_OP_CONV2D: "conv2d", lib.EFL_OP_DWCONV2D: "dwconv2d", lib.EFL_OP_DENSE: "dense"}[kind]
    y = np.empty(d.n * d.ho * d.wo * d.co, np.int8)
    packed = np.empty(getattr(lib, f"efl_{name}_i8_packed_bytes")(d), np.int8)
    scratch = np.empty(getattr(lib, f"efl_{name}_i8_fwd_scratch_bytes")(d) + 64, np.int8)
    getattr(lib, f"efl_{name}_i8_pack")(pointer(packed, "void *"), pointer(w), pointer(b, "int32_t *"), d, rq)
    getattr(lib, f"efl_{name}_i8_fwd")(
        pointer(y), pointer(x), pointer(packed, "void *"), d, rq, pointer(scratch, "void *")
    )
    return y, case.array("_output_ref" if any("_output_ref" in k for k in case.arrays) else "_output", y.size)


def windows(case: Case) -> dict[str, int]:
    """Dimensions that convolutions have in common."""
    names = {
        "n": "input_batches", "hi": "input_h", "wi": "input_w", "ci": "in_ch", "ho": "output_h",
        "wo": "output_w", "co": "out_ch", "kh": "filter_y", "kw": "filter_x", "sh": "stride_y",
        "sw": "stride_x", "dh": "dilation_y", "dw": "dilation_x", "pt": "pad_y", "pl": "pad_x",
    }  # fmt: skip
    return {k: case.n(v)[0] for k, v in names.items()}


def conv(case: Case) -> tuple[Any, Any]:
    dims = windows(case)
    if "filter_ch" in case.defines:
        dims["groups"] = dims["ci"] // case.n("filter_ch")[0]
    elif case.name == "grouped_conv":  # its filter depth stands in no #define, only in the size
        taps = dims["kh"] * dims["kw"] * dims["co"]
        depth = next(v.size for k, v in case.arrays.items() if k.endswith("_weights")) // taps
        dims["groups"] = dims["ci"] // depth
    return weighted(case, lib.EFL_OP_CONV2D, dims)


def depthwise(case: Case) -> tuple[Any, Any]:
    dims = windows(case)
    return weighted(case, lib.EFL_OP_DWCONV2D, dims | {"mult": dims["co"] // dims["ci"]})


def dense(case: Case) -> tuple[Any, Any]:
    n, depth, co = case.n("input_batches", "accumulation_depth", "out_ch")
    return weighted(
        case, lib.EFL_OP_DENSE, {"n": n, "ci": depth, "co": co}, "output_multiplier" not in case.defines
    )


def pool(case: Case) -> tuple[Any, Any]:
    names = {
        "n": "batch_size", "hi": "input_h", "wi": "input_w", "ci": "input_c", "ho": "output_h",
        "wo": "output_w", "co": "output_c", "kh": "filter_h", "kw": "filter_w", "sh": "stride_h",
        "sw": "stride_w", "pt": "padding_h", "pl": "padding_w",
    }  # fmt: skip
    dims = {k: case.n(v)[0] for k, v in names.items()}
    d = ffi.new("efl_dims *", dims | dict.fromkeys("dh dw groups mult".split(), 1))
    x = case.array("_input_tensor", d.n * d.hi * d.wi * d.ci)
    y = np.empty(d.n * d.ho * d.wo * d.co, np.int8)
    run = lib.efl_avgpool_i8_fwd if case.name.startswith("avg") else lib.efl_maxpool_i8_fwd
    run(pointer(y), pointer(x), d, *case.n("activation_min", "activation_max"))
    return y, case.array("_output", y.size)


def combine(case: Case) -> tuple[Any, Any]:
    zero_a, zero_b, zero, lo, hi, m, shift = case.n(
        "input1_offset", "input2_offset", "output_offset", "out_activation_min", "out_activation_max",
        "output_mult", "output_shift",
    )  # fmt: skip
    factors, rule = [(m, shift)], Rule.MUL
    if case.name == "add":
        rule = Rule.LINEAR
        names = ("input1_mult", "input1_shift", "input2_mult", "input2_shift")
        ma, sa, mb, sb = case.n(*names)
        factors = [(ma, sa), (mb, sb), (m, shift)]
        assert case.n("left_shift") == [20]
    held = ffi.new("efl_fixed[]", factors)
    p = ffi.new("efl_binary *", {"rule": rule, "a_zero": -zero_a, "b_zero": -zero_b, "fixed": held})
    (size,) = case.n("dst_size")
    a, b = case.array("_input1", size), case.array("_input2", size)
    y = np.empty(size, np.int8)
    lib.efl_combine_i8_fwd_fixed(pointer(y), pointer(a), pointer(b), size, p, zero, lo, hi)
    return y, case.array("_output_ref", size)


def compare(case: Case) -> tuple[Any, Any]:
    shapes = [case.n(*(f"{k}_{i}" for k in ("batch", "height", "width", "channel"))) for i in (1, 2)]
    sizes = [int(np.prod(s)) for s in shapes]
    a, b = (case.array(f"_input_tensor_{i}", size) for i, size in enumerate(sizes, 1))
    loops = merged_axes(*shapes)
    assert loops
    p = ffi.new(
        "efl_binary *",
        {"rule": Rule.MAX if case.name.startswith("max") else Rule.MIN, "n": loops[0], "a": loops[1],
         "b": loops[2], "a_size": sizes[0], "b_size": sizes[1]},
    )  # fmt: skip
    (size,) = case.n("dst_size")
    y = np.empty(size, np.int8)
    lib.efl_binary_i8_fwd(pointer(y), pointer(a), pointer(b), 1, p, ffi.NULL, 0, -128, 127)
    return y, case.array("_output", size)


def pad(case: Case) -> tuple[Any, Any]:
    n, h, w, c, top, left, front, bottom, right, back, zero = case.n(
        "input_n", "input_h", "input_w", "input_c", "pre_pad_h", "pre_pad_w", "pre_pad_c",
        "post_pad_h", "post_pad_w", "post_pad_c", "pad_value",
    )  # fmt: skip
    if front or back:  # width and channels: the same as height and width of one channel
        assert not top and not bottom
        n, h, w, c, top, left, bottom, right = n * h, w, c, 1, left, front, right, back
    d = {"n": n, "hi": h, "wi": w, "ci": c, "ho": h + top + bottom, "wo": w + left + right, "co": c}
    dims = ffi.new("efl_dims *", d | {"pt": top, "pl": left})
    x = case.array("_input_tensor", n * h * w * c)
    y = np.empty(n * d["ho"] * d["wo"] * c, np.int8)
    lib.efl_pad_i8_fwd(pointer(y), pointer(x), dims, zero)
    return y, case.array("_output", y.size)


def svdf(case: Case) -> tuple[Any, Any]:
    """Every batch is a stream of frames; the last one counts. This one's input_offset is the zero point."""
    batches, depth, filters, memory, rank, size = case.n(
        "input_batches", "input_size", "feature_batches", "time_batches", "rank", "dst_size"
    )
    lo, hi, m_in, shift_in, m_out, shift_out, offset, zero = case.n(
        "in_activation_min", "in_activation_max", "multiplier_in", "shift_1", "multiplier_out", "shift_2",
        "input_offset", "output_offset",
    )  # fmt: skip
    feature = case.array("_weights_feature", filters * depth)
    time = case.array("_weights_time", filters * memory, np.int16)
    bias = case.array("_biases", filters // rank, np.int32)
    p = ffi.new(
        "efl_svdf *",
        {"feature": pointer(feature), "time": pointer(time, "int16_t *"), "bias": pointer(bias, "int32_t *"),
         "filters": filters, "memory": memory, "rank": rank, "memory_lo": lo, "memory_hi": hi,
         "in": (m_in, shift_in), "out": (m_out, shift_out)},
    )  # fmt: skip
    held = next(v for k, v in case.arrays.items() if k.endswith("_input_sequence"))
    frames = held.size // (batches * depth)
    x = np.ascontiguousarray(held.reshape(frames, batches, depth).transpose(1, 0, 2).astype(np.int8))
    units = filters // rank
    dims = ffi.new("efl_dims *", {"n": frames, "ci": depth, "co": units})
    y = np.empty((batches, frames, units), np.int8)
    scratch = np.empty(lib.efl_svdf_i8_fwd_scratch_bytes(dims, p) + 64, np.int8)
    for sample, result in zip(x, y, strict=True):
        state = np.zeros(filters * memory, np.int16)
        lib.efl_svdf_i8_fwd(
            pointer(result), pointer(state, "int16_t *"), pointer(sample), dims, p, offset, zero,
            pointer(scratch, "void *"),
        )  # fmt: skip
    return y[:, -1].reshape(-1), case.array("_output_ref", size)


FAMILIES: list[tuple[str, Callable[[Case], tuple[Any, Any]]]] = [
    ("depthwise", depthwise),
    ("in_ch_one", depthwise),
    ("fully_connected", dense),
    ("fc_per_ch", dense),
    ("avgpooling", pool),
    ("maxpooling", pool),
    ("maximum", compare),
    ("minimum", compare),
    ("add", combine),
    ("mul", combine),
    ("pad_int8", pad),
    ("svdf", svdf),
    ("", conv),
]


@cache
def golden(path: Path) -> Any:
    return np.load(path)


@pytest.fixture(scope="module")
def file(shared: Path) -> Any:
    return golden(shared / "data/kernel-golden/cmsis_nn_int8_golden.npz")


def test_usable_cases_give_the_golden_outputs(file: Any) -> None:
    names = sorted(json.loads(str(file["config_json"])))
    usable = [n for n in names if not n.startswith(tuple(UNUSABLE))]
    assert (len(names), len(usable)) == (116, 87)
    try:
        for isa in supported_isas():
            select_isa(isa)
            for name in usable:
                run = next(f for start, f in FAMILIES if name.startswith(start))
                ours, theirs = run(Case(file, name))
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}, {isa_name()}")
    finally:
        lib.efl_init()


def test_other_rule_differs_on_the_golden_outputs(file: Any) -> None:
    """A planted fault: one bit of a multiplier is enough to be seen."""
    case = Case(file, "conv_1_x_n_7")
    key = next(k for k in case.arrays if k.endswith("_output_mult"))
    case.arrays[key] = case.arrays[key].astype(np.int64) - (1 << 23)
    ours, theirs = conv(case)
    assert (ours != theirs).any()
