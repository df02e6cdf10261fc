# SPDX-License-Identifier: Apache-2.0
"""`edgefl demo`: two hubs and N devices learn from real ECG records on this machine, as in production.

In: `--devices --rounds --seed --keep --json`.  Out: live progress, then tables; with `--json` one object on
stdout and progress on stderr.  Exit codes: 0 done (learned or not: it says so); 64 impossible options; 69 an
optional package is missing; 75 a process died or nothing moved; 130 interrupted.  The folder stays.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
from pathlib import Path
from typing import TypeAlias

from edgefl.errors import Unavailable, UsageError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

NEEDED = ("starlette", "granian", "prometheus_client", "rich")
MAX_ROUNDS = 1000
MAX_SEED = 2**63 - 1
FOLDER = "edgefl-demo"


def register(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser("demo", help="two hubs and a small fleet learn from real ECG records here")
    demo.add_argument("--devices", type=int, default=8, metavar="N", help="2..64, one patient each up to 8")
    demo.add_argument("--rounds", type=int, default=15, metavar="N", help="1..1000 (default: 15)")
    demo.add_argument("--seed", type=int, default=1, help="of shuffles and start residuals (default: 1)")
    demo.add_argument(
        "--keep", type=Path, metavar="DIR", help=f"where all goes (default: ./{FOLDER}, ./{FOLDER}-2..)"
    )
    demo.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")
    demo.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check the options, run, show."""
    require_extras()
    check(args)
    from rich.console import Console

    from edgefl.demo import course, show

    folder = make_folder(args.keep)
    console = Console(stderr=args.json)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    with show.Stage(console, args.rounds) as stage:
        result = course.run(course.Options(args.devices, args.rounds, args.seed, folder), stage)
    if args.json:
        print(json.dumps(result.to_json()))
    else:
        show.show_result(console, result)


def require_extras() -> None:
    """Raise Unavailable if the demo's packages are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(f"the demo needs {', '.join(missing)}", hint="pip install 'edgefl[demo]'")


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that cannot be."""
    from edgefl.demo.beats import DEVICES

    low, high = DEVICES
    if not low <= args.devices <= high:
        raise UsageError(f"--devices {args.devices} is outside {low}..{high}", hint="a sum needs two devices")
    if not 1 <= args.rounds <= MAX_ROUNDS:
        raise UsageError(f"--rounds {args.rounds} is outside 1..{MAX_ROUNDS}")
    if not 0 <= args.seed <= MAX_SEED:
        raise UsageError(f"--seed {args.seed} is outside 0..2^63-1")


def make_folder(keep: Path | None) -> Path:
    """Create the folder of this run; an existing one must be empty."""
    if keep is None:
        number = 1
        while (folder := Path(f"{FOLDER}-{number}" if number > 1 else FOLDER)).exists():
            number += 1
    else:
        folder = keep
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(f"--keep {folder} exists and is not an empty folder", hint="choose another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _interrupt(*_: object) -> None:
    """End like Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt
