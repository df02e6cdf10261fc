# SPDX-License-Identifier: Apache-2.0
"""Memory of a device: the supervisor waiting for its hub, and the worker that trains the demo's model.

In: nothing.  Out: one line a figure, or one JSON object with `--json`.  Two real hubs and two real devices on
loopback, set up like the demo; the supervisor is read as started and after its rounds (what stays).  PSS
divides pages that processes share: here hubs and devices share an interpreter's pages, on a board the
supervisor may have them alone, so its RSS stands beside as the upper end.  Exit 1 above a limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from edgefl.demo.course import Watch
from edgefl.demo.exam import Exam, Marks
from edgefl.demo.fleet import Fleet
from edgefl.demo.process import Processes

IDLE_S = 3.0
ROUNDS = 3
LIMITS = {"supervisor_idle_pss_bytes": 40_000_000, "worker_peak_rss_bytes": 80_000_000}


class Silence:
    """Nobody listens."""

    def step(self, text: str) -> None:
        """Ignore."""

    def phase(self, number: int, text: str) -> None:
        """Ignore."""

    def round_over(self, number: int, seconds: float, cohort: int, marks: Marks) -> None:
        """Ignore."""

    def warn(self, text: str) -> None:
        """Print."""
        print(text, file=sys.stderr)


def memory(pid: int) -> dict[str, int]:
    """Return PSS, USS and RSS in bytes from smaps_rollup."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        kib[name.rstrip(":")] = int(value)
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"pss": kib["Pss"] * 1024, "uss": private * 1024, "rss": kib["Rss"] * 1024}


def measure() -> dict[str, int]:
    """Run the small fleet and return the figures."""
    with tempfile.TemporaryDirectory(prefix="edgefl-footprint-") as folder, Processes() as processes:
        fleet = Fleet(Path(folder), processes, n_devices=2, seed=1)
        fleet.found()
        fleet.enroll()
        fleet.start_devices()
        time.sleep(IDLE_S)
        supervisor = fleet.devices[0].process
        assert supervisor is not None
        fresh = memory(supervisor.pid)
        watch = Watch(fleet, ROUNDS, Exam([d.test for d in fleet.devices]), Silence())
        watch.follow_rounds()
        time.sleep(IDLE_S)
        later = memory(supervisor.pid)
        worker = watch.figures().worker_peak_rss or 0
    return {
        "supervisor_idle_pss_bytes": later["pss"],
        "supervisor_idle_uss_bytes": later["uss"],
        "supervisor_idle_rss_bytes": later["rss"],
        "supervisor_fresh_pss_bytes": fresh["pss"],
        "worker_peak_rss_bytes": worker,
    }


def main() -> None:
    """Print the figures; exit 1 if one is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure()
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            limit = f"  (limit {LIMITS[name] / 1e6:.0f} MB)" if name in LIMITS else ""
            print(f"{name:28} {value / 1e6:6.1f} MB{limit}")
    over = [name for name, limit in LIMITS.items() if figures[name] > limit]
    if over:
        raise SystemExit(f"above the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()
