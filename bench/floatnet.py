# SPDX-License-Identifier: Apache-2.0
"""The fp32 twin of an int8 model, to learn beside it (bench/peernet.py has one to time): with LSTM and pools.

In: Graph.  Out: a PyTorch module, NHWC float in, [n, outputs] float out (logits where a SOFTMAX ends the
model), with `w` and `b` by param.  Refuses other operators by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edgefl.model.graph import Act, Graph, Node, Op

CLAMPS = {Act.RELU: (0.0, None), Act.RELU6: (0.0, 6.0), Act.RELU_N1_TO_1: (-1.0, 1.0)}


class FloatNet(nn.Module):
    """See the module."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.nodes = graph, graph.nodes_to(graph.logits)
        self.w, self.b = nn.ParameterDict(), nn.ParameterDict()
        for node in self.nodes:
            for i in node.params:
                param, scale = graph.params[i], np.float32(graph.tensors[node.source(i)].scale)
                last = node.kind is Op.DWCONV2D or param.scales.size == 1
                along = param.scales if last else param.scales.reshape(-1, *(1,) * (param.q.ndim - 1))
                self.w[str(i)] = nn.Parameter(torch.from_numpy(param.q.astype(np.float32) * along))
                bias = param.b * (scale * param.scales)
                self.b[str(i)] = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))

    def forward(self, x: Any) -> Any:
        """Run on x [n,h,w,c]."""
        values = {self.graph.input: x}
        for node in self.nodes:
            x = self._run(node, values)
            low, high = CLAMPS.get(node.act, (None, None))
            values[node.output] = x if low is None else x.clamp(low, high)
        return x.flatten(1)

    def _run(self, node: Node, values: dict[int, Any]) -> Any:
        x = values[node.inputs[0]]
        if node.kind is Op.DENSE:
            y = F.linear(x.flatten(1), self.w[str(node.param)], self.b[str(node.param)])
            return y[:, None, None, :]
        if node.kind is Op.LSTM:
            return self._lstm(node, x)
        if node.kind is Op.ADD:
            return x + values[node.inputs[1]]
        if node.kind is Op.COPY:
            return x.reshape(len(x), *self.graph.tensors[node.output].shape)
        if node.kind is Op.MEAN:
            return x.mean((1, 2), keepdim=True)
        if node.kind not in (Op.CONV2D, Op.DWCONV2D, Op.AVGPOOL, Op.MAXPOOL):
            raise ValueError(f"no fp32 twin of {node.name}")
        return self._windowed(node, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _windowed(self, node: Node, x: Any) -> Any:
        inner, outer = (self.graph.tensors[t].shape for t in (node.inputs[0], node.output))
        sides = []
        for axis, before in ((1, node.pad[2]), (0, node.pad[0])):  # width first, as F.pad has it
            reach = (outer[axis] - 1) * node.stride[axis] + (node.kernel[axis] - 1) * node.dilation[axis] + 1
            sides += [before, max(reach - inner[axis] - before, 0)]
        if node.kind is Op.MAXPOOL:
            return F.max_pool2d(F.pad(x, sides, value=-np.inf), node.kernel, node.stride)
        if node.kind is Op.AVGPOOL:
            if any(sides):
                raise ValueError("no fp32 twin of a padded average")
            return F.avg_pool2d(x, node.kernel, node.stride)
        w, b = self.w[str(node.param)], self.b[str(node.param)]
        groups = node.groups
        if node.kind is Op.DWCONV2D:
            w, groups = w.permute(2, 0, 1)[:, None], inner[2]
        else:
            w = w.permute(0, 3, 1, 2)
        return F.conv2d(F.pad(x, sides), w, b, node.stride, 0, node.dilation, groups)

    def _lstm(self, node: Node, x: Any) -> Any:
        """Gates input, forget, cell, output; state and cell start at 0."""
        p = node.param
        state = cell = x.new_zeros(len(x), self.graph.params[p].channels)
        steps = []
        for t in range(x.shape[2]):
            gates = []
            for g in range(4):
                into = F.linear(x[:, 0, t], self.w[str(p + g)], self.b[str(p + g)])
                gates.append(into + F.linear(state, self.w[str(p + 4 + g)], self.b[str(p + 4 + g)]))
            cell = gates[1].sigmoid() * cell + gates[0].sigmoid() * gates[2].tanh()
            state = gates[3].sigmoid() * cell.tanh()
            steps.append(state)
        return torch.stack(steps, 1)[:, None]
