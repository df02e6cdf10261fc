# SPDX-License-Identifier: Apache-2.0
"""Commands on one model file: `edgefl eval`, `edgefl train`, `edgefl model inspect`.

In: arguments. Out: tables or JSON on stdout, progress on stderr if it is a terminal. Refuses bad files and
numbers in one line. Invariant: numpy is imported only when a command runs.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from edgefl.cli.main import Commands
from edgefl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from edgefl.api.model import Model
    from edgefl.data.score import Scores

MAX_DATA_BYTES = 1 << 30


def register(commands: Commands) -> None:
    """Add the commands of this group."""
    parser = commands.add_parser("eval", help="score a model on labelled samples")
    _add_model_and_data(parser)
    parser.set_defaults(run=run_eval)

    group = commands.add_parser("model", help="look into model files")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = actions.add_parser("inspect", help="operators, shapes, scales, what trains")
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_inspect)


def _add_model_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    parser.add_argument("--data", required=True, metavar="F.npz", help="samples: arrays x [n, ...] and y [n]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_eval(args: argparse.Namespace) -> None:
    """`edgefl eval`: accuracy, macro-F1, recall of each class, in percent."""
    from edgefl.api.model import Model

    model = Model.open(args.model)
    x, y = read_samples(args.data)
    scores = score_model(model, x, y)
    if args.json:
        print(json.dumps({"model": args.model, **scores_json(scores)}))
        return
    print(f"samples   {scores.samples}")
    print(f"accuracy  {scores.accuracy:.2f} %")
    print(f"macro-F1  {scores.macro_f1:.2f} %")
    print("class     recall   labels")
    for c, recall in scores.recall.items():
        print(f"{c:<9} {recall:6.2f} % {scores.support[c]:7d}")


def run_inspect(args: argparse.Namespace) -> None:
    """`edgefl model inspect`: what a file holds and what of it trains."""
    from edgefl.api.inspect import describe_graph
    from edgefl.api.model import Model

    description = describe_graph(Model.open(args.model).graph)
    if args.json:
        print(json.dumps(description))
        return
    for end in ("input", "output"):
        t = description[end]
        print(f"{end:<7} {t['dtype']} {t['shape']}  scale {t['scale']:.6g}  zero point {t['zero_point']}")
    print(f"weights {description['parameters']} numbers, file {description['file_bytes']} bytes")
    print(f"{'op':>3} {'operator':<18} {'output':<14} {'kernel':<8} {'act':<6} {'weights':>8}  note")
    for op in description["operators"]:
        shape = "x".join(str(n) for n in op["output"])
        kernel = "x".join(str(n) for n in op["kernel"]) if op["kernel"] else ""
        left = f"{op['index']:>3} {op['operator']:<18} {shape:<14} {kernel:<8}"
        print(f"{left} {op['act']:<6} {op['weights'] or '':>8}  {op['note']}".rstrip())


def read_samples(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Arrays x and y of an .npz file."""
    from edgefl.api.files import read_file
    from edgefl.data.npz import read_npz

    arrays = read_npz(read_file(path, "data file", MAX_DATA_BYTES), ("x", "y"))
    return arrays["x"], arrays["y"]


def score_model(model: Model, x: np.ndarray, y: np.ndarray) -> Scores:
    """Predict and compare."""
    from edgefl.data.batch import make_batch
    from edgefl.data.score import score_classes

    graph = model.graph
    if graph.tensors[graph.logits].size < 2:
        raise UsageError("this model has one output, so there are no classes to score")
    batch = make_batch(graph, x, y)
    logits = model.run_quantised(batch.x, graph.logits).reshape(len(batch.x), -1)
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
