# SPDX-License-Identifier: Apache-2.0
"""The health gate's decision."""

from __future__ import annotations

import errno

import pytest

from edgefl.ota.gate import LITERT, TFLITE, Ending, GateReport, Verdict, agreeing, ending_of, judge
from edgefl.wire.keys import sha256

ROWS = [bytes([i, 100, 200]) for i in range(20)]  # top-1 is column 1: 200 is -56 as int8
Y = b"".join(ROWS)
STATED = sha256(Y)


def verdict(ending=Ending.FINISHED, *, core=Y, outputs=Y, interpreter=LITERT, error=""):
    """Judge what the child reports for these int8 outputs."""
    n = len(ROWS)
    report = GateReport(sha256(core), n, interpreter, outputs == core, agreeing(core, outputs, n), error)
    return judge(STATED, ending, report)[0]


def with_other_top(rows: int) -> bytes:
    return b"".join(bytes([127, 0, 0]) if i < rows else row for i, row in enumerate(ROWS))


@pytest.mark.parametrize("ending", [Ending.NO_SPACE, Ending.KILLED])
def test_no_room_is_no_verdict(ending):
    assert verdict(ending) is Verdict.NO_VERDICT
    assert judge(STATED, ending, None)[0] is Verdict.NO_VERDICT


@pytest.mark.parametrize("ending", [Ending.CRASHED, Ending.TIMED_OUT])
def test_crash_or_hang_fails(ending):
    assert verdict(ending) is Verdict.FAIL
    assert judge(STATED, ending, None) == (Verdict.FAIL, f"the health gate {ending.value}")


def test_no_result_fails():
    assert judge(STATED, Ending.FINISHED, None)[0] is Verdict.FAIL
    assert verdict(error="unsupported op") is Verdict.FAIL
    assert judge(STATED, Ending.FINISHED, GateReport(STATED, 0, TFLITE, True, 0, ""))[0] is Verdict.FAIL


@pytest.mark.parametrize("core", [b"", Y[:-1], Y[:-1] + b"\0", Y + b"\0"])
def test_core_off_by_one_byte_fails(core):
    assert verdict(core=core) is Verdict.FAIL
    assert verdict(core=core, outputs=core) is Verdict.FAIL
    assert verdict(core=core, interpreter="", outputs=b"") is Verdict.FAIL


def test_litert_must_be_exact():
    assert verdict() is Verdict.PASS
    assert verdict(outputs=bytes([1]) + Y[1:]) is Verdict.FAIL


def test_tflite_runtime_must_agree_in_top_1_on_nine_of_ten():
    near = bytes((b + 3) & 127 if b < 100 else b for b in Y)
    assert verdict(interpreter=TFLITE, outputs=near) is Verdict.PASS
    assert verdict(interpreter=TFLITE, outputs=with_other_top(2)) is Verdict.PASS
    assert verdict(interpreter=TFLITE, outputs=with_other_top(3)) is Verdict.FAIL
    assert verdict(interpreter=TFLITE, outputs=Y[:-3]) is Verdict.FAIL


def test_without_interpreter_the_core_decides():
    assert verdict(interpreter="", outputs=b"") is Verdict.PASS


def test_single_output_agrees_within_15_lsb():
    assert agreeing(bytes([0, 0, 250]), bytes([15, 16, 5]), 3) == 2


def test_incomplete_outputs_agree_on_nothing():
    assert agreeing(b"", b"", 3) == agreeing(b"\1\2", b"\1\2", 3) == agreeing(b"\1\2\3", b"\1\2", 3) == 0


def test_ending_of_return_codes():
    assert ending_of(0) is Ending.FINISHED
    assert ending_of(1) is Ending.CRASHED
    assert ending_of(-11) is Ending.CRASHED
    assert ending_of(-9) is Ending.KILLED
    assert ending_of(1, errno.ENOSPC) is Ending.NO_SPACE
    assert ending_of(1, errno.ENOMEM) is Ending.KILLED
