# SPDX-License-Identifier: Apache-2.0
"""`edgefl train`: fine-tune a model on this machine, without a hub.

In: arguments. Out: the trained file, a table or JSON on stdout, progress on stderr if it is a terminal.
Refuses bad files and numbers in one line. Invariant: the output is written whole, after the last step, or
not at all; numpy is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edgefl.cli.main import Commands, terminable
from edgefl.cli.samples import LAYERS_HELP, add_budget, add_model_and_data, map_samples, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgefl.api.trainer import Trainer
    from edgefl.train.fit import Step
    from edgefl.train.report import FitReport


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("train", help="fine-tune a model on samples, in int8")
    add_model_and_data(parser)
    parser.add_argument("--layers", default="bias+head", help=f"{LAYERS_HELP} (bias+head)")
    add_budget(parser)
    parser.add_argument("--lr", type=float, default=0.01, help="rate in real units (0.01)")
    parser.add_argument("--batch", type=int, default=32, help="samples of a step (32)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the samples (1)")
    parser.add_argument("--seed", type=int, default=0, help="start residuals and order of samples (0)")
    parser.add_argument("--step-cap", type=float, default=0.003, help="largest relative step (0.003)")
    parser.add_argument("--class-weights", type=numbers, metavar="W,W,..", help="factor of each class")
    parser.add_argument("--micro-batch", type=int, help="samples of one pass; fewer take less memory (batch)")
    parser.add_argument(
        "--shadow", choices=("residual", "none"), default="residual", help="fractions of weights"
    )
    parser.add_argument("--threads", type=int, default=1, help="cores to use; the result stays the same (1)")
    parser.add_argument("--truncate", type=int, help="time steps that the errors of an LSTM go back (all)")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    parser.add_argument("-o", "--output", metavar="OUT.tflite", help="where the trained model goes")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> None:
    """`edgefl train`: fine-tune and save."""
    from edgefl.adapters.lean import import_numpy

    import_numpy()
    from edgefl.api.files import check_target
    from edgefl.api.model import Model
    from edgefl.api.trainer import Trainer

    if args.output:
        check_target(args.output)
    else:
        print("edgefl: without -o the trained model is not kept", file=sys.stderr)
    model = Model.open(args.model, target=args.target)
    x, y, release = map_samples(args.data, args.loss)
    trainer = Trainer(
        model,
        layers=args.layers,
        lr=args.lr,
        batch_size=args.batch,
        loss=args.loss,
        seed=args.seed,
        step_cap=args.step_cap,
        class_weights=args.class_weights,
        micro_batch=args.micro_batch,
        shadow=args.shadow,
        threads=args.threads,
        anchors=args.anchors,
        memory_budget=args.memory_budget,
        truncate=args.truncate,
    )
    batch = trainer.prepare(x, y, release)
    del x
    progress = Progress(trainer.metric, release)
    with terminable():
        try:
            report = trainer.fit_batch(batch, args.epochs, max_steps=args.max_steps, on_step=progress.show)
        except KeyboardInterrupt as stop:
            raise type(stop)("interrupted; nothing was written") from None
        finally:
            progress.end()
        if args.output:
            model.save(args.output)
    if args.json:
        print(json.dumps(train_json(args, trainer, report)))
        return
    for number, (loss, share) in enumerate(report.history, 1):
        hits = f"  {report.metric} {100 * share:.2f} %" if report.metric else ""
        print(f"epoch {number}  loss {loss:.4f}{hits}  (before each step)")
    print(f"{report.steps} steps trained {trainer.size} numbers ({trainer.layers})")
    for line in report.warnings:
        print(f"note: {line}")
    if args.output:
        print(f"wrote {args.output}")


class Progress:
    """One line on stderr that follows the steps; silent unless stderr is a terminal."""

    def __init__(self, metric: str, release: Callable[[], None]) -> None:
        """Look at stderr once; `metric` names the share of hits, "" leaves it out.

        release: called after every step, gives pages of the data file back.
        """
        self._release = release
        self._metric = metric
        self._on = sys.stderr.isatty()
        self._shown = False

    def show(self, step: Step) -> None:
        """Rewrite the line."""
        self._release()
        if self._on:
            text = f"step {step.number}/{step.planned}  loss {step.loss:.4f}"
            if self._metric:
                text += f"  {self._metric} {100 * step.accuracy:.1f} %"
            print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)


def train_json(args: argparse.Namespace, trainer: Trainer, report: FitReport) -> dict[str, object]:
    """Give the outcome of a training run as a JSON object; shares of hits in percent."""
    name = report.metric
    return {
        "model": args.model,
        "output": args.output,
        "loss_name": args.loss,
        "trained_sha256": trainer.trained_sha256(),
        "selection": trainer.layers,
        "trained_numbers": trainer.size,
        "samples": report.samples,
        "steps": report.steps,
        "loss": report.history[-1][0],
        "epochs": [
            {"loss": loss, **({name: round(100 * share, 4)} if name else {})}
            for loss, share in report.history
        ],
        "capped": sum(layer.capped for layer in report.layers),
        "layers": [vars(layer) for layer in report.layers],
        "warnings": report.warnings,
    }
