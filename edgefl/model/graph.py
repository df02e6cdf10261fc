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

from edgefl.model.detail import Binary, Lstm, Move, Svdf, Table

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
    BINARY = 20  # ADD, SUB, MUL, MINIMUM, MAXIMUM with broadcasting: Node.detail is a Binary
    TABLE = 21  # RELU, LOGISTIC ...: Node.detail is a Table
    MOVE = 22  # CONCATENATION, SPLIT, TRANSPOSE ...: Node.detail is a Move, one part for each input
    LSTM = 40  # 8 params: weights of the gates i, f, g, o with their biases, recurrent ones; detail: Lstm
    SVDF = 41  # keeps state from sample to sample; runs, does not train; detail: Svdf


FORWARD_ONLY = frozenset({Op.SOFTMAX})  # no backward pass: what they depend on stays frozen


class Act(IntEnum):
    """Fused activation; the values are EFL_ACT_* of edgefl.h."""

    NONE = 0
    RELU = 1
    RELU6 = 2
    RELU_N1_TO_1 = 3


@dataclass(frozen=True)
class Tensor:
    """One activation tensor of the graph, without the batch dimension.

    shape: (H, W, C); vectors are (1, 1, C).  Real value = scale * (q - zero), q int8. In a uint8 file the
    stored value is q + 128 (unsigned).
    """

    name: str
    shape: tuple[int, int, int]
    scale: float  # float32 value, finite, > 0
    zero: int  # -128..127
    file_shape: tuple[int, ...]  # as in the file, batch dimension included
    unsigned: bool = False

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def real(self, stored: np.ndarray) -> np.ndarray:
        """Give the float32 values that int8 ones stand for."""
        values: np.ndarray = (stored.astype("f4") - self.zero) * self.scale
        return values

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the file has it, without the batch dimension."""
        return self.file_shape[1:] if len(self.file_shape) > 1 else self.file_shape


@dataclass(frozen=True)
class Port:
    """One input or output of the file: the graph's int8 tensor there, and what the file itself has.

    Real value = scale * (stored - zero) of a stored value of `dtype`; float32 ports have scale 1, zero 0. An
    input other than int8 or uint8 is quantised in the file; an output's tensor may be followed by steps.
    """

    tensor: int  # index into Graph.tensors
    name: str
    dtype: str  # "int8", "uint8", "float32", "int16" or "int32"
    scale: float
    zero: int
    steps: tuple[Step, ...] = ()  # outputs only: what the file does with the int8 values


@dataclass(frozen=True)
class Step:
    """One operator behind the int8 body; edgefl/model/border.py runs it."""

    kind: str  # "DEQUANTIZE", "QUANTIZE"; "SOFTMAX", "LOG_SOFTMAX" of float32; "SOFTMAX16": int8 to int16
    dtype: str  # of its result
    scale_in: float
    zero_in: int
    scale: float
    zero: int
    beta: float = 1.0


@dataclass
class Param:
    """Weights and bias of one operator, as read from the file.

    q int8: conv [Co,Kh,Kw,Ci/groups], depthwise [Kh,Kw,Co] (Co = Ci*mult), dense [Co,K].
    b int32 [Co]; zeros if the file has none: then bias_offset is None and the bias never trains.
    Both are read-only. A weight is scale * (q - zero); zero is 0 but in uint8 files, whose bytes are q + 128
    (unsigned). The reader guarantees K <= 32768 and 255*(128 + |zero|)*K + max|b| < 2^31, K = terms of one
    output, so that int32 sums cannot overflow.
    """

    op_index: int  # index of the operator in the file (also for messages)
    q: np.ndarray
    b: np.ndarray
    scales: np.ndarray  # float32 [1] (per tensor) or [Co]
    weight_offset: int  # byte offset of q in the file
    bias_offset: int | None  # byte offset of b in the file
    shared: bool = False  # the weight buffer is used more than once: weights frozen
    bias_shared: bool = False  # the bias buffer is used more than once: bias frozen
    qmin: int = -127  # -128 if the tensor already holds a -128, or is a uint8 one
    zero: int = 0
    unsigned: bool = False
    part: str = ""  # which of the operator's weights, where it has several: "forget gate"

    @property
    def channels(self) -> int:
        """Number of output channels Co."""
        return int(self.b.shape[0])


@dataclass(frozen=True)
class Node:
    """One operator. Unused fields keep their defaults."""

    kind: Op
    inputs: tuple[int, ...]  # tensor indices
    output: int
    act: Act = Act.NONE
    kernel: tuple[int, int] = (1, 1)  # conv, depthwise, pool windows (h, w)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right; bottom/right only matter to PAD
    mult: int = 1  # depth multiplier (depthwise)
    groups: int = 1  # grouped convolution
    param: int = -1  # index into Graph.params, -1: none
    n_params: int = 1  # params from there on; an LSTM has 8
    beta: float = 1.0  # softmax
    detail: Binary | Table | Move | Lstm | Svdf | None = None  # of the kinds that say so
    index: int = -1  # index of the operator in the file

    @property
    def name(self) -> str:
        """What to call it in messages: the file's operator where one kind stands for many."""
        return getattr(self.detail, "name", self.kind.name)

    @property
    def params(self) -> range:
        """Indices into Graph.params."""
        return range(self.param, self.param + self.n_params) if self.param >= 0 else range(0)

    def source(self, param: int) -> int:
        """Tensor that one of its params is multiplied with: the input; an LSTM's output for its last four."""
        return self.output if self.kind is Op.LSTM and param >= self.param + 4 else self.inputs[0]


@dataclass
class Graph:
    """A validated int8 model: at least one input and one output.

    One of the outputs is the target: the loss looks at it, and only what leads to it trains.
    """

    tensors: list[Tensor]
    nodes: list[Node]  # execution order = file order
    params: list[Param]  # file order
    inputs: tuple[Port, ...]  # file order
    outputs: tuple[Port, ...]  # file order
    target: int = 0  # index into outputs
    requant: str = "xnnpack"  # rounding rule of the forward pass: "xnnpack" or "gemmlowp"
    data: bytes = field(default=b"", repr=False)  # the whole file

    @property
    def input(self) -> int:
        """Tensor of the first input."""
        return self.inputs[0].tensor

    @property
    def output(self) -> int:
        """Tensor of the target output."""
        return self.outputs[self.target].tensor

    @property
    def input_size(self) -> int:
        """Elements of one sample, all inputs together: their values follow each other in file order."""
        return sum(self.tensors[port.tensor].size for port in self.inputs)

    @property
    def logits(self) -> int:
        """Tensor the loss looks at: the input of a final SOFTMAX (COPYs may follow it), else the output."""
        makers = {node.output: node for node in self.nodes}
        node = makers.get(self.output)
        while node and node.kind is Op.COPY:
            node = makers.get(node.inputs[0])
        return node.inputs[0] if node and node.kind is Op.SOFTMAX else self.output

    def nodes_to(self, *tensors: int) -> list[Node]:
        """Give the nodes that these tensors depend on, in order."""
        needed, found = set(tensors), list[Node]()
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                found.append(node)
        return found[::-1]

    def trainable(self, *heads: int) -> list[int]:
        """Params that lead to the loss's heads (default: the logits), in file order.

        Not those that a FORWARD_ONLY node depends on.
        """
        frozen, found = set[int](), set[int]()
        for node in reversed(self.nodes_to(*(heads or (self.logits,)))):
            if node.kind in FORWARD_ONLY or node.output in frozen:
                frozen.update(node.inputs)
            else:
                found.update(node.params)
        return sorted(found)
