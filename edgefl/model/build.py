# SPDX-License-Identifier: Apache-2.0
"""Growing a Graph operator by operator, with the checks that all operators share.

In: RawModel and the file's operators in order. Out: Graph. Refuses an activation that is not int8 or uint8
with one scale, a batch other than 1, a tensor used before it is made, and sums that int32 could not hold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from edgefl.errors import ModelError
from edgefl.model.detail import Constant
from edgefl.model.flat import RawModel, RawOp, RawTensor
from edgefl.model.graph import Act, Graph, Node, Param, Port, Step, Tensor
from edgefl.model.shape import to_hwc

MAX_TERMS = 32768  # of one output: 255 * 128 * 32768 < 2^30, and a bias trains up to 2^30
MAX_WEIGHTS = 1 << 26  # of all operators, shared ones counted at each use
_ACTS = {0: Act.NONE, 1: Act.RELU, 2: Act.RELU_N1_TO_1, 3: Act.RELU6}  # the schema's ActivationFunctionType


def refuse(op: RawOp, what: str, hint: str = "") -> ModelError:
    """Build the one-line error that names the operator and its index."""
    return ModelError(f"operator {op.index} ({op.name}) {what}", hint=hint)


class Builder:
    """Collects tensors, nodes and params of one graph."""

    def __init__(self, raw: RawModel) -> None:
        """Start with the file's input tensors; a float or wide one waits for its QUANTIZE."""
        self.raw = raw
        self._made: dict[int, int] = {}  # tensor of the file -> tensor of the graph
        # Tensor of the file behind the int8 body -> tensor of the graph, and the steps from there.
        self.tails: dict[int, tuple[int, tuple[Step, ...]]] = {}
        self._tensors: list[Tensor] = []
        self._nodes: list[Node] = []
        self._params: list[Param] = []
        self._n_weights = 0
        self._rebiased: dict[int, memoryview] = {}  # uint8 constants by their place in the file, as int8
        self.sources: dict[int, int] = {}  # input tensor of the file -> its int8 tensor of the graph
        self._tensor_uses = Counter(t.offset for t in raw.tensors if t.n_bytes)
        self._op_uses = Counter(i for op in raw.ops for i in op.inputs)
        for source in raw.inputs:
            if raw.tensors[source].dtype in ("int8", "uint8"):
                self.sources[source] = self._add_tensor(source, "the model's input")

    # Tensors.

    def raw_tensor(self, op: RawOp, slot: int) -> RawTensor:
        """Give the file's tensor at input `slot` of `op`."""
        if slot >= len(op.inputs) or op.inputs[slot] < 0:
            raise refuse(op, f"has no input {slot}", "the file is damaged; convert it again")
        return self.raw.tensors[op.inputs[slot]]

    def constant(self, op: RawOp, slot: int, dtypes: tuple[str, ...]) -> np.ndarray:
        """Give the constant at input `slot`, read-only."""
        tensor = self.raw_tensor(op, slot)
        if tensor.dtype not in dtypes:
            raise refuse(
                op, f"has {tensor.dtype} constants at input {slot}, edgefl takes {' or '.join(dtypes)}"
            )
        if not tensor.n_bytes or tensor.odd:
            raise refuse(op, f"needs plain constants at input {slot}, they are {tensor.odd or 'computed'}")
        return self.raw.constant(tensor)

    def constant_operand(self, op: RawOp, slot: int) -> Constant:
        """Give the int8 or (re-biased) uint8 constant at input `slot` with its quantisation."""
        tensor = self.raw_tensor(op, slot)
        values = self.constant(op, slot, ("int8", "uint8"))
        unsigned = tensor.dtype == "uint8"
        zero = int(tensor.zeros[0]) - 128 * unsigned if len(tensor.zeros) == 1 else 1000
        if not _sound(tensor.scales) or not -128 <= zero <= 127:
            raise refuse(op, f"has a constant at input {slot} without one scale above 0", "convert it again")
        if unsigned and tensor.offset not in self._rebiased:
            self._rebiased[tensor.offset] = (values.reshape(-1) ^ np.uint8(128)).data.toreadonly()
        view = self._rebiased[tensor.offset] if unsigned else values.reshape(-1).data.cast("B")
        return Constant(view, tensor.shape, float(tensor.scales[0]), zero)

    def activation(self, op: RawOp, slot: int = 0) -> int:
        """Give the graph's tensor at input `slot`, made earlier."""
        tensor = self.raw_tensor(op, slot)
        index = op.inputs[slot]
        if index in self._made:
            return self._made[index]
        if tensor.n_bytes:
            raise refuse(op, f"has a constant at input {slot}", "edgefl takes a computed tensor there")
        if tensor.dtype in ("float32", "float16"):
            raise self._refuse_float(op)
        if tensor.dtype not in ("int8", "uint8"):
            raise refuse(op, f"takes {tensor.dtype} values", _dtype_hint(tensor.dtype))
        raise refuse(
            op, f"uses tensor {index} before it is computed", "the file is damaged; convert it again"
        )

    def _refuse_float(self, op: RawOp) -> ModelError:
        """Say whether a float operator makes a file hybrid or float, and what to do about it."""
        constants = {self.raw.tensors[i].dtype for i in op.inputs if i >= 0 and self.raw.tensors[i].n_bytes}
        narrow = constants & {"int8", "uint8", "int4"}
        if narrow:
            return refuse(
                op,
                f"has {min(narrow)} weights but takes float32 values: a hybrid model",
                "quantise its activations too: convert with sample inputs, for integers only",
            )
        return refuse(
            op, "computes in float32", "quantise the model to int8 first: convert it with sample inputs"
        )

    def shape(self, index: int) -> tuple[int, int, int]:
        """(H, W, C) of a tensor of the graph."""
        return self._tensors[index].shape

    def scale(self, index: int) -> np.float32:
        """Scale of a tensor of the graph."""
        return np.float32(self._tensors[index].scale)

    def ratio(self, a: int, b: int) -> float:
        """Scale of tensor a over that of tensor b, in float32; inf where that overflows."""
        with np.errstate(over="ignore"):
            return float(self.scale(a) / self.scale(b))

    def zero(self, index: int) -> int:
        """Zero point of a tensor of the graph."""
        return self._tensors[index].zero

    def unsigned(self, index: int) -> bool:
        """Whether the file has this tensor of the graph as uint8."""
        return self._tensors[index].unsigned

    def derived(self, x: int, y: int) -> int:
        """Make a tensor that no file has: x on y's scale."""
        like, to = self._tensors[x], self._tensors[y]
        self._tensors.append(replace(like, scale=to.scale, zero=to.zero))
        return len(self._tensors) - 1

    def same_quantisation(self, op: RawOp, a: int, b: int) -> None:
        """Refuse an operator that only moves bytes but declares another scale for its result."""
        s, t = self._tensors[a], self._tensors[b]
        if (s.scale, s.zero) != (t.scale, t.zero):
            raise refuse(
                op, "changes scale or zero point, which LiteRT would ignore", "convert the model again"
            )

    def is_read(self, tensor: int) -> bool:
        """Whether an operator or the model's outputs name this tensor of the file."""
        return self._op_uses[tensor] > 0 or tensor in self.raw.outputs

    def is_made(self, tensor: int) -> bool:
        """Whether something of the int8 body, an input or a constant is this tensor of the file."""
        return tensor in self._made or tensor in self.raw.inputs or self.raw.tensors[tensor].n_bytes > 0

    def output(self, op: RawOp, shape: tuple[int, int, int] | None = None, slot: int | None = None) -> int:
        """Make the single output of `op`, or that at `slot`; its declared shape must be `shape` if given."""
        if slot is None and len(op.outputs) != 1:
            raise refuse(op, f"has {len(op.outputs)} outputs, edgefl takes one")
        index = op.outputs[slot or 0]
        if index < 0:
            raise refuse(op, "names no output", "the file is damaged; convert it again")
        if self.is_made(index) or index in self.tails:
            raise refuse(op, f"writes tensor {index} a second time", "the file is damaged; convert it again")
        made = self._add_tensor(index, f"the result of operator {op.index} ({op.name})")
        if shape is not None and self._tensors[made].shape != shape:
            declared = list(self.raw.tensors[index].shape)
            raise refuse(
                op,
                f"declares the result {declared}, its inputs give {list(shape)} (H, W, C)",
                "convert it again",
            )
        return made

    def _add_tensor(self, index: int, what: str) -> int:
        raw = self.raw.tensors[index]
        if raw.dtype not in ("int8", "uint8"):
            raise ModelError(f"{what} is {raw.dtype}", hint=_dtype_hint(raw.dtype))
        unsigned = raw.dtype == "uint8"
        if raw.odd:
            raise ModelError(f"{what} is {raw.odd}, edgefl cannot train through it")
        hwc = to_hwc(raw.shape)
        if hwc is None:
            raise ModelError(
                f"{what} has shape {list(raw.shape)}, edgefl needs batch 1 and sizes of 1 or more"
            )
        zero = int(raw.zeros[0]) - 128 * unsigned if len(raw.zeros) == 1 else 1000
        if not -128 <= zero <= 127 or not _sound(raw.scales):
            raise ModelError(
                f"{what} needs one scale above 0 and a zero point that {raw.dtype} holds",
                hint="convert it again",
            )
        self._made[index] = len(self._tensors)
        self._tensors.append(Tensor(raw.name, hwc, float(raw.scales[0]), zero, raw.shape, unsigned))
        return self._made[index]

    # Nodes and params.

    def act(self, op: RawOp) -> Act:
        """Fused activation of `op`."""
        code = int(op.options["FusedActivationFunction"])
        if code not in _ACTS:
            raise refuse(op, f"has fused activation {code}, edgefl takes none, RELU, RELU6 and RELU_N1_TO_1")
        return _ACTS[code]

    def add(self, node: Node) -> None:
        """Append a node."""
        self._nodes.append(node)

    def param(
        self, op: RawOp, x: int, y: int, axis: int, terms: int, kernel: tuple[int, int] | None = None
    ) -> int:
        """Read weights (input 1) and bias (input 2) of `op` and check their scales; index into Graph.params.

        axis: dimension of the output channels in the file's weights.  terms: products summed for one output.
        kernel: of the convolution that a dense layer over the last axis is.
        """
        weights = self.raw_tensor(op, 1)
        unsigned = self._tensors[x].unsigned
        q = self.constant(op, 1, ("uint8" if unsigned else "int8",))
        if self._tensors[y].unsigned != unsigned:
            raise refuse(op, "mixes int8 and uint8 values", "convert the model again to int8")
        n_out, zero = q.shape[axis], 0
        if unsigned:
            q, zero = self._rebias(op, q, weights)
        elif len(weights.scales) not in (1, n_out) or not _sound(weights.scales) or weights.zeros.any():
            raise refuse(
                op, f"needs weights with 1 or {n_out} scales above 0 and zero points 0", "convert it again"
            )
        if len(weights.scales) > 1 and weights.axis != axis:
            raise refuse(op, f"has weight scales along dimension {weights.axis}, edgefl takes {axis}")
        b = self._bias(op, n_out, x, y)
        self._check_sums(op, q, b, terms, zero)
        with np.errstate(over="ignore"):
            scale = self.scale(x) * weights.scales / self.scale(y)
        if not np.all((scale > 0) & (scale < 256)):
            raise refuse(
                op, "has s_x*s_w/s_y of 0, or of 256 or more", "LiteRT refuses it too; convert it again"
            )
        if q.ndim == 4 and op.name == "DEPTHWISE_CONV_2D":
            q = q[0]
        if kernel:
            q = q.reshape(n_out, *kernel, -1)
        return self._keep(op, 1, 2, q, b, zero)

    def gate(self, op: RawOp, part: str, slot: int, bias_slot: int, shape: tuple[int, int], x: int) -> int:
        """Read the int8 weights of one gate of an LSTM, one scale, and its bias; index into Graph.params.

        bias_slot: -1 for none.  x: tensor of the graph that they are multiplied with.
        """
        weights = self.raw_tensor(op, slot)
        q = self.constant(op, slot, ("int8",))
        if self._tensors[x].unsigned:
            raise refuse(op, "takes uint8 values", "convert the model again to int8")
        if q.shape != shape or len(weights.scales) != 1 or not _sound(weights.scales) or weights.zeros.any():
            what = f"needs weights {list(shape)} with one scale and zero point 0 at input {slot}"
            raise refuse(op, what, "convert it again")
        b = self._bias(op, shape[0], x, x, bias_slot, slot)
        self._check_sums(op, q, b, shape[1])
        index = self._keep(op, slot, bias_slot, q, b)
        self._params[index].part = part
        return index

    def _check_sums(self, op: RawOp, q: np.ndarray, b: np.ndarray, terms: int, zero: int = 0) -> None:
        """Refuse too many weights, and sums of `terms` products and a bias that int32 might not hold."""
        self._n_weights += q.size
        if self._n_weights > MAX_WEIGHTS:
            raise refuse(op, f"brings the model to {self._n_weights} weights, the limit is {MAX_WEIGHTS}")
        if terms > MAX_TERMS:
            raise refuse(op, f"sums {terms} products for one output, the limit is {MAX_TERMS}")
        if 255 * (128 + abs(zero)) * terms + int(np.abs(b.astype(np.int64)).max()) >= 1 << 31:
            raise refuse(op, "has a bias so large that its int32 sums could overflow")

    def _keep(self, op: RawOp, slot: int, bias_slot: int, q: np.ndarray, b: np.ndarray, zero: int = 0) -> int:
        """Append a Param; its index."""
        weights, has_bias = self.raw_tensor(op, slot), self._has(op, bias_slot)
        unsigned = weights.dtype == "uint8"
        self._params.append(
            Param(
                op_index=op.index,
                q=q,
                b=b,
                scales=np.array(weights.scales, np.float32),  # aligned, whatever the file does
                weight_offset=weights.offset,
                bias_offset=self.raw_tensor(op, bias_slot).offset if has_bias else None,
                shared=self._shared(op, slot),
                bias_shared=has_bias and self._shared(op, bias_slot),
                qmin=-128 if unsigned or bool((q == -128).any()) else -127,
                zero=zero,
                unsigned=unsigned,
            )
        )
        return len(self._params) - 1

    def _rebias(self, op: RawOp, stored: np.ndarray, weights: RawTensor) -> tuple[np.ndarray, int]:
        """uint8 weights as int8 (less 128), and their zero point, likewise."""
        zeros = weights.zeros
        # LiteRT leaves uint8 weights with another quantised dimension to a kernel that rounds otherwise.
        if len(zeros) != 1 or not _sound(weights.scales) or not 0 <= zeros[0] <= 255 or weights.axis != 0:
            raise refuse(
                op,
                "needs uint8 weights with one scale above 0, a zero point of 0..255, quantised dimension 0",
            )
        q = (stored ^ np.uint8(128)).view(np.int8)
        q.flags.writeable = False
        return q, int(zeros[0]) - 128

    def _has(self, op: RawOp, slot: int) -> bool:
        return 0 <= slot < len(op.inputs) and op.inputs[slot] >= 0

    def _shared(self, op: RawOp, slot: int) -> bool:
        return self._tensor_uses[self.raw_tensor(op, slot).offset] > 1 or self._op_uses[op.inputs[slot]] > 1

    def _bias(self, op: RawOp, n_out: int, x: int, y: int, slot: int = 2, weights: int = 1) -> np.ndarray:
        if not self._has(op, slot):
            b = np.zeros(n_out, np.int32)
            b.flags.writeable = False
            return b
        tensor = self.raw_tensor(op, slot)
        b = np.array(self.constant(op, slot, ("int32",)).reshape(-1), np.int32)  # it may lie unaligned
        b.flags.writeable = False
        if len(b) != n_out:
            raise refuse(
                op, f"has {len(b)} biases for {n_out} outputs", "the file is damaged; convert it again"
            )
        if len(tensor.scales):
            # LiteRT's own check (GetQuantizedConvolutionMultipler): within 2 % of the output scale.
            with np.errstate(over="ignore", invalid="ignore"):
                off = np.abs(self.scale(x) * self.raw_tensor(op, weights).scales - tensor.scales)
                close = off <= np.float32(0.02) * self.scale(y)
            if not np.all(close):
                raise refuse(op, "has a bias scale that is not s_x*s_w", "convert the model again")
        return b

    def finish(self) -> Graph:
        """Close the graph at the file's output tensors."""
        for source in self.raw.inputs:
            if source not in self.sources:
                dtype = self.raw.tensors[source].dtype
                raise ModelError(f"an input is {dtype} and no QUANTIZE follows", hint=_dtype_hint(dtype))
        results = []
        for index in self.raw.outputs:
            tensor, steps = self.tails.get(index, (self._made.get(index), ()))
            if tensor is None or tensor in self.sources.values():
                dtype = self.raw.tensors[index].dtype
                raise ModelError(
                    f"the model's output ({dtype}) is computed by no operator", hint=_dtype_hint(dtype)
                )
            results.append(self._port(index, tensor, steps))
        if not self._nodes:
            raise ModelError("the model computes nothing, so there is nothing to run or train")
        return Graph(
            tensors=self._tensors,
            nodes=self._nodes,
            params=self._params,
            inputs=tuple(self._port(index, self.sources[index]) for index in self.raw.inputs),
            outputs=tuple(results),
            data=self.raw.data,
        )

    def _port(self, index: int, tensor: int, steps: tuple[Step, ...] = ()) -> Port:
        raw = self.raw.tensors[index]
        if raw.dtype == "float32":
            return Port(tensor, raw.name, raw.dtype, 1.0, 0, steps)
        return Port(tensor, raw.name, raw.dtype, float(raw.scales[0]), int(raw.zeros[0]), steps)


def _sound(scales: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(scales) & (scales > 0)))


def _dtype_hint(dtype: str) -> str:
    if dtype == "float32":
        return (
            "edgefl takes models that compute in int8; convert this one with sample inputs, for integers only"
        )
    return f"edgefl takes int8 and uint8 activations, {dtype} ones run in LiteRT only; convert to int8"
