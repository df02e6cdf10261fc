# SPDX-License-Identifier: Apache-2.0
"""Operators on one value at a time: RELU and its kind, LEAKY_RELU, PRELU, LOGISTIC, TANH, HARD_SWISH.

In: Builder and RawOp. Out: a Node with a Table, made once at load. Refuses scale ratios that the integer
rules do not take. The square of a tensor (MUL with itself) is one, too. Rules: docs/training.md, "Tables".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgefl.model import tables
from edgefl.model.acts import act_bounds, standalone_bounds
from edgefl.model.build import Builder, refuse
from edgefl.model.detail import Table
from edgefl.model.flat import RawOp
from edgefl.model.graph import Act, Node, Op
from edgefl.model.tables import Quant

MAX_TABLES = 4096  # of PRELU, one for each channel: 3 MB
Made = tuple[list[int], list[float]] | tuple[np.ndarray, np.ndarray]


def _start(b: Builder, op: RawOp) -> tuple[int, int, Quant]:
    """Input, output and their quantisation."""
    x = b.activation(op)
    y = b.output(op, b.shape(x))
    for scale in (b.scale(x), b.scale(y)):
        if not 2.0**-40 <= scale <= 2.0**40:
            raise refuse(op, f"has a scale of {scale:g}, edgefl takes 2^-40..2^40", "convert the model again")
    if op.name not in ("LOGISTIC", "TANH") and not 2.0**-16 <= b.ratio(x, y) <= 2.0**16:
        raise refuse(op, "changes the scale by a factor outside 2^-16..2^16", "convert the model again")
    return x, y, _quant(b, x, y)


def _quant(b: Builder, x: int, y: int) -> Quant:
    lift = 128 if b.unsigned(y) else 0
    return Quant(float(b.scale(x)), b.zero(x), float(b.scale(y)), b.zero(y), lift)


def _finish(
    b: Builder,
    op: RawOp,
    x: int,
    y: int,
    made: Made,
    act: Act = Act.NONE,
    fixed: list[int] | None = None,
) -> None:
    """Append the Node of these values and slopes; fixed: values by the gemmlowp rule, if they differ."""
    values = np.array(made[0], np.int8).tobytes()
    slopes, k = tables.packed_slopes(made[1])
    other = None if fixed is None else np.array(fixed, np.int8).tobytes()
    detail = Table(op.name, values, slopes, k, None if other == values else other)
    b.add(Node(Op.TABLE, (x,), y, act=act, detail=detail, index=op.index))


def _plain(make: Callable[[Quant], Made]) -> Callable[[Builder, RawOp], None]:
    def build(b: Builder, op: RawOp) -> None:
        x, y, q = _start(b, op)
        _finish(b, op, x, y, make(q))

    return build


def _rectified(act: Act) -> Callable[[Builder, RawOp], None]:
    def build(b: Builder, op: RawOp) -> None:
        x, y, q = _start(b, op)
        _finish(b, op, x, y, tables.rectified(q, standalone_bounds(act, q.y_scale, q.y_zero)))

    return build


def _leaky(b: Builder, op: RawOp) -> None:
    x, y, q = _start(b, op)
    alpha = float(op.options["Alpha"])
    if not 2.0**-16 <= abs(alpha) <= 2.0**7:
        raise refuse(op, f"has alpha {alpha:g}, edgefl takes 2^-16..2^7", "convert the model again")
    _finish(b, op, x, y, tables.leaky(q, alpha), fixed=tables.leaky_fixed(q, alpha))


def _prelu(b: Builder, op: RawOp) -> None:
    x, y, q = _start(b, op)
    alpha = b.constant_operand(op, 1)
    codes = np.frombuffer(alpha.values, np.int8).astype(int) - alpha.zero
    channels = b.shape(x)[2]
    if len(codes) not in (1, channels) or len(codes) > MAX_TABLES or alpha.shape[-1:] != (len(codes),):
        raise refuse(
            op,
            f"has factors {list(alpha.shape)}",
            f"edgefl takes one or {channels}",
        )
    if not 2.0**-16 <= q.x_scale * alpha.scale / q.y_scale <= 2.0**7:
        raise refuse(op, "has s_x*s_a/s_y outside 2^-16..2^7", "convert the model again")
    values, slopes = tables.prelu(q, codes, alpha.scale)
    _finish(b, op, x, y, (values, slopes))


def _hard_swish(b: Builder, op: RawOp) -> None:
    x, y, q = _start(b, op)
    if b.ratio(x, y) > 127.0:  # LiteRT's own limit is 128: its shift must not be to the left
        raise refuse(op, "has s_x/s_y over 127", "LiteRT refuses it too; convert the model again")
    _finish(b, op, x, y, tables.hard_swish(q))


def build_square(b: Builder, op: RawOp, x: int) -> None:
    """MUL of a tensor with itself: LiteRT's delegate takes the square of the real value."""
    y = b.output(op, b.shape(x))
    q = _quant(b, x, y)
    if not 2.0**-16 <= q.x_scale * q.x_scale / q.y_scale < 2.0**8:
        raise refuse(op, "has s_a*s_b/s_y outside 2^-16..2^8", "convert the model again")
    act = b.act(op)
    bounds = act_bounds(act, q.y_scale, q.y_zero)[0]
    _finish(b, op, x, y, tables.square(q, bounds), act, tables.square_fixed(q, bounds))


def rescaled(b: Builder, op: RawOp, x: int, y: int) -> int:
    """Put x on y's scale for a CONCATENATION of uint8 tensors; int8 ones must have it already."""
    same = b.scale(x) == b.scale(y) and b.zero(x) == b.zero(y)
    if same or not b.unsigned(x) or not 2.0**-16 <= b.ratio(x, y) <= 2.0**16:
        return x
    made = b.derived(x, y)
    _finish(b, op, x, made, tables.rescaled_uint8(_quant(b, x, y)))
    return made


TABLE_BUILDERS: dict[str, Callable[[Builder, RawOp], None]] = {
    "RELU": _rectified(Act.RELU),
    "RELU6": _rectified(Act.RELU6),
    "RELU_N1_TO_1": _rectified(Act.RELU_N1_TO_1),
    "LEAKY_RELU": _leaky,
    "PRELU": _prelu,
    "LOGISTIC": _plain(tables.logistic),
    "TANH": _plain(tables.tanh),
    "HARD_SWISH": _hard_swish,
}
