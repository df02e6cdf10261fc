# SPDX-License-Identifier: Apache-2.0
"""What the demo says about a run: honest about one that did not learn."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from edgefl.demo.exam import Marks, learned
from edgefl.demo.result import Meters, Result
from edgefl.demo.score import PatientScore, Score
from edgefl.demo.show import number, remarks, show_result


def marks(own: float, unseen: float) -> Marks:
    patient = (PatientScore(203, 595, 70.0, 364.5), PatientScore(112, 508, None, 0.0))
    return Marks(Score(own, (82.0, 17.0, None), patient), Score(unseen, (98.0, 18.0, 91.0), patient))


def stamps(at: float, took: float, state: str = "installed") -> dict[str, object]:
    return {
        "state": state,
        "opened_at": at,
        "closed_at": at + took / 2,
        "published_at": None if state == "void" else at + took,
        "installed_at": None if state == "void" else at + took,
        "model_bytes": 25000,
        "patch_bytes": 3000,
    }


GOOD = Result(
    devices=8,
    seed=1,
    folder="/nowhere",
    seconds=40.0,
    before=marks(50, 60),
    after=marks(75, 74),
    rounds=[stamps(0, 2), stamps(10, 4), stamps(20, 100)],
    meters=Meters(24268, 601, 3000, 44_000_000, 20_000_000, 8),
)


def text(result: Result) -> str:
    out = io.StringIO()
    show_result(Console(file=out, width=110), result)
    return out.getvalue()


@pytest.mark.parametrize(
    ("own", "unseen", "verdict"), [(60, 65, True), (59.9, 74, False), (75, 64.9, False), (40, 50, False)]
)
def test_learned_needs_both_gains(own: float, unseen: float, verdict: bool) -> None:
    assert learned(marks(50, 60), marks(own, unseen)) is verdict


def test_good_run_has_no_warning_and_names_its_limits() -> None:
    shown = text(GOOD)
    assert "did not learn" not in shown and "void" not in shown
    assert "50.0 → 75.0" in shown and "60.0 → 74.0" in shown
    assert "24 268 + 601 B" in shown and "25 000 B" in shown
    assert "8 devices need 11 bits a parameter" in shown.replace("\n", " ")
    assert "What stays poor: class S on other patients" in shown
    assert "not differentially private" in shown.replace("\n", " ")


def test_run_that_did_not_learn_says_so_first() -> None:
    lines = remarks(replace(GOOD, after=marks(52, 59)))
    assert "did not learn" in lines[0] and "+2.0 points" in lines[0] and "-1.0" in lines[0]


def test_times_are_medians_of_rounds_that_published() -> None:
    figures = replace(GOOD, rounds=[*GOOD.rounds, stamps(30, 60, "void")]).to_json()
    assert figures["round_seconds"] == 4 and figures["quorum_to_installed_seconds"] == 2
    assert (figures["rounds"], figures["rounds_void"]) == (3, 1)


def test_json_is_plain_and_keeps_none() -> None:
    figures = json.loads(json.dumps(GOOD.to_json()))
    assert figures["recall"]["own"]["before"] == {"N": 82.0, "S": 17.0, "V": None}
    assert figures["patients"]["own"][1]["v_recall_before"] is None


def test_late_devices_are_named() -> None:
    late = replace(GOOD, meters=replace(GOOD.meters, updated=6))
    assert any("2 devices do not run the newest model" in line for line in remarks(late))


def test_missing_figures_are_dashes() -> None:
    assert "–" in text(replace(GOOD, rounds=[stamps(0, 2, "void")]))
    assert number(None) == "–" and number(1234567) == "1 234 567"
