# SPDX-License-Identifier: Apache-2.0
"""`edgefl bench`: times and bytes of this machine, in about a minute.

In: model files, or none: then two networks with random weights and the demo's ECG model.  Out: a table, or
JSON with `--json`; rows appear as they are measured if stdout is a terminal.  Refuses what `Model.open`
refuses.  Invariant: no file, network or seed decides a time; peers are only raced if they are installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgefl.cli.main import Commands
from edgefl.errors import UsageError

if TYPE_CHECKING:
    from edgefl.api.bench import Row

MAX_SECONDS = 60.0


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="times and bytes of running and training on this machine")
    text = "int8 .tflite files; default: two known networks with random weights and the demo's model"
    parser.add_argument("models", metavar="MODEL", nargs="*", help=text)
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each row (0.3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> None:
    """`edgefl bench`."""
    if not 0 < args.seconds <= MAX_SECONDS:
        raise UsageError(f"--seconds is {args.seconds}, it must lie in 0..{MAX_SECONDS:g}")
    from edgefl.adapters.proc import peak_memory
    from edgefl.api.bench import machine, rows

    models = _given(args.models) if args.models else _built_in()
    if not args.json:
        print(machine())
        print(f"{'model':<14} {'work':<10} {'batch':>5} {'threads':>7} {'kernels':<12} {'a call':>12} "
              f"{'a sample':>12} {'arena':>9} {'all bytes':>9}  beside it")  # fmt: skip
    measured: list[Row] = []
    for name, data in models.items():
        for row in rows(name, data, args.seconds):
            measured.append(row)
            if not args.json:
                print(_line(row), flush=sys.stdout.isatty())
    peak = peak_memory()
    if args.json:
        result = {"machine": machine(), "rows": [asdict(r) for r in measured], "peak_rss_bytes": peak}
        print(json.dumps(result))
    else:
        print(
            f"peak resident memory of this process {peak / 1e6:.1f} MB, NumPy and all of the above included"
        )


def _line(row: Row) -> str:
    beside = ", ".join(f"{name} {_time(us)}" for name, us in row.peers.items())
    line = f"{row.model:<14.14} {row.work:<10} {row.batch:>5} {row.threads:>7} {row.isa:<12} "
    line += f"{_time(row.us):>12} {_time(row.us / row.batch):>12} {row.arena:>9} {row.bytes:>9}  {beside}"
    return line.rstrip()


def _time(us: float) -> str:
    return f"{us:.1f} us" if us < 1000 else f"{us / 1000:.2f} ms"


def _given(paths: list[str]) -> dict[str, bytes]:
    import os

    from edgefl.api.files import read_file
    from edgefl.model.flat import MAX_FILE_BYTES

    return {os.path.basename(path): read_file(path, "model file", MAX_FILE_BYTES) for path in paths}


def _built_in() -> dict[str, bytes]:
    from importlib.resources import files

    from edgefl.model.synthetic import NETS

    models = {name: make() for name, make in NETS.items()}
    models["ecg (demo)"] = (files("edgefl.demo") / "data" / "ecg_int8.tflite").read_bytes()
    return models
