# SPDX-License-Identifier: Apache-2.0
"""The same fine-tunes in fp32, in PyTorch: weights dequantised from the int8 file, batch norm folded.

In: the shared folder; samples, order, rates, layers and scores of bench/cases.py.  Out: results beside those
of bench/accuracy.py.  Plain SGD on the loss that the int8 engine uses; weights next to the input have the
same smaller rate.  Needs torch (its CPU build will do), NumPy 1 or 2, cffi and the built core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from cases import Case, Run, score
from floatnet import FloatNet
from results import arguments, record
from torch.nn import functional as F

from edgefl.model.stream import shuffled
from edgefl.model.vector import select_segments
from edgefl.train.state import input_rate, near_input


def fine_tune(case: Case, run: Run, seed: int) -> dict[str, object]:
    """Train in fp32; scores before and after."""
    net = FloatNet(case.graph)
    before = scores(case, net)
    rates = trained(case, run, net)
    x = real_input(case, case.x)
    y = None if case.y is None else torch.from_numpy(case.y)
    for epoch in range(run.epochs):
        order = shuffled(len(x), seed, 0, epoch)
        for at in range(0, len(x), case.batch):
            rows = order[at : at + case.batch]
            net.zero_grad()
            loss_of(case, net(x[rows]), x[rows], None if y is None else y[rows]).backward()
            with torch.no_grad():
                for parameter, rate in rates:
                    parameter -= run.lr * rate * parameter.grad
    return {"before": before, "after": scores(case, net)}


def trained(case: Case, run: Run, net: Any) -> list[tuple[Any, float]]:
    """Parameters of the selected layers with their rates; the others are frozen."""
    graph = case.graph
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    reached, found = near_input(graph), []
    sources = {i: node.source(i) for node in graph.nodes for i in node.params}
    for segment in select_segments(graph, run.layers):
        source = sources[segment.param]
        weight = segment.kind == "weight"
        rate = input_rate(graph.tensors[source].scale) if weight and source in reached else 1.0
        parameter = (net.w if weight else net.b)[str(segment.param)]
        found.append((parameter.requires_grad_(True), rate))
    return found


def loss_of(case: Case, outputs: Any, x: Any, y: Any) -> Any:
    """Mean over the samples of a batch."""
    if y is None:
        return ((outputs - x.reshape(outputs.shape)) ** 2).mean()
    losses = F.cross_entropy(outputs, y, reduction="none")
    if case.weights is not None:
        losses = losses * torch.tensor(case.weights)[y]
    return losses.mean()


def real_input(case: Case, x: np.ndarray) -> Any:
    """Real values of int8 samples, [n,h,w,c]."""
    tensor = case.graph.tensors[case.graph.input]
    return torch.from_numpy(tensor.real(x).astype(np.float32).reshape(len(x), *tensor.shape))


def scores(case: Case, net: Any) -> dict[str, float]:
    """Score every test."""
    found = {}
    for name, (x, _) in case.tests.items():
        real = real_input(case, x)
        with torch.no_grad():
            parts = [net(real[at : at + 256]) for at in range(0, len(real), 256)]
        found[name] = score(case, name, torch.cat(parts).numpy())
    return found


def main() -> None:
    """Run what is missing."""
    args = arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    record(args, "fp32", fine_tune)


if __name__ == "__main__":
    main()
