# SPDX-License-Identifier: Apache-2.0
"""The file's own numbers at its inputs and outputs, on both sides of the int8 body that the C core runs.

In: Port, its Tensor, values. Out: int8 for the C core, or the file's numbers for the caller. Integer rules
are LiteRT's, bit for bit; float SOFTMAX and LOG_SOFTMAX behind the body are NumPy's, to about 1e-7.
Refuses nothing: edgefl/model/ops_border.py checked the steps. Source: docs/training.md, "Borders".
"""

from __future__ import annotations

import numpy as np

from edgefl.model.fixed import multiplier
from edgefl.model.fixed_softmax import softmax_int16, times
from edgefl.model.graph import Port, Step, Tensor

_F = np.float32


def take_input(port: Port, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Give the int8 values that the file makes of its own input, any shape."""
    if port.dtype == "int8":
        return values
    if port.dtype == "uint8":
        return (values ^ np.uint8(128)).view(np.int8)
    lift = 128 * tensor.unsigned
    low, high, zero = -128 + lift, 127 + lift, tensor.zero + lift
    if port.dtype == "float32":
        with np.errstate(over="ignore"):
            steps = np.clip(values * (_F(1) / _F(tensor.scale)), _F(low - zero), _F(high - zero))
        whole = np.rint(steps).astype(np.int64) + zero
    else:
        ratio = multiplier(float(_F(port.scale)) / float(_F(tensor.scale)))
        whole = np.clip(times(values.astype(np.int64) - port.zero, ratio) + zero, low, high)
    out: np.ndarray = (whole - lift).astype(np.int8)
    return out


def give_input(port: Port, tensor: Tensor, q: np.ndarray) -> np.ndarray:
    """Give values of the file's own input of which it makes the int8 values q."""
    if port.dtype == "int8":
        return q
    if port.dtype == "uint8":
        return np.ascontiguousarray(q).view(np.uint8) ^ np.uint8(128)
    if port.dtype == "float32":
        return tensor.real(q)
    return to_integers(tensor.real(q), port)


def to_integers(real: np.ndarray, port: Port) -> np.ndarray:
    """Quantise real values into the integers of an input: nearest, ties to even, clamped."""
    limit = np.iinfo(port.dtype)
    whole = np.rint(real.astype(np.float64) / port.scale) + port.zero
    out: np.ndarray = np.clip(whole, limit.min, limit.max).astype(port.dtype)
    return out


def give_output(port: Port, tensor: Tensor, q: np.ndarray) -> np.ndarray:
    """Give the file's own output for the int8 values q [..., C]."""
    values = q
    for step in port.steps:
        values = _run_step(step, tensor, values)
    if port.dtype == "uint8":
        return np.ascontiguousarray(values).view(np.uint8) ^ np.uint8(128)
    return values


def real_output(port: Port, tensor: Tensor, q: np.ndarray) -> np.ndarray:
    """Give the real values, float32, of an output for the int8 values q [..., C]."""
    if not port.steps:
        return tensor.real(q)
    values = give_output(port, tensor, q)
    real: np.ndarray = ((values.astype(np.float64) - port.zero) * port.scale).astype(np.float32)
    return real


def take_output(port: Port, tensor: Tensor, values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Give the int8 values behind the file's own output.

    Where steps cannot be undone: `expected` if it gives these values up to float rounding, else int8 values
    in their order, so that the largest still shows.
    """
    if port.dtype == "int8":
        return values
    if port.dtype == "uint8":
        return (values ^ np.uint8(128)).view(np.int8)
    if [step.kind for step in port.steps] == ["DEQUANTIZE"]:
        q: np.ndarray = np.rint(values / _F(tensor.scale)) + _F(tensor.zero)
        return q.astype(np.int8)
    if np.allclose(give_output(port, tensor, expected), values, rtol=1e-5, atol=1e-5):
        return expected
    low, high = float(values.min()), float(values.max())
    out: np.ndarray = np.rint((values - low) * (255 / max(high - low, 1e-30)) - 128).astype(np.int8)
    return out


def _run_step(step: Step, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    if step.kind == "DEQUANTIZE":
        real: np.ndarray = (values.astype(_F) - _F(step.zero_in)) * _F(step.scale_in)
        return real
    if step.kind == "QUANTIZE":
        limit = np.iinfo(step.dtype)
        ratio = multiplier(float(_F(step.scale_in)) / float(_F(step.scale)))
        moved = times(values.astype(np.int64) - step.zero_in, ratio) + step.zero
        out: np.ndarray = np.clip(moved, limit.min, limit.max).astype(step.dtype)
        return out
    if step.kind == "SOFTMAX16":
        return softmax_int16(values, step.scale_in, step.beta)
    shifted = (values - values.max(axis=-1, keepdims=True)) * _F(step.beta)
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(total) if step.kind == "LOG_SOFTMAX" else powers / total
    return result
