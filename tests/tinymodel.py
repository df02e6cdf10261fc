# SPDX-License-Identifier: Apache-2.0
"""Tiny int8 .tflite files made in memory, so that tests need no model files.

`Net` grows a model layer by layer with random weights and plausible scales; `Net.build()` gives the file.
`FlatFile` below it writes any tensors and operators, sound or not. Source: the schema of TensorFlow Lite
(`tflite` package).
"""

from __future__ import annotations

import flatbuffers
import numpy as np
import tflite

_NO_OPTIONS = {
    "RESHAPE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "QUANTIZE",
    "DEQUANTIZE",
    "PAD",
    "LOGISTIC",
    "LOG_SOFTMAX",
    "FLOOR",
}
_NO_OPTIONS |= {"RELU", "RELU6", "RELU_N1_TO_1", "TANH", "PRELU", "PADV2"}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "SOFTMAX": "SoftmaxOptions",
    "MEAN": "ReducerOptions",
    "CONCATENATION": "ConcatenationOptions",
    "PACK": "PackOptions",
    "UNPACK": "UnpackOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SLICE": "SliceOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "GATHER": "GatherOptions",
    "TRANSPOSE": "TransposeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "SVDF": "SVDFOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
}
_VERSIONS = {"LOG_SOFTMAX": 1, "RESHAPE": 1, "RELU_N1_TO_1": 1, "HARD_SWISH": 1, "PRELU": 1, "LEAKY_RELU": 2}
_VERSIONS |= {name: 2 for name in ("PADV2", "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "SLICE")}
_VERSIONS |= {name: 2 for name in ("STRIDED_SLICE", "GATHER", "TRANSPOSE", "RESIZE_NEAREST_NEIGHBOR")}
ACTS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


class FlatFile:
    """A flatbuffer with one subgraph, written as told."""

    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)
        self.tensors: list[int] = []
        self.buffers: list[int] = [self._table("Buffer")]
        self.codes: list[str] = []
        self.ops: list[int] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "int8",
        scale: object = None,
        zero: object = 0,
        data: np.ndarray | None = None,
        axis: int = 0,
        buffer: int | None = None,
        quantization: int | None = None,
        **more: object,
    ) -> int:
        """Append a tensor; `data` makes it a constant; `buffer`, `quantization` share an earlier one's."""
        if buffer is None:
            buffer = 0
            if data is not None:
                raw = self.b.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
                self.buffers.append(self._table("Buffer", Data=raw))
                buffer = len(self.buffers) - 1
        q = quantization
        if scale is not None:
            q = self.quantization(scale, zero, axis)
        fields = {
            "Shape": self.b.CreateNumpyVector(np.array(shape, np.int32)),
            "Type": getattr(tflite.TensorType, dtype.upper()),
            "Buffer": buffer,
            "Name": self.b.CreateString(f"t{len(self.tensors)}"),
        } | more
        if q is not None:
            fields["Quantization"] = q
        self.tensors.append(self._table("Tensor", **fields))
        return len(self.tensors) - 1

    def quantization(self, scale: object, zero: object = 0, axis: int = 0) -> int:
        """Append quantisation parameters that several tensors may share."""
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        zeros = np.broadcast_to(np.atleast_1d(np.asarray(zero, np.int64)), scales.shape)
        return self._table(
            "QuantizationParameters",
            Scale=self.b.CreateNumpyVector(scales),
            ZeroPoint=self.b.CreateNumpyVector(np.ascontiguousarray(zeros)),
            QuantizedDimension=axis,
        )

    def op(self, name: str, inputs: list[int], outputs: list[int], **options: object) -> None:
        """Append an operator."""
        if name not in self.codes:
            self.codes.append(name)
        fields: dict[str, object] = {
            "OpcodeIndex": self.codes.index(name),
            "Inputs": self.b.CreateNumpyVector(np.array(inputs, np.int32)),
            "Outputs": self.b.CreateNumpyVector(np.array(outputs, np.int32)),
        }
        if "intermediates" in options:
            fields["Intermediates"] = self.b.CreateNumpyVector(
                np.array(options.pop("intermediates"), np.int32)
            )
        if name not in _NO_OPTIONS:
            table = _OPTIONS[name]
            fields["BuiltinOptions"] = self._table(table, **options)
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, table)
        self.ops.append(self._table("Operator", **fields))

    def finish(self, inputs: list[int], outputs: list[int], subgraphs: int = 1) -> bytes:
        """Give the file."""
        graph = self._table(
            "SubGraph",
            Tensors=self._offsets(self.tensors),
            Inputs=self.b.CreateNumpyVector(np.array(inputs, np.int32)),
            Outputs=self.b.CreateNumpyVector(np.array(outputs, np.int32)),
            Operators=self._offsets(self.ops),
        )
        codes = []
        for name in self.codes:
            number = getattr(tflite.BuiltinOperator, name)
            version = _VERSIONS.get(name, 3)
            fields = {"BuiltinCode": number, "DeprecatedBuiltinCode": min(number, 127), "Version": version}
            codes.append(self._table("OperatorCode", **fields))
        model = self._table(
            "Model",
            Version=3,
            OperatorCodes=self._offsets(codes),
            Subgraphs=self._offsets([graph] * subgraphs),
            Buffers=self._offsets(self.buffers),
        )
        self.b.Finish(model, b"TFL3")
        return bytes(self.b.Output())

    def _table(self, name: str, **fields: object) -> int:
        getattr(tflite, f"{name}Start")(self.b)
        for field, value in fields.items():
            getattr(tflite, f"{name}Add{field}")(self.b, value)
        return int(getattr(tflite, f"{name}End")(self.b))

    def _offsets(self, items: list[int]) -> int:
        self.b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.b.PrependUOffsetTRelative(item)
        return int(self.b.EndVector())


