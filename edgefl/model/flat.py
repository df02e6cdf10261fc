# SPDX-License-Identifier: Apache-2.0
"""The flatbuffer of a .tflite file as plain, bounded Python values.

In: the whole file as bytes, which may be hostile. Out: RawModel. Refuses, in one line, whatever is not a
readable version 3 file with one subgraph: every vector length is checked before it is walked, every buffer
lies inside the file, so nothing here loops or allocates beyond the file's own size. Knows no operator's
meaning: that is edgefl/model/ops.py. Source: TensorFlow Lite's schema, by the `tflite` package.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
import tflite

from edgefl.errors import ModelError

MAX_FILE_BYTES = 256 << 20
MAX_OPERATORS = 4096
MAX_TENSORS = 16384
MAX_OPERANDS = 256  # inputs or outputs of one operator, or of the graph
MAX_CODES = 1024
MAX_RANK = 8
MAX_NAME = 64
MAX_ELEMENTS = 1 << 24  # of one tensor

T = TypeVar("T")
Option: TypeAlias = "int | float | bool"

_BROKEN = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError)
_OP_NAMES: dict[int, str] = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
_DTYPES: dict[int, str] = {v: k.lower() for k, v in vars(tflite.TensorType).items() if isinstance(v, int)}
_WIDTHS = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8}

# Builtin options by operator: the table that must be present, and the fields that are read from it.
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
_SLICE = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset")
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _CONV),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONV),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "PACK": ("PackOptions", ("Axis", "ValuesCount")),
    "UNPACK": ("UnpackOptions", ("Axis", "Num")),
    "GATHER": ("GatherOptions", ("Axis", "BatchDims")),
    "STRIDED_SLICE": ("StridedSliceOptions", _SLICE),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SVDF": ("SVDFOptions", ("Rank", "FusedActivationFunction")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        "UnidirectionalSequenceLSTMOptions",
        ("FusedActivationFunction", "CellClip", "TimeMajor", "DiagonalRecurrentTensors"),
    ),
}


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
    model = tflite.Model.GetRootAs(data, 0)
    if model.Version() != 3:
        raise ModelError(f"the model file has schema version {model.Version()}, edgefl reads version 3")
    n_graphs = model.SubgraphsLength()
    if n_graphs != 1:
        raise ModelError(
            f"the model has {n_graphs} subgraphs, edgefl takes exactly one", hint="export one signature"
        )
    graph = model.Subgraphs(0)
    n_buffers = _count(model.BuffersLength(), len(data) // 4, "buffers")
    n_codes = _count(model.OperatorCodesLength(), MAX_CODES, "operator codes")
    codes = [_op_name(model.OperatorCodes(i)) for i in range(n_codes)]
    tensors = _vector(graph.TensorsLength(), MAX_TENSORS, "tensors", graph.Tensors)
    return RawModel(
        tensors=[_read_tensor(model, tensor, i, n_buffers, len(data)) for i, tensor in enumerate(tensors)],
        ops=[
            _read_op(op, i, codes, len(tensors))
            for i, op in enumerate(
                _vector(graph.OperatorsLength(), MAX_OPERATORS, "operators", graph.Operators)
            )
        ],
        inputs=_indices(graph.InputsLength(), graph.Inputs, len(tensors), "graph input"),
        outputs=_indices(graph.OutputsLength(), graph.Outputs, len(tensors), "graph output"),
        data=data,
    )


def _count(count: int, limit: int, what: str) -> int:
    if not 0 <= count <= limit:
        raise ModelError(f"the model names {count} {what}, the limit is {limit}")
    return count


def _vector(count: int, limit: int, what: str, item: Callable[[int], T]) -> list[T]:
    return [item(i) for i in range(_count(count, limit, what))]


def _indices(count: int, item: Callable[[int], int], n_tensors: int, what: str) -> tuple[int, ...]:
    indices = tuple(_vector(count, MAX_OPERANDS, f"{what}s", item))
    for index in indices:
        if not -1 <= index < n_tensors:
            raise ModelError(f"the model file is damaged: {what} names tensor {index} of {n_tensors}")
    return indices


def _op_name(code: tflite.OperatorCode) -> str:
    # BuiltinCode() gives the old field below 127, but some writers leave that at 0: LiteRT takes the larger.
    at = code._tab.Offset(10)
    newer = struct.unpack_from("<i", code._tab.Bytes, at + code._tab.Pos)[0] if at else 0
    number = max(newer, code.DeprecatedBuiltinCode())
    name = _OP_NAMES.get(number, f"operator code {number}")
    return f"CUSTOM({_name(code, 6)})" if name == "CUSTOM" else name


def _name(table: tflite.Tensor | tflite.OperatorCode, slot: int) -> str:
    """Read the start of a name, printable: it ends up in messages, and may claim any length."""
    at = table._tab.Offset(slot)
    if at == 0:
        return ""
    start, length = table._tab.Vector(at), table._tab.VectorLen(at)
    text = bytes(table._tab.Bytes[start : start + min(length, MAX_NAME)]).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _read_tensor(
    model: tflite.Model, tensor: tflite.Tensor, index: int, n_buffers: int, n_file: int
) -> RawTensor:
    what = f"tensor {index}"
    shape = tuple(_vector(tensor.ShapeLength(), MAX_RANK, f"dimensions of {what}", tensor.Shape))
    size = 1
    for n in shape:
        size *= n
    if any(n < 0 for n in shape) or size > MAX_ELEMENTS:
        raise ModelError(f"{what} has shape {list(shape)}, the limit is {MAX_ELEMENTS} elements")
    buffer = tensor.Buffer()
    if buffer >= n_buffers:
        raise ModelError(f"the model file is damaged: {what} names buffer {buffer} of {n_buffers}")
    dtype = _DTYPES.get(tensor.Type(), f"type {tensor.Type()}")
    offset, n_bytes = _buffer_range(model.Buffers(buffer), n_file)
    if n_bytes and dtype in _WIDTHS and n_bytes != size * _WIDTHS[dtype]:
        raise ModelError(
            f"{what} ({dtype} {list(shape)}) needs {size * _WIDTHS[dtype]} bytes, its buffer has {n_bytes}"
        )
    scales, zeros, axis, odd = _read_scales(tensor.Quantization(), what)
    if tensor.IsVariable():
        odd = "a variable (it keeps state between calls)"
    if tensor.Sparsity() is not None:
        odd = "sparse"
    return RawTensor(_name(tensor, 10), dtype, shape, scales, zeros, axis, offset, n_bytes, odd)


def _buffer_range(buffer: tflite.Buffer, n_file: int) -> tuple[int, int]:
    """Byte offset and size of a buffer's data in the file."""
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise ModelError(
            "the model keeps its weights outside the flatbuffer, edgefl takes files under 2 GB without that"
        )
    n_bytes = buffer.DataLength()
    if n_bytes == 0:
        return 0, 0
    slot = buffer._tab.Offset(4)  # the generated class gives no byte offset of its data
    offset = buffer._tab.Vector(slot)
    if offset + n_bytes > n_file:
        raise ModelError(f"the model file is damaged: a buffer ends at byte {offset + n_bytes} of {n_file}")
    return offset, n_bytes


