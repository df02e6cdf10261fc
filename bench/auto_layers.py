# SPDX-License-Identifier: Apache-2.0
"""What layers="auto" is worth: ResNet8 on the JPEG images, chosen layers beside presets, by bytes held.

In: the shared data folder (EDGEFL_SHARED, or ../shared).  Out: one line a selection: bytes at batch 8, how
many numbers train, accuracy on images held back (per class 200 to train, the rest to test), mean of 3 seeds,
1 epoch.
"""

from __future__ import annotations

import argparse

import numpy as np
from samples import cifar, model_bytes

from edgefl.model.read import read_model
from edgefl.train import Session
from edgefl.train.auto import choose_layers, session_bytes
from edgefl.types import Batch

BUDGETS = (600_000, 700_000, 800_000)
PRESETS = ("head", "last:2", "last:3", "bias+head", "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.003)
    lr = parser.parse_args().lr
    x, y = cifar(3000)
    rank = np.zeros(len(y), np.int64)
    for c in range(10):
        rank[y == c] = np.arange((y == c).sum())
    train, test = Batch(x[rank < 200], y[rank < 200]), Batch(x[rank >= 200], y[rank >= 200])
    graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
    rows = {name: None for name in PRESETS} | {
        choose_layers(graph, train, budget, batch_size=8, lr=lr, seed=1).layers: budget for budget in BUDGETS
    }
    for layers, budget in rows.items():
        hits = []
        for seed in (1, 2, 3):
            session = Session(graph, layers=layers, lr=lr, batch_size=8, seed=seed, memory_budget=budget)
            session.fit(train)
            hits.append(100 * (session.predict(test.x).argmax(axis=1) == test.y).mean())
        held = session_bytes(session)
        print(f"{layers:<28} {held:>8} {session.size:>6}  {np.mean(hits):.2f} {np.round(hits, 1).tolist()}")


if __name__ == "__main__":
    main()
