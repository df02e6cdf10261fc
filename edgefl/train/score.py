# SPDX-License-Identifier: Apache-2.0
"""The loss of a model on samples, without training: what `edgefl eval --loss` reports.

In: Graph, loss, Batch.  Out: Outcome (sums of loss and hits), or the squared error of each sample.  Refuses
what training with that loss refuses.  Invariant: the numbers are those that training reports before a step.
"""

from __future__ import annotations

import numpy as np

from edgefl.model.forward import CHUNK, Forward, check_input, graph_params
from edgefl.model.graph import Graph
from edgefl.model.loss import check_target, find_loss, loss_heads, make_targets
from edgefl.model.plan import Planner
from edgefl.native.engine import Engine
from edgefl.native.loss import LossSpec, Outcome
from edgefl.types import Batch


def score_loss(graph: Graph, loss: str, batch: Batch, anchors: np.ndarray | None = None) -> Outcome:
    """Run a model and sum up its loss.

    Parameters
    ----------
    graph : Graph
        The model.
    loss : str
        A name of edgefl.model.loss.LOSSES.
    batch : Batch
        Samples and targets.
    anchors : ndarray, optional
        What `check_anchors` gave, for "grid".

    Returns
    -------
    Outcome
        Over all samples.
    """
    x = check_input(graph, batch.x)
    n_anchors = 1 if anchors is None else anchors.shape[1]
    checked = check_target(graph, loss, batch.y, len(x), n_anchors=n_anchors)
    targets = make_targets(graph, loss, checked, x)
    spec = LossSpec(find_loss(loss).kind, anchors=anchors)
    engine = Engine(Planner(graph, None, loss_heads(graph, loss)).spec(graph_params(graph), CHUNK, spec))
    total = Outcome()
    for at in range(0, len(x), CHUNK):
        rows = np.arange(at, min(at + CHUNK, len(x)))
        total.add(engine.score(x[rows], targets.pick(rows)))
    return total


def reconstruction_errors(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Mean squared error of an autoencoder for each sample, float64 [n], in real units."""
    x = check_input(graph, x)
    check_target(graph, "mse", None, len(x))
    output = graph.tensors[graph.output].real(Forward(graph).run(x)).astype(np.float64)
    wanted = graph.tensors[graph.input].real(x).astype(np.float64)
    mean: np.ndarray = ((output - wanted) ** 2).mean(axis=1)
    return mean
