# SPDX-License-Identifier: Apache-2.0
"""Independent forward pass of an int8 graph, `xnnpack` rule, in NumPy; sums in float64 (exact to 2^53).

In: Graph and x int8 [n,H,W,C].  Out: every tensor's values, int8.  Uses nothing of edgefl but the Graph.
Source: docs/training.md, section 1.
"""

from __future__ import annotations

import numpy as np
from oracle.elementwise import binary, table
from oracle.lstm import lstm, svdf
from oracle.moves import move
from oracle.numbers import F, act_bounds, rne

from edgefl.model.graph import Graph, Node, Op


def scaled(acc: np.ndarray, scale: np.ndarray, zero: int, bounds: tuple[int, int]) -> np.ndarray:
    """float32 scaling, clamp in float, round, add the zero point."""
    lo, hi = bounds
    v = acc.astype(F) * scale.astype(F)
    return (rne(np.clip(v, F(lo - zero), F(hi - zero))).astype(np.int64) + zero).astype(np.int8)


def patches(x: np.ndarray, node: Node, out: tuple[int, int], fill: int) -> np.ndarray:
    """Windows of x [n,H,W,C] as [n,OH,OW,Kh,Kw,C], `fill` outside the map."""
    (kh, kw), (sh, sw), (dh, dw) = node.kernel, node.stride, node.dilation
    oh, ow = out
    top, _, left, _ = node.pad
    n, h, w, c = x.shape
    need_h, need_w = (oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1
    padded = np.full((n, max(need_h, top + h), max(need_w, left + w), c), fill, x.dtype)
    padded[:, top : top + h, left : left + w] = x
    windows = np.empty((n, oh, ow, kh, kw, c), x.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
            windows[:, :, :, i, j] = padded[:, rows, cols]
    return windows


def _weighted(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    param = graph.params[node.param]
    t_in, t_out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    n = x.shape[0]
    xz = x.astype(np.float64) - t_in.zero
    q = param.q.astype(np.float64) - param.zero
    oh, ow, co = t_out.shape
    if node.kind is Op.DENSE:
        acc = (xz.reshape(n, -1) @ q.T).reshape(n, 1, 1, co)
    else:
        windows = patches(xz, node, (oh, ow), 0)
        if node.kind is Op.DWCONV2D:
            acc = np.einsum("nhwijc,ijcm->nhwcm", windows, q.reshape(*node.kernel, -1, node.mult)).reshape(
                n, oh, ow, co
            )
        else:
            g, depth = node.groups, param.q.shape[3]
            acc = np.concatenate(
                [
                    windows[..., i * depth : (i + 1) * depth].reshape(n * oh * ow, -1)
                    @ q[i * (co // g) : (i + 1) * (co // g)].reshape(co // g, -1).T
                    for i in range(g)
                ],
                axis=1,
            ).reshape(n, oh, ow, co)
    total = acc.astype(np.int64) + param.b.astype(np.int64)
    scale = F(t_in.scale) * param.scales / F(t_out.scale)
    return scaled(total, scale, t_out.zero, act_bounds(node, graph))


def window_counts(node: Node, shape: tuple[int, int, int], out: tuple[int, int]) -> np.ndarray:
    """Elements of each window inside the map, int64 [OH,OW]."""
    ones = np.ones((1, shape[0], shape[1], 1), np.int64)
    return patches(ones, node, out, 0).sum(axis=(3, 4, 5))[0]


def _avgpool(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    oh, ow, _ = graph.tensors[node.output].shape
    total = patches(x.astype(np.int64), node, (oh, ow), 0).sum(axis=(3, 4))
    count = window_counts(node, graph.tensors[node.inputs[0]].shape, (oh, ow))[None, :, :, None]
    if graph.tensors[node.inputs[0]].unsigned:  # half up in uint8
        mean = (total + count // 2) // count
    else:
        mean = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return np.clip(mean, *act_bounds(node, graph)).astype(np.int8)


def _add(graph: Graph, node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    y = graph.tensors[node.output]
    s = [F(graph.tensors[i].scale) / F(y.scale) for i in node.inputs]
    shift = 20 - (int(np.frexp(max(s))[1]) - 1)
    m = [int(rne(np.ldexp(v, shift))) for v in s]
    acc = sum(
        (v.astype(np.int64) - graph.tensors[i].zero) * w
        for v, i, w in zip((a, b), node.inputs, m, strict=True)
    )
    return np.clip(((acc + (1 << (shift - 1))) >> shift) + y.zero, *act_bounds(node, graph)).astype(np.int8)


def _mean(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    t_in, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    # Checked against ai-edge-litert 2.3.0 on 89 600 outputs with exact ties: 0 differences.
    n, lift = x.shape[1] * x.shape[2], 128 * t_in.unsigned  # the float sums are those of the file's numbers
    total = (x.astype(np.int64) + lift).sum(axis=(1, 2), keepdims=True)
    scale = (F(t_in.scale) / F(y.scale)) * (F(1) / F(n))
    v = total.astype(F) * scale + (F(y.zero + lift) - F(n * (t_in.zero + lift)) * scale)
    return (np.clip(rne(v), -128 + lift, 127 + lift) - lift).astype(np.int8)


def _softmax(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    z = x.astype(np.float64) * float(F(graph.tensors[node.inputs[0]].scale)) * node.beta
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.clip(rne(256 * p) - 128, -128, 127).astype(np.int8)


def _requant(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    a, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    m = int(rne(F(256) * (F(a.scale) / F(y.scale))))
    return np.clip((((x.astype(np.int64) - a.zero) * m + 128) >> 8) + y.zero, -128, 127).astype(np.int8)


def run(graph: Graph, x: np.ndarray) -> dict[int, np.ndarray]:
    """All tensors of the graph, int8 [n,H,W,C], by index; x holds the inputs of a sample after each other."""
    n = x.shape[0]
    values, at = {}, 0
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        values[port.tensor] = x.reshape(n, -1)[:, at : at + tensor.size].reshape(n, *tensor.shape)
        at += tensor.size
    for node in graph.nodes:
        a = values[node.inputs[0]]
        shape = (n, *graph.tensors[node.output].shape)
        if node.kind is Op.LSTM:
            y, _ = lstm(graph, node, a)
        elif node.kind is Op.SVDF:
            y = svdf(graph, node, a)
        elif node.param >= 0:
            y = _weighted(graph, node, a)
        elif node.kind is Op.ADD:
            y = _add(graph, node, a, values[node.inputs[1]])
        elif node.kind is Op.BINARY:
            y = binary(graph, node, values)
        elif node.kind is Op.MOVE:
            y = move(graph, node, values)
        elif node.kind is Op.TABLE:
            y = table(node, a)
        elif node.kind is Op.MAXPOOL:
            y = patches(a, node, shape[1:3], -128).max(axis=(3, 4))
            y = np.clip(y, *act_bounds(node, graph)).astype(np.int8)
        elif node.kind is Op.PAD:
            top, bottom, left, right = node.pad
            sides = ((0, 0), (top, bottom), (left, right), (0, 0))
            y = np.pad(a, sides, constant_values=graph.tensors[node.inputs[0]].zero)
        elif node.kind is Op.COPY:
            y = a
        else:
            y = {Op.AVGPOOL: _avgpool, Op.MEAN: _mean, Op.SOFTMAX: _softmax, Op.REQUANT: _requant}[node.kind](
                graph, node, a
            )
        values[node.output] = y.reshape(shape)
    return values
