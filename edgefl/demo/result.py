# SPDX-License-Identifier: Apache-2.0
"""What the demo found out, as one object: the source of both the table and `--json`.

In: marks before and after, the hub's list of rounds, the devices' journals.  Out: `Result`, whose figures
have one origin each.  Times are medians over rounds, bytes are of the last round, memory is the worst worker
and the median supervisor.  Invariant: nothing is estimated; what was not measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from edgefl.demo.beats import CLASSES
from edgefl.demo.exam import Marks, learned
from edgefl.demo.score import Score

HUBS = 2
METRIC = "macro-F1 over N, S, V in percent"


@dataclass(frozen=True)
class Meters:
    """Figures from the devices' journals and from /proc."""

    payload_bytes: int | None  # the masked vector of one report
    header_bytes: int | None  # its header: box, hashes, signature, credential
    download_bytes: int | None  # the newest patch, or the full file where none was offered
    worker_peak_rss: int | None
    supervisor_pss: int | None
    updated: int  # devices that ended with the newest model


@dataclass(frozen=True)
class Result:
    """One run of the demo."""

    devices: int
    seed: int
    folder: str
    seconds: float
    before: Marks
    after: Marks
    rounds: Sequence[Mapping[str, Any]]  # as `edgefl-hub rounds --json` lists them
    meters: Meters

    @property
    def done(self) -> list[Mapping[str, Any]]:
        """Rounds that ended with a release."""
        return [r for r in self.rounds if r["published_at"] is not None]

    @property
    def learned(self) -> bool:
        """Whether both gains are what the demo promises."""
        return learned(self.before, self.after)

    def middle(self, start: str, end: str) -> float | None:
        """Return the median time between two stamps of the rounds."""
        spans = [r[end] - r[start] for r in self.done if r[start] is not None and r[end] is not None]
        return round(median(spans), 3) if spans else None

    def last(self, key: str) -> Any:
        """Return a figure of the newest round that has it."""
        return next((r[key] for r in reversed(self.done) if r[key] is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        m = self.meters
        upload = None if m.payload_bytes is None else m.payload_bytes + (m.header_bytes or 0)
        return {
            "devices": self.devices,
            "hubs": HUBS,
            "rounds": len(self.done),
            "rounds_void": sum(r["state"] == "void" for r in self.rounds),
            "metric": METRIC,
            "before": round(self.before.own.macro_f1, 2),
            "after": round(self.after.own.macro_f1, 2),
            "before_unseen": round(self.before.unseen.macro_f1, 2),
            "after_unseen": round(self.after.unseen.macro_f1, 2),
            "learned": self.learned,
            "recall": {
                "own": {"before": recalls(self.before.own), "after": recalls(self.after.own)},
                "unseen": {"before": recalls(self.before.unseen), "after": recalls(self.after.unseen)},
            },
            "patients": {
                "own": patients(self.before.own, self.after.own),
                "unseen": patients(self.before.unseen, self.after.unseen),
            },
            "round_seconds": self.middle("opened_at", "installed_at"),
            "quorum_to_installed_seconds": self.middle("closed_at", "installed_at"),
            "upload_bytes_per_device": upload,
            "upload_payload_bytes": m.payload_bytes,
            "upload_header_bytes": m.header_bytes,
            "download_bytes_per_device": m.download_bytes,
            "model_bytes": self.last("model_bytes"),
            "patch_bytes": self.last("patch_bytes"),
            "worker_peak_rss_bytes": m.worker_peak_rss,
            "supervisor_idle_pss_bytes": m.supervisor_pss,
            "devices_updated": m.updated,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "folder": self.folder,
        }


def recalls(marks: Score) -> dict[str, float | None]:
    """Return recall by class, rounded."""
    return {c: None if r is None else round(r, 1) for c, r in zip(CLASSES, marks.recall, strict=True)}


def patients(before: Score, after: Score) -> list[dict[str, Any]]:
    """Return each patient's figures before and after."""
    rows = []
    for old, new in zip(before.patients, after.patients, strict=True):
        pair = {"before": asdict(old), "after": asdict(new)}
        row: dict[str, Any] = {"record": old.record, "beats": old.beats}
        for figure in ("v_recall", "false_v_per_1000"):
            for when, values in pair.items():
                value = values[figure]
                row[f"{figure}_{when}"] = None if value is None else round(value, 1)
        rows.append(row)
    return rows
