# SPDX-License-Identifier: Apache-2.0
"""The graph of an int8 model: what the reader builds, the engine runs and the writer patches.

In: nothing (plain data). Out: Graph. Invariant: a Graph returned by `read_model` is validated: every index is
in range, every shape follows from its inputs, every buffer offset lies inside the file, every scale is finite
and > 0. Nothing here computes; see edgefl/model/read.py (building), edgefl/train/plan.py (arena),
csrc/nn/plan.c (running).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Op(IntEnum):
    """Operators the C core runs. The values are EFL_OP_* of csrc/include/edgefl.h and are never reused."""

    CONV2D = 1
    DWCONV2D = 2
    DENSE = 3
    AVGPOOL = 4
    MAXPOOL = 5
    MEAN = 6  # over H and W: rne((float)sum*s + (z_y - (float)(n*z_x)*s)), s = (s_x/s_y)*(1/n), all float32
    ADD = 7
    SOFTMAX = 8
    COPY = 9  # RESHAPE, SQUEEZE, EXPAND_DIMS and no-op QUANTIZE: same bytes, other shape
    PAD = 10  # spatial, with the input's zero point
    REQUANT = 11  # QUANTIZE int8 -> int8, another scale: (((q-z_x)*m + 128) >> 8) + z_y, m = rne(256*s_x/s_y)


class Act(IntEnum):
    """Fused activation; the values are EFL_ACT_* of edgefl.h."""

    NONE = 0
    RELU = 1
    RELU6 = 2
    RELU_N1_TO_1 = 3


@dataclass(frozen=True)
class Tensor:
    """One activation tensor of the graph, without the batch dimension.

    shape: (H, W, C); vectors are (1, 1, C).  Real value = scale * (q - zero), q int8.
    """

    name: str
    shape: tuple[int, int, int]
    scale: float  # float32 value, finite, > 0
    zero: int  # -128..127
    file_shape: tuple[int, ...]  # as in the file, batch dimension included

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the file has it, without the batch dimension."""
        return self.file_shape[1:] if len(self.file_shape) > 1 else self.file_shape


@dataclass
class Param:
    """Weights and bias of one operator, as read from the file.

    q int8: conv [Co,Kh,Kw,Ci/groups], depthwise [Kh,Kw,Co] (Co = Ci*mult), dense [Co,K].
    b int32 [Co]; zeros if the file has none: then bias_offset is None and the bias never trains.
    Both are read-only. The reader guarantees K <= 32768 and 32640*K + max|b| < 2^31, K =
    terms of one output, so that int32 sums cannot overflow.
    """

    op_index: int  # index of the operator in the file (also for messages)
    q: np.ndarray
    b: np.ndarray
    scales: np.ndarray  # float32 [1] (per tensor) or [Co]
    weight_offset: int  # byte offset of q in the file
    bias_offset: int | None  # byte offset of b in the file
    shared: bool = False  # the weight buffer is used more than once: weights frozen
    bias_shared: bool = False  # the bias buffer is used more than once: bias frozen
    qmin: int = -127  # -128 if the tensor already holds a -128

    @property
    def channels(self) -> int:
        """Number of output channels Co."""
        return int(self.b.shape[0])


@dataclass(frozen=True)
class Node:
    """One operator. Unused fields keep their defaults."""

    kind: Op
    inputs: tuple[int, ...]  # tensor indices (1, or 2 for ADD)
    output: int
    act: Act = Act.NONE
    kernel: tuple[int, int] = (1, 1)  # conv, depthwise, pool windows (h, w)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right; bottom/right only matter to PAD
    mult: int = 1  # depth multiplier (depthwise)
    groups: int = 1  # grouped convolution
    param: int = -1  # index into Graph.params, -1: none
    beta: float = 1.0  # softmax
    index: int = -1  # index of the operator in the file


@dataclass
class Graph:
    """A validated int8 model with one input and one output."""

    tensors: list[Tensor]
    nodes: list[Node]  # execution order = file order
    params: list[Param]  # file order
    input: int
    output: int
    input_dtype: str = "int8"  # dtype of the file's own input: "int8" or "float32" (QUANTIZE at the border)
    output_dtype: str = "int8"
    data: bytes = field(default=b"", repr=False)  # the whole file

    @property
    def logits(self) -> int:
        """Tensor the loss looks at: the input of a final SOFTMAX (COPYs may follow it), else the output."""
        for node in reversed(self.nodes):
            if node.kind is Op.SOFTMAX:
                return node.inputs[0]
            if node.kind is not Op.COPY:
                break
        return self.output
