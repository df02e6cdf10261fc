# SPDX-License-Identifier: Apache-2.0
"""Progress and tables of the demo, with rich: live on a terminal, plain lines elsewhere.

In: what the course tells; a `Result`.  Out: text.  Invariant: no praise that the figures do not carry; what
got worse or stayed poor is on the page too.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from edgefl.demo.beats import CLASSES
from edgefl.demo.exam import MIN_GAIN_OWN, MIN_GAIN_UNSEEN, Marks
from edgefl.demo.result import Result
from edgefl.demo.score import Score

PHASES = {
    "invited": "both hubs sign the invitation",
    "collecting": "the devices train in int8",
    "closed": "the hubs agree on whose updates count",
    "unmasked": "the sum moves the model, a release is signed",
    "published": "the devices verify, patch and test it",
    "installed": "every device has it",
}


class Stage:
    """Tells the course of the demo on a console."""

    def __init__(self, console: Console, rounds: int) -> None:
        self._console = console
        self._rounds = rounds
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("", total=rounds)

    def __enter__(self) -> Stage:
        """Start the live display."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live display away."""
        self._progress.stop()

    def step(self, text: str) -> None:
        """Show a new stage."""
        self._console.print(f"[dim]·[/] {text}", highlight=False, soft_wrap=True)
        self._progress.update(self._task, description="")

    def phase(self, number: int, text: str) -> None:
        """Show where the round is, on a terminal."""
        words = PHASES.get(text, text)
        self._progress.update(self._task, description=words)

    def round_over(self, number: int, seconds: float, cohort: int, marks: Marks) -> None:
        """Show the newest model's scores."""
        self._progress.update(self._task, completed=number)
        self._console.print(
            f"  round {number:2} of {self._rounds}  {seconds:4.1f} s  {cohort} updates summed   "
            f"macro-F1 own tails {marks.own.macro_f1:4.1f}  unseen patients {marks.unseen.macro_f1:4.1f}",
            highlight=False,
            soft_wrap=True,
        )

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._console.print(f"[yellow]![/] {text}", highlight=False)


def show_result(console: Console, result: Result) -> None:
    """Print tables, warnings and where to look further."""
    console.print()
    console.print(scores(result))
    console.print(patients(result))
    console.print(costs(result))
    for line in remarks(result):
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    console.print(f"Everything is in {result.folder}; look into it with", highlight=False, soft_wrap=True)
    for command in commands(result):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def scores(result: Result) -> Table:
    """Macro-F1 and recall, before and after."""
    table = Table(
        title=f"Macro-F1 over {', '.join(CLASSES)}; recall of each class (percent)", title_justify="left"
    )
    table.add_column("tested on")
    table.add_column("macro-F1", justify="right")
    for name in CLASSES:
        table.add_column(f"recall {name}", justify="right")
    rows = (
        ("own records, last fifth", result.before.own, result.after.own),
        ("ten patients no device holds", result.before.unseen, result.after.unseen),
    )
    for name, old, new in rows:
        table.add_row(
            name,
            arrow(old.macro_f1, new.macro_f1, 1),
            *(arrow(a, b) for a, b in zip(old.recall, new.recall, strict=True)),
        )
    return table


def patients(result: Result) -> Table:
    """V recall and false V alarms of each patient."""
    table = Table(title="Each patient", title_justify="left")
    for name in ("patient", "beats", "recall V", "false V alarms per 1 000 N"):
        table.add_column(name, justify="left" if name == "patient" else "right")

    def add(group: str, old: Score, new: Score) -> None:
        for a, b in zip(old.patients, new.patients, strict=True):
            alarms = arrow(a.false_v_per_1000, b.false_v_per_1000)
            table.add_row(f"{a.record} {group}", str(a.beats), arrow(a.v_recall, b.v_recall), alarms)

    add("own", result.before.own, result.after.own)
    table.add_section()
    add("unseen", result.before.unseen, result.after.unseen)
    return table


