# SPDX-License-Identifier: Apache-2.0
"""Running a planned model in the C core (csrc/nn): forward, and one training micro-batch.

In: plain descriptions of tensors, operators and parameters with their places in an arena (made by
edgefl/model/plan.py) and NumPy buffers.  Out: int8 outputs; parameters changed in place.  Refuses any plan
that efl_plan_check refuses.  Invariant: every buffer that C holds a pointer to is kept alive by the Engine,
and no call is made with an array of another dtype, size or layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefl.native._core import ffi, lib
from edgefl.native.loss import LossSpec, Outcome, Targets, loss_struct, target_struct
from edgefl.native.operators import (
    BinarySpec,
    MoveSpec,
    SvdfSpec,
    TableSpec,
    binary_struct,
    move_struct,
    svdf_struct,
    table_struct,
)
from edgefl.native.status import check

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

TERMS_MAX: int = lib.EFL_TERMS_MAX
THREADS_MAX: int = lib.EFL_THREADS_MAX
_INT8 = np.dtype(np.int8)
_INT8_ARRAY = ffi.typeof("int8_t[]")
LSTM_BYTES: int = lib.EFL_LSTM_BYTES
FAN_OUT_MAX: int = lib.EFL_FAN_OUT_MAX


@dataclass
class TensorSpec:
    """An activation: `size` int8 a sample, sample after sample from `offset` of the arena."""

    offset: int
    size: int
    zero: int
    scale: float


@dataclass
class OpSpec:
    """One operator; the fields are those of efl_op, dims those of efl_dims (missing ones are 1)."""

    kind: int
    inputs: tuple[int, ...]
    out: int
    dims: dict[str, int]
    lo: int = -128
    hi: int = 127
    mask: tuple[int, int] = (-129, 128)
    param: int = -1
    u8: bool = False  # the file holds uint8
    ratio: float = 0.0
    add: dict[str, int] = field(default_factory=dict)
    softmax: tuple[float, float] | None = None  # scale and beta
    fixed: list[tuple[int, int]] | None = None  # gemmlowp rule: (m, shift) as efl_op.fixed wants them
    binary: BinarySpec | None = None
    table: TableSpec | None = None
    move: MoveSpec | None = None
    lstm: dict[str, Any] | None = None
    svdf: SvdfSpec | None = None
    state: int = -1  # place in the arena
    edges: tuple[int, int] = (0, 0)  # first edge of the output, how many
    edge_in: tuple[int, ...] = (-1, -1)  # of each input


@dataclass
class ParamState:
    """Weights and bias of one operator, and what their training needs. Arrays are changed in place.

    q, r int8 [len]; b int32, rb int8 [co]; scales, mult float32 [1 or co]; dead uint8 [co]; sums int64.
    """

    q: Int8
    b: Int32
    scales: Float32
    mult: Float32
    co: int
    qmin: int = -127
    q_zero: int = 0  # a weight is q - q_zero
    train_w: bool = False
    train_b: bool = False
    rate: float = 1.0
    r: Int8 | None = None
    rb: Int8 | None = None
    dead: npt.NDArray[np.uint8] | None = None
    acc_w: npt.NDArray[np.int64] | None = None
    acc_b: npt.NDArray[np.int64] | None = None
    keys: npt.NDArray[np.uint8] | None = None  # [2, 32], stochastic rounding


@dataclass(frozen=True)
class StepCounts:
    """What happened to one parameter tensor pair over all steps so far."""

    steps: int
    capped: int
    moved: int
    saturated_w: int
    saturated_b: int
    clamped: int


@dataclass
class PlanSpec:
    """A whole plan. `edges` holds arena offsets; `loss` is None for inference only."""

    tensors: list[TensorSpec]
    ops: list[OpSpec]
    params: list[ParamState]
    edges: list[int]
    n_max: int
    inputs: tuple[int, ...]  # a sample holds their values one after another
    arena_bytes: int
    loss: LossSpec | None = None
    threads: int = 1
    most_bytes: int | None = None  # of arena, scratch and packed weights: fewer weights are packed beforehand


def select_isa(isa: int) -> None:
    """Use the kernels of one instruction set (EFL_ISA_*) from now on; for tests."""
    check(lib.efl_isa_select(isa), f"instruction set {isa}")


def supported_isas() -> list[int]:
    """Return the instruction sets (EFL_ISA_*) that run here."""
    return [i for i in range(lib.EFL_ISA_COUNT) if lib.efl_isa_supported() >> i & 1]


def current_isa() -> int:
    """Instruction set whose kernels run now; at first the fastest of this machine."""
    return int(lib.efl_isa_current())


def isa_name() -> str:
    """Return the name of the instruction set in use."""
    return str(ffi.string(lib.efl_isa_name(lib.efl_isa_current())).decode())


def allocate(size: int) -> Int8:
    """Give `size` bytes of working memory, contents unknown, from a cache line on."""
    block = np.empty(size + 63, np.int8)
    first = -block.ctypes.data % 64  # registers of 64 bytes then never cross two lines
    return block[first : first + size]


class Engine:
    """A plan and its memory; not safe for two threads at once."""

    def __init__(self, spec: PlanSpec) -> None:
        self._spec = spec
        self._input_size = sum(spec.tensors[t].size for t in spec.inputs)
        self._keep: list[Any] = []
        self.arena: Int8 = allocate(max(spec.arena_bytes, 64))
        self._plan = ffi.new("efl_plan *")
        self._params = self._make("efl_param[]", [self._param(p) for p in spec.params])
        self._edges = self._make("efl_edge[]", [{"offset": e} for e in spec.edges])
        self._fill()
        self.packed = self._take_packed()
        needed = lib.efl_plan_scratch_bytes(self._plan)
        self.scratch: Int8 = allocate(max(needed, 64))
        self._plan.scratch = self._pointer("void *", self.scratch)
        self._plan.scratch_bytes = self.scratch.size
        check(lib.efl_plan_check(self._plan), "model plan")
        self.pack()
        self.forget()

    def pack(self) -> None:
        """Pack the weights that do not train; call it again after changing one of their arrays."""
        lib.efl_plan_pack(self._plan)

    def forward(self, x: Int8, first: int = 0, last: int | None = None) -> None:
        """Run operators first..last-1 on x, int8 [n, size of all inputs]; results stay in the arena."""
        self._have_threads()
        last = len(self._spec.ops) if last is None else last
        status = lib.efl_plan_forward(self._plan, self._input(x, first), len(x), first, last)
        check(status, "forward pass")

    def forget(self) -> None:
        """Start a new stream: what operators keep from call to call is zero again."""
        for op in self._spec.ops:
            if op.svdf is not None:
                self.arena[op.state : op.state + len(op.svdf.time)] = 0

    def tensor(self, index: int, n: int) -> Int8:
        """Return a view [n, size] of a tensor in the arena; valid until the next call."""
        spec = self._spec.tensors[index]
        return self.arena[spec.offset : spec.offset + n * spec.size].reshape(n, spec.size)

    def train(self, x: Int8, targets: Targets, *, lr: float, batch: int, cap: int, last: bool) -> Outcome:
        """Train one micro-batch.

        Parameters
        ----------
        x : int8 [n, input size].
        targets : of the n samples, as the plan's loss wants them.
        lr : rate in real units.
        batch : samples of the whole batch that this micro-batch is part of.
        cap : K = round(1 / step_cap^2).
        last : True for the batch's last micro-batch: then the weights move.

        Returns
        -------
        Outcome
            Sums over the samples, before the step.
        """
        if self._spec.loss is None:
            raise ValueError("this plan is for inference only")
        n = len(x)
        self._have_threads()
        seen = ffi.new("efl_outcome *")
        step = ffi.new("efl_step *", {"lr": lr, "n": batch, "cap": cap, "last": int(last)})
        target = target_struct(self._spec.loss, targets, n)
        check(lib.efl_plan_train(self._plan, seen, self._input(x), target, n, step), "training step")
        return Outcome(seen.loss, seen.hits, seen.terms, n)

    def score(self, x: Int8, targets: Targets) -> Outcome:
        """Run the model on x, int8 [n, input size], and give its loss; nothing changes."""
        if self._spec.loss is None:
            raise ValueError("this plan has no loss")
        self._have_threads()
        seen = ffi.new("efl_outcome *")
        target = target_struct(self._spec.loss, targets, len(x))
        check(lib.efl_plan_score(self._plan, seen, self._input(x), target, len(x)), "loss")
        return Outcome(seen.loss, seen.hits, seen.terms, len(x))

    def save_counters(self) -> bytes:
        """Copy the parameters' structs: counters and the state of their sums."""
        return bytes(ffi.buffer(self._params))

    def load_counters(self, saved: bytes) -> None:
        """Put back what `save_counters` gave; the pointers in it are this engine's own."""
        ffi.buffer(self._params)[:] = saved

    def _have_threads(self) -> None:
        """Start what is missing: at the first call, and again in a forked child, which has none."""
        if self._spec.threads > 1:
            check(lib.efl_threads_set(self._spec.threads), "starting threads")

    def counts(self, param: int) -> StepCounts:
        """Return the counters of one parameter."""
        p = self._params[param]
        return StepCounts(p.steps, p.capped, p.moved, p.saturated_w, p.saturated_b, p.clamped)

    def take_sums(self, param: int) -> int | None:
        """Exponent of one parameter's sums over micro-batches, None if they are 0; the caller clears them."""
        p = self._params[param]
        exponent = int(p.acc_k) if p.acc_live else None
        p.acc_live = 0
        return exponent

    def _input(self, x: Int8, first: int = 0) -> Any:
        """Pointer to a single input; several ones are copied into the arena before operator 0."""
        spec, size = self._spec, self._input_size
        if x.dtype != _INT8 or not x.flags.c_contiguous or x.size != len(x) * size or len(x) > spec.n_max:
            raise ValueError(f"x must be contiguous int8 [n, {size}], n up to {spec.n_max}")
        if len(spec.inputs) > 1 and first == 0:
            at, rows = 0, x.reshape(len(x), size)
            for t in spec.inputs:
                self.tensor(t, len(x))[:] = rows[:, at : at + spec.tensors[t].size]
                at += spec.tensors[t].size
        return ffi.from_buffer(_INT8_ARRAY, x)

    def _make(self, kind: str, values: Sequence[Any] | dict[str, Any] | int) -> Any:
        made = ffi.new(kind, values or 1)
        self._keep.append(made)
        return made

    def _pointer(self, kind: str, array: npt.NDArray[Any] | None, dtype: Any = None, size: int = 0) -> Any:
        """Pointer into an array that the Engine keeps alive; null for None."""
        if array is None:
            return ffi.NULL
        if (dtype and array.dtype != dtype) or not array.flags.c_contiguous or array.size < size:
            raise ValueError(f"a buffer must be contiguous {dtype} of at least {size} elements")
        buffer = ffi.from_buffer(array)
        self._keep.append((array, buffer))
        return ffi.cast(kind, buffer)

    def _param(self, p: ParamState) -> dict[str, Any]:
        n = p.q.size
        writable = [
            a for a in (p.q if p.train_w else None, p.r, p.b if p.train_b else None, p.rb) if a is not None
        ]
        if not all(a.flags.writeable for a in writable):
            raise ValueError("parameters that train must be writable")
        return {
            "q": self._pointer("int8_t *", p.q, np.int8),
            "r": self._pointer("int8_t *", p.r, np.int8, n),
            "b": self._pointer("int32_t *", p.b, np.int32, p.co),
            "rb": self._pointer("int8_t *", p.rb, np.int8, p.co),
            "scales": self._pointer("float *", p.scales, np.float32),
            "mult": self._pointer("float *", p.mult, np.float32, p.scales.size),
            "dead": self._pointer("uint8_t *", p.dead, np.uint8, p.co),
            "acc_w": self._pointer("int64_t *", p.acc_w, np.int64, n),
            "acc_b": self._pointer("int64_t *", p.acc_b, np.int64, p.co),
            "keys": self._pointer("uint8_t *", p.keys, np.uint8, 64),
            "n_scales": p.scales.size,
            "co": p.co,
            "len": n,
            "qmin": p.qmin,
            "q_zero": p.q_zero,
            "train_w": p.train_w,
            "train_b": p.train_b,
            "rate": p.rate,
        }

    def _op(self, op: OpSpec) -> dict[str, Any]:
        dims = dict.fromkeys(
            ("n", "hi", "wi", "ci", "ho", "wo", "co", "kh", "kw", "sh", "sw", "dh", "dw", "groups", "mult"), 1
        )
        w_zero = self._spec.params[op.param].q_zero if op.param >= 0 else 0
        powers = ffi.NULL
        if op.softmax is not None:
            powers = self._make("double[]", 256)
            lib.efl_softmax_tables(powers, ffi.NULL, *op.softmax)
        fixed = ffi.NULL if op.fixed is None else self._make("efl_fixed[]", op.fixed)
        return {
            "kind": op.kind,
            "in0": op.inputs[0],
            "in1": op.inputs[1] if len(op.inputs) > 1 and not op.move else -1,
            "out": op.out,
            "param": op.param,
            "edges": op.edges[0],
            "n_edges": op.edges[1],
            "edge0": -1 if op.move else op.edge_in[0],
            "edge1": -1 if op.move else op.edge_in[1],
            "mask_lo": op.mask[0],
            "mask_hi": op.mask[1],
            "lo": op.lo,
            "hi": op.hi,
            "u8": op.u8,
            "ratio": op.ratio,
            "add": op.add,
            "dims": dims | op.dims | {"w_zero": w_zero},
            "powers": powers,
            "table": table_struct(op.table, self._keep) if op.table else ffi.NULL,
            "binary": binary_struct(op.binary, fixed, self._keep) if op.binary else ffi.NULL,
            "fixed": fixed,
            "move": move_struct(op.move, op.inputs, op.edge_in, self._keep) if op.move else ffi.NULL,
            "lstm": self._make("efl_lstm *", op.lstm) if op.lstm else ffi.NULL,
            "svdf": svdf_struct(op.svdf, self._keep) if op.svdf else ffi.NULL,
            "state": op.state,
        }

    def _take_packed(self) -> Int8:
        """Memory for the packed weights of operators whose weights do not train, as far as they fit."""
        ops, params = self._plan.ops, self._spec.params
        sizes = [
            0 if op.param < 0 or params[op.param].train_w else lib.efl_op_packed_bytes(ops + i)
            for i, op in enumerate(self._spec.ops)
        ]
        rounded = [-(-size // 64) * 64 for size in sizes]
        if self._spec.most_bytes is not None:
            self._drop_packed(rounded, self._spec.most_bytes)
        packed = allocate(sum(rounded))
        at = self._pointer("int8_t *", packed)
        for i, size in enumerate(sizes):
            if rounded[i]:
                ops[i].packed, ops[i].packed_bytes = at, size
            at += rounded[i]
        return packed

    def _drop_packed(self, sizes: list[int], most: int) -> None:
        """Leave out the largest packed weights until all fits; they are packed at each call instead."""
        ops = self._plan.ops
        wanted = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: sizes[i])
        for i in wanted:
            ops[i].packed = self._plan.arena  # stands in while bytes are counted
        while wanted and self.arena.nbytes + lib.efl_plan_scratch_bytes(self._plan) + sum(sizes) > most:
            i = wanted.pop()
            ops[i].packed, sizes[i] = ffi.NULL, 0

    def _fill(self) -> None:
        spec, plan = self._spec, self._plan
        plan.tensors = self._make("efl_tensor[]", [vars(t) for t in spec.tensors])
        plan.ops = self._make("efl_op[]", [self._op(op) for op in spec.ops])
        plan.params = self._params
        plan.edges = self._edges
        plan.n_tensors, plan.n_ops = len(spec.tensors), len(spec.ops)
        plan.n_params, plan.n_edges = len(spec.params), len(spec.edges)
        plan.n_max = spec.n_max
        plan.threads = spec.threads
        plan.input = spec.inputs[0] if len(spec.inputs) == 1 else -1
        plan.arena = self._pointer("int8_t *", self.arena)
        plan.arena_bytes = self.arena.size
        if spec.loss is not None:
            plan.loss = loss_struct(spec.loss, self._make)
