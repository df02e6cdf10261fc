# SPDX-License-Identifier: Apache-2.0
"""What a Node says beyond the fields that all operators share: broadcasting, tables, moves, recurrence.

In: nothing (plain data, comparable). Values from the file are bytes or views of it, so that two graphs can
be compared. Invariant: built by edgefl/model/ops_*.py only, which checks it against the tensors' shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

AXES = 4  # EFL_AXES: of an operator's loops, after neighbouring axes are merged


class Rule(IntEnum):
    """How two operands combine; the values are EFL_BINARY_* of edgefl.h."""

    LINEAR = 0  # ADD, SUB
    MUL = 1
    MIN = 2
    MAX = 3


@dataclass(frozen=True)
class Constant:
    """An operand that stands in the file: int8 values, real value = scale * (q - zero)."""

    values: memoryview  # of the file, read-only
    shape: tuple[int, ...]
    scale: float
    zero: int


@dataclass(frozen=True)
class Binary:
    """Two operands; the result runs over `dims`, an operand over its own elements by its strides.

    A stride of 0 repeats an operand. Four axes, outermost first, leading ones of 1.
    """

    name: str  # of the file's operator: "SUB"
    rule: Rule
    dims: tuple[int, ...]
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    minus: tuple[bool, bool] = (False, False)  # LINEAR: operands that are subtracted
    constant: Constant | None = None  # the second operand; else Node.inputs has two tensors


@dataclass(frozen=True)
class Table:
    """A function of one value: for each input -128..127 the int8 result, and the slope m*2^exponent.

    values int8 [n, 256], slopes little-endian int16 [n, 256]; n is 1 or the number of channels.
    """

    name: str  # of the file's operator: "LOGISTIC"; "MUL" is the square
    values: bytes
    slopes: bytes
    exponent: int
    fixed: bytes | None = None  # values by the gemmlowp rule, where they are not the same


@dataclass(frozen=True)
class Part:
    """One input's part of the result of a Move: loops of copies of `run` neighbours, outermost first.

    dims: steps of the loops. strides: of each loop in the result, which start at `start`. offsets:
    little-endian int32, the input's offset at each step, loop after loop; they add up.
    """

    dims: tuple[int, ...]
    run: int
    start: int
    strides: tuple[int, ...]
    offsets: bytes
    once: bool  # no element of the input is taken twice


@dataclass(frozen=True)
class Move:
    """Values moved without change: one part for each input, and the value of what no part covers."""

    name: str  # of the file's operator: "SPLIT"
    parts: tuple[Part, ...]
    fill: int | None


@dataclass(frozen=True)
class Lstm:
    """A cell is c * 2^-cell_bits, c int16 within +-clip (0: no bound)."""

    cell_bits: int
    clip: int


@dataclass(frozen=True)
class Svdf:
    """Constants: feature int8 [filters, values], time int16 [filters, memory], bias int32 [filters / rank].

    state: bounds of what the memory keeps.  multipliers: (mult, shift) of the feature sums and the output.
    """

    feature: bytes
    time: bytes
    bias: bytes
    filters: int
    memory: int
    rank: int
    state: tuple[int, int]
    multipliers: tuple[tuple[int, int], tuple[int, int]]
