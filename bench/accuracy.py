# SPDX-License-Identifier: Apache-2.0
"""Does int8 training learn what fp32 learns?  Fine-tunes on real data, scored on data held back.

In: the shared folder.  Out: results of the int8 runs (default), of those without residuals (--shadow none),
or the table of docs/accuracy.md with those of bench/fp32.py beside them (--table).  Everything is seeded:
one machine or another, the int8 results are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cases import CASES, Case, Run, score
from results import arguments, read_results, record

from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.model.write import write_segments
from edgefl.train import Session
from edgefl.types import Batch

MODES = ("fp32", "residual", "none")


def fine_tune(case: Case, run: Run, seed: int, shadow: str) -> dict[str, object]:
    """Train in int8; scores before and after."""
    session = Session(
        case.graph,
        layers=run.layers,
        lr=run.lr,
        batch_size=case.batch,
        loss=case.loss,
        seed=seed,
        step_cap=case.step_cap,
        class_weights=case.weights,
        shadow=shadow,
    )
    before = scores(case, case.graph)
    report = session.fit(Batch(case.x, case.y), epochs=run.epochs)
    capped = sum(layer.capped for layer in report.layers) / max(
        sum(layer.steps for layer in report.layers), 1
    )
    return {"before": before, "after": scores(case, trained_graph(case, session)), "capped": round(capped, 4)}


def trained_graph(case: Case, session: Session) -> Graph:
    """Give the file that a device would write, read again: rounded weights, no residuals."""
    params = session.params()
    names = [(segment.param, segment.kind) for segment, _ in params]
    return read_model(write_segments(case.graph, names, [value for _, value in params]))


def scores(case: Case, graph: Graph) -> dict[str, float]:
    """Score every test."""
    forward, tensor = Forward(graph), graph.tensors[graph.logits]
    tests = {name: forward.run(x, graph.logits) for name, (x, _) in case.tests.items()}
    return {name: score(case, name, tensor.real(outputs)) for name, outputs in tests.items()}


def table(path: Path) -> str:
    """Markdown rows: means over the seeds, and the mean difference of pairs with its standard error."""
    lines = read_results(path)
    rows = [
        '| case | trained | rate | before | fp32 | int8 | int8 - fp32 | `shadow="none"` |',
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in CASES:
        of_case = [line for line in lines if line["case"] == name]
        for layers, lr in dict.fromkeys((line["layers"], line["lr"]) for line in of_case):
            of_run = [line for line in of_case if (line["layers"], line["lr"]) == (layers, lr)]
            for test in of_run[0]["after"]:
                values = {mode: {} for mode in MODES}
                for line in of_run:
                    values[line["mode"]][line["seed"]] = line["after"][test]
                before = {line["seed"]: line["before"][test] for line in of_run if line["mode"] == "residual"}
                title = f"{name} {test}".strip()
                rows.append(
                    f"| {title} | {layers} | {lr:g} | {_mean(before)} | " + " | ".join(_cells(values)) + " |"
                )
    return "\n".join(rows)


def _cells(values: dict[str, dict[int, float]]) -> list[str]:
    pairs = [values["residual"][s] - v for s, v in values["fp32"].items() if s in values["residual"]]
    error = f" ± {np.std(pairs, ddof=1) / np.sqrt(len(pairs)):.1f}" if len(pairs) > 1 else ""
    difference = f"{np.mean(pairs):+.1f}{error}" if pairs else ""
    return [_mean(values["fp32"]), _mean(values["residual"]), difference, _mean(values["none"])]


def _mean(values: dict[int, float]) -> str:
    return f"{np.mean(list(values.values())):.1f}" if values else ""


def main() -> None:
    """Run or print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--shadow", choices=("residual", "none"), default="residual")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    args = parser.parse_args()
    if args.table:
        print(table(args.results))
        return
    record(args, args.shadow, lambda case, run, seed: fine_tune(case, run, seed, args.shadow))


if __name__ == "__main__":
    main()
