# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/engine.py that have no peer: memory, the matrix kernels' share of the peak, the machine.

In: seconds (unused).  Out: Figures.  Memory is what a Session says it holds and what the system says of a
process; the share is measured on the step's own kernel calls (bench/gemm_share.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from figure import Figure, isas
from peak import peak_macs, second_core
from peers import Missing
from samples import model_bytes

from edgefl.model.read import read_model
from edgefl.train import Session

HERE = Path(__file__).resolve().parent


def child(script: str) -> str:
    """Run a script of this folder in a process of its own; give what it prints."""
    done = subprocess.run([sys.executable, str(HERE / script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{script} failed: {done.stderr.strip().splitlines()[-1][:200]}")
    return done.stdout


def memory(seconds: float) -> list[Figure]:
    """Bytes of a training session, batch 1, and of a process that trains."""
    graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
    made = []
    for layers, bar, goal in (("all", "<= 500", "400"), ("head", "<= 64", "")):
        held = Session(graph, layers=layers, lr=0.0003, batch_size=1).memory
        parts = {k: v / 1000 for k, v in vars(held).items()}
        packed = parts.pop("packed", 0.0)
        note = ", ".join(f"{k} {v:.1f}" for k, v in parts.items()) + f"; packed frozen weights {packed:.1f}"
        work, total = f"arena, ResNet8 {layers}, batch 1", sum(parts.values())
        made.append(Figure("memory", work, total, "KB", bar, goal, note=note))
    now, peak = (int(v) / 1e6 for v in child("train_rss.py").split())
    work = "process while it trains ResNet8 all, NumPy included"
    made.append(Figure("memory", work, now, "MB RSS", "<= 48", "40", note=f"peak {peak:.1f}"))
    return made


def gemm(seconds: float) -> list[Figure]:
    """Measure the matrix kernels' share of the peak on the step's own calls."""
    made = []
    for isa, found in json.loads(child("gemm_share.py")).items():
        share, us = found["share"], found["us"]
        note = f"forward {share['forward']:.0%}, backward {share['backward']:.0%}"
        note += f" of {found['peak_macs_a_second'] / 1e9:.0f} GMAC/s; {found['calls']} calls"
        time = us["forward"] + us["backward"]
        work = f"GEMMs of a ResNet8 step, {isa}, of the int8 peak"
        made.append(Figure("gemm", work, 100 * share["all"], "%", ">= 50", ">= 65", time, note=note))
    return made


def machine(seconds: float) -> list[Figure]:
    """Measure what the machine itself can do: the second core, and the int8 peak of one."""
    note = "two-thread figures count from 1.9 on"
    made = [Figure("machine", "two spin loops at once", second_core(), note=note)]
    for isa in isas():
        try:
            made.append(Figure("machine", f"int8 peak, {isa}, one core", peak_macs(isa) / 1e9, "GMAC/s"))
        except Missing as missing:
            made.append(Figure("machine", f"int8 peak, {isa}", note=str(missing)))
    return made
