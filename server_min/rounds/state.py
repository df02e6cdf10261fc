# SPDX-License-Identifier: Apache-2.0
"""State, events and actions of a round at the leader.

(state, event) -> (state, actions), without I/O, clock or entropy: `step` in machine.py sends an event to the
phase's file.
Invariant: `members` (the set S) is chosen once, from reports that both hubs accepted; nothing leaves `VOID`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

# After the deadline, so long for the helper's answers on reports that arrived in time.
GRACE_S = 5.0


class Phase(str, Enum):
    """Where a round is; the values are those of the store and of `--json`."""

    INVITED = "invited"
    COLLECTING = "collecting"
    CLOSED = "closed"
    UNMASKED = "unmasked"
    PUBLISHED = "published"
    INSTALLED = "installed"
    VOID = "void"


@dataclass(frozen=True)
class Round:
    """What decides how a round goes on."""

    phase: Phase
    invited: frozenset[bytes]
    quorum: int
    close_at: int  # reports that close it; 0: all that can still come
    deadline: float
    reported: frozenset[bytes] = frozenset()  # accepted here
    shared: frozenset[bytes] = frozenset()  # accepted by the helper too
    out: frozenset[bytes] = frozenset()  # declined, refused by the helper, or revoked
    members: tuple[bytes, ...] = ()  # S, sorted
    reason: str = ""

    @property
    def usable(self) -> frozenset[bytes]:
        """Reports in both accepted sets."""
        return self.shared - self.out

    @property
    def possible(self) -> int:
        """Devices that have reported or still can."""
        return len(self.invited - self.out)

    def with_reason(self, reason: str) -> Round:
        """Note something about how it went."""
        return replace(self, reason=reason)

    def void(self, reason: str) -> Round:
        """End the round without a result."""
        return replace(self, phase=Phase.VOID, reason=reason, members=())


# Events


@dataclass(frozen=True)
class Reported:
    """A device's report was checked and stored."""

    device: bytes


@dataclass(frozen=True)
class Shared:
    """The helper accepted a report."""

    device: bytes


@dataclass(frozen=True)
class Out:
    """A device declined or was revoked, or the helper refused its report."""

    device: bytes


@dataclass(frozen=True)
class Tick:
    """Time passed."""

    now: float


@dataclass(frozen=True)
class Answered:
    """The helper signed S and sent R."""


@dataclass(frozen=True)
class Failed:
    """The round cannot go on."""

    reason: str


@dataclass(frozen=True)
class Published:
    """The next release is signed and stored."""


@dataclass(frozen=True)
class Installed:
    """Every live invited device runs the release, or the wait for them is over."""


@dataclass(frozen=True)
class Restarted:
    """The process came back with this state from the store."""


Event: TypeAlias = Reported | Shared | Out | Tick | Answered | Failed | Published | Installed | Restarted


# Actions


@dataclass(frozen=True)
class Forward:
    """Pass a report's header to the helper."""

    device: bytes


@dataclass(frozen=True)
class AskHelper:
    """Send S to the helper and wait for its signature and R."""


@dataclass(frozen=True)
class Publish:
    """Add R to the masked sum, move the master, publish a release."""


@dataclass(frozen=True)
class AwaitInstalls:
    """Watch the devices' polls for the new release."""


@dataclass(frozen=True)
class TellVoid:
    """Tell helper and devices that the round is void; forget its reports."""


Action: TypeAlias = Forward | AskHelper | Publish | AwaitInstalls | TellVoid
Step: TypeAlias = tuple[Round, tuple[Action, ...]]