def _read_scales(
    q: tflite.QuantizationParameters | None, what: str
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Scales, zero points, quantised dimension, and what is unusual about them."""
    if q is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0, ""
    n_scales = _count(q.ScaleLength(), MAX_ELEMENTS, f"scales of {what}")
    n_zeros = _count(q.ZeroPointLength(), MAX_ELEMENTS, f"zero points of {what}")
    # Views of the file, not copies: many tensors may name one large vector.
    scales = q.ScaleAsNumpy() if n_scales else np.zeros(0, np.float32)
    zeros = q.ZeroPointAsNumpy() if n_zeros else np.broadcast_to(np.int64(0), n_scales)
    if len(zeros) != len(scales):
        raise ModelError(f"{what} has {len(scales)} scales and {len(zeros)} zero points")
    return (
        scales,
        zeros,
        q.QuantizedDimension(),
        "" if q.DetailsType() == 0 else "blockwise or custom quantised",
    )


def _read_op(op: tflite.Operator, index: int, codes: list[str], n_tensors: int) -> RawOp:
    if op.OpcodeIndex() >= len(codes):
        raise ModelError(
            f"the model file is damaged: operator {index} names code {op.OpcodeIndex()} of {len(codes)}"
        )
    name = codes[op.OpcodeIndex()]
    what = f"operator {index} ({name})"
    return RawOp(
        index,
        name,
        _indices(op.InputsLength(), op.Inputs, n_tensors, f"{what} input"),
        _indices(op.OutputsLength(), op.Outputs, n_tensors, f"{what} output"),
        _read_options(op, name, what),
        _indices(op.IntermediatesLength(), op.Intermediates, n_tensors, f"{what} intermediate"),
    )


def _read_options(op: tflite.Operator, name: str, what: str) -> dict[str, Option]:
    """Read the fields that _OPTIONS lists for this operator."""
    if name not in _OPTIONS:
        return {}
    table_name, fields = _OPTIONS[name]
    options = getattr(tflite, table_name)()
    table = op.BuiltinOptions()
    if table is None and fields == ("FusedActivationFunction",):
        return {"FusedActivationFunction": 0}  # LiteRT takes a missing table as no activation
    if table is None or op.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table_name):
        raise ModelError(f"{what} has no {table_name}", hint="convert the model again")
    options.Init(table.Bytes, table.Pos)
    return {f: getattr(options, f)() for f in fields}