def costs(result: Result) -> Table:
    """Time, bytes, memory."""
    j = result.to_json()
    table = Table(title="What it took", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("a round, from invitation to every device updated", seconds(j["round_seconds"]))
    table.add_row("… of it from quorum to every device updated", seconds(j["quorum_to_installed_seconds"]))
    up = f"{number(j['upload_payload_bytes'])} + {number(j['upload_header_bytes'])} B"
    table.add_row("up, each device and round: masked update + signed header", up)
    table.add_row("down, each device and round: signed patch", f"{number(j['download_bytes_per_device'])} B")
    table.add_row("… the full model", f"{number(j['model_bytes'])} B")
    table.add_row("peak memory of a training worker (RSS)", mebibytes(j["worker_peak_rss_bytes"]))
    table.add_row(
        f"idle memory of a device's supervisor (PSS, one of {j['devices']})",
        mebibytes(j["supervisor_idle_pss_bytes"]),
    )
    table.add_row("devices with the newest model at the end", f"{j['devices_updated']} of {j['devices']}")
    table.add_row("the whole demo", seconds(j["seconds"]))
    return table


def remarks(result: Result) -> list[str]:
    """Return what a reader should not have to find out alone."""
    j = result.to_json()
    lines = []
    if not result.learned:
        lines.append(
            "[bold red]This run did not learn as it should:[/] "
            f"own tails {j['after'] - j['before']:+.1f} points (expected at least {MIN_GAIN_OWN:+.0f}), "
            f"unseen {j['after_unseen'] - j['before_unseen']:+.1f} (at least {MIN_GAIN_UNSEEN:+.0f})."
        )
        if result.devices < 8 or len(result.done) < 15:
            lines.append("Fewer than 8 devices or 15 rounds give less: these figures are promised for both.")
    if j["rounds_void"]:
        lines.append(f"[yellow]{j['rounds_void']} rounds were void.[/] See the leader's log.")
    if j["devices_updated"] < j["devices"]:
        missing = j["devices"] - j["devices_updated"]
        lines.append(f"[yellow]{missing} devices do not run the newest model.[/] See their logs.")
    recall_s = result.after.unseen.recall[1]
    if recall_s is not None:
        lines.append(f"What stays poor: class S on other patients, recall {recall_s:.0f} % of 22 beats.")
    lines.append(
        f"The masked update is larger than the int8 weights that it trains: {result.devices} devices need "
        f"{8 + (result.devices - 1).bit_length()} bits a parameter, and what is masked cannot be compressed. "
        "No noise is added: the sum itself is not differentially private, and with so few devices the noise "
        "for a useful epsilon would drown it."
    )
    return lines


def commands(result: Result) -> list[str]:
    """Return commands that look into the folder."""
    folder, device = result.folder, f"{result.folder}/devices/01-record-106"
    return [
        f"edgefl-hub rounds --hub {folder}/leader",
        f"edgefl-hub releases --hub {folder}/leader",
        f"edgefl-hub devices --hub {folder}/leader",
        f"edgefl status --config {device}/edgefl.toml",
        f"edgefl eval {device}/state/current --data {device}/test.npz",
        f"less {folder}/logs/device-01.log",
    ]


def arrow(old: float | None, new: float | None, digits: int = 0) -> str:
    """Return `old → new`, a dash where there is nothing to measure."""
    if old is None or new is None:
        return "–"
    return f"{old:.{digits}f} → {new:.{digits}f}"


def seconds(value: float | None) -> str:
    """Return a time."""
    return "–" if value is None else f"{value:.1f} s"


def number(value: int | None) -> str:
    """Return a count with thin groups."""
    return "–" if value is None else f"{value:,}".replace(",", " ")


def mebibytes(value: int | None) -> str:
    """Return a size in MB (10^6), as the limits are written."""
    return "–" if value is None else f"{value / 1e6:.1f} MB"
