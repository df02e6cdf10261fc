# SPDX-License-Identifier: Apache-2.0
"""The int8 engine against its peers: `python bench/engine.py [--rows forward,all-1] [--json]`.

In: models and samples of the shared data folder (EDGEFL_SHARED, or ../shared).  Out: a table, one row a
work, every figure a ratio measured in the same run as the peer.  Runs in an environment of its own (--env,
made at the first run, 2 GB): bench/peer_env.py.  A peer that is not there is reported as missing.  `--list`
names the rows; `--seconds` is the time of each race.  Rows and bars: bench/engine_rows.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Races the int8 engine against other runtimes.")
    parser.add_argument("--rows", default="", help="comma-separated beginnings of row names; default: all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each race (default 3)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--env", type=Path, default=HERE / ".peers", help="environment of the peers")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def machine() -> str:
    """CPU model and cores."""
    info = Path("/proc/cpuinfo")
    names = [n.split(":", 1)[1].strip() for n in info.read_text().splitlines() if n.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> int:
    args = arguments()
    if not args.inside:
        sys.path.insert(0, str(ROOT))
        from peer_env import enter

        enter(args.env.resolve(), Path(__file__))
    from engine_rows import ROWS, Figure, Missing

    wanted = [name for name in args.rows.split(",") if name]
    rows = {name: row for name, row in ROWS.items() if not wanted or name.startswith(tuple(wanted))}
    if args.list or not rows:
        print("\n".join(ROWS))
        return 0 if args.list else 2
    figures: list[Figure] = []
    for name, row in rows.items():
        print(f"{name} ...", file=sys.stderr)
        try:
            figures += row(args.seconds)
        except Missing as missing:
            figures.append(Figure(name, "missing", note=str(missing)))
    if args.json:
        print(json.dumps({"machine": machine(), "figures": [asdict(f) for f in figures]}, indent=1))
        return 0
    print(f"{machine()}, Python {platform.python_version()}\n")
    print("| row | measured | bar | goal | ours | peer | note |\n|---|---|---|---|---|---|---|")
    for f in figures:
        print(f.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
