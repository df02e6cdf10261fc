# SPDX-License-Identifier: Apache-2.0
"""Phases invited and collecting: reports come in until S can be fixed.

In: reports, the helper's answers, declines, ticks.  Out: the closed round with S, or a void one.  Closes when
`close_at` reports are in both accepted sets, when all that can come have come, or at the deadline with the
quorum.  Refuses to close below the quorum: void, as soon as it can no longer be reached.  Late and repeated
events change nothing.
"""

from __future__ import annotations

from dataclasses import replace

from server_min.rounds.state import (
    GRACE_S,
    AskHelper,
    Event,
    Failed,
    Forward,
    Out,
    Phase,
    Reported,
    Restarted,
    Round,
    Shared,
    Step,
    TellVoid,
    Tick,
)  # fmt: skip


def on_event(round_: Round, event: Event) -> Step:
    """Advance a round that is open for reports."""
    match event:
        case Reported(device):
            if device not in round_.invited or device in round_.reported | round_.out:
                return round_, ()
            reported = round_.reported | {device}
            return replace(round_, phase=Phase.COLLECTING, reported=reported), (Forward(device),)
        case Shared(device) if device in round_.reported:
            return settle(replace(round_, shared=round_.shared | {device}))
        case Out(device) if device in round_.invited:
            return settle(replace(round_, out=round_.out | {device}))
        case Tick(now) if now >= round_.deadline:
            return at_deadline(round_, now)
        case Failed(reason):
            return round_.void(reason), (TellVoid(),)
        case Restarted():
            waiting = sorted(round_.reported - round_.shared - round_.out)
            settled, actions = settle(round_)
            return settled, (*(Forward(d) for d in waiting), *actions)
    return round_, ()


def settle(round_: Round) -> Step:
    """Close the round if enough is in; end it if enough can no longer come."""
    if round_.possible < round_.quorum:
        return void_below_quorum(
            round_, f"only {round_.possible} of {len(round_.invited)} devices can still report"
        )
    target = min(round_.close_at or round_.possible, round_.possible)
    if len(round_.usable) >= max(target, round_.quorum):
        return close(round_)
    return round_, ()


def at_deadline(round_: Round, now: float) -> Step:
    """Close with what is there, once the helper has said what it thinks of it."""
    unanswered = round_.reported - round_.shared - round_.out
    if unanswered and now < round_.deadline + GRACE_S:
        return round_, ()
    if len(round_.usable) >= round_.quorum:
        return close(round_)
    return void_below_quorum(round_, f"{len(round_.usable)} reports at the deadline")


def close(round_: Round) -> Step:
    """Fix S."""
    return replace(round_, phase=Phase.CLOSED, members=tuple(sorted(round_.usable))), (AskHelper(),)


def void_below_quorum(round_: Round, what: str) -> Step:
    """End the round; nothing of it was opened."""
    return round_.void(f"{what}, the quorum is {round_.quorum}"), (TellVoid(),)
