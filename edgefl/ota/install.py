# SPDX-License-Identifier: Apache-2.0
"""The install of a Release as a pure state machine: (state, event) -> (state, actions); no I/O.

In: what happened (a start, an offer, a step done or failed).  Out: what to do next, one step at a time:
FETCH (download, nothing durable) -> INTENT -> SLOT -> GATE -> LINK -> COMMIT; each is durable before the
next begins. Refuses Releases that failed here, and gives up at the third attempt that ended without a word
(a crash). Invariant: the link names a whole file that passed the gate, old or new, after a kill or power
cut at any point; after a start the link is the truth.  Source: updates-and-trust section 3.  The adapters
carry the actions out in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from edgefl.ota.release import Download, VerifiedRelease, choose

MAX_ATTEMPTS = 3
MAX_REJECTED = 64  # newest first; as many as a Poll carries


class Step(Enum):
    """Where an install stands; the database knows only whether there is an intent."""

    IDLE = "idle"
    FETCH = "fetch"
    INTENT = "intent"
    SLOT = "slot"
    GATE = "gate"
    LINK = "link"
    COMMIT = "commit"


class Failure(Enum):
    """Why a step failed."""

    RELEASE = "release"  # the Release is bad: the gate says FAIL, or the whole file does not give its hash
    PATCH = "patch"  # patch and active file do not give the file: ask for the whole file
    MACHINE = "machine"  # no network, no space, no memory, gate without a verdict: not the Release's fault


@dataclass(frozen=True)
class Intent:
    """The database's row of an install that has begun."""

    release: bytes  # SHA-256 of the envelope
    file: bytes
    sequence: int
    issued: int
    attempts: int  # begun so far, this one included


@dataclass(frozen=True)
class State:
    """What the machine knows: first the rows of the database, then what only this run knows."""

    active: bytes | None = None  # file of the last commit
    previous: bytes | None = None  # file before it, kept
    seen: int = 0  # sequence of the newest accepted Release
    rejected: tuple[bytes, ...] = ()  # Releases that failed here, newest first
    intent: Intent | None = None

    step: Step = Step.IDLE
    offer: VerifiedRelease | None = None
    download: Download | None = None
    begun: bool = False  # this attempt's intent is durable
    linked: bytes | None = None  # file that the link names; never pruned


# Events


@dataclass(frozen=True)
class Started:
    """The daemon starts, or a `Settle` is due.

    link: file that the `current` link names (None: no link).
    release: the intent's Release, verified anew from the envelope kept with it; None without an intent, or if
    it does not verify any more (it expired).
    """

    link: bytes | None
    release: VerifiedRelease | None


@dataclass(frozen=True)
class Offered:
    """The hub has a Release that `release.verify` accepted."""

    release: VerifiedRelease


@dataclass(frozen=True)
class Done:
    """A step's action is durable."""

    step: Step


@dataclass(frozen=True)
class Failed:
    """A step's action failed; nothing of it needs to be undone by the caller."""

    step: Step
    kind: Failure
    reason: str  # one line


Event = Started | Offered | Done | Failed


# Actions, to be carried out in order; one that belongs to no step and fails is only logged


@dataclass(frozen=True)
class Fetch:
    """Get the download's blob (resume with Range) and check it; nothing to do if slot or blob are there.

    Then Done(FETCH), or Failed(FETCH, MACHINE): a wrong blob is the network's fault, the Release is signed.
    """

    release: VerifiedRelease
    download: Download


@dataclass(frozen=True)
class SaveIntent:
    """One transaction: write the intent with the Release's envelope.  Then Done(INTENT)."""

    intent: Intent
    envelope: bytes


@dataclass(frozen=True)
class WriteSlot:
    """Make `slots/<file>` by `release.reconstruct`; keep one that has the hash already.

    Write `slots/.part-<file>`, fsync it, rename, fsync `slots/`.  After a failed fsync remove the part; never
    retry the fsync.  Then Done(SLOT), or Failed(SLOT, PATCH | RELEASE for DataError, MACHINE for no space).
    """

    release: VerifiedRelease
    download: Download


