# SPDX-License-Identifier: Apache-2.0
"""Samples in the quantisation of a model's input.

In: x [n, ...], float or in the model's own input dtype. Out: int8 [n, H, W, C].  Refuses NaN and infinities,
shapes that fit only by accident, integers that are not the model's own dtype.
Invariant: devices and hub quantise alike, so calibration and training see the same numbers.
"""

from __future__ import annotations

import numpy as np

from edgefl.errors import DataError
from edgefl.model.graph import Graph

_CHUNK = 1 << 20  # values quantised at a time: 4 MB of float32 beside the result


def quantise(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Bring samples into the model's input quantisation.

    Parameters
    ----------
    graph : Graph
        The model.
    x : ndarray, shape (n, ...)
        Float values, quantised with the model's input scale and zero point; or the model's own input dtype,
        taken as it is. The shape of one sample is the model's, up to dimensions of 1.

    Returns
    -------
    ndarray of int8, shape (n, H, W, C)
        round(x / scale) + zero point, nearest even, clamped; a view of `x` where it is int8 already.

    Raises
    ------
    DataError
        Another shape or dtype, no sample, NaN or infinity.
    """
    tensor = graph.tensors[graph.input]
    x = np.asarray(x)
    own = tensor.sample_shape
    if x.ndim < 1 or _without_ones(x.shape[1:]) != _without_ones(own):
        raise DataError(
            f"x has shape {list(x.shape)}", hint=f"this model takes [n, {', '.join(map(str, own))}]"
        )
    if len(x) == 0:
        raise DataError("x has no samples; at least one is needed")
    shape = (len(x), *tensor.shape)
    if x.dtype == np.int8 and graph.input_dtype == "int8":
        return np.ascontiguousarray(x).reshape(shape)
    if x.dtype.kind != "f":
        own_dtype = "" if graph.input_dtype == "float32" else f" or its stored {graph.input_dtype}"
        raise DataError(f"x is {x.dtype}", hint=f"this model takes float values{own_dtype}")
    return _quantise_float(x, tensor.scale, tensor.zero).reshape(shape)


def _quantise_float(x: np.ndarray, scale: float, zero: int) -> np.ndarray:
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.size, np.int8)
    with np.errstate(over="ignore"):
        for i in range(0, flat.size, _CHUNK):
            part = flat[i : i + _CHUNK].astype(np.float32)
            if not np.isfinite(part).all():
                bad = i + int(np.flatnonzero(~np.isfinite(part))[0])
                raise DataError(
                    f"x holds NaN or infinity at sample {bad // (flat.size // len(x))}; clean the data first"
                )
            low, high = np.float32(-128 - zero), np.float32(127 - zero)
            out[i : i + _CHUNK] = (
                np.rint(np.clip(part / np.float32(scale), low, high)) + np.float32(zero)
            ).astype(np.int8)
    return out


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n != 1]
