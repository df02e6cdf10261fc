# SPDX-License-Identifier: Apache-2.0
"""The part of TensorFlow Lite's schema that edgefl reads: numbers of fields, names of operators and types.

In: nothing.  Out: constants.  A field is named by its slot, its letter in the struct module, its default.
Invariant: equal to the generated classes of the `tflite` package (a test compares them), which would take
3 MB and 30 ms at every start.  Source: tensorflow/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

from typing import NamedTuple

# Slots of the tables around operators; what is not read is left out.
MODEL = {"Version": 0, "OperatorCodes": 1, "Subgraphs": 2, "Buffers": 4}
OPERATOR_CODE = {"DeprecatedBuiltinCode": 0, "CustomCode": 1, "BuiltinCode": 3}
SUBGRAPH = {"Tensors": 0, "Inputs": 1, "Outputs": 2, "Operators": 3}
TENSOR = {"Shape": 0, "Type": 1, "Buffer": 2, "Name": 3, "Quantization": 4, "IsVariable": 5, "Sparsity": 6}
QUANTIZATION = {"Scale": 2, "ZeroPoint": 3, "DetailsType": 4, "QuantizedDimension": 6}
BUFFER = {"Data": 0, "Offset": 1, "Size": 2}
OPERATOR = {
    "OpcodeIndex": 0,
    "Inputs": 1,
    "Outputs": 2,
    "BuiltinOptionsType": 3,
    "BuiltinOptions": 4,
    "Intermediates": 8,
}


class Field(NamedTuple):
    """One number of an options table."""

    slot: int
    form: str  # letter in the struct module
    default: float = 0


class Options(NamedTuple):
    """Builtin options of an operator: the table's name and number in the union, the fields that are read."""

    table: str
    number: int
    fields: dict[str, Field]


_ACT = "FusedActivationFunction"
_POOL = {
    "Padding": Field(0, "b"),
    "StrideH": Field(2, "i"),
    "StrideW": Field(1, "i"),
    "FilterHeight": Field(4, "i"),
    "FilterWidth": Field(3, "i"),
    _ACT: Field(5, "b"),
}

OPTIONS: dict[str, Options] = {
    "CONV_2D": Options(
        "Conv2DOptions",
        1,
        {
            "Padding": Field(0, "b"),
            "StrideH": Field(2, "i"),
            "StrideW": Field(1, "i"),
            "DilationHFactor": Field(5, "i", 1),
            "DilationWFactor": Field(4, "i", 1),
            _ACT: Field(3, "b"),
        },
    ),
    "DEPTHWISE_CONV_2D": Options(
        "DepthwiseConv2DOptions",
        2,
        {
            "Padding": Field(0, "b"),
            "StrideH": Field(2, "i"),
            "StrideW": Field(1, "i"),
            "DilationHFactor": Field(6, "i", 1),
            "DilationWFactor": Field(5, "i", 1),
            _ACT: Field(4, "b"),
        },
    ),
    "FULLY_CONNECTED": Options(
        "FullyConnectedOptions", 8, {_ACT: Field(0, "b"), "WeightsFormat": Field(1, "b")}
    ),
    "AVERAGE_POOL_2D": Options("Pool2DOptions", 5, _POOL),
    "MAX_POOL_2D": Options("Pool2DOptions", 5, _POOL),
    "ADD": Options("AddOptions", 11, {_ACT: Field(0, "b")}),
    "CONCATENATION": Options("ConcatenationOptions", 10, {"Axis": Field(0, "i"), _ACT: Field(1, "b")}),
    "PACK": Options("PackOptions", 59, {"Axis": Field(1, "i"), "ValuesCount": Field(0, "i")}),
    "UNPACK": Options("UnpackOptions", 64, {"Axis": Field(1, "i"), "Num": Field(0, "i")}),
    "GATHER": Options("GatherOptions", 23, {"Axis": Field(0, "i"), "BatchDims": Field(1, "i")}),
    "STRIDED_SLICE": Options(
        "StridedSliceOptions",
        32,
        {
            "BeginMask": Field(0, "i"),
            "EndMask": Field(1, "i"),
            "EllipsisMask": Field(2, "i"),
            "NewAxisMask": Field(3, "i"),
            "ShrinkAxisMask": Field(4, "i"),
            "Offset": Field(5, "?"),
        },
    ),
    "RESIZE_NEAREST_NEIGHBOR": Options(
        "ResizeNearestNeighborOptions", 74, {"AlignCorners": Field(0, "?"), "HalfPixelCenters": Field(1, "?")}
    ),
    "LEAKY_RELU": Options("LeakyReluOptions", 75, {"Alpha": Field(0, "f")}),
    "SUB": Options("SubOptions", 28, {_ACT: Field(0, "b")}),
    "MUL": Options("MulOptions", 21, {_ACT: Field(0, "b")}),
    "SOFTMAX": Options("SoftmaxOptions", 9, {"Beta": Field(0, "f")}),
    "SVDF": Options("SVDFOptions", 6, {"Rank": Field(0, "i"), _ACT: Field(1, "b")}),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Options(
        "UnidirectionalSequenceLSTMOptions",
        71,
        {
            _ACT: Field(0, "b"),
            "CellClip": Field(1, "f"),
            "TimeMajor": Field(3, "?"),
            "DiagonalRecurrentTensors": Field(5, "?"),
        },
    ),
}

DTYPES: tuple[str, ...] = tuple(
    (
        "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 "
        "uint64 resource variant uint32 uint16 int4 bfloat16 "
    ).split()
)

# By number; the position is the code.
OPERATORS: tuple[str, ...] = tuple(
    (
        "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE "
        "EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D "
        "LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU "
        "RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH "
        "CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD "
        "UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB "
        "DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP "
        "TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX "
        "MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV "
        "SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN "
        "FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK "
        "REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE "
        "RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL "
        "REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE "
        "MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 "
        "SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES "
        "CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE "
        "HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE "
        "READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE "
        "RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD "
        "UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST "
        "BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE "
        "STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP "
        "STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE "
        "STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE "
        "STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE "
        "STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT "
        "STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT "
        "STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA "
        "STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE "
        "STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW "
        "STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT "
    ).split()
)
