# SPDX-License-Identifier: Apache-2.0
"""Atheris target: any bytes as a model file are read, planned and run, or refused with a ModelError.

In: libFuzzer's arguments (a corpus folder, -runs, -rss_limit_mb).  Out: a crash file where anything else is
raised, or the memory limit is passed.  What loads is planned for inference and for training; small models
also run once.  Mutations are libFuzzer's own and, half of the time, one 32-bit word set to a number that
counts in flatbuffers.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["edgefl.model"]):
    from edgefl.errors import EdgeflError
    from edgefl.model.forward import Forward
    from edgefl.model.plan import Planner
    from edgefl.model.read import read_model
    from edgefl.model.vector import select_segments

import numpy as np

MAX_ARENA = 1 << 20
MAX_WEIGHTS = 1 << 18
WORDS = (0, 1, 2, 3, 4, 8, 127, 128, 255, 256, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x3F800000)


def run(data: bytes) -> None:
    """Read, plan, run."""
    graph = read_model(data)
    sizes = [tensor.size for tensor in graph.tensors]
    if sum(sizes) > MAX_ARENA or sum(p.q.size for p in graph.params) > MAX_WEIGHTS:
        return
    if max(sizes) * max([p.q.size for p in graph.params], default=1) <= 1 << 24:
        Forward(graph, chunk=2).outputs(np.zeros((3, graph.input_size), np.int8))
    trained = {segment.param: True for segment in select_segments(graph, "all")}
    Planner(graph, trained)


def test_one_input(data: bytes) -> None:
    """A refusal is one line; everything else that is raised is a finding."""
    try:
        run(data)
    except EdgeflError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Overwrite one word, or what libFuzzer does."""
    dice = random.Random(seed)
    if len(data) < 8 or dice.random() < 0.5:
        return atheris.Mutate(data, max_size)
    out = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(out) // 4) * 4
        old = struct.unpack_from("<I", out, at)[0]
        new = dice.choice((dice.choice(WORDS), old + dice.randint(-4, 4), dice.randrange(64)))
        struct.pack_into("<I", out, at, new & 0xFFFFFFFF)
    return bytes(out)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()
