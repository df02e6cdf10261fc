# SPDX-License-Identifier: Apache-2.0
"""A process that trains ResNet8 and nothing else; prints its resident bytes, now and at most.

Samples are made, not decoded: an image decoder is no part of the engine.  NumPy is imported as `edgefl train`
and the worker do.  Started by bench/engine.py.
"""

from __future__ import annotations

from pathlib import Path

from edgefl.adapters.lean import import_numpy

import_numpy()

import numpy as np  # noqa: E402
from samples import model_bytes  # noqa: E402

import edgefl  # noqa: E402


def resident() -> tuple[int, int]:
    """VmRSS and VmHWM in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(kib["VmRSS"]) * 1024, int(kib["VmHWM"]) * 1024


def main() -> None:
    from edgefl.model.read import read_model

    model = edgefl.Model(read_model(model_bytes("mlperf-tiny/resnet8_int8")))
    trainer = edgefl.Trainer(model, layers="all", lr=0.0003, batch_size=1)
    x = (np.arange(64 * 3072) * 7919 >> 3).astype(np.int8).reshape(64, 32, 32, 3)
    seen: list[tuple[int, int]] = []
    trainer.fit(x, np.arange(64) % 10, on_step=lambda step: seen.append(resident()))
    print(max(now for now, _ in seen), seen[-1][1])


main()
