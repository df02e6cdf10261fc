# SPDX-License-Identifier: Apache-2.0
"""How fast this machine runs and trains models: the rows of `edgefl bench`.

In: models as bytes.  Out: Rows: median time of a call, bytes held.  Refuses a model that edgefl cannot run; a
model that cannot train gets its forward rows only.  Invariant: each row is measured alone, in this process,
after a warm-up, by the thread's processor time (several threads: by the clock); a training step is forward,
loss, backward and update with all of its Python.
"""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from edgefl.api.plan import step_time
from edgefl.errors import EdgeflError
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.native.engine import THREADS_MAX, current_isa, isa_name, select_isa, supported_isas
from edgefl.train.auto import session_bytes
from edgefl.train.fit import Session

LAYERS = ("head", "bias+head", "all")
BATCHES = (1, 32)
RATE = 1e-4
PEERS = ("ai_edge_litert", "tflite_runtime")


@dataclass(frozen=True)
class Row:
    """One measurement; us is the median time of one call in microseconds.

    work is "forward" or what trains. arena and bytes are those of the engine: activations and errors, and all
    that it holds. peers: time of one invoke, by package, for forward rows.
    """

    model: str
    work: str
    batch: int
    threads: int
    isa: str
    us: float
    arena: int
    bytes: int
    peers: dict[str, float] = field(default_factory=dict)


def machine() -> str:
    """CPU model, cores, Python and NumPy in one line."""
    name = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            named = [
                line.split(":", 1)[1].strip() for line in info if line.startswith(("model name", "Model"))
            ]
        name = named[0] if named else name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"


def rows(model: str, data: bytes, seconds: float = 0.3) -> Iterator[Row]:
    """Measure one model.

    Parameters
    ----------
    model : str
        Its name in the rows.
    data : bytes
        The file.
    seconds : float
        Time for each row, roughly.

    Yields
    ------
    Row
        With the usual kernels every kind of work, "all" with every core as well; with the others, forward and
        "all" at batch 1.
    """
    graph = read_model(data)
    best = current_isa()
    seen: set[str] = set()
    try:
        for isa in (best, *(i for i in reversed(supported_isas()) if i != best)):
            select_isa(isa)
            if isa_name() in seen:
                continue
            seen.add(isa_name())
            yield _forward(model, graph, seconds, _peers(data, seconds) if isa == best else {})
            yield from _steps(model, graph, seconds, whole=isa == best)
    finally:
        select_isa(best)


def _forward(model: str, graph: Graph, seconds: float, peers: dict[str, float]) -> Row:
    runner = Forward(graph, chunk=1)
    x = np.random.default_rng(0).integers(-128, 128, (1, graph.input_size)).astype(np.int8)
    us = call_time(lambda: runner.run(x), seconds)
    arena, held = runner.memory
    return Row(model, "forward", 1, 1, isa_name(), us, arena, held, peers)


def _steps(model: str, graph: Graph, seconds: float, *, whole: bool) -> Iterator[Row]:
    loss = _loss(graph)
    if not loss:
        return  # nothing trains: its forward row stands alone
    works = [(layers, batch, 1) for layers in LAYERS for batch in BATCHES] if whole else [("all", 1, 1)]
    if whole and cores() > 1:
        works += [("all", batch, cores()) for batch in BATCHES]
    for layers, batch, threads in works:
        session = Session(graph, layers=layers, lr=RATE, batch_size=batch, loss=loss, threads=threads)
        us, held = step_time(session, seconds), session.memory.arena
        yield Row(model, layers, batch, threads, isa_name(), us, held, session_bytes(session))


def _loss(graph: Graph) -> str:
    """Give a loss that trains this model, "" if none does."""
    for loss in ("softmax_ce", "mse"):
        try:
            Session(graph, loss=loss, batch_size=1)
        except EdgeflError:
            continue
        return loss
    return ""


def cores() -> int:
    """Count the cores that this process may use, as far as the engine takes them."""
    return min(len(os.sched_getaffinity(0)), THREADS_MAX)


def call_time(call: Callable[[], object], seconds: float) -> float:
    """Median processor time of a call in microseconds, after a warm-up of a fifth of the time."""
    end = time.perf_counter() + seconds / 5
    times: list[float] = []
    for limit in (end, end + seconds):
        times.clear()
        while len(times) < 3 or (time.perf_counter() < limit and len(times) < 100_000):
            begin = time.thread_time()
            call()
            times.append(time.thread_time() - begin)
    return round(1e6 * median(times), 1)


def _peers(data: bytes, seconds: float) -> dict[str, float]:
    """Time of one invoke in each interpreter that is installed and takes the model."""
    found = {}
    for package in PEERS:
        try:
            module: Any = importlib.import_module(f"{package}.interpreter")
            interpreter = module.Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
            for port in interpreter.get_input_details():
                interpreter.set_tensor(port["index"], np.zeros(port["shape"], port["dtype"]))
            interpreter.invoke()
        except (ImportError, RuntimeError, ValueError, AttributeError):
            continue
        found[package.replace("_", "-")] = call_time(interpreter.invoke, seconds)
    return found
