# SPDX-License-Identifier: Apache-2.0
"""`edgefl plan`: what of a model trains, in how many bytes, how fast on this machine.

In: arguments. Out: tables or JSON on stdout. Refuses a budget below the least possible, in one line that says
it. Invariant: the bytes are those of the run that `edgefl train` would make with the same arguments.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgefl.cli.main import Commands
from edgefl.cli.samples import LAYERS_HELP, LOSSES, add_budget, add_target, pairs, read_samples


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("plan", help="what of a model trains, in how much memory, how fast here")
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    parser.add_argument("--layers", default="bias+head", help=f"{LAYERS_HELP} (bias+head)")
    add_budget(parser)
    parser.add_argument("--batch", type=int, default=32, help="samples of a step (32)")
    parser.add_argument("--micro-batch", type=int, help="samples of one pass; fewer take less memory (batch)")
    parser.add_argument("--lr", type=float, default=0.01, help="rate in real units (0.01)")
    parser.add_argument("--step-cap", type=float, default=0.003, help="largest relative step (0.003)")
    parser.add_argument("--seed", type=int, default=0, help="order of samples (0)")
    parser.add_argument("--shadow", choices=("residual", "none"), default="residual")
    parser.add_argument("--threads", type=int, default=1, help="cores to use; more take more scratch (1)")
    parser.add_argument("--truncate", type=int, help="time steps that the errors of an LSTM go back (all)")
    parser.add_argument("--loss", choices=LOSSES, default="softmax_ce", help="as for train (softmax_ce)")
    parser.add_argument("--anchors", type=pairs, metavar="W,H,..", help="as for train")
    parser.add_argument("--data", metavar="F.npz", help="typical samples: adds gradients and norms")
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_plan)


def run_plan(args: argparse.Namespace) -> None:
    """`edgefl plan`."""
    from edgefl.api.model import Model
    from edgefl.api.plan import plan_training

    model = Model.open(args.model, target=args.target)
    plan = plan_training(
        model,
        layers=args.layers,
        memory_budget=args.memory_budget,
        samples=read_samples(args.data, args.loss) if args.data else None,
        batch_size=args.batch,
        micro_batch=args.micro_batch,
        lr=args.lr,
        step_cap=args.step_cap,
        seed=args.seed,
        shadow=args.shadow,
        threads=args.threads,
        truncate=args.truncate,
        loss=args.loss,
        anchors=args.anchors,
    )
    print(json.dumps({"model": args.model, **plan}) if args.json else "\n".join(_lines(plan)))


def _lines(plan: dict[str, Any]) -> list[str]:
    micro = plan["micro_batch"] if plan["micro_batch"] != plan["batch"] else 0
    parts = plan["memory"]
    lines = [
        f"layers     {plan['selection']}",
        f"trains     {plan['trained_numbers']} of {plan['numbers']} numbers",
        f"memory     {plan['memory_bytes']} bytes at batch {plan['batch']}"
        + (f" in micro-batches of {micro}" if micro else "")
        + ": "
        + ", ".join(f"{name.removesuffix('_bytes')} {size}" for name, size in parts.items()),
        f"step       {plan['step_us'] / 1000:.3g} ms on this machine ({plan['isa']}, threads: "
        f"{plan['threads']}), {plan['macs'] / 1e6:.3g} million multiplications",
        f"by others  {', '.join(plan['interpreter']) or 'none: every operator runs in the C core'}",
    ]
    if plan["share_of_all"] is not None:
        share = f"{100 * plan['share_of_all']:.1f} %"
        lines.append(f"worth      {share} of the first-order decrease of the loss that all layers would give")
    lines += ["", f"{'op':>4} {'operator':<10} {'weights':>8} {'bias':>6}  {'trains':<12} note"]
    for op in plan["operators"]:
        if op["weights"] or op["notes"]:
            left = f"{op['index']:>4} {op['operator']:<10} {op['weights']:>8} {op['bias'] or '':>6}"
            lines.append(f"{left}  {op['trains'] or 'frozen':<12} {', '.join(op['notes'])}".rstrip())
    return lines + _tensor_lines(plan) if "tensors" in plan else lines


def _tensor_lines(plan: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"gradients before training; the last column is the update after {plan['update_steps']} steps, "
        f"norm {plan['update_norm']:.0f}",
        f"{'op':>4} {'tensor':<7} {'numbers':>8} {'|weight|':>10} {'|gradient|':>10} {'ratio':>9} "
        f"{'|step|':>9} {'update':>9}  note",
    ]
    for t in plan["tensors"]:
        note = "" if t["moves"] else "never moves at this rate"
        if t["left_by_cap"] < 1:
            note = f"the cap leaves {100 * t['left_by_cap']:.0f} % of a step"
        lines.append(
            f"{t['operator']:>4} {t['tensor']:<7} {t['size']:>8} {t['weight_norm']:>10.4g} "
            f"{t['gradient_norm']:>10.3g} {t['gradient_to_weight']:>9.2e} {t['step_norm']:>9.4g} "
            f"{t['update_norm']:>9.4g}  {note}".rstrip()
        )
    return lines
