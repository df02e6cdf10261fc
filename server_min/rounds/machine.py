# SPDX-License-Identifier: Apache-2.0
"""One step of a round: the event goes to the file of the phase that the round is in.

In: state, event.  Out: state, actions.  Events that a phase does not know change nothing, so that a late
report, a second answer or an old tick is harmless.
"""

from __future__ import annotations

from collections.abc import Callable

from server_min.rounds import close, collect, publish
from server_min.rounds.state import Event, Phase, Round, Step

PHASES: dict[Phase, Callable[[Round, Event], Step]] = {
    Phase.INVITED: collect.on_event,
    Phase.COLLECTING: collect.on_event,
    Phase.CLOSED: close.on_event,
    Phase.UNMASKED: publish.on_unmasked,
    Phase.PUBLISHED: publish.on_published,
}


def step(round_: Round, event: Event) -> Step:
    """Return the next state and what is to be done."""
    phase = PHASES.get(round_.phase)
    return (round_, ()) if phase is None else phase(round_, event)
