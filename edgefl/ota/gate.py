# SPDX-License-Identifier: Apache-2.0
"""The health gate's decision: whether a file may become the active model.

In: the outputs' hash in the Release, how the child process ended, what it computed. Out: PASS, FAIL (the
Release is bad) or NO_VERDICT (this machine had no room; nothing is held against the Release). The child
does the work elsewhere. Rule: the C core's outputs must have the signed hash; ai-edge-litert's default
delegate must equal them; tflite-runtime rounds otherwise (KWS: outputs of 74 of 300 inputs differ, by up
to 15 LSB), so it must load, run and agree in top-1 on 90 %. Source: boards section 3, updates-and-trust
section 3.
"""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from enum import Enum

LITERT = "ai-edge-litert"
TFLITE = "tflite-runtime"
TOP1_AGREEMENT = (9, 10)
SINGLE_OUTPUT_LSB = 15  # a model with one output has no top-1: agree within this many LSB instead


class Verdict(Enum):
    """What the gate says about a Release."""

    PASS = "pass"
    FAIL = "fail"
    NO_VERDICT = "no verdict"


class Ending(Enum):
    """How the gate's child ended."""

    FINISHED = "finished"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    NO_SPACE = "no space left"
    KILLED = "killed for memory"


@dataclass(frozen=True)
class GateReport:
    """What the child computed on the probe's n inputs.

    core: SHA-256 of the C core's int8 outputs.
    interpreter: `ai-edge-litert`, `tflite-runtime`, or empty if none is installed on this board.
    exact: its outputs are the C core's.  agree: inputs on which `agreeing` finds the same class.
    error: one line if the file did not parse or run; empty otherwise.
    """

    core: bytes
    n: int
    interpreter: str
    exact: bool
    agree: int
    error: str


def ending_of(returncode: int, error: int = 0) -> Ending:
    """Return how a child ended, from its return code (negative: signal) and the errno that it reported."""
    if error in (errno.ENOSPC, errno.EDQUOT):
        return Ending.NO_SPACE
    if error == errno.ENOMEM or returncode == -signal.SIGKILL:
        return Ending.KILLED
    return Ending.FINISHED if returncode == 0 else Ending.CRASHED


def judge(outputs: bytes, ending: Ending, report: GateReport | None) -> tuple[Verdict, str]:
    """Return the verdict and one line that says why.

    Parameters
    ----------
    outputs : bytes
        SHA-256 of the int8 outputs, as the Release states it.
    ending, report
        What became of the child.
    """
    if ending in (Ending.NO_SPACE, Ending.KILLED):
        return Verdict.NO_VERDICT, f"the health gate had no room: {ending.value}"
    if ending is not Ending.FINISHED:
        return Verdict.FAIL, f"the health gate {ending.value}"
    if report is None:
        return Verdict.FAIL, "the health gate gave no result"
    if report.error:
        return Verdict.FAIL, f"the model did not run: {report.error}"
    if report.core != outputs or report.n < 1:
        return Verdict.FAIL, "the C core's outputs are not those that the release states"
    if not report.interpreter:
        return Verdict.PASS, "exact in the C core; no interpreter is installed"
    if report.interpreter == LITERT:
        if not report.exact:
            return Verdict.FAIL, f"{LITERT}'s outputs differ from the C core's"
        return Verdict.PASS, f"exact in the C core and {LITERT}"
    told = f"{report.interpreter} agrees on {report.agree} of {report.n} inputs"
    if report.agree * TOP1_AGREEMENT[1] < report.n * TOP1_AGREEMENT[0]:
        return Verdict.FAIL, f"{told}, 90 % needed"
    return Verdict.PASS, f"exact in the C core, {told}"


def agreeing(wanted: bytes, got: bytes, n: int) -> int:
    """Return on how many of n inputs two sets of int8 outputs name the same class; 0 if one is not whole."""
    if not wanted or len(wanted) % n or len(got) != len(wanted):
        return 0
    width = len(wanted) // n
    a, b = memoryview(wanted).cast("b"), memoryview(got).cast("b")
    if width == 1:
        return sum(abs(x - y) <= SINGLE_OUTPUT_LSB for x, y in zip(a, b, strict=True))
    rows = range(0, n * width, width)
    return sum(_top(a[i : i + width]) == _top(b[i : i + width]) for i in rows)


def _top(row: memoryview) -> int:
    return max(range(len(row)), key=row.__getitem__)