class UnsignedFile(FlatFile):
    """The same with every int8 tensor as uint8: values and zero points are 128 higher."""

    def tensor(self, shape, dtype="int8", scale=None, zero=0, data=None, **more) -> int:
        """Append a tensor; int8 becomes uint8."""
        if dtype == "int8":
            dtype, zero = "uint8", np.asarray(zero) + 128
            data = None if data is None else data.view(np.uint8) ^ np.uint8(128)
        return super().tensor(shape, dtype, scale, zero, data, **more)


class Net:
    """A chain (with residual branches where wanted) of random int8 layers."""

    def __init__(
        self,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        scale: float = 0.05,
        zero: int = -3,
        unsigned: bool = False,
    ) -> None:
        self.f = UnsignedFile() if unsigned else FlatFile()
        self.unsigned = unsigned  # a uint8 file: per-tensor weights with a zero point
        self.rng = rng
        self.shape = self.in_shape = shape  # with the batch dimension
        self.scale, self.zero = np.float32(scale), zero
        self.input = self.at = self.f.tensor(shape, scale=scale, zero=zero)

    def mark(self) -> tuple[int, tuple[int, ...], np.float32, int]:
        """Remember a place to branch from or to add."""
        return self.at, self.shape, self.scale, self.zero

    def back_to(self, mark: tuple[int, tuple[int, ...], np.float32, int]) -> None:
        """Continue from an earlier place."""
        self.at, self.shape, self.scale, self.zero = mark

    def _result(self, shape: tuple[int, ...], scale: object, zero: int) -> int:
        self.shape, self.scale, self.zero = shape, np.float32(scale), zero
        return self.f.tensor(shape, scale=scale, zero=zero)

    def _output_quant(self, terms: int, w_scale: float, act: str) -> tuple[np.float32, int]:
        """Scale that spreads a sum of `terms` random products over int8."""
        spread = np.float32(float(self.scale) * w_scale * 60 * 40 * np.sqrt(terms) / 50)
        return spread, (-128 if act in ("RELU", "RELU6") else int(self.rng.integers(-20, 20)))

    def _weights(self, shape: tuple[int, ...], axis: int, per_channel: bool) -> tuple[int, np.ndarray]:
        n_out, zero = shape[axis], 0
        q = self.rng.integers(-128 if self.unsigned else -127, 128, shape).astype(np.int8)
        if self.unsigned:
            per_channel, zero = False, int(self.rng.choice([0, self.rng.integers(-128, 128)]))
        scales = (0.002 + 0.004 * self.rng.random(n_out if per_channel else 1)).astype(np.float32)
        return self.f.tensor(shape, scale=scales, zero=zero, data=q, axis=axis * per_channel), scales

    def _bias(self, n_out: int, scales: np.ndarray) -> int:
        b = self.rng.integers(-500, 500, n_out).astype(np.int32)
        return self.f.tensor((n_out,), "int32", scale=self.scale * scales, data=b)

    def _windowed(self, name: str, shape: tuple, axis: int, stride: tuple, dil: tuple, same: bool, act: str,
                  per_channel: bool, bias: bool, mult: int) -> None:  # fmt: skip
        kh, kw, n_out = shape[1], shape[2], shape[axis]
        w, scales = self._weights(shape, axis, per_channel)
        inputs = [self.at, w] + ([self._bias(n_out, scales)] if bias else [])
        terms = kh * kw * (shape[3] if axis == 0 else 1)
        scale, zero = self._output_quant(terms, float(scales.mean()), act)
        out = [
            -(-n // s) if same else (n - (k - 1) * d - 1) // s + 1
            for n, k, s, d in zip(self.shape[1:3], (kh, kw), stride, dil, strict=True)
        ]
        y = self._result((1, *out, n_out), scale, zero)
        options = dict(
            Padding=0 if same else 1,
            StrideH=stride[0],
            StrideW=stride[1],
            DilationHFactor=dil[0],
            DilationWFactor=dil[1],
            FusedActivationFunction=ACTS[act],
        )
        if mult:
            options["DepthMultiplier"] = mult
        self.f.op(name, inputs, [y], **options)
        self.at = y

    def conv(self, n_out: int, kernel=(3, 3), stride=(1, 1), dil=(1, 1), same=True, act="RELU",
             per_channel=True, bias=True, groups=1) -> Net:  # fmt: skip
        """CONV_2D."""
        shape = (n_out, *kernel, self.shape[3] // groups)
        self._windowed("CONV_2D", shape, 0, stride, dil, same, act, per_channel, bias, 0)
        return self

    def depthwise(self, mult=1, kernel=(3, 3), stride=(1, 1), dil=(1, 1), same=True, act="RELU",
                  per_channel=True, bias=True) -> Net:  # fmt: skip
        """DEPTHWISE_CONV_2D."""
        shape = (1, *kernel, self.shape[3] * mult)
        self._windowed("DEPTHWISE_CONV_2D", shape, 3, stride, dil, same, act, per_channel, bias, mult)
        return self

    def dense(self, n_out: int, act="NONE", per_channel=True, bias=True) -> Net:
        """FULLY_CONNECTED."""
        terms = int(np.prod(self.shape))
        w, scales = self._weights((n_out, terms), 0, per_channel)
        inputs = [self.at, w] + ([self._bias(n_out, scales)] if bias else [])
        scale, zero = self._output_quant(terms, float(scales.mean()), act)
        y = self._result((1, n_out), scale, zero)
        self.f.op("FULLY_CONNECTED", inputs, [y], FusedActivationFunction=ACTS[act])
        self.at = y
        return self

    def dense_rows(self, n_out: int, act="NONE", per_channel=True) -> Net:
        """FULLY_CONNECTED over the last axis, the other axes kept."""
        terms = self.shape[-1]
        w, scales = self._weights((n_out, terms), 0, per_channel)
        inputs = [self.at, w, self._bias(n_out, scales)]
        scale, zero = self._output_quant(terms, float(scales.mean()), act)
        y = self._result((*self.shape[:-1], n_out), scale, zero)
        self.f.op("FULLY_CONNECTED", inputs, [y], FusedActivationFunction=ACTS[act], KeepNumDims=True)
        self.at = y
        return self

    def pool(self, name: str, kernel=(2, 2), stride=(2, 2), same=False, act="NONE") -> Net:
        """AVERAGE_POOL_2D or MAX_POOL_2D."""
        out = [
            -(-n // s) if same else (n - k) // s + 1
            for n, k, s in zip(self.shape[1:3], kernel, stride, strict=True)
        ]
        y = self._result((1, *out, self.shape[3]), self.scale, self.zero)
        self.f.op(
            name,
            [self.at],
            [y],
            Padding=0 if same else 1,
            StrideH=stride[0],
            StrideW=stride[1],
            FilterHeight=kernel[0],
            FilterWidth=kernel[1],
            FusedActivationFunction=ACTS[act],
        )
        self.at = y
        return self

    def mean(self) -> Net:
        """MEAN over height and width."""
        axes = self.f.tensor((2,), "int32", data=np.array([1, 2], np.int32))
        at = self.at
        y = self._result((1, self.shape[3]), self.scale * np.float32(0.6), self.zero + 5)
        self.f.op("MEAN", [at, axes], [y], KeepDims=False)
        self.at = y
        return self

    def add(self, mark: tuple[int, tuple[int, ...], np.float32, int], act="NONE") -> Net:
        """ADD of the current place and a marked one."""
        at = self.at
        y = self._result(self.shape, max(self.scale, mark[2]) * np.float32(1.4), -128 if act == "RELU" else 2)
        self.f.op("ADD", [mark[0], at], [y], FusedActivationFunction=ACTS[act])
        self.at = y
        return self

    def reshape(self, shape: tuple[int, ...]) -> Net:
        """RESHAPE."""
        target = self.f.tensor((len(shape),), "int32", data=np.array(shape, np.int32))
        at = self.at
        y = self._result(shape, self.scale, self.zero)
        self.f.op("RESHAPE", [at, target], [y])
        self.at = y
        return self

    def pad(self, h=(1, 1), w=(1, 1)) -> Net:
        """PAD of height and width."""
        sizes = self.f.tensor((4, 2), "int32", data=np.array([(0, 0), h, w, (0, 0)], np.int32))
        at, s = self.at, self.shape
        y = self._result((1, s[1] + sum(h), s[2] + sum(w), s[3]), self.scale, self.zero)
        self.f.op("PAD", [at, sizes], [y])
        self.at = y
        return self

    def requant(self, factor: float = 1.3, zero: int = 4) -> Net:
        """QUANTIZE int8 -> int8."""
        at = self.at
        y = self._result(self.shape, self.scale * np.float32(factor), zero)
        self.f.op("QUANTIZE", [at], [y])
        self.at = y
        return self

    def softmax(self, beta: float = 1.0) -> Net:
        """SOFTMAX."""
        at = self.at
        y = self._result(self.shape, 1 / 256, -128)
        self.f.op("SOFTMAX", [at], [y], Beta=beta)
        self.at = y
        return self

    def build(self) -> bytes:
        """Give the file."""
        return self.f.finish([self.input], [self.at])

    def build_float_io(self) -> bytes:
        """Give the file with a QUANTIZE before the input and a DEQUANTIZE after the output."""
        raw_in = self.f.tensor(self.in_shape, "float32")
        raw_out = self.f.tensor(self.shape, "float32")
        self.f.op("QUANTIZE", [raw_in], [self.input])
        self.f.ops.insert(0, self.f.ops.pop())
        self.f.op("DEQUANTIZE", [self.at], [raw_out])
        return self.f.finish([raw_in], [raw_out])


def two_headed(seed: int = 0, classes: int = 4) -> bytes:
    """Two inputs (a map and a vector) and two outputs: a head of 3 numbers, then a classifier."""
    net = Net((1, 8, 8, 3), np.random.default_rng(seed))
    image = net.input
    net.conv(6).conv(6)
    trunk = net.mark()
    net.mean().dense(3)
    side = net.at
    net.back_to(trunk)
    net.depthwise(stride=(2, 2)).mean().dense(5)
    mark = net.mark()
    net.input = net.at = net.f.tensor((1, 7), scale=0.02, zero=11)
    net.shape, net.scale, net.zero = (1, 7), np.float32(0.02), 11
    vector = net.at
    net.dense(5, act="RELU").add(mark).dense(classes).softmax()
    return net.f.finish([image, vector], [side, net.at])


def small_cnn(seed: int = 0, classes: int = 4) -> bytes:
    """A CNN of 8x8x3 inputs with a residual block: the model of tests that just need one."""
    net = Net((1, 8, 8, 3), np.random.default_rng(seed))
    net.conv(6)
    mark = net.mark()
    net.conv(6).add(mark, act="RELU").depthwise(stride=(2, 2)).mean().dense(classes).softmax()
    return net.build()


def random_net(seed: int, classes: int = 5, unsigned: bool = False) -> bytes:
    """A random small classifier: every operator, kernel sizes, strides, paddings, fused activations."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 5))
    shape = (1, int(rng.integers(6, 12)), int(rng.integers(6, 12)), channels)
    scale, zero = float(rng.choice([0.02, 0.0078125, 1.0])), int(rng.integers(-128, 60))
    net = Net(shape, rng, scale, zero, unsigned)
    if rng.random() < 0.2:
        net.requant(float(rng.uniform(0.6, 1.9)), int(rng.integers(-20, 20)))
    for _ in range(int(rng.integers(1, 5))):
        _random_layer(net, rng)
    if rng.random() < 0.5:
        net.mean()
    elif rng.random() < 0.5:
        net.reshape((1, int(np.prod(net.shape))))
    if rng.random() < 0.3:
        net.dense(int(rng.integers(3, 9)), act=str(rng.choice(["RELU", "RELU6"])))
    net.dense(classes, per_channel=bool(rng.random() < 0.5), bias=bool(rng.random() < 0.8))
    if rng.random() < 0.7:
        net.softmax()
    return net.build()


def unsigned_net(seed: int) -> bytes:
    """The same as a uint8 file."""
    return random_net(seed, unsigned=True)


def _random_layer(net: Net, rng: np.random.Generator) -> None:
    """Append one random layer that fits the current map."""
    act = str(rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    small = min(net.shape[1:3]) < 4
    stride = (1, 1) if small else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    dil = (int(rng.integers(1, 3)),) * 2 if stride == (1, 1) else (1, 1)
    same = small or bool(rng.random() < 0.6)
    if not same:
        dil = (1, 1)
    per_channel = bool(rng.random() < 0.7)
    kind = rng.choice(["conv", "conv", "grouped", "depthwise", "max", "avg", "add", "pad", "requant"])
    if kind == "conv":
        net.conv(int(rng.integers(2, 9)), kernel, stride, dil, same, act, per_channel)
    elif kind == "grouped" and net.shape[3] % 2 == 0:
        net.conv(2 * int(rng.integers(1, 4)), kernel, stride, dil, same, act, per_channel, groups=2)
    elif kind == "depthwise":
        net.depthwise(int(rng.integers(1, 3)), kernel, stride, dil, same, act, per_channel)
    elif kind in ("max", "avg"):
        pool = "MAX_POOL_2D" if kind == "max" else "AVERAGE_POOL_2D"
        net.pool(pool, kernel, stride, same, "RELU" if act == "RELU" else "NONE")
    elif kind == "add":
        mark = net.mark()
        net.conv(net.shape[3], (3, 3), per_channel=per_channel).add(
            mark, act="RELU" if act == "RELU" else "NONE"
        )
    elif kind == "pad":
        net.pad((int(rng.integers(0, 3)), 1), (0, int(rng.integers(0, 3))))
    else:
        net.requant(float(rng.uniform(0.6, 1.9)), int(rng.integers(-20, 20)))
