# SPDX-License-Identifier: Apache-2.0
"""Seed files of the fuzzers: `seeds.py FOLDER` makes FOLDER/plan and FOLDER/reader.

In: tests/tinymodel.py and its kin, and the parser corpus of the shared data where it is there.  Out: one file
an input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

MAX_BYTES = 16384


def plan_seeds() -> list[bytes]:
    """Random bytes: short ones build sound plans, because nothing is left to spoil them."""
    rng = np.random.default_rng(9)
    return [rng.integers(0, 256, int(n), np.uint8).tobytes() for n in rng.integers(12, 90, 1500)]


def reader_seeds() -> list[bytes]:
    """Small models of every kind, and the odd files of the parser corpus."""
    from opmodel import random_op_net
    from tinymodel import random_net, small_cnn, two_headed, unsigned_net

    made = [small_cnn(), two_headed()]
    made += [make(seed) for make in (random_net, unsigned_net, random_op_net) for seed in range(40)]
    shared = Path(os.environ.get("EDGEFL_SHARED", HERE.parents[2] / "shared"))
    files = sorted(p for p in (shared / "data/models").rglob("*") if p.suffix in (".tflite", ".bin"))
    return made + [p.read_bytes() for p in files if p.stat().st_size <= MAX_BYTES]


def main() -> None:
    """Write them."""
    for name, seeds in (("plan", plan_seeds()), ("reader", reader_seeds())):
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            if len(seed) <= MAX_BYTES:
                (folder / f"{i:04d}").write_bytes(seed)


if __name__ == "__main__":
    main()
