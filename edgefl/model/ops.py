# SPDX-License-Identifier: Apache-2.0
"""One function per operator of a .tflite file: check its shapes and constants, append its Node.

In: Builder and RawOp. Out: a Node, a Param where there are weights. Refuses what the kernels would not
compute as LiteRT does. BUILDERS is the one list of operators; edgefl/model/read.py walks it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from edgefl.model.build import Builder, refuse
from edgefl.model.flat import RawModel, RawOp
from edgefl.model.graph import Node, Op
from edgefl.model.ops_binary import BINARY_BUILDERS
from edgefl.model.ops_border import append_step, quantised_input
from edgefl.model.ops_move import MAX_PAD, MOVE_BUILDERS, build_pad
from edgefl.model.ops_table import TABLE_BUILDERS
from edgefl.model.recurrent import build_lstm, build_svdf
from edgefl.model.shape import slide

MAX_WINDOW = 1 << 16  # elements that MEAN or a pool sums: 255 * 2^16 < 2^24
# Operators of which uint8 files were compared with LiteRT.
UINT8_OPS = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "ADD", "SOFTMAX"}
    | {"MEAN", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "QUANTIZE", "DEQUANTIZE", "LOG_SOFTMAX"}
    | set(BINARY_BUILDERS)
    | set(TABLE_BUILDERS)
    | set(MOVE_BUILDERS)
)
_SHAPE_OPS = {"SHAPE", "STRIDED_SLICE", "PACK"}  # compute the shape that a RESHAPE declares anyway


def is_shape_arithmetic(raw: RawModel, op: RawOp) -> bool:
    """Whether `op` only computes sizes (int32) from shapes; the reader leaves it out."""
    if op.name not in _SHAPE_OPS or len(op.outputs) != 1 or op.outputs[0] < 0:
        return False
    return raw.tensors[op.outputs[0]].dtype == "int32"


def _conv(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    h, w, c = b.shape(x)
    filters = b.raw_tensor(op, 1).shape
    if len(filters) != 4 or min(filters) < 1 or c % filters[3] or filters[0] % (c // filters[3]):
        raise refuse(op, f"has weights {list(filters)} for {c} input channels", "convert the model again")
    n_out, kh, kw, depth = filters
    win = _window(op, h, w, kh, kw)
    y = b.output(op, (*win.out, n_out))
    b.add(
        Node(
            Op.CONV2D,
            (x,),
            y,
            act=b.act(op),
            kernel=(kh, kw),
            stride=win.stride,
            dilation=win.dilation,
            pad=win.pad,
            groups=c // depth,
            param=b.param(op, x, y, axis=0, terms=kh * kw * depth),
            index=op.index,
        )
    )


def _depthwise(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    h, w, c = b.shape(x)
    filters = b.raw_tensor(op, 1).shape
    if len(filters) != 4 or min(filters) < 1 or filters[0] != 1 or filters[3] % c:
        raise refuse(op, f"has weights {list(filters)} for {c} input channels", "convert the model again")
    _, kh, kw, n_out = filters
    win = _window(op, h, w, kh, kw)
    y = b.output(op, (*win.out, n_out))
    b.add(
        Node(
            Op.DWCONV2D,
            (x,),
            y,
            act=b.act(op),
            kernel=(kh, kw),
            stride=win.stride,
            dilation=win.dilation,
            pad=win.pad,
            mult=n_out // c,
            param=b.param(op, x, y, axis=3, terms=kh * kw),
            index=op.index,
        )
    )


def _dense(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    filters = b.raw_tensor(op, 1).shape
    size = prod(b.shape(x))
    h, w, c = b.shape(x)
    rows = size != c and len(filters) == 2 and filters[1] == c  # the same layer for each position
    if len(filters) != 2 or min(filters) < 1 or (size != filters[1] and not rows):
        raise refuse(
            op, f"has weights {list(filters)} for {size} inputs", "edgefl takes all inputs, or the last axis"
        )
    if op.options["WeightsFormat"] != 0:
        raise refuse(op, "has shuffled weights", "convert the model again without them")
    y = b.output(op, (h, w, filters[0]) if rows else (1, 1, filters[0]))
    param = b.param(op, x, y, axis=0, terms=filters[1], kernel=(1, 1) if rows else None)
    kind = Op.CONV2D if rows else Op.DENSE  # of a 1x1 kernel
    b.add(Node(kind, (x,), y, act=b.act(op), param=param, index=op.index))


def _pool(kind: Op) -> Callable[[Builder, RawOp], None]:
    def build(b: Builder, op: RawOp) -> None:
        x = b.activation(op)
        h, w, c = b.shape(x)
        kh, kw = int(op.options["FilterHeight"]), int(op.options["FilterWidth"])
        if kh < 1 or kw < 1 or kh * kw > MAX_WINDOW:
            raise refuse(op, f"has a window of {kh} x {kw}, the limit is {MAX_WINDOW} elements")
        win = _window(op, h, w, kh, kw)
        y = b.output(op, (*win.out, c))
        b.same_quantisation(op, x, y)
        if kind is Op.AVGPOOL and not _average_fits(win, h, w, kh, kw):
            raise refuse(op, f"averages windows of {kh} x {kw} that overlap too much to train in int32")
        act = b.act(op)
        b.add(Node(kind, (x,), y, act, kernel=(kh, kw), stride=win.stride, pad=win.pad, index=op.index))

    return build


class _Window(NamedTuple):
    """A sliding window of an operator, padding made explicit."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int, int, int]
    out: tuple[int, int]