@dataclass(frozen=True)
class RunGate:
    """Get the probe's blob, run the health gate in a child, `gate.judge` it.

    Then Done(GATE), or Failed(GATE, RELEASE) for FAIL and Failed(GATE, MACHINE) for NO_VERDICT.
    """

    release: VerifiedRelease


@dataclass(frozen=True)
class Link:
    """Make a link to `slots/<file>` under another name, rename it over `current`, fsync the parent.

    A leftover of that other name is removed first.  Then Done(LINK); a repair at start belongs to no step.
    """

    file: bytes
    repair: bool = False


@dataclass(frozen=True)
class Commit:
    """One transaction: active, previous, seen, floor = max(floor, issued), no intent; then Done(COMMIT).

    The envelope kept with the intent becomes the active Release's: its task is what the device trains.
    """

    intent: Intent
    previous: bytes | None


@dataclass(frozen=True)
class Reject:
    """One transaction: the Release joins the rejected ones with its reason, no intent; polls report it."""

    release: bytes
    reason: str


@dataclass(frozen=True)
class ForgetIntent:
    """One transaction: no intent; nothing is held against the Release."""


@dataclass(frozen=True)
class Prune:
    """Remove parts, blobs of other Releases and every slot but these."""

    keep: frozenset[bytes]


@dataclass(frozen=True)
class Tell:
    """One line for the log and the next poll's `event`."""

    text: str


@dataclass(frozen=True)
class TryLater:
    """The hub will offer the Release again; back off first."""


@dataclass(frozen=True)
class Settle:
    """Back off, then read the link and give Started: link and database may differ until then."""


Action = (
    Fetch
    | SaveIntent
    | WriteSlot
    | RunGate
    | Link
    | Commit
    | Reject
    | ForgetIntent
    | Prune
    | Tell
    | TryLater
    | Settle
)
Result = tuple[State, list[Action]]


def step(state: State, event: Event) -> Result:
    """Return the next state and what to do; an event that does not fit the current step changes nothing."""
    if isinstance(event, Started):
        return _start(state, event)
    if isinstance(event, Offered):
        body = event.release.body
        stale = body.sequence <= state.seen or event.release.sha256 in state.rejected
        # Nothing is queued while an install is under way: the hub repeats its offer.
        return (state, []) if stale or state.step is not Step.IDLE else _begin(state, event.release)
    if event.step is not state.step or state.step is Step.IDLE:
        return state, []
    return _next(state) if isinstance(event, Done) else _fail(state, event)


def _start(state: State, event: Started) -> Result:
    """Follow the link: equal to the intent, finish it; otherwise link the active file and begin again.

    A link that an earlier life left may not be durable (killed between rename and fsync): it is made again
    before the commit, or a power cut after that could take it back.
    """
    state, intent = replace(_idle(state), linked=event.link), state.intent
    if intent is not None and event.link == intent.file:
        return replace(state, step=Step.LINK), [Link(intent.file)]
    repair: list[Action] = []
    if state.active is not None and event.link != state.active:
        repair.append(Link(state.active, repair=True))
        state = replace(state, linked=state.active)
    if intent is None:
        return state, [*repair, Prune(_kept(state))]
    if event.release is not None and event.release.sha256 == intent.release:
        state, actions = _begin(state, event.release)
        return state, [*repair, *actions]
    state = replace(state, intent=None)
    return state, [
        *repair,
        ForgetIntent(),
        Tell("the release in work is not valid any more"),
        Prune(_kept(state)),
    ]


def _begin(state: State, release: VerifiedRelease) -> Result:
    """Begin an attempt, or give up."""
    begun = _attempts(state, release)
    if begun >= MAX_ATTEMPTS:
        return _reject(state, release.sha256, f"gave up after {begun} attempts")
    return _fetch(state, release, whole=False)


