# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/engine.py: what is raced, against whom, and the bar.

In: seconds for each race.  Out: Figures.  Invariant: both sides see the same samples and do the same work in
one process; a training step is forward, loss, backward and update, with all of its Python, from samples in
memory; `predict` and `invoke` are one call each.  Times of the AVX2 kernels stand beside (the peers keep
theirs).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from figure import Figure, isas, widest
from machine_rows import gemm, machine, memory
from peak import second_core
from peers import Missing, litert, litert_head_step, ort_step, peer_version, torch_step
from race import Heat, Lane, race
from samples import cifar, kws, model_bytes, noise

import edgefl
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.native.engine import select_isa
from edgefl.train import Session
from edgefl.types import Batch

__all__ = ["ROWS", "Figure", "Missing"]

HERE = Path(__file__).resolve().parent
STEPS = 32  # of one fit, so that what a fit does once is shared by many steps
RATE = 0.0003
SPIN_BAR = 1.9  # from which on this machine has a second core to give


def lanes(make: Callable[[], Callable[[], object]], units: int = 1) -> list[Lane]:
    """One lane for each set of kernels, each with its own state."""
    made = []
    for name, isa in isas().items():
        select_isa(isa)
        made.append(Lane(name, make(), units, enter=lambda isa=isa: select_isa(isa)))  # type: ignore[misc]
    return made


def forward(row: str, model: str, samples: Callable[[Graph], np.ndarray]) -> Callable[[float], list[Figure]]:
    """One predict against one invoke, batch 1."""

    def run(seconds: float) -> list[Figure]:
        peer = peer_version("ai-edge-litert")
        data = model_bytes(model)
        ours = edgefl.Model(read_model(data))
        x = samples(ours.graph)[:1]
        interpreter = litert(data)
        index = interpreter.get_input_details()[0]["index"]
        out = interpreter.get_output_details()[0]["index"]
        sample = x.reshape(interpreter.get_input_details()[0]["shape"])
        interpreter.set_tensor(index, sample)

        def invoke_io() -> None:
            interpreter.set_tensor(index, sample)
            interpreter.invoke()
            interpreter.get_tensor(out)

        invoke_io()
        same = np.array_equal(
            ours.predict(x, values="stored").reshape(-1), interpreter.get_tensor(out).reshape(-1)
        )
        field = [Lane("invoke", interpreter.invoke), Lane("invoke_io", invoke_io)]
        field += lanes(lambda: lambda: ours.predict(x, values="stored"))
        bare = Forward(ours.graph, chunk=1)
        field.append(Lane("core", lambda: bare.run(x), enter=lambda: select_isa(widest())))
        heat = race(field, seconds)
        select_isa(widest())
        io = ", ".join(
            [
                f"with set_tensor and get_tensor {heat.us('invoke_io'):.1f} us",
                f"without edgefl.Model {heat.ratio('core', 'invoke'):.2f} x",
                "equal outputs" if same else "OUTPUTS DIFFER",
            ]
        )
        return [
            Figure(
                row, f"{row}, {name}", heat.ratio(name, "invoke"), "x its time", "<= 1.5", "<= 1.1",
                heat.us(name), heat.us("invoke"), peer, io,
            )
            for name in isas()
        ]  # fmt: skip

    return run


def fit_lane(
    graph: Graph, x: np.ndarray, y: np.ndarray, layers: str, size: int, steps: int, threads: int = 1
) -> Callable[[], object]:
    """Prepare a fit of `steps` steps."""
    session = Session(graph, layers=layers, lr=RATE, batch_size=size, seed=1, threads=threads)
    batch = Batch(x[: size * steps], y[: size * steps])
    return lambda: session.fit(batch, max_steps=steps)


def step_race(row: str, heat: Heat, peer: str, label: str, bar: str, goal: str) -> list[Figure]:
    """Figures of one peer: how many times faster we are."""
    return [
        Figure(
            row, f"{row}, {name}", heat.ratio(label, name), "x faster", bar, goal,
            heat.us(name), heat.us(label), peer,
        )
        for name in isas()
    ]  # fmt: skip


