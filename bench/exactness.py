# SPDX-License-Identifier: Apache-2.0
"""Writes docs/exactness.md: edgefl's forward pass against LiteRT, op by op and whole models.

`python bench/exactness.py [--samples 40] [--env FOLDER]`, in the environment of bench/engine.py.  In: every
model of the shared folder that is not float, noise and real data.  Out: docs/exactness.md.  Op by op means
that each operator gets LiteRT's own inputs of that operator (all tensors kept), so one difference does not
hide behind another.  What LiteRT or edgefl refuses is listed with its message.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "exactness.md"
RANDOM = 60  # models of each of four kinds
FLOAT = ("conv_fc_mnist", "trained_lstm")  # float models whose names do not say so


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compares every operator with LiteRT; writes docs/exactness.md."
    )
    parser.add_argument("--samples", type=int, default=40, help="real and random ones each (default 40)")
    parser.add_argument("--models", default="", help="comma-separated parts of names; default: all")
    parser.add_argument(
        "--env", type=Path, default=ROOT / "bench" / ".peers", help="environment of the peers"
    )
    parser.add_argument("--stdout", action="store_true", help="print the page instead of writing it")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def model_files(wanted: str) -> Iterator[Path]:
    """Models of the shared folder, the parser corpus left out (tests/model reads it)."""
    from samples import shared

    parts = [p for p in wanted.split(",") if p]
    for path in sorted((shared() / "models").rglob("*.tflite")):
        fp32 = path.stem.endswith(("fp32", "_float", "_f")) or path.stem in FLOAT
        if "parser-corpus" in path.parts or fp32:
            continue
        if not parts or any(p in path.stem for p in parts):
            yield path


def main() -> int:
    args = arguments()
    if not args.inside:
        sys.path.insert(0, str(ROOT))
        from peer_env import enter

        enter(args.env.resolve(), Path(__file__))
    from exactness_page import page
    from exactness_run import examine, examine_random

    reports = []
    for path in model_files(args.models):
        print(path.stem, "...", file=sys.stderr)
        reports.append(examine(path.stem, path.read_bytes(), args.samples))
    if not args.models:
        sys.path.append(str(ROOT / "tests"))
        reports.append(examine_random(RANDOM))
    text = page(reports, args.samples)
    if args.stdout or args.models:
        print(text)
    else:
        OUT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
