# SPDX-License-Identifier: Apache-2.0
"""Operators around the int8 body: QUANTIZE at an input; DEQUANTIZE, SOFTMAX, QUANTIZE behind the last int8.

In: Builder and RawOp. Out: an input's int8 tensor, or one more Step of an output. Refuses wide or float
values in the middle of a model. What the steps compute: edgefl/model/border.py.
"""

from __future__ import annotations

import numpy as np

from edgefl.model.build import Builder, refuse
from edgefl.model.flat import RawOp, RawTensor
from edgefl.model.graph import Step

WIDE = ("int16", "int32")  # integers at the borders
_MIDDLE = "edgefl takes float and wide integer values at inputs and outputs only; convert to int8 throughout"


def is_behind(b: Builder, op: RawOp) -> bool:
    """Whether `op` works on what left the int8 body, or makes a value leave it."""
    if any(i in b.tails for i in op.inputs):
        return True
    wide = any(b.raw.tensors[i].dtype in WIDE for i in op.outputs if i >= 0)
    return op.name == "DEQUANTIZE" or (op.name in ("QUANTIZE", "SOFTMAX") and wide)


def append_step(b: Builder, op: RawOp) -> None:
    """Add `op` to the steps of an output."""
    if len(op.inputs) != 1 or len(op.outputs) != 1 or min(*op.inputs, *op.outputs) < 0:
        raise refuse(op, "does not turn one tensor into one", "convert the model again")
    source, target = (b.raw.tensors[i] for i in (op.inputs[0], op.outputs[0]))
    if op.name == "DEQUANTIZE" and source.n_bytes:
        raise refuse(
            op,
            f"turns {source.dtype} weights into float32: a hybrid model",
            "quantise its activations too: convert with sample inputs, for integers only",
        )
    tensor, steps = b.tails.get(op.inputs[0]) or (b.activation(op), ())
    kind = {
        ("DEQUANTIZE", "float32"): "DEQUANTIZE",
        ("SOFTMAX", "float32"): "SOFTMAX",
        ("LOG_SOFTMAX", "float32"): "LOG_SOFTMAX",
        ("SOFTMAX", "int16"): "SOFTMAX16",
        ("QUANTIZE", "int16"): "QUANTIZE",
        ("QUANTIZE", "int32"): "QUANTIZE",
    }.get((op.name, target.dtype))
    wanted = {"DEQUANTIZE": ("int8", "uint8", "int16"), "SOFTMAX16": ("int8",), "QUANTIZE": ("int8", "int16")}
    if kind is None or source.dtype not in wanted.get(kind, ("float32",)) or source.shape != target.shape:
        raise refuse(op, f"takes {source.dtype} values and gives {target.dtype}", _MIDDLE)
    if op.outputs[0] in b.tails or b.is_made(op.outputs[0]):
        raise refuse(op, f"writes tensor {op.outputs[0]} a second time", "the file is damaged")
    scale_in, zero_in = quantisation(op, source)
    scale, zero = quantisation(op, target)
    beta = float(op.options["Beta"]) if op.name == "SOFTMAX" else 1.0
    if not 0 < beta < 1e6:
        raise refuse(op, f"has beta {beta}, edgefl takes a positive one")
    if kind == "SOFTMAX16" and (abs(scale * 65536 - 1) > 0.001 or zero != -32768 or not source.shape):
        raise refuse(op, "has an int16 output scale other than 1/65536 with zero point -32768")
    if kind == "QUANTIZE" and not 2.0**-30 < scale_in / scale < 2.0**30:
        raise refuse(op, "changes the scale by a factor outside 2^-30..2^30")
    if kind == "DEQUANTIZE":
        zero_in -= 128 * (source.dtype == "uint8")
    step = Step(kind, target.dtype, scale_in, zero_in, scale, zero, beta)
    b.tails[op.outputs[0]] = (tensor, (*steps, step))


def quantised_input(b: Builder, op: RawOp) -> bool:
    """Take `op` as the QUANTIZE of an input that is not int8 or uint8, if that is what it is."""
    source = op.inputs[0] if len(op.inputs) == 1 else -1
    if source not in b.raw.inputs or b.raw.tensors[source].dtype not in ("float32", *WIDE):
        return False
    if source in b.sources:
        raise refuse(op, "quantises an input a second time", "edgefl takes one QUANTIZE for each input")
    scale, _ = quantisation(op, b.raw.tensors[source])
    b.sources[source] = made = b.output(op)
    if not 2.0**-30 < scale / b.scale(made) < 2.0**30:
        raise refuse(op, "changes the scale by a factor outside 2^-30..2^30")
    return True


def quantisation(op: RawOp, raw: RawTensor) -> tuple[float, int]:
    """Scale and zero point of a tensor at the border; 1 and 0 for float32."""
    if raw.dtype == "float32":
        return 1.0, 0
    sound = len(raw.scales) == 1 and np.isfinite(raw.scales[0]) and raw.scales[0] > 0
    if not sound or abs(int(raw.zeros[0])) > 1 << 15:
        raise refuse(op, f"needs one scale above 0 for its {raw.dtype} tensor", "convert it again")
    return float(raw.scales[0]), int(raw.zeros[0])
