# SPDX-License-Identifier: Apache-2.0
"""Seeded trainings, hashed: the part of boards/same_bits.py that also runs on ARM.

`train_bits.py SAMPLES.npz STEPS BATCH [ref]`.  In: models and samples that boards/same_bits.py packed.  Out:
one JSON line a run: its name, the kernels, threads, SHA-256 of the trained weights.  Runs every instruction
set of the CPU (the scalar kernels only with `ref`), on one thread and three.  STEPS 0: one epoch.  Needs
NumPy and edgefl only.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from edgefl.model.read import read_model
from edgefl.native import engine
from edgefl.train import Session
from edgefl.types import Batch

RUNS = {"resnet8": ("all", 0.0003), "kws": ("last:3", 0.01), "lstm": ("all", 0.003)}  # layers, rate


def trained(file: Any, name: str, steps: int, batch: int, threads: int) -> str:
    """Train fresh weights for an epoch, or so many steps of it."""
    layers, rate = RUNS[name]
    graph = read_model(file[f"{name}_model"].tobytes())
    size = len(file[f"{name}_y"]) if steps == 0 else steps * batch
    samples = Batch(file[f"{name}_x"][:size], file[f"{name}_y"][:size])
    session = Session(graph, layers=layers, lr=rate, batch_size=batch, seed=1, threads=threads)
    # Only the delta needs them; measuring them costs more than a step.
    session.exponents = [0] * len(session.segments)
    session.fit(samples)
    return session.trained_sha256()


def main() -> None:
    """Print a line for each run."""
    file = np.load(sys.argv[1])
    steps, batch = int(sys.argv[2]), int(sys.argv[3])
    for name in (n for n in RUNS if f"{n}_model" in file.files):
        for isa in engine.supported_isas():
            if isa == 0 and "ref" not in sys.argv and len(engine.supported_isas()) > 1:
                continue
            engine.select_isa(isa)
            for threads in (1, 3):
                line = [name, engine.isa_name(), threads, trained(file, name, steps, batch, threads)]
                print(json.dumps(line), flush=True)


main()
