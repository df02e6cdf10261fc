# SPDX-License-Identifier: Apache-2.0
"""Seeded trainings, hashed: the part of boards/same_bits.py that also runs on ARM.

`train_bits.py SAMPLES.npz [steps]`.  In: models and samples that boards/same_bits.py packed.  Out: one JSON line a
run: its name, the kernels, threads and the SHA-256 of the trained weights.  Runs every instruction set of the CPU
and, where the core has threads, one and three.  Needs NumPy and edgefl only.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from edgefl.model.read import read_model
from edgefl.native.engine import isa_name, select_isa, supported_isas
from edgefl.train import Session
from edgefl.types import Batch

RUNS = {  # name: (layers, rate)
    "resnet8": ("all", 0.0003),
    "kws": ("last:3", 0.01),
    "lstm": ("all", 0.003),
}


def trained(file: np.lib.npyio.NpzFile, name: str, steps: int | None) -> str:
    """One epoch, or so many steps of it, on fresh weights."""
    layers, rate = RUNS[name]
    graph = read_model(file[f"{name}_model"].tobytes())
    session = Session(graph, layers=layers, lr=rate, batch_size=32, seed=1)
    session.fit(Batch(file[f"{name}_x"], file[f"{name}_y"]), max_steps=steps)
    return session.trained_sha256()


def main() -> None:
    file = np.load(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else None
    for name in (n for n in RUNS if f"{n}_model" in file.files):
        for isa in supported_isas():
            select_isa(isa)
            print(json.dumps([name, isa_name(), 1, trained(file, name, steps)]), flush=True)


main()
