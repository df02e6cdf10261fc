# SPDX-License-Identifier: Apache-2.0
"""Operators of two operands: ADD, SUB, MUL, MINIMUM, MAXIMUM, with broadcasting and constants.

In: Builder and RawOp. Out: a Node; ADD of two equal shapes keeps its own kernel. Refuses scales that LiteRT's
delegate leaves to kernels with another rounding, and MINIMUM or MAXIMUM of different scales. A constant
becomes the second operand. Rules: docs/training.md, "Forward".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from edgefl.model.build import Builder, refuse
from edgefl.model.detail import AXES, Binary, Constant, Rule
from edgefl.model.flat import RawOp
from edgefl.model.graph import Act, Node, Op
from edgefl.model.ops_table import build_square
from edgefl.model.shape import to_hwc

MAX_REPEAT = 65536  # uses of one element: 65536 * 127 * 255 < 2^31, its error's sum
Dims = tuple[int, ...]


def broadcast(a: Sequence[int], b: Sequence[int]) -> Dims | None:
    """Shape of the result; None if the shapes do not fit."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True)
    out = []
    for n, m in pairs:
        if n != m and 1 not in (n, m):
            return None
        out.append(max(n, m))
    return tuple(out)


def merged_axes(a: Sequence[int], b: Sequence[int]) -> tuple[Dims, Dims, Dims] | None:
    """Loops over a broadcast result: sizes and both operands' strides, neighbours merged; None: over AXES."""
    out = broadcast(a, b)
    if out is None:
        return None
    strides = [_strides(shape, len(out)) for shape in (a, b)]
    loops: list[list[int]] = []
    for n, sa, sb in zip(out, *strides, strict=True):
        if n == 1:
            continue
        if loops and loops[-1][1] == sa * n and loops[-1][2] == sb * n:
            loops[-1] = [loops[-1][0] * n, sa, sb]
        else:
            loops.append([n, sa, sb])
    loops = [[1, 1, 1]] * (AXES - len(loops)) + loops
    if len(loops) > AXES:
        return None
    dims, sa, sb = (tuple(loop[i] for loop in loops) for i in range(3))
    return dims, sa, sb


def _strides(shape: Sequence[int], rank: int) -> list[int]:
    """Elements from one index to the next along each axis of the result, 0 where the operand repeats."""
    made, size = [], 1
    for n in reversed(shape):
        made.append(size if n > 1 else 0)
        size *= n
    return [0] * (rank - len(made)) + made[::-1]


def _operands(b: Builder, op: RawOp) -> tuple[list[int], Constant | None, bool]:
    """Tensors of the graph, the constant operand if there is one, and whether it came first."""
    if len(op.inputs) != 2:
        raise refuse(op, f"has {len(op.inputs)} inputs instead of 2", "the file is damaged; convert it again")
    fixed = [bool(b.raw_tensor(op, slot).n_bytes) for slot in (0, 1)]
    if all(fixed):
        raise refuse(op, "combines two constants", "convert the model again, the converter folds them")
    if not any(fixed):
        return [b.activation(op, 0), b.activation(op, 1)], None, False
    return [b.activation(op, 1 - fixed.index(True))], b.constant_operand(op, fixed.index(True)), fixed[0]


def _binary(rule: Rule, subtract: bool = False) -> Callable[[Builder, RawOp], None]:
    def build(b: Builder, op: RawOp) -> None:
        tensors, constant, first = _operands(b, op)
        slots = (1, 0) if first else (0, 1)
        shapes = [b.raw_tensor(op, slot).shape for slot in slots]
        out = broadcast(*shapes)
        loops = merged_axes(*shapes)
        if out is None or loops is None:
            raise refuse(
                op,
                f"combines shapes {list(shapes[0])} and {list(shapes[1])}",
                f"edgefl broadcasts over up to {AXES} axes",
            )
        if rule is Rule.MUL and len(tensors) == 2 and tensors[0] == tensors[1]:
            build_square(b, op, tensors[0])
            return
        if prod(out) > MAX_REPEAT * min(prod(s) for s in shapes):
            raise refuse(op, f"repeats one value more than {MAX_REPEAT} times")
        hwc = to_hwc(out)
        if hwc is None:
            raise refuse(op, f"gives a result {list(out)}", "edgefl needs batch 1")
        y = b.output(op, hwc)
        scales = [b.scale(tensors[0]), np.float32(constant.scale) if constant else b.scale(tensors[1])]
        zeros = [b.zero(tensors[0]), constant.zero if constant else b.zero(tensors[1])]
        _check_scales(b, op, rule, scales, zeros, y)
        act = b.act(op) if rule in (Rule.LINEAR, Rule.MUL) else Act.NONE
        if op.name == "ADD" and constant is None and b.shape(tensors[0]) == b.shape(tensors[1]):
            b.add(Node(Op.ADD, (tensors[0], tensors[1]), y, act=act, index=op.index))
            return
        minus = (subtract and first, subtract and not first)
        detail = Binary(op.name, rule, loops[0], loops[1:], minus, constant)
        b.add(Node(Op.BINARY, tuple(tensors), y, act=act, detail=detail, index=op.index))

    return build


def _check_scales(
    b: Builder, op: RawOp, rule: Rule, scales: list[np.float32], zeros: list[int], y: int
) -> None:
    with np.errstate(over="ignore"):
        if rule is Rule.LINEAR:
            if not all(2.0**-10 <= s / b.scale(y) < 2.0**8 for s in scales):
                raise refuse(
                    op, "has an input scale outside 2^-10..2^8 of its output scale", "convert the model again"
                )
        elif rule is Rule.MUL:
            if not 2.0**-16 <= scales[0] * scales[1] / b.scale(y) < 2.0**8:
                raise refuse(op, "has s_a*s_b/s_y outside 2^-16..2^8", "convert the model again")
        elif len({*scales, b.scale(y)}) > 1 or len({*zeros, b.zero(y)}) > 1:
            raise refuse(
                op, "compares values of different scales, which LiteRT would ignore", "convert it again"
            )


BINARY_BUILDERS: dict[str, Callable[[Builder, RawOp], None]] = {
    "ADD": _binary(Rule.LINEAR),
    "SUB": _binary(Rule.LINEAR, subtract=True),
    "MUL": _binary(Rule.MUL),
    "MINIMUM": _binary(Rule.MIN),
    "MAXIMUM": _binary(Rule.MAX),
}
