# SPDX-License-Identifier: Apache-2.0
"""Operators of two operands: how they are read, and what is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from opmodel import OpNet

from edgefl.errors import ModelError
from edgefl.model.graph import Op
from edgefl.model.ops_binary import merged_axes
from edgefl.model.read import read_model

SHAPE = (1, 4, 6, 8)


def net(scale: float = 0.05, zero: int = 3) -> OpNet:
    return OpNet(SHAPE, np.random.default_rng(0), scale, zero)


@pytest.mark.parametrize(
    ("a", "b", "dims", "strides"),
    [
        ((1, 4, 6, 8), (1, 4, 6, 8), (1, 1, 1, 192), ((1, 1, 1, 1), (1, 1, 1, 1))),
        ((1, 4, 6, 8), (8,), (1, 1, 24, 8), ((1, 1, 8, 1), (1, 1, 0, 1))),
        ((1, 4, 6, 8), (), (1, 1, 1, 192), ((1, 1, 1, 1), (1, 1, 1, 0))),
        ((1, 4, 1, 8), (6, 1), (1, 4, 6, 8), ((1, 8, 0, 1), (1, 0, 1, 0))),
    ],
)
def test_axes_of_a_broadcast_are_merged(a: tuple, b: tuple, dims: tuple, strides: tuple) -> None:
    made = merged_axes(a, b)
    assert made is not None and made[0] == dims
    for ours, theirs, n in zip(made[1:], strides, (dims, dims), strict=True):
        assert all(s == t for s, t, size in zip(ours, theirs, n, strict=True) if size > 1)


def test_equal_shapes_added_keep_their_kernel() -> None:
    graph = read_model(net().binary("ADD", net().mark()).build())
    assert graph.nodes[0].kind is Op.ADD
    graph = read_model(net().binary("ADD", (8,)).build())
    assert graph.nodes[0].kind is Op.BINARY and graph.nodes[0].name == "ADD"


@pytest.mark.parametrize(
    ("name", "other", "quant", "message"),
    [
        ("ADD", (8,), (0.0001, 0), r"input scale outside 2\^-10\.\.2\^8"),
        ("MUL", (8,), (1e-9, 0), r"s_a\*s_b/s_y outside 2\^-16\.\.2\^8"),
        ("MAXIMUM", (8,), (0.04, 3), r"compares values of different scales"),
    ],
)
def test_scales_that_litert_rounds_otherwise_are_refused(
    name: str, other: tuple, quant: tuple, message: str
) -> None:
    with pytest.raises(ModelError, match=rf"operator 0 \({name}\).*{message}"):
        read_model(net().binary(name, other, quant=quant).build())


def test_shapes_that_do_not_fit_are_refused() -> None:
    made = net()
    other = made.f.tensor((5,), scale=0.05, data=np.zeros(5, np.int8))
    y = made.f.tensor(SHAPE, scale=0.1)
    made.f.op("SUB", [made.at, other], [y], FusedActivationFunction=0)
    made.at = y
    with pytest.raises(ModelError, match=r"combines shapes \[1, 4, 6, 8\] and \[5\]"):
        read_model(made.build())
