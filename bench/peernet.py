# SPDX-License-Identifier: Apache-2.0
"""The fp32 twin of an int8 network: the same graph with dequantised weights, batch norm folded.

In: Graph.  Out: float layers; a PyTorch module; an ONNX model for onnxruntime-training.  Refuses operators
outside CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, ADD, pooling, RESHAPE and a final SOFTMAX (left out: both
losses take logits).  torch and onnx are imported by the functions that need them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgefl.model.graph import Act, Graph, Node, Op


class Layer(NamedTuple):
    """Float weights as the file lays them out ([Co,Kh,Kw,Ci], [Kh,Kw,Co], [Co,K]) and bias [Co]."""

    w: np.ndarray
    b: np.ndarray


def float_layers(graph: Graph) -> dict[int, Layer]:
    """Dequantise every parameter: w = q*s_c, b = b*s_x*s_c."""
    made = {}
    for node in graph.nodes:
        if node.param >= 0:
            p = graph.params[node.param]
            along = (1, 1, -1) if node.kind is Op.DWCONV2D else (-1,) + (1,) * (p.q.ndim - 1)
            scale = np.float32(graph.tensors[node.inputs[0]].scale) * p.scales
            w = p.q.astype(np.float32) * p.scales.reshape(along if p.scales.size > 1 else 1)
            made[node.param] = Layer(w, (p.b * scale).astype(np.float32))
    return made


def trained_nodes(graph: Graph) -> list[Node]:
    """Nodes up to the logits."""
    last = max(i for i, node in enumerate(graph.nodes) if node.output == graph.logits)
    return graph.nodes[: last + 1]


def conv_weight(node: Node, layer: Layer) -> np.ndarray:
    """[Co, Ci/groups, Kh, Kw], as PyTorch and ONNX have it."""
    if node.kind is Op.DWCONV2D:
        return np.ascontiguousarray(layer.w.transpose(2, 0, 1)[:, None])
    return np.ascontiguousarray(layer.w.transpose(0, 3, 1, 2))


def conv_groups(graph: Graph, node: Node) -> int:
    """Count the groups of a convolution; depthwise: one for each input channel."""
    return graph.tensors[node.inputs[0]].shape[2] if node.kind is Op.DWCONV2D else node.groups


def padding(graph: Graph, node: Node) -> tuple[int, int, int, int]:
    """Top, left, bottom, right: what the window reaches, so that the output has the file's size."""
    h, w, _ = graph.tensors[node.inputs[0]].shape
    oh, ow, _ = graph.tensors[node.output].shape
    sides = []
    for n, out, axis, before in ((h, oh, 0, node.pad[0]), (w, ow, 1, node.pad[2])):
        reach = (out - 1) * node.stride[axis] + (node.kernel[axis] - 1) * node.dilation[axis] + 1
        sides.append((before, max(reach - n - before, 0)))
    return (sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def torch_net(graph: Graph) -> Any:
    """Build a torch.nn.Module: NCHW float in, logits out; every weight and bias is a Parameter."""
    import torch
    from torch.nn import functional as F

    nodes = trained_nodes(graph)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
            for node in nodes:
                if node.param >= 0:
                    layer = float_layers(graph)[node.param]
                    w = layer.w if node.kind is Op.DENSE else conv_weight(node, layer)
                    self.w[str(node.param)] = torch.nn.Parameter(torch.from_numpy(w.copy()))
                    self.b[str(node.param)] = torch.nn.Parameter(torch.from_numpy(layer.b.copy()))

        def weighted(self, node: Node, x: Any) -> Any:
            w, b = self.w[str(node.param)], self.b[str(node.param)]
            if node.kind is Op.DENSE:
                return F.linear(x.flatten(1), w, b)
            top, left, bottom, right = padding(graph, node)
            pad = (top, left)
            if (top, left) != (bottom, right):
                x, pad = F.pad(x, (left, right, top, bottom)), (0, 0)
            return F.conv2d(x, w, b, node.stride, pad, node.dilation, conv_groups(graph, node))

        def forward(self, x: Any) -> Any:
            values = {graph.input: x}
            for node in nodes:
                x = values[node.inputs[0]]
                if node.param >= 0:
                    x = self.weighted(node, x)
                elif node.kind is Op.ADD:
                    x = x + values[node.inputs[1]]
                elif node.kind in (Op.AVGPOOL, Op.MEAN):
                    whole = node.kind is Op.MEAN
                    x = x.mean((2, 3), keepdim=True) if whole else F.avg_pool2d(x, node.kernel, node.stride)
                elif node.kind is not Op.COPY:
                    raise ValueError(f"no fp32 twin of {node.kind.name}")
                if node.act is not Act.NONE:
                    x = x.clamp(0, 6) if node.act is Act.RELU6 else x.relu()
                values[node.output] = x
            return x.flatten(1)

    return Net()


def onnx_net(graph: Graph) -> Any:
    """Build an ONNX model: `x` [batch, C, H, W] float -> `logits`; initializers w0, b0, ..."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    h, w, c = graph.tensors[graph.input].shape
    nodes, constants = [], []
    name = {graph.input: "x"}

    def emit(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    for node in trained_nodes(graph):
        x, out = name[node.inputs[0]], f"t{node.output}"
        if node.param >= 0:
            layer, i = float_layers(graph)[node.param], node.param
            weight = layer.w if node.kind is Op.DENSE else conv_weight(node, layer)
            constants += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(layer.b, f"b{i}")]
            if node.kind is Op.DENSE:
                x = emit("Flatten", [x], f"{out}_flat")
                x = emit("Gemm", [x, f"w{i}", f"b{i}"], out, transB=1)
            else:
                x = emit(
                    "Conv",
                    [x, f"w{i}", f"b{i}"],
                    out,
                    kernel_shape=node.kernel,
                    strides=node.stride,
                    dilations=node.dilation,
                    pads=padding(graph, node),
                    group=conv_groups(graph, node),
                )
        elif node.kind is Op.ADD:
            x = emit("Add", [x, name[node.inputs[1]]], out)
        elif node.kind in (Op.AVGPOOL, Op.MEAN):
            x = emit("GlobalAveragePool", [x], out)
        elif node.kind is Op.COPY:
            x = emit("Flatten", [x], out)
        else:
            raise ValueError(f"no fp32 twin of {node.kind.name}")
        name[node.output] = x if node.act is Act.NONE else emit("Relu", [x], f"{out}_act")
    nodes[-1].output[0] = "logits"
    classes = graph.tensors[graph.logits].size
    return helper.make_model(
        helper.make_graph(
            nodes,
            "twin",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", c, h, w])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
        producer_name=f"edgefl bench, onnx {onnx.__version__}",
    )
