# SPDX-License-Identifier: Apache-2.0
"""Operators that only move values against NumPy, and against LiteRT where it is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from opmodel import NO_MASKS, OpNet

from edgefl.errors import ModelError
from edgefl.model.forward import Forward
from edgefl.model.read import read_model
from edgefl.train.fit import Session

SHAPE = (1, 4, 6, 8)
Case = tuple[str, tuple[int, ...], dict, dict, Callable[[np.ndarray], np.ndarray]]


def strided(begin: list[int], end: list[int], step: list[int], **masks: int) -> tuple[dict, dict]:
    return {1: begin, 2: end, 3: step}, NO_MASKS | masks


CASES: list[Case] = [
    ("TRANSPOSE", (1, 8, 4, 6), {1: [0, 3, 1, 2]}, {}, lambda x: x.transpose(0, 3, 1, 2)),
    ("TRANSPOSE", (1, 6, 4, 8), {1: [0, 2, 1, 3]}, {}, lambda x: x.transpose(0, 2, 1, 3)),
    ("GATHER", (1, 4, 3, 8), {1: [5, 0, 5]}, {"Axis": 2}, lambda x: x[:, :, [5, 0, 5]]),
    ("GATHER", (1, 4, 6, 2, 2), {1: [[7, 0], [3, 3]]}, {"Axis": -1}, lambda x: x[..., [[7, 0], [3, 3]]]),
    ("GATHER", (1, 6, 8), {1: 2}, {"Axis": 1}, lambda x: x[:, 2]),
    ("SLICE", (1, 2, 4, 8), {1: [0, 1, 2, 0], 2: [1, 2, -1, 8]}, {}, lambda x: x[:, 1:3, 2:]),
    (
        "STRIDED_SLICE",
        (1, 2, 6, 8),
        *strided([0, 1, 0, 0], [1, 4, 6, 8], [1, 2, 1, 1]),
        lambda x: x[:, 1:4:2],
    ),
    (
        "STRIDED_SLICE",
        (1, 4, 6, 8),
        *strided([0, -1, 9, 0], [1, -99, 9, 8], [1, -1, 1, 1], BeginMask=4, EndMask=4),
        lambda x: x[:, ::-1],
    ),
    (
        "STRIDED_SLICE",
        (1, 6, 8),
        *strided([0, -2, 0, 0], [1, 0, 6, 8], [1, 1, 1, 1], ShrinkAxisMask=2),
        lambda x: x[:, -2],
    ),
    ("STRIDED_SLICE", (1, 3, 6, 8), *strided([0, 1], [1, 99], [1, 1]), lambda x: x[:, 1:]),
    (
        "PAD",
        (1, 5, 8, 12),
        {1: [[0, 0], [1, 0], [0, 2], [1, 3]]},
        {},
        lambda x: np.pad(x, [(0, 0), (1, 0), (0, 2), (1, 3)], constant_values=3),
    ),
    (
        "PADV2",
        (1, 5, 8, 8),
        {1: [[0, 0], [1, 0], [0, 2], [0, 0]], 2: np.array([77], np.int8)},
        {},
        lambda x: np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)], constant_values=77),
    ),
    ("RESIZE_NEAREST_NEIGHBOR", (1, 8, 12, 8), {1: [8, 12]}, {}, lambda x: x.repeat(2, 1).repeat(2, 2)),
]


def one(name: str, result: tuple[int, ...], constants: dict, options: dict) -> bytes:
    net = OpNet(SHAPE, np.random.default_rng(0), 0.05, 3)
    return net.moved(name, [result], constants, **options).build()


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}{i}" for i, case in enumerate(CASES)])
def test_move_equals_numpy(case: Case) -> None:
    name, result, constants, options, expected = case
    x = np.random.default_rng(1).integers(-128, 128, (3, *SHAPE[1:])).astype(np.int8)
    got = Forward(read_model(one(name, result, constants, options))).run(x)
    np.testing.assert_array_equal(got, np.stack([expected(s[None]).reshape(-1) for s in x]))


def several(name: str, axis: int) -> bytes:
    """Join three places, or split and join in another order."""
    net = OpNet(SHAPE, np.random.default_rng(0), 0.05, 3)
    mark = net.mark()
    if name == "PACK":
        net.moved(name, [(1, 4, 3, 6, 8)], others=(mark, mark), Axis=2, ValuesCount=3)
    elif name == "SPLIT":
        parts = [tuple(n // 2 if a == axis else n for a, n in enumerate(SHAPE))] * 2
        net.moved(name, parts, {0: axis}, keep=1, NumSplits=2)
    elif name == "SPLIT_V":
        sizes = [1, SHAPE[axis] - 3, 2]
        parts = [tuple(s if a == axis else n for a, n in enumerate(SHAPE)) for s in sizes]
        net.moved(name, parts, {1: [1, -1, 2], 2: axis}, keep=1, NumSplits=3)
    elif name == "UNPACK":
        net.moved(name, [tuple(np.delete(SHAPE, axis))] * SHAPE[axis], keep=1, Axis=axis, Num=SHAPE[axis])
    else:
        result = tuple(3 * n if a == axis else n for a, n in enumerate(SHAPE))
        net.moved(name, [result], others=(mark, mark), Axis=axis)
    return net.build()


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("name", ["CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNPACK"])
def test_move_of_several_equals_numpy(name: str, axis: int) -> None:
    x = np.random.default_rng(1).integers(-128, 128, SHAPE).astype(np.int8)
    expected = {
        "CONCATENATION": lambda: np.concatenate([x] * 3, axis),
        "PACK": lambda: np.stack([x] * 3, 2),
        "SPLIT": lambda: np.split(x, 2, axis)[1],
        "SPLIT_V": lambda: np.take(x, range(1, SHAPE[axis] - 2), axis),
        "UNPACK": lambda: np.take(x, 1, axis),
    }[name]()
    np.testing.assert_array_equal(Forward(read_model(several(name, axis))).run(x)[0], expected.reshape(-1))


def resizes() -> list[bytes]:
    made = []
    for size in [(8, 12), (5, 9), (2, 3), (7, 13), (3, 4), (1, 1)]:
        for align, half in [(0, 0), (0, 1), (1, 0)]:
            options = {"AlignCorners": align, "HalfPixelCenters": half}
            made.append(one("RESIZE_NEAREST_NEIGHBOR", (1, *size, 8), {1: size}, options))
    return made


def test_moves_equal_litert() -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed here")
    models = [one(*case[:4]) for case in CASES] + resizes()
    models += [
        several(name, axis)
        for name in ("CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNPACK")
        for axis in (1, 2, 3)
    ]
    x = np.random.default_rng(1).integers(-128, 128, SHAPE).astype(np.int8)
    for data in models:
        interpreter = litert.Interpreter(model_content=data)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_array_equal(Forward(read_model(data)).run(x)[0], theirs.reshape(-1))


def test_training_through_too_many_slices_is_refused() -> None:
    net = OpNet((1, 1, 20, 3), np.random.default_rng(0), 0.05, 3)
    net.conv(3)
    net.moved("UNPACK", [(1, 1, 3)] * 20, Axis=2, Num=20)
    first = net.mark()
    others = tuple((first[0] + i, *first[1:]) for i in range(1, 20))
    net.moved("PACK", [(1, 1, 20, 3)], others=others, Axis=2, ValuesCount=20).dense(4)
    graph = read_model(net.build())
    x = np.random.default_rng(0).integers(-128, 128, (2, 60)).astype(np.int8)
    assert Forward(graph).run(x).shape == (2, 4)
    assert Session(graph, layers="head").size == 4 * 60 + 4
    with pytest.raises(ModelError, match="operator 0 is read 20 times, training sums 16"):
        Session(graph, layers="all")


@pytest.mark.parametrize(
    ("name", "result", "constants", "options", "message"),
    [
        ("GATHER", (1, 4, 1, 8), {1: [6]}, {"Axis": 2}, r"gathers indices outside 0\.\.5"),
        ("GATHER", (1, 4, 1, 8), {1: [0]}, {"Axis": 9}, r"names axis 9 of 4"),
        ("TRANSPOSE", (4, 1, 6, 8), {1: [1, 0, 2, 3]}, {}, r"gives a result \[4, 1, 6, 8\].*batch 1"),
        ("TRANSPOSE", SHAPE, {1: [0, 1, 1, 3]}, {}, r"orders axes as"),
        ("SLICE", (1, 9, 6, 8), {1: [0] * 4, 2: [1, 9, 6, 8]}, {}, r"takes 0 to 9 of 4"),
        ("STRIDED_SLICE", SHAPE, *strided([0] * 4, [1, 4, 6, 8], [1, 0, 1, 1]), r"stride of 0"),
        ("STRIDED_SLICE", SHAPE, *strided([0, 3], [1, 2], [1, 1]), r"takes nothing"),
        ("STRIDED_SLICE", (1, 3, 6, 8), *strided([0, 0], [1, 4], [1, 1]), r"declares the result"),
        ("PAD", (1, 4, 6, 7), {1: [[0, 0], [0, 0], [0, 0], [0, -1]]}, {}, r"pads each axis by 0"),
        ("CONCATENATION", SHAPE, {}, {"Axis": 1, "FusedActivationFunction": 1}, r"has a fused activation"),
    ],
)
def test_bad_move_is_refused_in_one_line(
    name: str, result: tuple[int, ...], constants: dict, options: dict, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        read_model(one(name, result, constants, options))
    assert "\n" not in str(error.value)
