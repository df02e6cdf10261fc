# SPDX-License-Identifier: Apache-2.0
"""What a model file holds, as plain values for `edgefl model inspect` and its --json.

In: Graph. Out: a dictionary of numbers, strings and lists. Reads only.
"""

from __future__ import annotations

from typing import Any

from edgefl.model.graph import Graph, Node, Op, Param, Port

_WINDOWED = (Op.CONV2D, Op.DWCONV2D, Op.AVGPOOL, Op.MAXPOOL)


def describe_graph(graph: Graph) -> dict[str, Any]:
    """Describe a model.

    Parameters
    ----------
    graph : Graph
        The model.

    Returns
    -------
    dict
        inputs, outputs, target (index of the output that trains), parameters, file_bytes, operators (one
        entry each, file order).
    """
    return {
        "inputs": [_port(graph, port) for port in graph.inputs],
        "outputs": [_port(graph, port) for port in graph.outputs],
        "target": graph.target,
        "parameters": sum(p.q.size + (p.channels if p.bias_offset is not None else 0) for p in graph.params),
        "file_bytes": len(graph.data),
        "operators": [_node(graph, node, set(graph.trainable())) for node in graph.nodes],
    }


def _port(graph: Graph, port: Port) -> dict[str, Any]:
    tensor = graph.tensors[port.tensor]
    scale, zero = (tensor.scale, tensor.zero) if port.dtype == "float32" else (port.scale, port.zero)
    return {
        "name": port.name,
        "shape": list(tensor.file_shape),
        "dtype": port.dtype,
        "scale": scale,
        "zero_point": zero,
        "steps": [step.kind for step in port.steps],
    }


def _node(graph: Graph, node: Node, trainable: set[int]) -> dict[str, Any]:
    return {
        "index": node.index,
        "operator": node.name,
        "output": list(graph.tensors[node.output].shape),
        "kernel": list(node.kernel) if node.kind in _WINDOWED else None,
        "stride": list(node.stride),
        "pad": list(node.pad),
        "act": node.act.name,
        "weights": sum(int(graph.params[i].q.size) for i in node.params),
        "note": _note(graph, node, trainable),
    }


def _note(graph: Graph, node: Node, trainable: set[int]) -> str:
    if node.param < 0:
        return ""
    param = graph.params[node.param]
    notes = ["per channel" if len(param.scales) > 1 else "per tensor"]
    if node.param not in trainable:
        notes.append("no error from the trained output: frozen")
    return ", ".join(notes + param_notes(param))


def param_notes(param: Param) -> list[str]:
    """Say what of an operator's weights and bias cannot train, and why."""
    notes = []
    if param.shared:
        notes.append("weights shared: frozen")
    if param.bias_shared:
        notes.append("bias shared: frozen")
    if param.bias_offset is None:
        notes.append("no bias")
    return notes
