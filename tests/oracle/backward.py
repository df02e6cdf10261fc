# SPDX-License-Identifier: Apache-2.0
"""Independent backward pass in int8 errors with power-of-two scales, in NumPy.

In: Graph, saved int8 values of a (micro-)batch, the loss's float32 error. Out: for each param (A, B, k):
int64 weight and bias gradients and their exponent. Source: docs/training.md, section 2, "Arithmetic,
exactly".
"""

from __future__ import annotations

import numpy as np
from oracle.elementwise import binary_errors, table_error
from oracle.forward import patches, window_counts
from oracle.lstm_backward import Gradient, lstm_back
from oracle.moves import move_errors
from oracle.numbers import Error8, F, act_bounds, ceil_log2, fan_in, float_to8, int_to8, rne

from edgefl.model.graph import Act, Graph, Node, Op


def _mask(graph: Graph, node: Node, error: Error8, y: np.ndarray) -> Error8:
    """Zero where the saved output sits at a bound of the fused activation."""
    if node.act is Act.NONE:
        return error
    t = graph.tensors[node.output]
    e = error.e
    if node.act is Act.RELU_N1_TO_1:
        low, high = int(rne(F(-1) / F(t.scale))) + t.zero, int(rne(F(1) / F(t.scale))) + t.zero
        e = np.where(y == low, 0, e) if low >= -128 else e
        e = np.where(y == high, 0, e) if high <= 127 else e
    else:
        e = np.where(y == t.zero, 0, e)
        if node.act is Act.RELU6 and int(rne(F(6) / F(t.scale))) + t.zero <= 127:
            e = np.where(y == act_bounds(node, graph)[1], 0, e)
    return Error8(e, error.k)


