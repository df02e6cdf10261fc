# SPDX-License-Identifier: Apache-2.0
"""What a model is worth: its scores on the devices' own last fifths and on the patients that no device holds.

In: a .tflite file.  Out: two `Score`s, computed with the C core.  The test beats never reach a device's
sample folder: the demo alone holds them, to have something to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefl.api.model import Model
from edgefl.demo.beats import Beats, unseen
from edgefl.demo.score import Score, score

# Below these gains in macro-F1 points the demo says that it did not learn.
MIN_GAIN_OWN = 10.0
MIN_GAIN_UNSEEN = 5.0


@dataclass(frozen=True)
class Marks:
    """Scores of one model."""

    own: Score
    unseen: Score


class Exam:
    """The test beats of a fleet."""

    def __init__(self, tests: Sequence[Beats]) -> None:
        """Take the last fifth of each device."""
        self._own = Beats(*(np.concatenate([getattr(t, k) for t in tests]) for k in ("x", "y", "record")))
        self._unseen = unseen()

    def mark(self, path: Path) -> Marks:
        """Score a model file."""
        model = Model.open(path)
        own, other = (_score(model, beats) for beats in (self._own, self._unseen))
        return Marks(own, other)


def _score(model: Model, beats: Beats) -> Score:
    predicted = model.predict(beats.x, values="logits").argmax(axis=1)
    return score(beats.y, predicted, beats.record)


def learned(before: Marks, after: Marks) -> bool:
    """Return whether both gains are what the demo promises."""
    gain_own = after.own.macro_f1 - before.own.macro_f1
    gain_unseen = after.unseen.macro_f1 - before.unseen.macro_f1
    return gain_own >= MIN_GAIN_OWN and gain_unseen >= MIN_GAIN_UNSEEN
