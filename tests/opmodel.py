# SPDX-License-Identifier: Apache-2.0
"""Small random models with the operators of edgefl/model/ops_*.py: what `tinymodel.Net` leaves out."""

from __future__ import annotations

import numpy as np
from tinymodel import ACTS, Net

Mark = tuple[int, tuple[int, ...], np.float32, int]


class OpNet(Net):
    """A Net with element-wise operators."""

    def binary(
        self,
        name: str,
        other: Mark | tuple[int, ...],
        act: str = "NONE",
        first: bool = False,
        quant: tuple[object, int] | None = None,
    ) -> OpNet:
        """ADD, SUB, MUL, MINIMUM or MAXIMUM with a marked place or a constant of that shape.

        first: the other operand stands first. quant: scale and zero of the result.
        """
        compares = name in ("MINIMUM", "MAXIMUM")
        at, shape, scale, zero = self.mark()
        if len(other) == 4 and isinstance(other[1], tuple):
            there, there_shape, there_scale = other[0], other[1], other[2]
        else:
            there_shape = other
            there_scale = scale if compares else np.float32(self.rng.uniform(0.5, 1.5) * float(scale))
            there = self.f.tensor(
                there_shape,
                scale=there_scale,
                zero=zero if compares else int(self.rng.integers(-128, 128)),
                data=self.rng.integers(-128, 128, there_shape).astype(np.int8),
            )
        if quant is None and not compares:
            spread = (
                float(scale) * float(there_scale) * 90
                if name == "MUL"
                else 1.3 * float(max(scale, there_scale))
            )
            quant = spread, -128 if act in ("RELU", "RELU6") else int(self.rng.integers(-20, 20))
        y = self._result(np.broadcast_shapes(shape, there_shape), *(quant or (scale, zero)))
        options = {} if compares else {"FusedActivationFunction": ACTS[act]}
        self.f.op(name, [there, at] if first else [at, there], [y], **options)
        self.at = y
        return self

    def unary(self, name: str, quant: tuple[object, int] | None = None, alpha: float = 0.2) -> OpNet:
        """RELU, RELU6, RELU_N1_TO_1, LEAKY_RELU, LOGISTIC, TANH, HARD_SWISH."""
        fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(name)
        at = self.at
        y = self._result(self.shape, *(quant or fixed or (self.scale, self.zero)))
        self.f.op(name, [at], [y], **({"Alpha": alpha} if name == "LEAKY_RELU" else {}))
        self.at = y
        return self

    def prelu(self, shape: tuple[int, ...], quant: tuple[object, int] | None = None) -> OpNet:
        """PRELU with random factors of that shape."""
        data = self.rng.integers(-128, 128, shape).astype(np.int8)
        alpha = self.f.tensor(shape, scale=0.01, zero=int(self.rng.integers(-50, 50)), data=data)
        at = self.at
        y = self._result(self.shape, *(quant or (self.scale, self.zero)))
        self.f.op("PRELU", [at, alpha], [y])
        self.at = y
        return self

    def moved(
        self,
        name: str,
        results: list[tuple[int, ...]],
        constants: dict[int, object] | None = None,
        keep: int = 0,
        others: tuple[Mark, ...] = (),
        quant: tuple[object, int] | None = None,
        **options: object,
    ) -> OpNet:
        """An operator that only moves values, from here and `others`; continue at result `keep`.

        constants: whole numbers by their place among the inputs (an int8 array: values like the input's).
        """
        at, scale, zero = self.at, self.scale, self.zero
        inputs = [at, *(mark[0] for mark in others)]
        for slot, numbers in sorted((constants or {}).items()):
            data = np.asarray(numbers)
            if data.dtype == np.int8:
                made = self.f.tensor(data.shape, scale=scale, zero=zero, data=data)
            else:
                made = self.f.tensor(data.shape, "int32", data=data.astype(np.int32))
            inputs.insert(slot, made)
        scale, zero = quant or (scale, zero)
        made = [self.f.tensor(shape, scale=scale, zero=zero) for shape in results]
        self.f.op(name, inputs, made, **options)
        self.at, self.shape, self.scale, self.zero = made[keep], results[keep], np.float32(scale), zero
        return self


def unsigned_op_net(seed: int) -> bytes:
    """The same as random_op_net in a uint8 file."""
    return random_op_net(seed, unsigned=True)