def _scatter(columns: np.ndarray, node: Node, shape: tuple[int, int, int]) -> np.ndarray:
    """Sum windows [n,OH,OW,Kh,Kw,C] back onto the map [n,H,W,C]: the transpose of `patches`."""
    (kh, kw), (sh, sw), (dh, dw) = node.kernel, node.stride, node.dilation
    top, _, left, _ = node.pad
    h, w, c = shape
    n, oh, ow = columns.shape[:3]
    need_h, need_w = (oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1
    padded = np.zeros((n, max(need_h, top + h), max(need_w, left + w), c), np.int64)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
            padded[:, rows, cols] += columns[:, :, :, i, j]
    return padded[:, top : top + h, left : left + w]


def _weight_gradient(graph: Graph, node: Node, e: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A = sum of e * (x - z_x), in the shape of the weights; the pad value counts as z_x."""
    q = graph.params[node.param].q
    xz = x.astype(np.float64) - graph.tensors[node.inputs[0]].zero
    n, oh, ow, co = e.shape
    ef = e.astype(np.float64)
    if node.kind is Op.DENSE:
        a = ef.reshape(n, co).T @ xz.reshape(n, -1)
    elif node.kind is Op.DWCONV2D:
        windows = patches(xz, node, (oh, ow), 0)
        a = np.einsum("nhwijc,nhwcm->ijcm", windows, ef.reshape(n, oh, ow, -1, node.mult))
    else:
        windows = patches(xz, node, (oh, ow), 0)
        g, depth = node.groups, q.shape[3]
        a = np.concatenate(
            [
                ef[..., i * (co // g) : (i + 1) * (co // g)].reshape(n * oh * ow, -1).T
                @ windows[..., i * depth : (i + 1) * depth].reshape(n * oh * ow, -1)
                for i in range(g)
            ]
        )
    return a.reshape(q.shape).astype(np.int64)


def _input_error(graph: Graph, node: Node, error: Error8) -> Error8 | None:
    """dX of an operator with weights: scale the channels, quantise, multiply, shift."""
    param = graph.params[node.param]
    prime = float_to8(error.e.astype(F) * param.scales.astype(F))
    if prime is None:
        return None
    e, q = prime.e.astype(np.float64), param.q.astype(np.float64) - param.zero
    n, oh, ow, co = e.shape
    h, w, c = graph.tensors[node.inputs[0]].shape
    if node.kind is Op.DENSE:
        dx = (e.reshape(n, co) @ q).reshape(n, h, w, c).astype(np.int64)
    elif node.kind is Op.DWCONV2D:
        columns = np.einsum(
            "nhwcm,ijcm->nhwijc", e.reshape(n, oh, ow, c, node.mult), q.reshape(*node.kernel, c, node.mult)
        )
        dx = _scatter(columns.astype(np.int64), node, (h, w, c))
    else:
        g = node.groups
        columns = np.concatenate(
            [
                (
                    e[..., i * (co // g) : (i + 1) * (co // g)].reshape(n * oh * ow, -1)
                    @ q[i * (co // g) : (i + 1) * (co // g)].reshape(co // g, -1)
                ).reshape(n, oh, ow, *node.kernel, c // g)
                for i in range(g)
            ],
            axis=-1,
        )
        dx = _scatter(columns.astype(np.int64), node, (h, w, c))
    return int_to8(dx, error.k + prime.k)


def _average(graph: Graph, node: Node, error: Error8) -> Error8 | None:
    """AVERAGE_POOL and MEAN: spread each error over its window."""
    shape = graph.tensors[node.inputs[0]].shape
    n, oh, ow, c = error.e.shape
    if node.kind is Op.MEAN:
        full, counts = shape[0] * shape[1], np.array([[shape[0] * shape[1]]])
    else:
        full, counts = node.kernel[0] * node.kernel[1], window_counts(node, shape, (oh, ow))
    bits = 15 + ceil_log2(full)
    share = np.array([[_rne_div(1 << bits, int(v)) for v in row] for row in counts])
    spread = error.e * share[None, :, :, None]
    if node.kind is Op.MEAN:
        dx = np.broadcast_to(spread, (n, *shape[:2], c))
    else:
        dx = _scatter(np.broadcast_to(spread[:, :, :, None, None], (n, oh, ow, *node.kernel, c)), node, shape)
    return int_to8(dx, error.k - bits)


def _rne_div(a: int, b: int) -> int:
    q, r = divmod(a, b)
    return q + (1 if 2 * r > b or (2 * r == b and q & 1) else 0)


def _maximum(graph: Graph, node: Node, error: Error8, x: np.ndarray) -> Error8 | None:
    """MAX_POOL: the first maximum in row-major order takes the error."""
    n, oh, ow, c = error.e.shape
    windows = patches(x.astype(np.int64), node, (oh, ow), -1000).reshape(n, oh, ow, -1, c)
    first = windows.argmax(axis=3)
    columns = (np.arange(windows.shape[3])[None, None, None, :, None] == first[:, :, :, None]) * error.e[
        :, :, :, None
    ]
    columns = columns.reshape(n, oh, ow, *node.kernel, c)
    return int_to8(_scatter(columns, node, graph.tensors[node.inputs[0]].shape), error.k)


def gradients(
    graph: Graph,
    values: dict[int, np.ndarray],
    head_errors: dict[int, np.ndarray],
    truncate: int | None = None,
) -> dict[int, list[Gradient]]:
    """(A, B, k) of each param of the graph, of an LSTM several; params that no error reaches are absent."""
    errors: dict[int, list[Error8 | None]] = {t: [float_to8(e)] for t, e in head_errors.items()}
    found: dict[int, list[Gradient]] = {}
    for node in reversed(graph.nodes):
        total = fan_in(errors.pop(node.output, []))
        if total is None:
            continue
        masked = node.output not in head_errors
        error = _mask(graph, node, total, values[node.output].astype(np.int64)) if masked else total
        if node.kind in (Op.BINARY, Op.MOVE):
            several = (
                binary_errors(graph, node, error, values)
                if node.kind is Op.BINARY
                else move_errors(graph, node, error)
            )
            for t, back in several:
                errors.setdefault(t, []).append(back)
            continue
        x = values[node.inputs[0]]
        if node.kind is Op.LSTM:
            back, steps = lstm_back(graph, node, error, x, truncate)
            found.update(steps)
        elif node.param >= 0:
            a = _weight_gradient(graph, node, error.e, x)
            found[node.param] = [(a, error.e.sum(axis=(0, 1, 2)), error.k)]
            back = _input_error(graph, node, error)
        elif node.kind is Op.ADD:
            back = error if error.e.any() else None
            errors.setdefault(node.inputs[1], []).append(back)
        elif node.kind is Op.TABLE:
            back = table_error(node, error, x)
        elif node.kind in (Op.AVGPOOL, Op.MEAN):
            back = _average(graph, node, error)
        elif node.kind is Op.MAXPOOL:
            back = _maximum(graph, node, error, x)
        else:
            e, shape = error.e, graph.tensors[node.inputs[0]].shape
            if node.kind is Op.PAD:
                top, _, left, _ = node.pad
                e = e[:, top : top + shape[0], left : left + shape[1]]
            back = Error8(e.reshape(-1, *shape), error.k) if e.any() else None
        errors.setdefault(node.inputs[0], []).append(back)
    return found
