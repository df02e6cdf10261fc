# SPDX-License-Identifier: Apache-2.0
"""What training a model takes on this machine, for `edgefl plan` and its --json.

In: Model, layers, budget, batch, perhaps samples.  Out: a dictionary: what trains, bytes, time of a step,
frozen parts and why; with samples also gradients and norms of each tensor.  Refuses what training refuses,
and a budget below the least possible.  Invariant: bytes are those that a run holds, not an estimate.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from edgefl.api.inspect import param_notes
from edgefl.api.model import Model
from edgefl.data.batch import make_batch
from edgefl.model.graph import Graph, Node
from edgefl.model.quantise import Samples
from edgefl.native.engine import isa_name
from edgefl.train.auto import check_budget, choose_layers, session_bytes, step_macs
from edgefl.train.fit import Session
from edgefl.train.gradient import TensorGradient, measure_gradients
from edgefl.types import Batch

PROBE_BATCHES = 4  # different ones, used again
PROBE_S = 0.4  # of training to measure the time of a step
MAX_PROBE_STEPS = 200
NORM_STEPS = 100  # of training to measure the norms of an update


def plan_training(
    model: Model,
    *,
    layers: str = "bias+head",
    memory_budget: int | None = None,
    samples: tuple[Samples, np.ndarray | None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Say what training takes.

    Parameters
    ----------
    model : Model
        The model; it does not change.
    layers : str
        As for `Trainer`, or "auto".
    memory_budget : int, optional
        Most bytes that training may hold.
    samples : (x, y), optional
        Typical samples and targets: adds gradients, norms and, with "auto", what they say.
    **options
        Of a Session: batch_size, micro_batch, lr, loss, shadow ...

    Returns
    -------
    dict
        Plain values, ready for JSON.

    Raises
    ------
    UsageError, ModelError, DataError
        What training would refuse; a budget below the least possible.
    """
    graph = model.graph
    head = Session(graph, **options, layers="head").options
    batch = None if samples is None else make_batch(graph, *samples, head.loss, head.n_anchors)
    choice = choose_layers(graph, batch, memory_budget, **options) if layers == "auto" else None
    selection = choice.layers if choice else layers
    options["memory_budget"] = memory_budget
    session = Session(graph, **options, layers=selection)
    check_budget(session, memory_budget)
    opts = session.options
    held = session.memory
    report: dict[str, Any] = {
        "layers": layers,
        "selection": selection,
        "share_of_all": choice.share if choice else None,
        "loss": opts.loss,
        "batch": opts.batch_size,
        "micro_batch": opts.micro_batch,
        "trained_numbers": session.size,
        "numbers": sum(p.q.size + (p.channels if p.bias_offset is not None else 0) for p in graph.params),
        "memory": {f"{name}_bytes": size for name, size in vars(held).items()},
        "memory_bytes": session_bytes(session),
        "memory_budget": memory_budget,
        "macs": step_macs(session.plan) * opts.batch_size,
        "step_us": step_time(Session(graph, **options, layers=selection)),
        "isa": isa_name(),
        "threads": opts.threads,
        "operators": [_operator(graph, node, session) for node in graph.nodes],
        "interpreter": [],
    }
    if batch is not None:
        report |= _on_samples(session, Session(graph, **options, layers=selection), batch)
    return report


def synthetic_batch(session: Session, n: int) -> Batch:
    """Random samples with targets that the session's loss takes; only the time of a step is true of them."""
    graph = session.graph
    x = np.random.default_rng(0).integers(-128, 128, (n, graph.input_size)).astype(np.int8)
    outputs = graph.tensors[session.plan.heads[0]].size
    made: dict[str, np.ndarray] = {
        "softmax_ce": np.zeros(n, np.int64),
        "grid": np.full((n, 1, 5), -1.0, np.float32),
        "kl": np.full((n, outputs), 1 / outputs, np.float32),
    }
    return Batch(x, made.get(session.options.loss, np.zeros((n, outputs), np.float32)))


def step_time(session: Session, seconds: float = PROBE_S) -> float:
    """Median time of a step in microseconds; the session trains on nonsense.

    With one thread its processor time, which other work on the machine does not lengthen.
    """
    batch = synthetic_batch(session, PROBE_BATCHES * session.options.batch_size)
    first = _step_times(session, batch, 4)
    steps = max(4, min(MAX_PROBE_STEPS, int(seconds / max(median(first), 1e-6))))
    return round(1e6 * median(_step_times(session, batch, steps)), 1)


def _step_times(session: Session, batch: Batch, steps: int) -> list[float]:
    """Seconds of each step but the first, which also holds what a fit does once."""
    marks: list[float] = []
    clock = time.thread_time if session.options.threads == 1 else time.perf_counter
    session.fit(batch, epochs=steps, max_steps=steps, on_step=lambda step: marks.append(clock()))
    return [b - a for a, b in pairwise(marks)]


def _operator(graph: Graph, node: Node, session: Session) -> dict[str, Any]:
    """One operator, and what of it trains."""
    kinds = {s.kind for s in session.segments if s.param in node.params}
    params = [graph.params[param] for param in node.params]
    dead = sum(session.dead_channels(param) for param in node.params)
    notes = list(dict.fromkeys(n for p in params for n in param_notes(p) if n.endswith("frozen")))
    if dead:
        notes.append(f"{dead} dead channel{'s' if dead > 1 else ''}: frozen")
    return {
        "index": node.index,
        "operator": node.kind.name,
        "weights": sum(int(p.q.size) for p in params),
        "bias": sum(p.channels for p in params if p.bias_offset is not None),
        "trains": "+".join(kind for kind in ("weight", "bias") if kind in kinds),
        "notes": notes,
    }


def _on_samples(session: Session, twin: Session, batch: Batch) -> dict[str, Any]:
    """Gradients before training, and the update after some steps of the twin."""
    found = measure_gradients(session, batch)
    steps = twin.fit(batch, max_steps=NORM_STEPS).steps
    values = twin.delta().values.astype(np.float64)
    norms = [math.sqrt(float(np.square(values[s.offset : s.stop]).sum())) for s in session.segments]
    entries = [_tensor(session.graph, gradient, norm) for gradient, norm in zip(found, norms, strict=True)]
    total = math.sqrt(sum(n * n for n in norms))
    return {"tensors": entries, "update_steps": steps, "update_norm": round(total, 1)}


def _tensor(graph: Graph, g: TensorGradient, update: float) -> dict[str, Any]:
    return {
        "operator": graph.params[g.param].op_index,
        "tensor": g.kind,
        "size": g.size,
        "weight_norm": g.weight,
        "gradient_norm": g.typical,
        "gradient_to_weight": g.ratio,
        "step_norm": round(g.step, 1),
        "left_by_cap": round(g.capped, 4),
        "moves": not g.still,
        "update_norm": round(update, 1),
    }
