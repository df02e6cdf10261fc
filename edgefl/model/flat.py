# SPDX-License-Identifier: Apache-2.0
"""The flatbuffer of a .tflite file as plain, bounded Python values.

In: the whole file as bytes, which may be hostile. Out: RawModel. Refuses, in one line, whatever is not a
readable version 3 file with one subgraph: every vector length is checked before it is walked, every buffer
lies inside the file, so nothing here loops or allocates beyond the file's own size. Knows no operator's
meaning: that is edgefl/model/ops.py. Fields of the schema: edgefl/model/schema.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from edgefl.errors import ModelError
from edgefl.model.flatbuf import Table
from edgefl.model.schema import (
    BUFFER,
    DTYPES,
    MODEL,
    OPERATOR,
    OPERATOR_CODE,
    OPERATORS,
    OPTIONS,
    QUANTIZATION,
    SUBGRAPH,
    TENSOR,
)

MAX_FILE_BYTES = 256 << 20
MAX_OPERATORS = 4096
MAX_TENSORS = 16384
MAX_OPERANDS = 256  # inputs or outputs of one operator, or of the graph
MAX_CODES = 1024
MAX_RANK = 8
MAX_NAME = 64
MAX_ELEMENTS = 1 << 24  # of one tensor

Option: TypeAlias = "int | float | bool"

_BROKEN = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError)
_WIDTHS = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8}


@dataclass(frozen=True)
class RawTensor:
    """One tensor as the file has it: any type, any rank, batch dimension included."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: np.ndarray  # float32, empty if not quantised
    zeros: np.ndarray  # int64, same length as scales
    axis: int  # quantised dimension
    offset: int  # byte offset of its constant data in the file; 0: none
    n_bytes: int  # bytes of its constant data; 0: an activation
    odd: str = ""  # what makes it unusable: variable, sparse, blockwise

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class RawOp:
    """One operator as the file has it."""

    index: int
    name: str  # "CONV_2D", or "CUSTOM(name)"
    inputs: tuple[int, ...]  # -1: an optional input that is absent
    outputs: tuple[int, ...]
    options: dict[str, Option] = field(default_factory=dict)
    intermediates: tuple[int, ...] = ()  # tensors that carry scales only


@dataclass(frozen=True)
class RawModel:
    """One subgraph with its tensors and operators."""

    tensors: list[RawTensor]
    ops: list[RawOp]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    data: bytes

    def constant(self, tensor: RawTensor) -> np.ndarray:
        """Constant data of an integer tensor, in its shape; a read-only view of the file."""
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        return np.frombuffer(self.data, dtype, tensor.size, tensor.offset).reshape(tensor.shape)


