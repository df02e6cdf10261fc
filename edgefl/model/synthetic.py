# SPDX-License-Identifier: Apache-2.0
"""Models with random weights in the shapes of well-known small networks, for `edgefl bench`.

In: a name.  Out: bytes of an int8 .tflite file that edgefl and LiteRT both load; the same bytes every time.
Times and bytes are those of the real network, answers mean nothing.  Shapes: MLPerf Tiny v1.1 (ResNet8 on
CIFAR-10, DS-CNN on Speech Commands).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SEED = 20260101
_ACTS = {"NONE": 0, "RELU": 1}


class _Map(NamedTuple):
    """A tensor of the file with its shape and quantisation."""

    tensor: int
    shape: tuple[int, ...]
    scale: float
    zero: int


class Sketch:
    """Writes a file layer by layer."""

    def __init__(self) -> None:
        """Import what only this module needs."""
        import flatbuffers
        import tflite

        self._tf, self._b = tflite, flatbuffers.Builder(1 << 16)
        self._rng = np.random.default_rng(SEED)
        self._tensors: list[int] = []
        self._ops: list[int] = []
        self._codes: list[int] = []
        self._buffers = [self._table("Buffer")]

    def input(self, shape: tuple[int, ...]) -> _Map:
        """Begin with samples of this shape, batch 1 included."""
        return self._map(shape, 1 / 128, 0)

    def conv(
        self,
        x: _Map,
        n_out: int,
        kernel: tuple[int, int],
        stride: int = 1,
        act: str = "RELU",
        *,
        groups: int = 1,
    ) -> _Map:
        """Convolve with SAME padding; groups = channels makes it depthwise."""
        depthwise = groups > 1
        channels = x.shape[3]
        shape = (1, *kernel, channels) if depthwise else (n_out, *kernel, channels)
        terms = kernel[0] * kernel[1] * (1 if depthwise else channels)
        weights, bias, scale = self._layer(x, shape, terms, axis=3 if depthwise else 0)
        h, w = (-(-n // stride) for n in x.shape[1:3])
        y = self._map((1, h, w, channels if depthwise else n_out), scale, -128 if act == "RELU" else 0)
        options = {"Padding": 0, "StrideH": stride, "StrideW": stride, "FusedActivationFunction": _ACTS[act]}
        options |= {"DilationHFactor": 1, "DilationWFactor": 1}
        if depthwise:
            self._op("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", [x.tensor, weights, bias], y,
                     DepthMultiplier=1, **options)  # fmt: skip
        else:
            self._op("CONV_2D", "Conv2DOptions", [x.tensor, weights, bias], y, **options)
        return y

    def dense(self, x: _Map, n_out: int) -> _Map:
        """Multiply a vector."""
        terms = int(np.prod(x.shape))
        weights, bias, scale = self._layer(x, (n_out, terms), terms, axis=0)
        y = self._map((1, n_out), scale, 0)
        self._op("FULLY_CONNECTED", "FullyConnectedOptions", [x.tensor, weights, bias], y)
        return y

    def add(self, a: _Map, b: _Map) -> _Map:
        """Add two maps."""
        y = self._map(a.shape, 1.4 * max(a.scale, b.scale), -128)
        self._op("ADD", "AddOptions", [a.tensor, b.tensor], y, FusedActivationFunction=1)
        return y

    def average(self, x: _Map) -> _Map:
        """Average over the whole map."""
        _, h, w, c = x.shape
        y = self._map((1, 1, 1, c), x.scale, x.zero)
        self._op("AVERAGE_POOL_2D", "Pool2DOptions", [x.tensor], y,
                 Padding=1, StrideH=h, StrideW=w, FilterHeight=h, FilterWidth=w)  # fmt: skip
        return y

    def softmax(self, x: _Map) -> _Map:
        """End with probabilities."""
        y = self._map(x.shape, 1 / 256, -128)
        self._op("SOFTMAX", "SoftmaxOptions", [x.tensor], y, Beta=1.0)
        return y

    def finish(self, x: _Map, y: _Map) -> bytes:
        """Give the file."""
        numbers = {"Inputs": [x.tensor], "Outputs": [y.tensor]}
        graph = self._table(
            "SubGraph",
            Tensors=self._vector(self._tensors),
            Operators=self._vector(self._ops),
            **{name: self._numbers(np.array(value, np.int32)) for name, value in numbers.items()},
        )
        codes = [
            self._table("OperatorCode", BuiltinCode=code, DeprecatedBuiltinCode=code, Version=3)
            for code in self._codes
        ]
        model = self._table(
            "Model",
            Version=3,
            OperatorCodes=self._vector(codes),
            Subgraphs=self._vector([graph]),
            Buffers=self._vector(self._buffers),
        )
        self._b.Finish(model, b"TFL3")
        return bytes(self._b.Output())

    def _layer(self, x: _Map, shape: tuple[int, ...], terms: int, axis: int) -> tuple[int, int, float]:
        """Weights, bias, and a scale that spreads the results over int8."""
        n_out = shape[axis]
        scales = (0.002 * (1 + self._rng.random(n_out))).astype(np.float32)
        q = self._rng.integers(-127, 128, shape).astype(np.int8)
        weights = self._tensor(shape, "INT8", scales, 0, axis, q)
        bias_scales = (np.float32(x.scale) * scales).astype(np.float32)
        bias = self._tensor((n_out,), "INT32", bias_scales, 0, 0, np.zeros(n_out, np.int32))
        # Root mean squares: weights 73 steps of 0.003; values 22 steps after RELU, else up to 74 (uniform).
        # The sums' deviation becomes 32 steps.
        values = 22 if x.zero == -128 else 60
        return weights, bias, float(x.scale * 0.003 * 73 * values * np.sqrt(terms) / 32)

    def _map(self, shape: tuple[int, ...], scale: float, zero: int) -> _Map:
        tensor = self._tensor(shape, "INT8", np.array([scale], np.float32), zero, 0, None)
        return _Map(tensor, shape, float(np.float32(scale)), zero)

    def _tensor(
        self,
        shape: tuple[int, ...],
        dtype: str,
        scales: np.ndarray,
        zero: int,
        axis: int,
        data: np.ndarray | None,
    ) -> int:
        buffer = 0
        if data is not None:
            raw = self._numbers(np.frombuffer(data.tobytes(), np.uint8))
            self._buffers.append(self._table("Buffer", Data=raw))
            buffer = len(self._buffers) - 1
        quantization = self._table(
            "QuantizationParameters",
            Scale=self._numbers(scales),
            ZeroPoint=self._numbers(np.full(len(scales), zero, np.int64)),
            QuantizedDimension=axis,
        )
        fields = {"Shape": self._numbers(np.array(shape, np.int32)), "Buffer": buffer}
        fields |= {"Name": int(self._b.CreateString(f"t{len(self._tensors)}")), "Quantization": quantization}
        made = self._table("Tensor", Type=int(getattr(self._tf.TensorType, dtype)), **fields)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def _op(self, name: str, table: str, inputs: list[int], y: _Map, **options: float) -> None:
        code = int(getattr(self._tf.BuiltinOperator, name))
        if code not in self._codes:
            self._codes.append(code)
        made = self._table(table, **options)
        fields = {"Inputs": self._numbers(np.array(inputs, np.int32))}
        fields["Outputs"] = self._numbers(np.array([y.tensor], np.int32))
        self._ops.append(
            self._table(
                "Operator",
                OpcodeIndex=self._codes.index(code),
                BuiltinOptions=made,
                BuiltinOptionsType=int(getattr(self._tf.BuiltinOptions, table)),
                **fields,
            )
        )

    def _numbers(self, values: np.ndarray) -> int:
        return int(self._b.CreateNumpyVector(values))

    def _vector(self, items: list[int]) -> int:
        self._b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self._b.PrependUOffsetTRelative(item)
        return int(self._b.EndVector())

    def _table(self, name: str, **fields: float) -> int:
        getattr(self._tf, f"{name}Start")(self._b)
        for field, value in fields.items():
            getattr(self._tf, f"{name}Add{field}")(self._b, value)
        return int(getattr(self._tf, f"{name}End")(self._b))


def resnet8() -> bytes:
    """Image classification: 32x32x3, three residual stacks, 10 classes, 77 706 numbers."""
    s = Sketch()
    x = s.input((1, 32, 32, 3))
    y = s.conv(x, 16, (3, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        inner = s.conv(s.conv(y, channels, (3, 3), stride), channels, (3, 3), act="NONE")
        y = s.add(y if stride == 1 else s.conv(y, channels, (1, 1), stride, "NONE"), inner)
    return s.finish(x, s.softmax(s.dense(s.average(y), 10)))


def ds_cnn() -> bytes:
    """Keyword spotting: 49x10x1, four depthwise-separable blocks of 64 channels, 12 classes."""
    s = Sketch()
    x = s.input((1, 49, 10, 1))
    y = s.conv(x, 64, (10, 4), 2)
    for _ in range(4):
        y = s.conv(s.conv(y, 64, (3, 3), groups=64), 64, (1, 1))
    return s.finish(x, s.softmax(s.dense(s.average(y), 12)))


NETS: dict[str, Callable[[], bytes]] = {"resnet8": resnet8, "ds-cnn": ds_cnn}
