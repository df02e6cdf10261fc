# SPDX-License-Identifier: Apache-2.0
"""The text of docs/exactness.md.

In: Reports of bench/exactness_run.py.  Out: Markdown.  Every number comes from a run; the reasons beside them
were found by hand and hold for the versions named.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from exactness_run import JUDGES, Count, Report

HEAD = Path(__file__).resolve().parent / "exactness_head.md"


WHY = {
    ("LiteRT BUILTIN_REF", "FULLY_CONNECTED"): "LiteRT's reference dense layer rounds in double, half away; "
    "tflite-runtime 2.14.0's by the integer rule: 0 differ (tests/oracle/test_gemmlowp.py)",
}


def cell(count: Count) -> str:
    """Say how many outputs, and how many differ by how much."""
    total = f"{count.outputs:,}".replace(",", " ")
    if not count.differ:
        return f"{total} | 0 |"
    share = 100 * count.differ / count.outputs
    return f"{total} | {count.differ} ({share:.2g} %) by up to {count.worst} |"


def op_table(reports: list[Report], judge: str) -> str:
    """One row an operator, all models together."""
    total: dict[str, Count] = defaultdict(Count)
    models: dict[str, int] = defaultdict(int)
    for report in reports:
        for (name, op), count in report.ops.items():
            if name == judge:
                total[op].merge(count)
                models[op] += 1
    lines = ["| operator | models | outputs compared | differ | why |", "|---|---|---|---|---|"]
    for op in sorted(total):
        why = WHY.get((judge, op), "") if total[op].differ else ""
        lines.append(f"| {op} | {models[op]} | {cell(total[op])} {why} |")
    return "\n".join(lines)


def whole_table(reports: list[Report], judge: str) -> str:
    """One row a model and kind of data."""
    lines = ["| model | data | outputs compared | differ | operators that differ on their own inputs |"]
    lines.append("|---|---|---|---|---|")
    for report in reports:
        guilty = [op for (name, op), c in report.ops.items() if name == judge and c.differ]
        for (name, kind), count in report.whole.items():
            if name == judge:
                blame = ", ".join(guilty) if count.differ else ""
                lines.append(f"| {report.name} | {kind} | {cell(count)} {blame} |")
    return "\n".join(lines)


def refused_table(reports: list[Report]) -> str:
    """List what an interpreter or edgefl does not take."""
    lines = ["| model | who | message |", "|---|---|---|"]
    for report in reports:
        if report.refused:
            lines.append(f"| {report.name} | edgefl | {report.refused} |")
        for judge, message in report.failed.items():
            lines.append(f"| {report.name} | {judge} | {message.replace('|', '/')} |")
    return "\n".join(lines)


def page(reports: list[Report], samples: int) -> str:
    """Put the page together."""
    parts = [HEAD.read_text(encoding="utf-8").format(version=version("ai-edge-litert"), samples=samples)]
    for judge, (_, rule) in JUDGES.items():
        parts.append(f"## Op by op: `{rule}` against {judge}\n\n{op_table(reports, judge)}\n")
    for judge, (_, rule) in JUDGES.items():
        parts.append(f"## Whole models: `{rule}` against {judge}\n\n{whole_table(reports, judge)}\n")
    parts.append(
        "An operator that rounds differently once in ten thousand outputs is invisible op by op and visible "
        "after depth; so a whole model is exact only if every operator is.\n"
    )
    parts.append(f"## Refused\n\n{refused_table(reports)}\n")
    return "\n".join(parts)
