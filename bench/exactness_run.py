# SPDX-License-Identifier: Apache-2.0
"""One model against LiteRT: every operator on LiteRT's own inputs of it, and the whole model.

In: a .tflite file, how many samples.  Out: Report.  A judge is an interpreter with one resolver; each is
asked about the rounding rule that it should agree with.  uint8 tensors are compared as edgefl holds them,
less 128.  Variables (LSTM states) start from zero for every sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from samples import real_inputs

from edgefl.errors import EdgeflError
from edgefl.model.flat import RawModel, read_flat
from edgefl.model.forward import graph_params
from edgefl.model.graph import Graph
from edgefl.model.plan import Planner
from edgefl.model.read import read_model
from edgefl.native.engine import Engine

LARGE = 100_000  # elements of an input from which fewer samples do


@dataclass
class Count:
    """Outputs compared, how many differ, the largest difference."""

    outputs: int = 0
    differ: int = 0
    worst: int = 0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Compare two int8 arrays of one size."""
        gap = np.abs(ours.reshape(-1).astype(np.int32) - theirs.reshape(-1).astype(np.int32))
        self.outputs += gap.size
        self.differ += int((gap != 0).sum())
        self.worst = max(self.worst, int(gap.max(initial=0)))

    def merge(self, other: Count) -> None:
        """Add another count."""
        self.outputs += other.outputs
        self.differ += other.differ
        self.worst = max(self.worst, other.worst)


@dataclass
class Report:
    """What happened to one model."""

    name: str
    refused: str = ""  # by edgefl
    ops: dict[tuple[str, str], Count] = field(default_factory=dict)  # (judge, operator)
    whole: dict[tuple[str, str], Count] = field(default_factory=dict)  # (judge, kind of data)
    failed: dict[str, str] = field(default_factory=dict)  # judge: its message


JUDGES = {"LiteRT default": ("AUTO", "xnnpack"), "LiteRT BUILTIN_REF": ("BUILTIN_REF", "gemmlowp")}


def interpreter(judge: str, data: bytes) -> Any:
    """Make it, all tensors kept."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(
        model_content=data,
        experimental_op_resolver_type=getattr(OpResolverType, JUDGES[judge][0]),
        experimental_preserve_all_tensors=True,
    )
    made.allocate_tensors()
    return made


def as_int8(values: np.ndarray) -> np.ndarray | None:
    """Give int8 as edgefl holds it; None for other types."""
    if values.dtype == np.uint8:
        return (values.astype(np.int16) - 128).astype(np.int8)
    return values if values.dtype == np.int8 else None


class Names:
    """Which tensor of the file each tensor of the graph is."""

    def __init__(self, graph: Graph, raw: RawModel) -> None:
        """Match by name where that is unique, else by operator; an operator may have become several nodes."""
        counts = Counter(t.name for t in raw.tensors)
        by_name = {t.name: i for i, t in enumerate(raw.tensors) if t.name and counts[t.name] == 1}
        self._index = {}
        for port, index in zip(graph.inputs, raw.inputs, strict=True):
            if raw.tensors[index].dtype in ("int8", "uint8"):
                self._index[port.tensor] = index
        nodes: dict[int, dict[int, None]] = defaultdict(dict)  # results of an operator, in order
        for node in graph.nodes:
            nodes[node.index][node.output] = None
        between = set[int]()  # steps inside an operator: the file has no such tensor, whatever their names
        for number, made in nodes.items():
            outputs = raw.ops[number].outputs
            self._index |= zip(list(made)[-len(outputs) :], outputs, strict=False)
            between.update(list(made)[: -len(outputs)])
        for tensor, info in enumerate(graph.tensors):
            if info.name in by_name and tensor not in between:
                self._index[tensor] = by_name[info.name]

    def __getitem__(self, tensor: int) -> int | None:
        """Give the file's index, None where it has no such tensor."""
        return self._index.get(tensor)


def compare_ops(report: Report, judge: str, graph: Graph, raw: RawModel, engine: Engine, theirs: Any) -> None:
    """Run every operator, all nodes that it became, on the judge's inputs and compare its results."""
    names = Names(graph, raw)
    inputs = _input_values(graph, names, theirs)
    for number, group in groupby(range(len(graph.nodes)), key=lambda i: graph.nodes[i].index):
        places = list(group)
        nodes = [graph.nodes[i] for i in places]
        made = {node.output for node in nodes}
        outside = {t for node in nodes for t in node.inputs} - made
        if not _give_inputs(outside, graph, names, engine, theirs):
            continue
        engine.forget()
        engine.forward(inputs, places[0], places[-1] + 1)
        for tensor in sorted(made):
            index = names[tensor]
            wanted = None if index is None else as_int8(theirs.get_tensor(index))
            ours = engine.tensor(tensor, 1)
            if wanted is not None and wanted.size == ours.size:
                report.ops.setdefault((judge, raw.ops[number].name), Count()).add(ours, wanted)


