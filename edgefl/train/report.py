# SPDX-License-Identifier: Apache-2.0
"""What a training run did, for people and for `--json`.

In: the C core's counters.  Out: FitReport with one warning line for each thing worth knowing.  It holds
averages and counts only, never samples, labels or single weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.model.graph import Graph
from edgefl.native.engine import Engine, ParamState

CAPPED_SHARE = 0.05


@dataclass(frozen=True)
class LayerReport:
    """One trained weight tensor: steps so far, how many were capped, how many moved it, saturations.

    weights is False if only its bias trains; part says which of several tensors of the operator it is.
    """

    op_index: int
    weights: bool
    steps: int
    capped: int
    moved: int
    saturated: int
    clamped: int
    part: str = ""


@dataclass(frozen=True)
class FitReport:
    """Result of Session.fit; history holds (mean loss, accuracy) of each epoch, before each of its steps.

    metric says what the share in place of accuracy is: "accuracy", "found" (boxes whose cell said so); "" for
    losses without hits.
    """

    steps: int
    samples: int
    history: list[tuple[float, float]]
    layers: list[LayerReport]
    metric: str = "accuracy"

    @property
    def warnings(self) -> list[str]:
        """One line for each tensor that the step cap held back, that saturated, or that never moved."""
        lines = []
        for layer in self.layers:
            name = f"operator {layer.op_index}" + (f" ({layer.part})" if layer.part else "")
            if layer.capped > CAPPED_SHARE * layer.steps:
                lines.append(
                    f"{name}: {layer.capped} of {layer.steps} steps were capped; "
                    "lower the rate, or raise step_cap"
                )
            if layer.saturated:
                lines.append(f"{name}: {layer.saturated} step sizes saturated; lower the rate")
            if layer.weights and layer.steps and not layer.moved:
                lines.append(f"{name}: its weights never moved; raise the rate, or leave it out")
        return lines


def layer_reports(graph: Graph, states: Sequence[ParamState], engine: Engine) -> list[LayerReport]:
    """Read the counters of every trained parameter."""
    reports = []
    for index, state in enumerate(states):
        if not (state.train_w or state.train_b):
            continue
        c = engine.counts(index)
        reports.append(
            LayerReport(
                graph.params[index].op_index,
                state.train_w,
                c.steps,
                c.capped,
                c.moved,
                c.saturated_w + c.saturated_b,
                c.clamped,
                graph.params[index].part,
            )
        )
    return reports
