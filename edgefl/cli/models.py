# SPDX-License-Identifier: Apache-2.0
"""Commands on one model file: `edgefl eval`, `edgefl train`, `edgefl model inspect`.

In: arguments. Out: tables or JSON on stdout, progress on stderr if it is a terminal. Refuses bad files and
numbers in one line. Invariant: numpy is imported only when a command runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edgefl.cli.main import Commands
from edgefl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from edgefl.api.model import Model
    from edgefl.api.trainer import Trainer
    from edgefl.data.score import Scores
    from edgefl.train.fit import Step
    from edgefl.train.report import FitReport

MAX_DATA_BYTES = 1 << 30


def register(commands: Commands) -> None:
    """Add the commands of this group."""
    parser = commands.add_parser("eval", help="score a model on labelled samples")
    _add_model_and_data(parser)
    parser.set_defaults(run=run_eval)

    parser = commands.add_parser("train", help="fine-tune a model on labelled samples, in int8")
    _add_model_and_data(parser)
    _add_training(parser)
    parser.set_defaults(run=run_train)

    group = commands.add_parser("model", help="look into model files")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = actions.add_parser("inspect", help="operators, shapes, scales, what trains")
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    _add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_inspect)


def _add_model_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    parser.add_argument("--data", required=True, metavar="F.npz", help="samples: arrays x [n, ...] and y [n]")
    _add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_target(parser: argparse.ArgumentParser) -> None:
    text = "name or position of the output that counts, if the model has several (0)"
    parser.add_argument("--target", type=_position, default=0, metavar="OUTPUT", help=text)


def _position(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else text


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", default="bias+head", help="head, bias+head, last:K or all (bias+head)")
    parser.add_argument("--lr", type=float, default=0.01, help="rate in real units (0.01)")
    parser.add_argument("--batch", type=int, default=32, help="samples of a step (32)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the samples (1)")
    parser.add_argument("--seed", type=int, default=0, help="start residuals and order of samples (0)")
    parser.add_argument("--step-cap", type=float, default=0.003, help="largest relative step (0.003)")
    parser.add_argument("--class-weights", type=_numbers, metavar="W,W,..", help="factor of each class")
    parser.add_argument("--micro-batch", type=int, help="samples of one pass; fewer take less memory (batch)")
    parser.add_argument(
        "--shadow", choices=("residual", "none"), default="residual", help="fractions of weights"
    )
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    parser.add_argument("-o", "--output", metavar="OUT.tflite", help="where the trained model goes")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a list of numbers like 1,4,2") from None


def run_train(args: argparse.Namespace) -> None:
    """`edgefl train`: fine-tune and save."""
    from edgefl.api.files import check_target
    from edgefl.api.model import Model
    from edgefl.api.trainer import Trainer

    if args.output:
        check_target(args.output)
    else:
        print("edgefl: without -o the trained model is not kept", file=sys.stderr)
    model = Model.open(args.model, target=args.target)
    x, y = read_samples(args.data)
    trainer = Trainer(
        model,
        layers=args.layers,
        lr=args.lr,
        batch_size=args.batch,
        seed=args.seed,
        step_cap=args.step_cap,
        class_weights=args.class_weights,
        micro_batch=args.micro_batch,
        shadow=args.shadow,
    )
    progress = Progress()
    try:
        report = trainer.fit(x, y, args.epochs, max_steps=args.max_steps, on_step=progress.show)
    finally:
        progress.end()
    if args.output:
        model.save(args.output)
    if args.json:
        print(json.dumps(train_json(args, trainer, report)))
        return
    for number, (loss, accuracy) in enumerate(report.history, 1):
        print(f"epoch {number}  loss {loss:.4f}  accuracy {100 * accuracy:.2f} %  (before each step)")
    print(f"{report.steps} steps trained {trainer.size} numbers ({args.layers})")
    for line in report.warnings:
        print(f"note: {line}")
    if args.output:
        print(f"wrote {args.output}")


class Progress:
    """One line on stderr that follows the steps; silent unless stderr is a terminal."""

    def __init__(self) -> None:
        """Look at stderr once."""
        self._on = sys.stderr.isatty()
        self._shown = False

    def show(self, step: Step) -> None:
        """Rewrite the line."""
        if self._on:
            text = f"step {step.number}/{step.planned}  loss {step.loss:.4f}"
            text += f"  accuracy {100 * step.accuracy:.1f} %"
            print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)


def train_json(args: argparse.Namespace, trainer: Trainer, report: FitReport) -> dict[str, object]:
    """Give the outcome of a training run as a JSON object; accuracies in percent."""
    return {
        "model": args.model,
        "output": args.output,
        "trained_sha256": trainer.trained_sha256(),
        "trained_numbers": trainer.size,
        "samples": report.samples,
        "steps": report.steps,
        "loss": report.history[-1][0],
        "epochs": [{"loss": loss, "accuracy": round(100 * acc, 4)} for loss, acc in report.history],
        "capped": sum(layer.capped for layer in report.layers),
        "layers": [vars(layer) for layer in report.layers],
        "warnings": report.warnings,
    }


def run_eval(args: argparse.Namespace) -> None:
    """`edgefl eval`: accuracy, macro-F1, recall of each class, in percent."""
    from edgefl.api.model import Model

    model = Model.open(args.model, target=args.target)
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

    description = describe_graph(Model.open(args.model, target=args.target).graph)
    if args.json:
        print(json.dumps(description))
        return
    for end in ("input", "output"):
        ports = description[f"{end}s"]
        for i, t in enumerate(ports):
            line = f"{end:<7} {t['dtype']} {t['shape']}  scale {t['scale']:.6g}  zero point {t['zero_point']}"
            if len(ports) > 1:
                line += f"  {t['name']}"
                line += "  (trains)" if end == "output" and i == description["target"] else ""
            print(line)
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