def _input_values(graph: Graph, names: Names, theirs: Any) -> np.ndarray:
    """All inputs of one sample as the engine takes them."""
    parts = []
    for port in graph.inputs:
        index = names[port.tensor]
        values = None if index is None else as_int8(theirs.get_tensor(index))
        size = graph.tensors[port.tensor].size
        parts.append(np.zeros(size, np.int8) if values is None else values.reshape(-1))
    return np.concatenate(parts)[None]


def _give_inputs(tensors: set[int], graph: Graph, names: Names, engine: Engine, theirs: Any) -> bool:
    """Put the judge's tensors where the operator reads them; False if one of them is not to be had."""
    single = graph.input if len(graph.inputs) == 1 else -1
    for tensor in sorted(tensors):
        index = names[tensor]
        values = None if index is None else as_int8(theirs.get_tensor(index))
        if values is None or values.size != graph.tensors[tensor].size:
            return False
        if tensor != single:
            engine.tensor(tensor, 1)[0] = values.reshape(-1)
    return True


def inputs_of(name: str, theirs: Any, samples: int) -> dict[str, list[list[np.ndarray]]]:
    """Make samples for every input of the interpreter: noise, and real data where some fits."""
    details = theirs.get_input_details()
    size = sum(int(np.prod(d["shape"])) for d in details)
    n = max(2, samples // 8) if size > LARGE // 4 else samples
    rng = np.random.default_rng(0)
    noise = []
    for _ in range(n):
        sample = []
        for d in details:
            if d["dtype"] == np.float32:
                sample.append(rng.uniform(-1, 1, d["shape"]).astype(np.float32))
            else:
                limit = np.iinfo(d["dtype"])
                sample.append(rng.integers(limit.min, limit.max + 1, d["shape"]).astype(d["dtype"]))
        noise.append(sample)
    real = real_inputs(name, details[0], n)
    return {"noise": noise} | ({"real data": [[x] for x in real]} if real is not None else {})


def examine(name: str, data: bytes, samples: int) -> Report:
    """Compare one model with every judge."""
    report = Report(name)
    try:
        read_model(data)
    except EdgeflError as error:
        report.refused = str(error)
    for judge, (_, rule) in JUDGES.items():
        try:
            theirs = interpreter(judge, data)
        except (ValueError, RuntimeError) as error:
            report.failed[judge] = str(error).strip().splitlines()[0][:160]
            continue
        if not report.refused:
            _examine_with(report, judge, rule, data, theirs, samples)
    return report


def _examine_with(report: Report, judge: str, rule: str, data: bytes, theirs: Any, samples: int) -> None:
    graph = read_model(data)
    graph.requant = rule
    spec = Planner(graph).spec(graph_params(graph), 1)
    engine, whole, raw = Engine(spec), Engine(spec), read_flat(data)
    details = theirs.get_input_details()
    for kind, values in inputs_of(report.name, theirs, samples).items():
        for sample in values:
            for detail, value in zip(details, sample, strict=True):
                theirs.set_tensor(detail["index"], value)
            theirs.reset_all_variables()
            try:
                theirs.invoke()
            except (ValueError, RuntimeError) as error:
                report.failed[judge] = str(error).strip().splitlines()[0][:160]
                return
            compare_ops(report, judge, graph, raw, engine, theirs)
            names = Names(graph, raw)
            whole.forget()
            whole.forward(_input_values(graph, names, theirs))
            for port in graph.outputs:
                index = names[port.tensor]
                wanted = None if index is None else as_int8(theirs.get_tensor(index))
                if wanted is not None:
                    report.whole.setdefault((judge, kind), Count()).add(whole.tensor(port.tensor, 1), wanted)


def examine_random(count: int) -> Report:
    """Compare small random models of the tests: operators and shapes that no model of the folder has."""
    from opmodel import random_op_net, unsigned_op_net
    from tinymodel import random_net, unsigned_net

    total = Report("random models")
    for make in (random_net, unsigned_net, random_op_net, unsigned_op_net):
        for seed in range(count):
            report = examine("random", make(seed), 4)
            for key, c in report.ops.items():
                total.ops.setdefault(key, Count()).merge(c)
            for key, c in report.whole.items():
                total.whole.setdefault(key, Count()).merge(c)
    return total