def _fetch(state: State, release: VerifiedRelease, *, whole: bool) -> Result:
    download = choose(release, state.active, whole=whole)
    return replace(state, step=Step.FETCH, offer=release, download=download), [Fetch(release, download)]


def _next(state: State) -> Result:
    """Return the step after the one that is done."""
    if state.step is Step.COMMIT:
        return _committed(state)
    intent = state.intent
    if state.step is Step.LINK and intent is not None:
        return replace(state, step=Step.COMMIT, linked=intent.file), [
            Commit(intent, _previous(state, intent))
        ]
    release, download = state.offer, state.download
    assert release is not None and download is not None
    if state.step is Step.FETCH and not state.begun:
        return replace(state, step=Step.INTENT), [SaveIntent(_intent(state, release), release.envelope)]
    if state.step is Step.INTENT:
        state = replace(state, intent=_intent(state, release), begun=True)
    if state.step in (Step.FETCH, Step.INTENT):
        return replace(state, step=Step.SLOT), [WriteSlot(release, download)]
    if state.step is Step.SLOT:
        return replace(state, step=Step.GATE), [RunGate(release)]
    assert state.step is Step.GATE and intent is not None
    return replace(state, step=Step.LINK), [Link(intent.file)]


def _committed(state: State) -> Result:
    intent = state.intent
    assert intent is not None
    state = replace(
        _idle(state),
        active=intent.file,
        previous=_previous(state, intent),
        seen=max(state.seen, intent.sequence),
        intent=None,
    )
    return state, [Tell(f"installed release {intent.sequence}"), Prune(_kept(state))]


def _fail(state: State, event: Failed) -> Result:
    """Reject a bad Release, replace a bad patch or base by the whole file, try anything else later."""
    if state.step in (Step.LINK, Step.COMMIT):
        # The step is kept, so that no offer moves anything while link and database may differ.
        return state, [Tell(event.reason), Settle()]
    release, download, intent = state.offer, state.download, state.intent
    assert release is not None and download is not None
    if event.kind is not Failure.MACHINE and state.step is not Step.GATE and download.kind != "full":
        state, actions = _fetch(state, release, whole=True)
        return state, [Tell(f"fetching the whole file: {event.reason}"), *actions]
    if event.kind is not Failure.MACHINE:
        return _reject(state, release.sha256, event.reason)
    refund: list[Action] = []
    if state.begun and intent is not None:
        # Nothing to hold against the Release: this attempt does not count, earlier ones do.
        intent = replace(intent, attempts=intent.attempts - 1)
        refund = [SaveIntent(intent, release.envelope)]
    state = replace(_idle(state), intent=intent)
    return state, [*refund, Tell(event.reason), Prune(_kept(state)), TryLater()]


def _reject(state: State, release: bytes, reason: str) -> Result:
    rejected = (release, *(r for r in state.rejected if r != release))[:MAX_REJECTED]
    state = replace(_idle(state), rejected=rejected, intent=None)
    return state, [Reject(release, reason), Tell(f"release rejected: {reason}"), Prune(_kept(state))]


def _idle(state: State) -> State:
    return replace(state, step=Step.IDLE, offer=None, download=None, begun=False)


def _attempts(state: State, release: VerifiedRelease) -> int:
    """Return how many attempts at this Release have begun."""
    return state.intent.attempts if state.intent and state.intent.release == release.sha256 else 0


def _intent(state: State, release: VerifiedRelease) -> Intent:
    body = release.body
    return Intent(release.sha256, body.file, body.sequence, body.issued, _attempts(state, release) + 1)


def _previous(state: State, intent: Intent) -> bytes | None:
    """Return the file to keep beside the new one."""
    return state.previous if state.active == intent.file else state.active


def _kept(state: State) -> frozenset[bytes]:
    """Return the files that no pruning touches."""
    files = {state.active, state.previous, state.linked, state.intent.file if state.intent else None}
    return frozenset(f for f in files if f is not None)
