# SPDX-License-Identifier: Apache-2.0
"""`edgefl eval`: score a model on samples.

In: arguments. Out: a table or JSON on stdout, percent. Refuses bad files in one line. Invariant: numpy is
imported only when the command runs.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from edgefl.cli.main import Commands
from edgefl.cli.samples import add_model_and_data, read_samples
from edgefl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from edgefl.api.model import Model
    from edgefl.data.score import Scores


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("eval", help="score a model on samples")
    add_model_and_data(parser)
    parser.epilog = (
        "mse: with labels y [n], 0 for normal and 1 for an anomaly, the area under the ROC curve of the "
        "reconstruction error (AUC) as well."
    )
    parser.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> None:
    """`edgefl eval`: what the loss is about, in percent where it is a share."""
    from edgefl.api.model import Model

    model = Model.open(args.model, target=args.target)
    x, y = read_samples(args.data, args.loss)
    if args.loss == "softmax_ce" and y is not None:
        scores = score_model(model, x, y)
        if args.json:
            print(json.dumps({"model": args.model, **scores_json(scores)}))
        else:
            print_scores(scores)
        return
    found = score_outputs(model, args, x, y)
    if args.json:
        print(json.dumps({"model": args.model, "loss_name": args.loss, **found}))
        return
    for name, value in found.items():
        unit = "" if name in ("samples", "loss") else " %"
        print(
            f"{name:<9} {value if name == 'samples' else format(value, '.6g' if not unit else '.2f')}{unit}"
        )


def print_scores(scores: Scores) -> None:
    """Accuracy, macro-F1, recall of each class."""
    print(f"samples   {scores.samples}")
    print(f"accuracy  {scores.accuracy:.2f} %")
    print(f"macro-F1  {scores.macro_f1:.2f} %")
    print("class     recall   labels")
    for c, recall in scores.recall.items():
        print(f"{c:<9} {recall:6.2f} % {scores.support[c]:7d}")


def score_outputs(
    model: Model, args: argparse.Namespace, x: np.ndarray, y: np.ndarray | None
) -> dict[str, float]:
    """Loss and share of hits; for an autoencoder with labels of anomalies their AUC."""
    from edgefl.data.batch import make_batch
    from edgefl.data.score import score_ranking
    from edgefl.model.loss import check_anchors, find_loss
    from edgefl.train.score import reconstruction_errors, score_loss

    graph, loss = model.graph, args.loss
    anchors = check_anchors(graph, loss, args.anchors)
    labels = y if loss == "mse" and y is not None and y.dtype.kind in "biu" and y.ndim == 1 else None
    n_anchors = 1 if anchors is None else anchors.shape[1]
    batch = make_batch(graph, x, None if labels is not None else y, loss, n_anchors)
    seen = score_loss(graph, loss, batch, anchors)
    found: dict[str, float] = {"samples": seen.samples, "loss": seen.mean}
    if find_loss(loss).metric:
        found[find_loss(loss).metric] = round(100 * seen.share, 4)
    if labels is not None:
        found["auc"] = round(score_ranking(labels, reconstruction_errors(graph, batch.x)), 4)
    return found


def score_model(model: Model, x: np.ndarray, y: np.ndarray) -> Scores:
    """Predict and compare."""
    from edgefl.data.batch import make_batch
    from edgefl.data.score import score_classes

    graph = model.graph
    if graph.tensors[graph.logits].size < 2:
        raise UsageError("this model has one output, so there are no classes to score")
    batch = make_batch(graph, x, y)
    logits = model.run_quantised(batch.x, graph.logits).reshape(len(batch.x), -1)
    assert batch.y is not None
    return score_classes(batch.y, logits.argmax(axis=1))


def scores_json(scores: Scores) -> dict[str, object]:
    """Scores as a JSON object; percent."""
    return {
        "samples": scores.samples,
        "accuracy": round(scores.accuracy, 4),
        "macro_f1": round(scores.macro_f1, 4),
        "recall": {str(c): round(v, 4) for c, v in scores.recall.items()},
        "support": {str(c): n for c, n in scores.support.items()},
    }
