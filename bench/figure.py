# SPDX-License-Identifier: Apache-2.0
"""One number of bench/engine.py's table, and which kernels it is measured with.

In: nothing.  Out: Figure; the kernels of this machine.  `isas()` leaves the process with its widest ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgefl.native.engine import current_isa, isa_name, select_isa, supported_isas

_WIDEST = current_isa()  # as efl_init chose, before anyone selects others


@dataclass(frozen=True)
class Figure:
    """One number of the table. `measured` is a ratio unless the unit says otherwise."""

    row: str
    work: str
    measured: float | None = None
    unit: str = "x"
    bar: str = ""
    goal: str = ""
    ours_us: float | None = None
    peer_us: float | None = None
    peer: str = ""
    note: str = ""

    def line(self) -> str:
        """One row of the Markdown table."""
        number = "not stated" if self.unit.endswith("thread") else "missing"
        number = number if self.measured is None else f"{self.measured:.3g} {self.unit}"
        ours = "" if self.ours_us is None else f"{self.ours_us:.1f} us"
        peer = "" if self.peer_us is None else f"{self.peer_us:.1f} us, {self.peer}"
        return f"| {self.work} | {number} | {self.bar} | {self.goal} | {ours} | {peer} | {self.note} |"


def widest() -> int:
    """Return the kernels that efl_init chooses."""
    return _WIDEST


def isas() -> dict[str, int]:
    """Return the default kernels and, where they are others, the AVX2 ones."""
    chosen = {}
    for isa in supported_isas():
        select_isa(isa)
        if isa == widest() or isa_name() == "avx2":
            chosen[isa_name()] = isa
    select_isa(widest())
    return dict(reversed(chosen.items()))
