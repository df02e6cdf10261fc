# SPDX-License-Identifier: Apache-2.0
"""Samples in the quantisation of a model's inputs.

In: x [n, ...] for each input, float or in the file's dtype. Out: int8 [n, ...].  Refuses NaN and infinities,
shapes that fit only by accident, integers that are not the model's own dtype.
Invariant: devices and hub quantise alike, so calibration and training see the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from edgefl.errors import DataError
from edgefl.model.border import take_input, to_integers
from edgefl.model.graph import Graph, Port, Tensor

Samples: TypeAlias = "np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]"

_STORED = {name: np.dtype(name) for name in ("int8", "uint8", "int16", "int32")}
_CHUNK = 1 << 18  # values quantised at a time: 1 MB of float32 beside the result


def quantise(graph: Graph, x: Samples, release: Callable[[], None] = lambda: None) -> np.ndarray:
    """Bring samples into the model's input quantisation.

    Parameters
    ----------
    graph : Graph
        The model.
    x : ndarray of shape (n, ...), or one for each input as a sequence or by name
        Float values, quantised with the input's scale and zero point; or the file's own input dtype, taken as
        it is. The shape of one sample is the model's, up to dimensions of 1.

    release : callable
        Called after every part of x that was quantised; x in a mapping can give its pages back then.

    Returns
    -------
    ndarray of int8, shape (n, H, W, C), or (n, size of all inputs) if the model has several
        round(x / scale) + zero point, nearest even, clamped; where the file takes float or int16, what its
        QUANTIZE makes of x. A view of `x` where it is int8 already.

    Raises
    ------
    DataError
        A missing input, another shape or dtype, no sample, NaN or infinity.
    """
    pairs = zip(graph.inputs, _arrays(graph, x), strict=True)
    parts = [_quantise_input(graph, port, part, release) for port, part in pairs]
    if len(parts) == 1:
        return parts[0]
    if len({len(part) for part in parts}) > 1:
        raise DataError(f"the inputs have {', '.join(str(len(part)) for part in parts)} samples, not as many")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _arrays(graph: Graph, x: Samples) -> list[np.ndarray]:
    """One array for each input, in file order."""
    names = [port.name for port in graph.inputs]
    if isinstance(x, Mapping):
        if set(x) != set(names) or len(set(names)) < len(names):
            raise DataError(f"x names {', '.join(map(str, x))}", hint=f"this model takes {', '.join(names)}")
        return [np.asarray(x[name]) for name in names]
    if len(names) == 1:
        return [np.asarray(x)]
    if isinstance(x, np.ndarray) or len(x) != len(names):
        raise DataError(
            f"this model has {len(names)} inputs", hint=f"give a list of arrays: {', '.join(names)}"
        )
    return [np.asarray(part) for part in x]


def _quantise_input(graph: Graph, port: Port, x: np.ndarray, release: Callable[[], None]) -> np.ndarray:
    tensor = graph.tensors[port.tensor]
    own = tensor.sample_shape
    if x.ndim < 1 or (x.shape[1:] != own and _without_ones(x.shape[1:]) != _without_ones(own)):
        raise DataError(
            f"x has shape {list(x.shape)}", hint=f"this model takes [n, {', '.join(map(str, own))}]"
        )
    if len(x) == 0:
        raise DataError("x has no samples; at least one is needed")
    shape = (len(x), *tensor.shape)
    if x.dtype == _STORED.get(port.dtype):
        return take_input(port, tensor, np.ascontiguousarray(x)).reshape(shape)
    if x.dtype.kind != "f":
        own_dtype = "" if port.dtype == "float32" else f" or its stored {port.dtype}"
        raise DataError(f"x is {x.dtype}", hint=f"this model takes float values{own_dtype}")
    return _quantise_float(x, port, tensor, release).reshape(shape)


def _quantise_float(x: np.ndarray, port: Port, tensor: Tensor, release: Callable[[], None]) -> np.ndarray:
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.size, np.int8)
    for i in range(0, flat.size, _CHUNK):
        with np.errstate(over="ignore"):
            part = flat[i : i + _CHUNK].astype(np.float32)
        if not np.isfinite(part).all():
            bad = i + int(np.flatnonzero(~np.isfinite(part))[0])
            raise DataError(
                f"x holds NaN or infinity at sample {bad // (flat.size // len(x))}; clean the data first"
            )
        if port.dtype in ("int8", "uint8"):
            out[i : i + _CHUNK] = _nearest(part, tensor.scale, tensor.zero)
        else:
            own = part if port.dtype == "float32" else to_integers(part, port)
            out[i : i + _CHUNK] = take_input(port, tensor, own)
        release()
    return out


def _nearest(x: np.ndarray, scale: float, zero: int) -> np.ndarray:
    low, high = np.float32(-128 - zero), np.float32(127 - zero)
    with np.errstate(over="ignore"):
        steps = np.rint(np.clip(x / np.float32(scale), low, high)) + np.float32(zero)
    out: np.ndarray = steps.astype(np.int8)
    return out


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]
