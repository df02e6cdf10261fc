# SPDX-License-Identifier: Apache-2.0
"""A device's part in one round as a pure state machine: (state, event) -> (state, actions).

In: what happened.  Out: what to do, in order, each durable before the next. Refuses a round id that it has
seen, an offer while it is at work, and answers of a worker that it has given up. Invariants, which the tests
check against kills at any point: each TRAIN has its own (round, attempt) and a fresh seed, so a seed masks
one vector at most; nothing is sent before its header is committed; what is sent for a (round, attempt) is
always the same bytes. Source: secure-aggregation design, sections 3 and 5.3; docs/protocol.md, "Round".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

MAX_ATTEMPTS = 3  # trainings of one round that restarts may cost


class Phase(Enum):
    """Where the round stands; the database knows a record with or without a header."""

    IDLE = "idle"
    TRAINING = "training"
    SEALING = "sealing"
    SENDING = "sending"


class Outcome(Enum):
    """How a round ended on this device; SENT and UNSURE may have disclosed a masked report."""

    SENT = "sent"
    UNSURE = "unsure"  # sealed, and nobody knows whether the hub has it
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Record:
    """The database's row of a round in work."""

    round: bytes
    base: bytes  # Release whose file it trains
    attempt: int
    manifest: bytes  # the envelope
    y_hash: bytes | None = None  # with `header`: sealed, may be sent
    header: bytes | None = None


@dataclass(frozen=True)
class State:
    """The round in work."""

    phase: Phase = Phase.IDLE
    record: Record | None = None


# Events


@dataclass(frozen=True)
class Started:
    """The daemon starts; `late`: the deadline has passed; `spooled`: the file has the record's hash."""

    record: Record | None
    late: bool = False
    spooled: bool = False


@dataclass(frozen=True)
class Offered:
    """The hub invites to a round that the policy has accepted; `seen`: the database knows its id."""

    record: Record
    seen: bool


@dataclass(frozen=True)
class Masked:
    """The worker of this attempt has spooled its masked vector."""

    round: bytes
    attempt: int


@dataclass(frozen=True)
class Sealed:
    """The report's header for this attempt is built; nothing is durable yet."""

    round: bytes
    attempt: int
    y_hash: bytes
    header: bytes


@dataclass(frozen=True)
class WorkerFailed:
    """The worker of this attempt gave no vector."""

    round: bytes
    attempt: int
    reason: str  # one line


@dataclass(frozen=True)
class Answered:
    """The hub's answer to the report; `code` is empty if it has it."""

    round: bytes
    attempt: int
    code: str = ""


@dataclass(frozen=True)
class Over:
    """The hub says that the round is over."""

    round: bytes


@dataclass(frozen=True)
class Late:
    """The deadline has passed."""

    round: bytes


Event: TypeAlias = "Started | Offered | Masked | Sealed | WorkerFailed | Answered | Over | Late"


# Actions


@dataclass(frozen=True)
class DropLeftovers:
    """Delete what the spool holds of rounds, except this (round, attempt)."""

    keep: tuple[bytes, int] | None


@dataclass(frozen=True)
class Begin:
    """One transaction: the round is seen, this attempt has begun."""

    record: Record


@dataclass(frozen=True)
class Train:
    """Draw a fresh seed and start a worker with the key that follows from it."""

    record: Record


@dataclass(frozen=True)
class Seal:
    """Build the header with this attempt's seed; then Sealed, or WorkerFailed if the file is not sound."""

    record: Record


@dataclass(frozen=True)
class Commit:
    """One transaction: y_hash and header, which stand for the body from now on."""

    record: Record


@dataclass(frozen=True)
class EraseSeed:
    """Zero the seed; end the worker if it still runs."""


@dataclass(frozen=True)
class Send:
    """Upload the body, again and again until the hub answers; then Answered."""

    record: Record


@dataclass(frozen=True)
class Decline:
    """Tell the hub that no report will come."""

    round: bytes
    reason: str


@dataclass(frozen=True)
class Finish:
    """One transaction: the round is over here; then delete its spool file."""

    record: Record
    outcome: Outcome


Action: TypeAlias = "DropLeftovers | Begin | Train | Seal | Commit | EraseSeed | Send | Decline | Finish"
Result: TypeAlias = "tuple[State, list[Action]]"


def step(state: State, event: Event) -> Result:
    """Return the next state and what to do; an event of another round or attempt changes nothing."""
    if isinstance(event, Started):
        return _start(event)
    if isinstance(event, Offered):
        if state.phase is not Phase.IDLE or event.seen:
            return state, []
        return _train(event.record)
    record = state.record
    if record is None or event.round != record.round:
        return state, []
    if isinstance(event, Over):
        return _end(state, record, Outcome.CANCELLED)
    if isinstance(event, Late):
        return _end(state, record, Outcome.FAILED, "the deadline has passed")
    if event.attempt != record.attempt:
        return state, []
    return _advance(state, record, event)


def _start(event: Started) -> Result:
    """Go on: send what is sealed, train anew what is not (its seed is gone)."""
    record = event.record
    if record is None:
        return State(), [DropLeftovers(None)]
    if record.header is not None:
        if event.late or not event.spooled:
            return State(), [DropLeftovers(None), Finish(record, Outcome.UNSURE)]
        keep = (record.round, record.attempt)
        return State(Phase.SENDING, record), [DropLeftovers(keep), Send(record)]
    if event.late or record.attempt >= MAX_ATTEMPTS:
        reason = "the deadline has passed" if event.late else f"{record.attempt} attempts were interrupted"
        state, actions = _end(State(Phase.TRAINING, record), record, Outcome.FAILED, reason)
        return state, [DropLeftovers(None), *actions]
    state, actions = _train(replace(record, attempt=record.attempt + 1))
    return state, [DropLeftovers(None), *actions]


def _train(record: Record) -> Result:
    return State(Phase.TRAINING, record), [Begin(record), Train(record)]


def _advance(state: State, record: Record, event: Masked | Sealed | WorkerFailed | Answered) -> Result:
    if isinstance(event, Masked) and state.phase is Phase.TRAINING:
        return State(Phase.SEALING, record), [Seal(record)]
    if isinstance(event, Sealed) and state.phase is Phase.SEALING:
        record = replace(record, y_hash=event.y_hash, header=event.header)
        return State(Phase.SENDING, record), [Commit(record), EraseSeed(), Send(record)]
    if isinstance(event, WorkerFailed) and state.phase in (Phase.TRAINING, Phase.SEALING):
        return _end(state, record, Outcome.FAILED, event.reason)
    if isinstance(event, Answered) and state.phase is Phase.SENDING:
        return State(), [Finish(record, Outcome.UNSURE if event.code else Outcome.SENT)]
    return state, []


def _end(state: State, record: Record, outcome: Outcome, reason: str = "") -> Result:
    """Give the round up; a reason is told to the hub."""
    if record.header is not None:
        outcome = Outcome.UNSURE
    tell: list[Action] = [Decline(record.round, reason)] if reason and record.header is None else []
    return State(), [EraseSeed(), Finish(record, outcome), *tell]
