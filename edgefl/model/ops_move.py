# SPDX-License-Identifier: Apache-2.0
"""Operators that only move values: concatenation, splits, slices, GATHER, TRANSPOSE, padding, resizing.

In: Builder and RawOp. Out: one Node with a Move for each result. Refuses indices that are not constants or
lie outside, and results of another quantisation than the inputs' (LiteRT refuses these too). The result's
shape is computed and must be the declared one. Rules: docs/training.md, "Forward".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgefl.model.build import Builder, refuse
from edgefl.model.detail import AXES, Move, Part
from edgefl.model.flat import RawOp
from edgefl.model.graph import Node, Op
from edgefl.model.moves import MAX_ENTRIES, Picks, nearest, part, whole
from edgefl.model.ops_table import rescaled
from edgefl.model.shape import to_hwc

MAX_PARTS = 64
MAX_PAD = 1 << 15
Shape = tuple[int, ...]
_INDEX = ("int32", "int64")


def _emit(
    b: Builder,
    op: RawOp,
    inputs: Sequence[int],
    shape: Shape,
    parts: Sequence[Part | None],
    fill: int | None = None,
    result: int | None = None,
) -> None:
    """Append the Node that makes result number `result`, of this shape, out of these tensors of the graph."""
    hwc = to_hwc(shape)
    if hwc is None or len(shape) < 1:
        raise refuse(op, f"gives a result {list(shape)}", "edgefl needs batch 1 and sizes of 1 or more")
    y = b.output(op, hwc, result)
    tensors = tuple(rescaled(b, op, x, y) if op.name == "CONCATENATION" else x for x in inputs)
    for x in tensors:
        b.same_quantisation(op, x, y)
    known = tuple(p for p in parts if p is not None)
    if len(known) < len(parts):
        raise refuse(
            op, f"moves single values along over {AXES} axes, or along axes of over {MAX_ENTRIES} in all"
        )
    b.add(Node(Op.MOVE, tensors, y, detail=Move(op.name, known, fill), index=op.index))


def _axis(op: RawOp, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise refuse(op, f"names axis {axis} of {rank}", "the file is damaged; convert it again")
    return axis % rank


def _numbers(b: Builder, op: RawOp, slot: int, count: int) -> list[int]:
    """Give `count` constant whole numbers."""
    numbers = b.constant(op, slot, _INDEX).reshape(-1)
    if len(numbers) != count:
        raise refuse(op, f"has {len(numbers)} numbers at input {slot} instead of {count}", "convert it again")
    return [int(n) for n in numbers]


def _joined(b: Builder, op: RawOp, shapes: list[Shape], axis: int, result: Shape) -> None:
    """Concatenate inputs of these shapes (seen as blocks) along an axis."""
    total = list(shapes[0])
    total[axis] = sum(shape[axis] for shape in shapes)
    at, parts = 0, []
    for shape in shapes:
        if shape[:axis] + shape[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]:
            raise refuse(op, f"joins shapes {list(shapes[0])} and {list(shape)}", "convert it again")
        start = [0] * len(shape)
        start[axis] = at
        parts.append(part(shape, whole(shape), total, start))
        at += shape[axis]
    _emit(b, op, [b.activation(op, slot) for slot in range(len(shapes))], result, parts)


def _shapes(b: Builder, op: RawOp) -> list[Shape]:
    if not 1 <= len(op.inputs) <= MAX_PARTS:
        raise refuse(op, f"has {len(op.inputs)} inputs, the limit is {MAX_PARTS}")
    shapes = [b.raw_tensor(op, slot).shape for slot in range(len(op.inputs))]
    if any(len(shape) != len(shapes[0]) or not shape for shape in shapes):
        raise refuse(op, "joins tensors of different ranks", "the file is damaged; convert it again")
    return shapes


def _concatenation(b: Builder, op: RawOp) -> None:
    if op.options["FusedActivationFunction"] != 0:
        raise refuse(op, "has a fused activation", "LiteRT refuses it too; convert the model again")
    shapes = _shapes(b, op)
    axis = _axis(op, int(op.options["Axis"]), len(shapes[0]))
    result = list(shapes[0])
    result[axis] = sum(shape[axis] for shape in shapes)
    _joined(b, op, shapes, axis, tuple(result))


def _pack(b: Builder, op: RawOp) -> None:
    shapes = _shapes(b, op)
    axis = _axis(op, int(op.options["Axis"]), len(shapes[0]) + 1)
    blocks = [(*shape[:axis], 1, *shape[axis:]) for shape in shapes]
    result = (*shapes[0][:axis], len(shapes), *shapes[0][axis:])
    _joined(b, op, blocks, axis, result)


def _taken(
    b: Builder,
    op: RawOp,
    picks: Picks,
    shape: Shape | None = None,
    *,
    slot: int = 0,
    result: int | None = None,
) -> None:
    """Take these indices along each axis; `shape` of the result, if it is not the number of indices."""
    source = b.raw_tensor(op, slot).shape
    taken = tuple(len(p) for p in picks)
    _emit(
        b,
        op,
        [b.activation(op, slot)],
        taken if shape is None else shape,
        [part(source, picks, taken)],
        result=result,
    )


def _split(b: Builder, op: RawOp) -> None:
    """SPLIT (axis, x) into equal parts, SPLIT_V (x, sizes, axis) into parts of these sizes."""
    n = len(op.outputs)
    slot = 1 if op.name == "SPLIT" else 0
    shape = b.raw_tensor(op, slot).shape
    axis = _axis(op, _numbers(b, op, 0 if op.name == "SPLIT" else 2, 1)[0], len(shape))
    size = shape[axis]
    sizes = [size // n] * n if op.name == "SPLIT" else _numbers(b, op, 1, n)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = size - sum(sizes) - 1
    if min(sizes) < 1 or sum(sizes) != size:
        raise refuse(op, f"splits {size} into parts of {sizes[:16]}", "the file is damaged; convert it again")
    at = 0
    for i, n_taken in enumerate(sizes):
        if b.is_read(op.outputs[i]):
            picks = whole(shape)
            picks[axis] = range(at, at + n_taken)
            _taken(b, op, picks, slot=slot, result=i)
        at += n_taken


def _unpack(b: Builder, op: RawOp) -> None:
    shape = b.raw_tensor(op, 0).shape
    axis = _axis(op, int(op.options["Axis"]), len(shape))
    if shape[axis] != len(op.outputs):
        raise refuse(op, f"unpacks {shape[axis]} slices into {len(op.outputs)}", "convert it again")
    for i, output in enumerate(op.outputs):
        if b.is_read(output):
            picks = whole(shape)
            picks[axis] = range(i, i + 1)
            _taken(b, op, picks, shape[:axis] + shape[axis + 1 :], result=i)


def _strided_slice(b: Builder, op: RawOp) -> None:
    if op.options["EllipsisMask"] or op.options["NewAxisMask"] or op.options["Offset"]:
        raise refuse(op, "has an ellipsis, a new axis or an offset", "write the slice out for every axis")
    shape = b.raw_tensor(op, 0).shape
    count = b.constant(op, 1, _INDEX).size
    if count > len(shape):
        raise refuse(op, f"slices {count} of {len(shape)} axes", "the file is damaged; convert it again")
    bounds = [_numbers(b, op, slot, count) for slot in (1, 2, 3)]
    picks, result = list[range](), list[int]()
    for axis, n in enumerate(shape):
        begin, end, step = (numbers[axis] for numbers in bounds) if axis < count else (0, n, 1)
        if step == 0:
            raise refuse(op, "has a stride of 0", "the file is damaged; convert it again")
        if int(op.options["ShrinkAxisMask"]) >> axis & 1:
            if not -n <= begin < n:
                raise refuse(op, f"takes index {begin} of {n}", "the file is damaged; convert it again")
            picks.append(range(begin % n, begin % n + 1))
            continue
        first = None if int(op.options["BeginMask"]) >> axis & 1 else begin
        last = None if int(op.options["EndMask"]) >> axis & 1 else end
        picks.append(range(n)[slice(first, last, step)])
        result.append(len(picks[-1]))
    if not all(len(p) for p in picks):
        raise refuse(op, "takes nothing", "the file is damaged; convert it again")
    _taken(b, op, picks, tuple(result) or (1,))


def _slice(b: Builder, op: RawOp) -> None:
    shape = b.raw_tensor(op, 0).shape
    begins, sizes = (_numbers(b, op, slot, len(shape)) for slot in (1, 2))
    picks = []
    for n, begin, size in zip(shape, begins, sizes, strict=True):
        end = n if size == -1 else begin + size
        if not 0 <= begin < end <= n:
            raise refuse(op, f"takes {begin} to {end} of {n}", "the file is damaged; convert it again")
        picks.append(range(begin, end))
    _taken(b, op, picks)


def _gather(b: Builder, op: RawOp) -> None:
    if op.options["BatchDims"]:
        raise refuse(op, "gathers with batch dimensions", "edgefl takes none")
    shape = b.raw_tensor(op, 0).shape
    axis = _axis(op, int(op.options["Axis"]), len(shape))
    indices = b.constant(op, 1, _INDEX)
    if indices.size < 1 or indices.min() < 0 or indices.max() >= shape[axis]:
        raise refuse(op, f"gathers indices outside 0..{shape[axis] - 1}", "convert it again")
    picks: list[range | np.ndarray] = list(whole(shape))
    picks[axis] = indices.reshape(-1)
    _taken(b, op, picks, shape[:axis] + indices.shape + shape[axis + 1 :])


def _transpose(b: Builder, op: RawOp) -> None:
    shape = b.raw_tensor(op, 0).shape
    order = _numbers(b, op, 1, len(shape))
    if sorted(order) != list(range(len(shape))):
        raise refuse(op, f"orders axes as {order}", "the file is damaged; convert it again")
    result = tuple(shape[axis] for axis in order)
    _emit(b, op, [b.activation(op)], result, [part(shape, whole(shape), result, order=order)])


def _resize(b: Builder, op: RawOp) -> None:
    shape = b.raw_tensor(op, 0).shape
    height, width = _numbers(b, op, 1, 2)
    if len(shape) != 4 or not all(1 <= n <= 1 << 15 for n in (height, width)):
        raise refuse(op, f"resizes {list(shape)} to {height} x {width}", "edgefl takes maps up to 32768")
    align, half = bool(op.options["AlignCorners"]), bool(op.options["HalfPixelCenters"])
    picks: list[range | list[int]] = list(whole(shape))
    picks[1] = nearest(height, shape[1], align, half)
    picks[2] = nearest(width, shape[2], align, half)
    _taken(b, op, picks)


def build_pad(b: Builder, op: RawOp, sizes: np.ndarray) -> None:
    """PAD along any axis but the batch, and PADV2 with its own value."""
    shape = b.raw_tensor(op, 0).shape
    if sizes.shape != (len(shape), 2) or sizes.min() < 0 or sizes.max() > MAX_PAD:
        raise refuse(
            op,
            f"pads a {len(shape)}-dimensional tensor by {sizes.reshape(-1)[:16].tolist()}",
            f"edgefl pads each axis by 0..{MAX_PAD}",
        )
    x = b.activation(op)
    fill = b.zero(x)
    if op.name == "PADV2":
        value = b.constant_operand(op, 2)
        if len(value.values) != 1 or (value.scale, value.zero) != (float(b.scale(x)), b.zero(x)):
            raise refuse(op, "needs one padding value with its input's scale", "LiteRT refuses it too")
        fill = int(np.frombuffer(value.values, np.int8)[0])
    result = tuple(n + int(before) + int(after) for n, (before, after) in zip(shape, sizes, strict=True))
    starts = [int(before) for before, _ in sizes]
    _emit(b, op, [x], result, [part(shape, whole(shape), result, starts)], fill)


def _padv2(b: Builder, op: RawOp) -> None:
    build_pad(b, op, b.constant(op, 1, _INDEX))


MOVE_BUILDERS: dict[str, Callable[[Builder, RawOp], None]] = {
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "UNPACK": _unpack,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "GATHER": _gather,
    "TRANSPOSE": _transpose,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "PADV2": _padv2,
}
