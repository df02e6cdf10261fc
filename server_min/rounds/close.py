# SPDX-License-Identifier: Apache-2.0
"""Phase closed: S is fixed; the helper signs it and sends R, once.

In: the helper's answer, or a failure.  Out: the unmasked round, or a void one.  A restart asks again for the
same S: the helper's answer to it is stored there.
"""

from __future__ import annotations

from dataclasses import replace

from server_min.rounds.state import (
    Answered,
    AskHelper,
    Event,
    Failed,
    Phase,
    Publish,
    Restarted,
    Round,
    Step,
    TellVoid,
)  # fmt: skip


def on_event(round_: Round, event: Event) -> Step:
    """Advance a closed round."""
    match event:
        case Answered():
            return replace(round_, phase=Phase.UNMASKED), (Publish(),)
        case Failed(reason):
            return round_.void(reason), (TellVoid(),)
        case Restarted():
            return round_, (AskHelper(),)
    return round_, ()
