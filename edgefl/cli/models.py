# SPDX-License-Identifier: Apache-2.0
"""Commands on one model file: `edgefl model inspect`.

In: arguments. Out: tables or JSON on stdout. Refuses bad files in one line. Invariant:
numpy is imported only when a command runs.
"""

from __future__ import annotations

import argparse
import json

from edgefl.cli.main import Commands
from edgefl.cli.samples import add_target


def register(commands: Commands) -> None:
    """Add the commands of this group."""
    group = commands.add_parser("model", help="look into model files")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = actions.add_parser("inspect", help="operators, shapes, scales, what trains")
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_inspect)


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