def read_flat(data: bytes) -> RawModel:
    """Read the flatbuffer of a .tflite file.

    Raises
    ------
    ModelError
        The file is too large, damaged, or of a form that edgefl does not take.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"the model file has {len(data)} bytes, the limit is {MAX_FILE_BYTES}")
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelError(
            "this is not a .tflite file (no TFL3 mark)", hint="give a model converted to TensorFlow Lite"
        )
    try:
        return _read(data)
    except _BROKEN as error:
        raise ModelError(
            f"the model file is damaged: an offset or length points outside its {len(data)} bytes",
            hint="copy or convert it again",
        ) from error


def _read(data: bytes) -> RawModel:
    model = Table.root(data)
    version = model.whole(MODEL["Version"], "I")
    if version != 3:
        raise ModelError(f"the model file has schema version {version}, edgefl reads version 3")
    n_graphs = model.count(MODEL["Subgraphs"])
    if n_graphs != 1:
        raise ModelError(
            f"the model has {n_graphs} subgraphs, edgefl takes exactly one", hint="export one signature"
        )
    graph = model.item(MODEL["Subgraphs"], 0)
    n_buffers = _count(model.count(MODEL["Buffers"]), len(data) // 4, "buffers")
    codes = [_op_name(t) for t in _tables(model, MODEL["OperatorCodes"], MAX_CODES, "operator codes")]
    tensors = _tables(graph, SUBGRAPH["Tensors"], MAX_TENSORS, "tensors")
    operators = _tables(graph, SUBGRAPH["Operators"], MAX_OPERATORS, "operators")
    return RawModel(
        tensors=[_read_tensor(model, tensor, i, n_buffers, len(data)) for i, tensor in enumerate(tensors)],
        ops=[_read_op(op, i, codes, len(tensors)) for i, op in enumerate(operators)],
        inputs=_indices(graph, SUBGRAPH["Inputs"], len(tensors), "graph input"),
        outputs=_indices(graph, SUBGRAPH["Outputs"], len(tensors), "graph output"),
        data=data,
    )


def _count(count: int, limit: int, what: str) -> int:
    if not 0 <= count <= limit:
        raise ModelError(f"the model names {count} {what}, the limit is {limit}")
    return count


def _tables(table: Table, slot: int, limit: int, what: str) -> list[Table]:
    return [table.item(slot, i) for i in range(_count(table.count(slot), limit, what))]


def _indices(table: Table, slot: int, n_tensors: int, what: str) -> tuple[int, ...]:
    _count(table.count(slot), MAX_OPERANDS, f"{what}s")
    indices = tuple(table.numbers(slot, "i4").tolist())
    for index in indices:
        if not -1 <= index < n_tensors:
            raise ModelError(f"the model file is damaged: {what} names tensor {index} of {n_tensors}")
    return indices


def _op_name(code: Table) -> str:
    number = max(
        code.whole(OPERATOR_CODE["BuiltinCode"]), code.whole(OPERATOR_CODE["DeprecatedBuiltinCode"], "b")
    )
    name = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"operator code {number}"
    return f"CUSTOM({code.text(OPERATOR_CODE['CustomCode'], MAX_NAME)})" if name == "CUSTOM" else name


def _read_tensor(model: Table, tensor: Table, index: int, n_buffers: int, n_file: int) -> RawTensor:
    what = f"tensor {index}"
    _count(tensor.count(TENSOR["Shape"]), MAX_RANK, f"dimensions of {what}")
    shape = tuple(tensor.numbers(TENSOR["Shape"], "i4").tolist())
    size = 1
    for n in shape:
        size *= n
    if any(n < 0 for n in shape) or size > MAX_ELEMENTS:
        raise ModelError(f"{what} has shape {list(shape)}, the limit is {MAX_ELEMENTS} elements")
    buffer = tensor.whole(TENSOR["Buffer"], "I")
    if buffer >= n_buffers:
        raise ModelError(f"the model file is damaged: {what} names buffer {buffer} of {n_buffers}")
    kind = tensor.whole(TENSOR["Type"], "b")
    dtype = DTYPES[kind] if 0 <= kind < len(DTYPES) else f"type {kind}"
    offset, n_bytes = _buffer_range(model.item(MODEL["Buffers"], buffer), n_file)
    if n_bytes and dtype in _WIDTHS and n_bytes != size * _WIDTHS[dtype]:
        raise ModelError(
            f"{what} ({dtype} {list(shape)}) needs {size * _WIDTHS[dtype]} bytes, its buffer has {n_bytes}"
        )
    scales, zeros, axis, odd = _read_scales(tensor.table(TENSOR["Quantization"]), what)
    if tensor.scalar(TENSOR["IsVariable"], "?"):
        odd = "a variable (it keeps state between calls)"
    if tensor.table(TENSOR["Sparsity"]) is not None:
        odd = "sparse"
    name = tensor.text(TENSOR["Name"], MAX_NAME)
    return RawTensor(name, dtype, shape, scales, zeros, axis, offset, n_bytes, odd)


def _buffer_range(buffer: Table, n_file: int) -> tuple[int, int]:
    """Byte offset and size of a buffer's data in the file."""
    if max(buffer.whole(BUFFER["Offset"], "Q"), buffer.whole(BUFFER["Size"], "Q")) > 1:
        raise ModelError(
            "the model keeps its weights outside the flatbuffer, edgefl takes files under 2 GB without that"
        )
    n_bytes = buffer.count(BUFFER["Data"])
    if n_bytes == 0:
        return 0, 0
    offset = buffer.start(BUFFER["Data"])
    if offset + n_bytes > n_file:
        raise ModelError(f"the model file is damaged: a buffer ends at byte {offset + n_bytes} of {n_file}")
    return offset, n_bytes


def _read_scales(q: Table | None, what: str) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Scales, zero points, quantised dimension, and what is unusual about them."""
    if q is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0, ""
    n_scales = _count(q.count(QUANTIZATION["Scale"]), MAX_ELEMENTS, f"scales of {what}")
    n_zeros = _count(q.count(QUANTIZATION["ZeroPoint"]), MAX_ELEMENTS, f"zero points of {what}")
    # Views of the file, not copies: many tensors may name one large vector.
    scales = q.numbers(QUANTIZATION["Scale"], "f4")
    zeros = q.numbers(QUANTIZATION["ZeroPoint"], "i8") if n_zeros else np.broadcast_to(np.int64(0), n_scales)
    if len(zeros) != len(scales):
        raise ModelError(f"{what} has {len(scales)} scales and {len(zeros)} zero points")
    odd = "" if q.whole(QUANTIZATION["DetailsType"], "B") == 0 else "blockwise or custom quantised"
    return scales, zeros, q.whole(QUANTIZATION["QuantizedDimension"]), odd


def _read_op(op: Table, index: int, codes: list[str], n_tensors: int) -> RawOp:
    code = op.whole(OPERATOR["OpcodeIndex"], "I")
    if code >= len(codes):
        raise ModelError(f"the model file is damaged: operator {index} names code {code} of {len(codes)}")
    name = codes[code]
    what = f"operator {index} ({name})"
    return RawOp(
        index,
        name,
        _indices(op, OPERATOR["Inputs"], n_tensors, f"{what} input"),
        _indices(op, OPERATOR["Outputs"], n_tensors, f"{what} output"),
        _read_options(op, name, what),
        _indices(op, OPERATOR["Intermediates"], n_tensors, f"{what} intermediate"),
    )


def _read_options(op: Table, name: str, what: str) -> dict[str, Option]:
    """Read the fields that OPTIONS lists for this operator."""
    if name not in OPTIONS:
        return {}
    options = OPTIONS[name]
    table = op.table(OPERATOR["BuiltinOptions"])
    if table is None or op.whole(OPERATOR["BuiltinOptionsType"], "B") != options.number:
        raise ModelError(f"{what} has no {options.table}", hint="convert the model again")
    return {key: table.scalar(*field) for key, field in options.fields.items()}