def train_all(size: int) -> Callable[[float], list[Figure]]:
    """ResNet8, every weight and bias."""

    def run(seconds: float) -> list[Figure]:
        graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
        steps = max(2, STEPS // size)
        x, y = cifar(size * steps)
        real = x[:size].astype(np.float32)
        made: list[Figure] = []
        for peer, build, bars in _all_peers(graph, real, y[:size], size):
            try:
                version = peer_version(peer)
                builds = build()
            except Missing as missing:
                made.append(Figure(f"all-{size}", f"all-{size} against {peer}", note=str(missing)))
                continue
            field = [Lane(label, work, size) for label, work in builds.items()]
            field += lanes(lambda: fit_lane(graph, x, y, "all", size, steps), size * steps)
            heat = race(field, seconds)
            select_isa(widest())
            best = min(builds, key=heat.us)
            made += step_race(f"all-{size}", heat, f"{version} {best}", best, *bars)
        return made

    return run


def _all_peers(
    graph: Graph, x: np.ndarray, y: np.ndarray, size: int
) -> list[tuple[str, Callable[[], dict[str, Callable[[], object]]], tuple[str, str]]]:
    def torch_both() -> dict[str, Callable[[], object]]:
        made = {"channels-last": torch_step(graph, x, y, threads=1, channels_last=True)}
        if size == 1:
            made["contiguous"] = torch_step(graph, x, y, threads=1, channels_last=False)
        return made

    def ort() -> dict[str, Callable[[], object]]:
        return {"fp32": ort_step(graph, x, y, threads=1)}

    torch_bar = (">= 7.5", ">= 10") if size == 1 else (">= 2.2", ">= 3.7")
    return [
        ("onnxruntime-training", ort, (">= 5", ">= 6.5") if size == 1 else ("", "")),
        ("torch", torch_both, torch_bar),
    ]


def two_threads(seconds: float) -> list[Figure]:
    """ResNet8 `all`, batch 32, on two threads: against one thread, by the wall clock."""
    graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
    x, y = cifar(64)
    field = [Lane(f"{n} threads", fit_lane(graph, x, y, "all", 32, 2, threads=n), 64) for n in (1, 2)]
    spin = second_core()
    heat = race(field, seconds, perf_counter)
    spin = min(spin, second_core())
    gain, note = heat.ratio("1 threads", "2 threads"), f"two spin loops: {spin:.2f} x"
    if spin < SPIN_BAR:
        note += f", so nothing is stated (seen: {gain:.2f} x)"
    ours, peer = heat.us("2 threads"), heat.us("1 threads")
    stated = gain if spin >= SPIN_BAR else None
    unit, work = "x one thread", "all-32, two threads"
    return [Figure("threads-32", work, stated, unit, ">= 1.7", "", ours, peer, "one thread", note)]


def head(seconds: float) -> list[Figure]:
    """ResNet8, dense head, batch 1."""
    graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
    x, y = cifar(STEPS)
    peer = peer_version("ai-edge-litert")
    step = litert_head_step(HERE / "resnet8_head_fp32.tflite", x[:1].astype(np.float32), y[:1])
    field = [Lane("signature", step)]
    field += lanes(lambda: fit_lane(graph, x, y, "head", 1, STEPS), STEPS)
    heat = race(field, seconds)
    select_isa(widest())
    return step_race("head-1", heat, f"{peer} train signature", "signature", ">= 2", ">= 2.7")


ROWS: dict[str, Callable[[float], list[Figure]]] = {
    "forward-resnet8": forward("forward-resnet8", "mlperf-tiny/resnet8_int8", lambda g: cifar(1)[0]),
    "forward-kws": forward("forward-kws", "mlperf-tiny/kws_ref_model_int8", lambda g: kws(1)[0]),
    "forward-vww": forward("forward-vww", "tinymaix/mbnet96_0.25_q", noise),
    "all-1": train_all(1),
    "all-32": train_all(32),
    "threads-32": two_threads,
    "head-1": head,
    "gemm": gemm,
    "memory": memory,
    "machine": machine,
}