def _window(op: RawOp, h: int, w: int, kh: int, kw: int) -> _Window:
    sh, sw = int(op.options["StrideH"]), int(op.options["StrideW"])
    dh, dw = int(op.options.get("DilationHFactor", 1)), int(op.options.get("DilationWFactor", 1))
    if not all(1 <= n <= 1 << 15 for n in (sh, sw, dh, dw)):
        raise refuse(op, f"has stride {sh} x {sw} and dilation {dh} x {dw}, edgefl takes 1..32768")
    same = int(op.options["Padding"]) == 0
    oh, top, bottom = slide(h, kh, sh, dh, same)
    ow, left, right = slide(w, kw, sw, dw, same)
    if oh < 1 or ow < 1:
        raise refuse(
            op, f"has a window of {kh} x {kw} larger than its input {h} x {w}", "the file is damaged"
        )
    return _Window((sh, sw), (dh, dw), (top, bottom, left, right), (oh, ow))


def _average_fits(win: _Window, h: int, w: int, kh: int, kw: int) -> bool:
    """Whether the backward sums fit int32: 127 * share * overlaps < 2^31.

    share = 2^(15+c)/count of the smallest window, c = ceil(log2 of the full one);
    overlaps = windows that hold one value.
    """
    smallest = overlaps = 1
    for n, k, s, before, out in zip(
        (h, w), (kh, kw), win.stride, (win.pad[0], win.pad[2]), win.out, strict=True
    ):
        smallest *= min(min(o * s - before + k, n) - max(o * s - before, 0) for o in (0, out - 1))
        overlaps *= min(out, -(-k // s))
    share = (1 << (15 + (kh * kw - 1).bit_length())) // smallest + 1
    return 127 * share * overlaps < 1 << 31


def _mean(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    h, w, c = b.shape(x)
    rank = len(b.raw_tensor(op, 0).shape)
    axes = {int(a) % rank if -rank <= a < rank else -1 for a in b.constant(op, 1, ("int32",)).reshape(-1)}
    spatial = dict(zip(range(rank - 3, rank - 1), (h, w), strict=True)) if rank in (3, 4) else {}
    kept = [n for axis, n in spatial.items() if axis not in axes and n > 1]
    if not spatial or not axes <= {a for a in spatial if a > 0} or kept:
        raise refuse(
            op, f"takes the mean over dimensions {sorted(axes)}", "edgefl takes it over height and width"
        )
    if h * w > MAX_WINDOW:
        raise refuse(op, f"takes the mean of {h * w} values, the limit is {MAX_WINDOW}")
    y = b.output(op, (1, 1, c))
    if not 2.0**-16 <= b.ratio(x, y) < 2.0**8:
        raise refuse(op, "changes the scale by a factor outside 2^-16..2^8", "convert the model again")
    b.add(Node(Op.MEAN, (x,), y, index=op.index))


def _softmax(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    y = b.output(op, b.shape(x))
    c = b.shape(x)[2]
    if not 2 <= c <= 65536:
        raise refuse(op, f"runs over rows of {c}", "edgefl takes rows of 2..65536 values")
    if b.scale(y) != np.float32(1 / 256) or b.zero(y) != -128:
        raise refuse(
            op,
            "has an output scale other than 1/256, or a zero point that is not the lowest value",
            "convert the model again",
        )
    beta = float(op.options["Beta"])
    if not 0 < beta < 1e6:
        raise refuse(op, f"has beta {beta}, edgefl takes a positive one")
    b.add(Node(Op.SOFTMAX, (x,), y, beta=beta, index=op.index))


def _copy(b: Builder, op: RawOp) -> None:
    x = b.activation(op)
    y = b.output(op)
    if prod(b.shape(x)) != prod(b.shape(y)):
        raise refuse(op, f"turns {prod(b.shape(x))} values into {prod(b.shape(y))}", "the file is damaged")
    b.same_quantisation(op, x, y)
    b.add(Node(Op.COPY, (x,), y, index=op.index))


def _pad(b: Builder, op: RawOp) -> None:
    """Height and width by PAD's own kernel, channels as a move."""
    sizes = b.constant(op, 1, ("int32", "int64"))
    rank = len(b.raw_tensor(op, 0).shape)
    spatial = rank in (3, 4) and sizes.shape == (rank, 2) and not sizes[0].any() and not sizes[-1].any()
    if not spatial or sizes.min() < 0 or sizes.max() > MAX_PAD:
        build_pad(b, op, sizes)
        return
    x = b.activation(op)
    h, w, c = b.shape(x)
    top, bottom = (int(n) for n in sizes[1]) if rank == 4 else (0, 0)
    left, right = (int(n) for n in sizes[-2])
    y = b.output(op, (h + top + bottom, w + left + right, c))
    b.same_quantisation(op, x, y)
    b.add(Node(Op.PAD, (x,), y, pad=(top, bottom, left, right), index=op.index))


def _quantize(b: Builder, op: RawOp) -> None:
    if quantised_input(b, op):
        return
    x = b.activation(op)
    y = b.output(op, b.shape(x))
    same = b.scale(x) == b.scale(y) and b.zero(x) == b.zero(y)
    if len({b.raw.tensors[i].dtype for i in (op.inputs[0], op.outputs[0])}) > 1 and not same:
        raise refuse(op, "turns int8 into uint8 or back with another scale", "convert the model again")
    if not 2.0**-8 <= b.ratio(x, y) <= 2.0**7:
        raise refuse(op, "changes the scale by a factor outside 2^-8..2^7", "convert the model again")
    b.add(Node(Op.COPY if same else Op.REQUANT, (x,), y, index=op.index))


BUILDERS: dict[str, Callable[[Builder, RawOp], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool(Op.AVGPOOL),
    "MAX_POOL_2D": _pool(Op.MAXPOOL),
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "RESHAPE": _copy,
    "SQUEEZE": _copy,
    "EXPAND_DIMS": _copy,
    "PAD": _pad,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": append_step,
    "LOG_SOFTMAX": append_step,
    **BINARY_BUILDERS,
    **TABLE_BUILDERS,
    **MOVE_BUILDERS,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": build_lstm,
    "SVDF": build_svdf,
}
