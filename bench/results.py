# SPDX-License-Identifier: Apache-2.0
"""Results of bench/accuracy.py and bench/fp32.py: one JSON object a line, one line a run.

In: which runs a command line asks for.  Out: lines appended to a file, flushed after each run; runs that the
file holds already are left out.  Standard library only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cases import CASES, Case, Run

HERE = Path(__file__).parent
KEYS = ("case", "layers", "lr", "epochs", "seed", "mode")


def arguments(description: str) -> argparse.ArgumentParser:
    """Arguments that both scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared", help="the shared folder")
    parser.add_argument("--cases", default=",".join(CASES), help="which of them (all)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to N (3)")
    parser.add_argument("--results", type=Path, default=HERE / "accuracy.jsonl", help="where lines go")
    return parser


def read_results(path: Path) -> list[dict[str, object]]:
    """Lines of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wanted(args: argparse.Namespace, mode: str) -> Iterator[tuple[dict[str, object], Case, Run]]:
    """Yield what is not in the results yet: its key, the case for the seed, the run."""
    done = {tuple(line[k] for k in KEYS) for line in read_results(args.results)}
    for name in args.cases.split(","):
        for seed in range(1, args.seeds + 1):
            case = None
            for run in CASES[name](args.shared, seed).runs:
                key = dict(zip(KEYS, (name, run.layers, run.lr, run.epochs, seed, mode), strict=True))
                if tuple(key.values()) in done:
                    continue
                case = case or CASES[name](args.shared, seed)
                yield key, case, run


def record(args: argparse.Namespace, mode: str, work: Callable[[Case, Run, int], dict[str, object]]) -> None:
    """Do everything that is wanted; one line a run."""
    for key, case, run in wanted(args, mode):
        line = {**key, **work(case, run, int(str(key["seed"])))}
        print(json.dumps(line), flush=True)
        with args.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
