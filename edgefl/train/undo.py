# SPDX-License-Identifier: Apache-2.0
"""Going back to where a fit began, so that one that is interrupted has not happened.

In: what trains and the engine, at the start of a fit.  Out: the same numbers, whenever asked.  Before the
first step nothing is copied: the weights stand in the graph and the start residuals follow from the seed;
later fits keep one copy of what trains (2 bytes a weight, 5 a bias) while they run.  Invariant: `restore` may
be interrupted and called again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgefl.model.graph import Graph
from edgefl.model.vector import Segment
from edgefl.native.engine import Engine, ParamState


class Undo:
    """The numbers of one moment.

    Parameters
    ----------
    graph : Graph
        The model as received.
    segments : sequence of Segment
        What trains.
    states : sequence of ParamState
        Of every param.
    engine : Engine
        Its counters are kept too.
    start : callable, optional
        Gives the start residuals of the whole vector again (None without residuals); for the moment before
        the first step, of which no copies are made.
    """

    def __init__(
        self,
        graph: Graph,
        segments: Sequence[Segment],
        states: Sequence[ParamState],
        engine: Engine,
        start: Callable[[], np.ndarray | None] | None = None,
    ) -> None:
        self._graph, self._segments, self._states = graph, segments, states
        self._engine, self._start = engine, start
        self._counters = engine.save_counters()
        self._copies = [] if start else [array.copy() for array in self._arrays()]

    def _arrays(self) -> list[np.ndarray]:
        """Weights, biases and their residuals."""
        found: list[np.ndarray | None] = []
        for segment in self._segments:
            state = self._states[segment.param]
            found += [state.q, state.r] if segment.kind == "weight" else [state.b, state.rb]
        return [array for array in found if array is not None]

    def restore(self) -> None:
        """Put everything back."""
        for array, copy in zip(self._arrays(), self._copies or self._originals(), strict=True):
            array[...] = copy
        for segment in self._segments:
            state = self._states[segment.param]
            for sums in (state.acc_w, state.acc_b):
                if sums is not None:
                    sums[...] = 0  # as between steps
        self._engine.load_counters(self._counters)

    def _originals(self) -> list[np.ndarray]:
        """Make again what `_arrays` held before the first step."""
        found, noise = list[np.ndarray](), self._start() if self._start else None
        for segment in self._segments:
            param, weight = self._graph.params[segment.param], segment.kind == "weight"
            found.append(param.q.reshape(-1) if weight else param.b)
            if noise is not None:
                part = noise[segment.offset : segment.stop]
                found.append(part if weight else np.zeros_like(part))
        return found
