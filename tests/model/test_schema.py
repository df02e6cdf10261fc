# SPDX-License-Identifier: Apache-2.0
"""The constants of the schema and the flatbuffer reader against the `tflite` package, damaged files too."""

from __future__ import annotations

import inspect
import re
import struct

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodel import small_cnn

from edgefl.errors import ModelError
from edgefl.model import schema
from edgefl.model.flat import read_flat
from edgefl.model.flatbuf import Table

FORMS = {"Int8": "b", "Uint8": "B", "Int32": "i", "Uint32": "I", "Bool": "?", "Float32": "f"}


def members(names: type) -> dict[int, str]:
    return {value: name for name, value in vars(names).items() if isinstance(value, int)}


def slot(table: str, field: str) -> int:
    source = inspect.getsource(getattr(getattr(tflite, table), field))
    found = re.search(r"Offset\((\d+)\)", source)
    assert found
    return (int(found[1]) - 4) // 2


def test_operator_and_type_names_are_those_of_the_schema() -> None:
    assert dict(enumerate(schema.OPERATORS)) == members(tflite.BuiltinOperator)
    assert dict(enumerate(schema.DTYPES)) == {k: v.lower() for k, v in members(tflite.TensorType).items()}


@pytest.mark.parametrize(
    ("table", "slots"),
    [
        ("Model", schema.MODEL),
        ("OperatorCode", schema.OPERATOR_CODE),
        ("SubGraph", schema.SUBGRAPH),
        ("Tensor", schema.TENSOR),
        ("QuantizationParameters", schema.QUANTIZATION),
        ("Buffer", schema.BUFFER),
        ("Operator", schema.OPERATOR),
    ],
)
def test_slots_are_those_of_the_schema(table: str, slots: dict[str, int]) -> None:
    assert slots == {field: slot(table, field) for field in slots}


@pytest.mark.parametrize("operator", schema.OPTIONS)
def test_options_are_those_of_the_schema(operator: str) -> None:
    options = schema.OPTIONS[operator]
    assert operator in schema.OPERATORS
    assert getattr(tflite.BuiltinOptions, options.table) == options.number
    for name, field in options.fields.items():
        source = inspect.getsource(getattr(getattr(tflite, options.table), name))
        form = re.search(r"Get\(flatbuffers\.number_types\.(\w+)Flags", source)
        default = re.findall(r"return (\S+)", source)[-1]
        assert form and (slot(options.table, name), FORMS[form[1]]) == (field.slot, field.form)
        assert float({"False": 0}.get(default, default)) == field.default


def test_code_of_the_newer_field_counts_if_it_is_larger() -> None:
    """Some writers leave the old field at 0."""
    data = bytearray(small_cnn())
    code = Table.root(bytes(data)).item(schema.MODEL["OperatorCodes"], 0)
    at = code._field(schema.OPERATOR_CODE["DeprecatedBuiltinCode"])
    assert data[at] == 3
    data[at] = 0
    assert read_flat(bytes(data)).ops[0].name == "CONV_2D"


def test_reader_sees_what_the_package_sees() -> None:
    data = small_cnn()
    model = tflite.Model.GetRootAs(data, 0)
    graph, raw = model.Subgraphs(0), read_flat(data)
    for i, tensor in enumerate(raw.tensors):
        theirs = graph.Tensors(i)
        assert tensor.shape == tuple(theirs.ShapeAsNumpy()) and tensor.name == theirs.Name().decode()
        if theirs.Quantization() is not None:
            assert np.array_equal(tensor.scales, theirs.Quantization().ScaleAsNumpy())
        if tensor.n_bytes:
            held = model.Buffers(theirs.Buffer()).DataAsNumpy().tobytes()
            assert data[tensor.offset : tensor.offset + tensor.n_bytes] == held
    assert [op.outputs for op in raw.ops] == [
        tuple(graph.Operators(i).OutputsAsNumpy()) for i in range(graph.OperatorsLength())
    ]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_read_or_refuse(edits: list[tuple[int, int]]) -> None:
    data = bytearray(small_cnn())
    for at, value in edits:
        data[at % len(data)] = value
    try:
        read_flat(bytes(data))
    except ModelError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("offset", [0, 3, 0x7FFFFFFF, 0xFFFFFFFF, 60])
def test_root_outside_is_refused(offset: int) -> None:
    with pytest.raises(ModelError):
        read_flat(struct.pack("<I", offset) + b"TFL3" + bytes(64))
