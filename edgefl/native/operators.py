# SPDX-License-Identifier: Apache-2.0
"""Parameters of single operators as the C core takes them (efl_binary, efl_table, efl_move, efl_svdf).

In: plain numbers and bytes made by edgefl/model/plan_ops.py and recurrent.py. Out: C structs with the objects
that must stay alive as long as they are used. Refuses nothing: efl_plan_check does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefl.native._core import ffi


@dataclass
class BinarySpec:
    """Fields of efl_binary; strides of both operands."""

    rule: int
    dims: tuple[int, ...]
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    sizes: tuple[int, int]
    zeros: tuple[int, int]
    scales: tuple[float, float]
    scale: float
    minus: tuple[bool, bool]
    constant: memoryview | None  # int8, read where it lies


@dataclass
class TableSpec:
    """Fields of efl_table: int8 [n, 256], int16 [n, 256]."""

    values: bytes
    slopes: bytes
    exponent: int


def table_struct(spec: TableSpec, keep: list[Any]) -> Any:
    """Make an efl_table; `keep` gets what it points to."""
    values = ffi.new("int8_t[]", len(spec.values))
    ffi.memmove(values, spec.values, len(spec.values))
    slopes = ffi.new("int16_t[]", list(np.frombuffer(spec.slopes, "<i2").tolist()))
    n = len(spec.values) // 256
    made = ffi.new("efl_table *", {"values": values, "slopes": slopes, "n_tables": n, "k": spec.exponent})
    keep += [values, slopes, made]
    return made


@dataclass
class PartSpec:
    """Fields of efl_move_part, without its tensor and edge; offsets int32 little-endian."""

    dims: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    run: int
    once: bool
    offsets: bytes


@dataclass
class MoveSpec:
    """Fields of efl_move; fill -129 for none."""

    parts: list[PartSpec]
    fill: int


def move_struct(spec: MoveSpec, tensors: Sequence[int], edges: Sequence[int], keep: list[Any]) -> Any:
    """Make an efl_move over these tensors and edges of the plan; `keep` gets what it points to."""
    made = []
    for part, tensor, edge in zip(spec.parts, tensors, edges, strict=True):
        table = ffi.new("int32_t[]", np.frombuffer(part.offsets, "<i4").tolist())
        keep.append(table)
        fields = {"in": tensor, "edge": edge, "n": part.dims, "y": part.strides, "y_start": part.start}
        made.append(fields | {"run": part.run, "once": part.once, "at": table})
    parts = ffi.new("efl_move_part[]", made)
    move = ffi.new("efl_move *", {"parts": parts, "n_parts": len(spec.parts), "fill": spec.fill})
    keep += [parts, move]
    return move


def binary_struct(spec: BinarySpec, fixed: Any, keep: list[Any]) -> Any:
    """Make an efl_binary; `keep` gets what it points to, except `fixed` (efl_fixed[] or null)."""
    values = ffi.NULL
    if spec.constant is not None:
        values = ffi.from_buffer("int8_t[]", spec.constant)
    made = ffi.new(
        "efl_binary *",
        {
            "rule": spec.rule,
            "n": spec.dims,
            "a": spec.strides[0],
            "b": spec.strides[1],
            "a_size": spec.sizes[0],
            "b_size": spec.sizes[1],
            "a_zero": spec.zeros[0],
            "b_zero": spec.zeros[1],
            "a_scale": spec.scales[0],
            "b_scale": spec.scales[1],
            "scale": spec.scale,
            "minus_a": spec.minus[0],
            "minus_b": spec.minus[1],
            "constant": values,
            "fixed": fixed,
        },
    )
    keep += [values, made]
    return made


@dataclass
class SvdfSpec:
    """Fields of efl_svdf; constants as little-endian bytes."""

    feature: bytes  # int8
    time: bytes  # int16
    bias: bytes  # int32
    filters: int
    memory: int
    rank: int
    state: tuple[int, int]
    multipliers: tuple[tuple[int, int], tuple[int, int]]


def svdf_struct(spec: SvdfSpec, keep: list[Any]) -> Any:
    """Make an efl_svdf; `keep` gets what it points to."""
    constants = {
        "feature": ffi.new("int8_t[]", np.frombuffer(spec.feature, "<i1").tolist()),
        "time": ffi.new("int16_t[]", np.frombuffer(spec.time, "<i2").tolist()),
        "bias": ffi.new("int32_t[]", np.frombuffer(spec.bias, "<i4").tolist()),
    }
    numbers = {
        "filters": spec.filters,
        "memory": spec.memory,
        "rank": spec.rank,
        "memory_lo": spec.state[0],
        "memory_hi": spec.state[1],
        "in": spec.multipliers[0],
        "out": spec.multipliers[1],
    }
    made = ffi.new("efl_svdf *", constants | numbers)
    keep += [*constants.values(), made]
    return made
