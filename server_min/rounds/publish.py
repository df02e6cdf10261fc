# SPDX-License-Identifier: Apache-2.0
"""Phases unmasked and published: the sum becomes the next release, the devices install it.

In: events.  Out: the published, then the installed round.  A failure here voids the round before anything is
published; a release that is out stays out.
"""

from __future__ import annotations

from dataclasses import replace

from server_min.rounds.state import (
    AwaitInstalls,
    Event,
    Failed,
    Installed,
    Phase,
    Publish,
    Published,
    Restarted,
    Round,
    Step,
    TellVoid,
)  # fmt: skip


def on_unmasked(round_: Round, event: Event) -> Step:
    """Advance a round whose sum is known."""
    match event:
        case Published():
            return replace(round_, phase=Phase.PUBLISHED), (AwaitInstalls(),)
        case Failed(reason):
            return round_.void(reason), (TellVoid(),)
        case Restarted():
            return round_, (Publish(),)
    return round_, ()


def on_published(round_: Round, event: Event) -> Step:
    """Advance a round whose release is out."""
    match event:
        case Installed():
            return replace(round_, phase=Phase.INSTALLED), ()
        case Restarted():
            return round_, (AwaitInstalls(),)
    return round_, ()