UNARY = ["RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "PRELU"]


def random_op_net(seed: int, classes: int = 5, unsigned: bool = False) -> bytes:
    """A random classifier that combines maps, vectors and constants."""
    rng = np.random.default_rng(seed)
    shape = (1, *(int(v) for v in rng.integers(1, 8, 2)), int(rng.integers(1, 7)))
    net = OpNet(
        shape,
        rng,
        scale=float(rng.choice([0.02, 0.0078125, 1.0])),
        zero=int(rng.integers(-128, 60)),
        unsigned=unsigned,
    )
    if rng.random() < 0.8:
        net.conv(int(rng.integers(1, 7)), (3, 3), act=str(rng.choice(["NONE", "RELU", "RELU6"])))
    for _ in range(int(rng.integers(1, 5))):
        [_random_unary, _random_binary, _random_move][int(rng.integers(3))](net, rng)
    net.dense(classes)
    return net.build()


def _random_unary(net: OpNet, rng: np.random.Generator) -> None:
    name = str(rng.choice(UNARY))
    same = rng.random() < 0.3
    scale = min(max(float(net.scale), 1e-3), 1.0) * rng.uniform(0.4, 2)
    quant = None if same else (scale, int(rng.integers(-128, 100)))
    if name == "PRELU":
        net.prelu((1, 1, net.shape[-1]) if rng.random() < 0.7 else (1, 1, 1), quant)
    else:
        net.unary(
            name, None if name in ("LOGISTIC", "TANH") else quant, float(rng.choice([0.1, 0.01, 1.5, -0.3]))
        )


def _random_binary(net: OpNet, rng: np.random.Generator) -> None:
    _, h, w, c = net.shape
    act = str(rng.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))
    name = str(rng.choice(["ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"]))
    first = bool(rng.random() < 0.5)
    kind = rng.choice(["constant", "constant", "gate", "residual", "self"])
    if kind == "constant":
        shapes = [(), (1,), (c,), (1, 1, 1, c), (w, 1), (h, 1, 1), (1, h, w, 1), (h, w, c), (1, h, 1, c)]
        net.binary(name, shapes[int(rng.integers(len(shapes)))], act, first)
        return
    mark = net.mark()
    if kind == "gate":  # squeeze and excite: one number for each channel
        net.mean()
        if rng.random() < 0.7:
            net.reshape((1, 1, 1, c)).conv(c, (1, 1), act="RELU")
    elif kind == "residual":
        net.conv(c, (3, 3))
    if name in ("MINIMUM", "MAXIMUM") and (net.scale, net.zero) != mark[2:]:
        net.requant(float(mark[2] / net.scale) if 0.02 < mark[2] / net.scale < 50 else 1.0, mark[3])
        if net.scale != mark[2]:
            name = "SUB"
    net.binary(name, mark, act, first)


def _random_move(net: OpNet, rng: np.random.Generator) -> None:
    _, h, w, c = shape = net.shape
    kind = rng.integers(9)
    axis = int(rng.integers(1, 4))
    if kind == 0:
        order = [0, *(int(a) + 1 for a in rng.permutation(3))]
        net.moved("TRANSPOSE", [tuple(shape[a] for a in order)], {1: order})
    elif kind == 1:
        mark = net.mark()
        net.pool("MAX_POOL_2D", (3, 3), (1, 1), same=True)
        result = [*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]]
        if net.unsigned:
            quant = (float(net.scale) * 1.2, int(rng.integers(-100, 100)))
            net.requant(1.3, 2).moved(
                "CONCATENATION", [tuple(result)], others=(mark,), quant=quant, Axis=axis
            )
            return
        net.moved("CONCATENATION", [tuple(result)], others=(mark,), Axis=axis - 4 if axis == 3 else axis)
    elif kind == 2 and shape[axis] % 2 == 0:
        half = (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])
        mark = net.mark()
        net.moved("SPLIT", [half, half], {0: axis}, keep=1, NumSplits=2)
        upper = net.mark()
        net.back_to(mark)
        net.moved("STRIDED_SLICE", [half], _front(half), **NO_MASKS).binary("SUB", upper)
    elif kind == 3:
        size = (int(rng.integers(1, 2 * h + 1)), int(rng.integers(1, 2 * w + 1)))
        options = {"AlignCorners": bool(rng.random() < 0.5), "HalfPixelCenters": bool(rng.random() < 0.5)}
        net.moved("RESIZE_NEAREST_NEIGHBOR", [(1, *size, c)], {1: size}, **options)
    elif kind == 4:
        taken = rng.integers(0, shape[axis], int(rng.integers(1, 5)))
        result = (*shape[:axis], len(taken), *shape[axis + 1 :])
        net.moved("GATHER", [result], {1: taken}, Axis=axis, BatchDims=0)
    elif kind == 5:
        sides = np.array([(0, 0), (0, 1), (1, 0), (int(rng.integers(3)), 1)])
        result = tuple(int(n) for n in np.array(shape) + sides.sum(axis=1))
        value = {2: np.array(rng.integers(-128, 128), np.int8)} if rng.random() < 0.5 else {}
        net.moved("PADV2" if value else "PAD", [result], {1: sides, **value})
    elif kind == 6:
        mark = net.mark()
        net.moved("PACK", [(1, h, 2, w, c)], others=(mark,), Axis=2, ValuesCount=2)
        net.moved("UNPACK", [(1, h, w, c)] * 2, keep=1, Axis=2, Num=2)
    elif kind == 7:
        step = -1 if rng.random() < 0.5 else 2
        ends = {1: [0] * 4, 2: [0] * 4, 3: [1, 1, step, 1]}
        result = (1, h, len(range(w)[::step]), c)
        net.moved("STRIDED_SLICE", [result], ends, **(NO_MASKS | {"BeginMask": 15, "EndMask": 15}))
    else:
        begin = [0, 0, int(rng.integers(w)), 0]
        net.moved("SLICE", [(1, h, w - begin[2], c)], {1: begin, 2: [-1, h, -1, c]})


NO_MASKS = dict.fromkeys(("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"), 0)


def _front(shape: tuple[int, ...]) -> dict[int, object]:
    """Begin, end, strides of the first part of a map."""
    return {1: [0] * len(shape), 2: list(shape), 3: [1] * len(shape)}
