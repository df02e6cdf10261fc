# SPDX-License-Identifier: Apache-2.0
"""The round machine in memory: thousands of rounds with dropouts, repeats, late news and kills."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefl.round import machine
from edgefl.round.machine import Outcome, Phase, Record, State, step


class Killed(Exception):
    pass


class World:
    """A database and a spool that survive kills, and everything else, which does not."""

    def __init__(self):
        self.rows: dict[bytes, Record] = {}  # open rounds
        self.outcomes: dict[bytes, Outcome] = {}
        self.spool: dict[tuple[bytes, int], bytes] = {}
        self.sent: dict[bytes, set[tuple[int, bytes, bytes]]] = {}
        self.masked_by: dict[int, list[bytes]] = {}
        self.fresh = itertools.count(1)
        self.kill_in = -1  # actions until the next kill, -1: none
        self.state, self.seed, self.worker, self.sending = State(), None, None, None
        self.restart(late=False)

    def restart(self, late: bool, kill_in: int = -1):
        self.state, self.seed, self.worker, self.sending = State(), None, None, None
        self.kill_in = kill_in
        record = next(iter(self.rows.values()), None)
        spooled = record is not None and self.spool.get((record.round, record.attempt)) == record.y_hash
        spooled = spooled and record.y_hash is not None
        self.feed(machine.Started(record, late, spooled))

    def feed(self, event):
        self.state, actions = step(self.state, event)
        for action in actions:
            if self.kill_in == 0:
                raise Killed
            self.kill_in -= self.kill_in > 0
            getattr(self, type(action).__name__)(action)

    # Actions

    def DropLeftovers(self, action):
        self.spool = {name: data for name, data in self.spool.items() if name == action.keep}

    def Begin(self, action):
        assert action.record.round not in self.outcomes, "a finished round begins again"
        assert action.record.header is None
        assert not self.rows.keys() - {action.record.round}, "two rounds at a time"
        before = self.rows.get(action.record.round)
        assert before is None or (before.header is None and before.attempt < action.record.attempt)
        self.rows[action.record.round] = action.record

    def Train(self, action):
        assert self.rows[action.record.round] == action.record, "training before the row is durable"
        self.seed = next(self.fresh)
        self.worker = (action.record.round, action.record.attempt)

    def worker_done(self):
        """The worker masks with its key and leaves the file, then says so."""
        name, self.worker = self.worker, None
        vector = f"vector {next(self.fresh)}".encode()
        self.masked_by.setdefault(self.seed, []).append(vector)
        self.spool[name] = vector
        self.feed(machine.Masked(*name))

    def Seal(self, action):
        record = action.record
        payload = self.spool[record.round, record.attempt]
        assert self.seed is not None
        header = b"sealed %d, nonce %d" % (self.seed, next(self.fresh))
        self.feed(machine.Sealed(record.round, record.attempt, payload, header))

    def Commit(self, action):
        assert action.record.header and action.record.y_hash
        self.rows[action.record.round] = action.record

    def EraseSeed(self, action):
        self.seed = self.worker = None

    def Send(self, action):
        record = action.record
        assert self.rows[record.round] == record and record.header is not None, "sent before it was committed"
        assert self.seed is None, "sent while the seed is in memory"
        self.sending = record
        body = (record.attempt, record.header, self.spool[record.round, record.attempt])
        self.sent.setdefault(record.round, set()).add(body)

    def answered(self, code):
        record, self.sending = self.sending, None
        self.feed(machine.Answered(record.round, record.attempt, code))

    def Decline(self, action):
        assert action.round not in self.sent, "declined after a report left"

    def Finish(self, action):
        self.rows.pop(action.record.round)
        self.outcomes[action.record.round] = action.outcome
        self.spool.pop((action.record.round, action.record.attempt), None)
        self.sending = None

    def check(self):
        for seed, vectors in self.masked_by.items():
            assert len(vectors) == 1, f"seed {seed} masked {len(vectors)} vectors"
        for round_id, bodies in self.sent.items():
            assert len(bodies) == 1, f"{len(bodies)} different bodies for round {round_id!r}"
        assert len(self.rows) <= 1
        for round_id, outcome in self.outcomes.items():
            disclosed = outcome in (Outcome.SENT, Outcome.UNSURE)
            assert disclosed or round_id not in self.sent, "a report left and is not counted"


OPERATIONS = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 5)),
    st.tuples(st.just("worker"), st.booleans()),
    st.tuples(st.just("answer"), st.sampled_from(["", "round.closed"])),
    st.tuples(st.just("over"), st.integers(0, 5)),
    st.tuples(st.just("late"), st.integers(0, 5)),
    st.tuples(st.just("stale"), st.integers(0, 5)),
    st.tuples(st.just("kill"), st.booleans()),
    st.tuples(st.just("kill in"), st.integers(0, 5)),
    st.tuples(st.just("kill, and while starting"), st.integers(0, 5)),
)


def operate(world: World, name: str, value) -> None:
    round_id = b"%d" % value if isinstance(value, int) else b""
    seen = round_id in world.rows or round_id in world.outcomes
    if name == "offer":
        world.feed(machine.Offered(Record(round_id, b"base", 0, b"manifest"), seen))
    elif name == "worker" and world.worker is not None and value:
        world.worker_done()
    elif name == "worker" and world.worker is not None:
        world.feed(machine.WorkerFailed(*world.worker, "killed for memory"))
    elif name == "answer" and world.sending is not None:
        world.answered(value)
    elif name == "over":
        world.feed(machine.Over(round_id))
    elif name == "late":
        world.feed(machine.Late(round_id))
    elif name == "stale":  # news of an attempt that was given up
        world.feed(machine.Masked(round_id, 99))
        world.feed(machine.Sealed(round_id, 99, b"y", b"h"))
        world.feed(machine.Answered(round_id, 99))
    elif name == "kill":
        world.restart(late=value)
    elif name == "kill, and while starting":
        world.restart(late=False, kill_in=value)
    elif name == "kill in":
        world.kill_in = value


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATIONS, max_size=30))
def test_machine_under_kills_and_repeats_keeps_its_promises(operations):
    world = World()
    for name, value in operations:
        try:
            operate(world, name, value)
        except Killed:
            world.check()
            world.restart(late=False)
        world.check()


def test_a_planted_fault_is_found(monkeypatch):
    """The model above notices a machine that trains again with a row that is sealed."""
    real = machine._start

    def faulty(event):
        if event.record is not None and event.record.header is not None:
            event = replace(event, record=replace(event.record, header=None, y_hash=None))
        return real(event)

    monkeypatch.setattr(machine, "_start", faulty)
    world = World()
    with pytest.raises((AssertionError, Killed)):
        for name, value in [("offer", 1), ("worker", True), ("kill", False), ("worker", True)]:
            operate(world, name, value)
            world.check()


def record(**changes) -> Record:
    return replace(Record(b"r", b"base", 0, b"manifest"), **changes)


def test_round_from_offer_to_answer():
    state, actions = step(State(), machine.Offered(record(), seen=False))
    assert [type(a) for a in actions] == [machine.Begin, machine.Train]
    state, actions = step(state, machine.Masked(b"r", 0))
    assert [type(a) for a in actions] == [machine.Seal]
    state, actions = step(state, machine.Sealed(b"r", 0, b"y", b"h"))
    assert [type(a) for a in actions] == [machine.Commit, machine.EraseSeed, machine.Send]
    state, actions = step(state, machine.Answered(b"r", 0))
    assert state == State()
    assert actions == [machine.Finish(record(y_hash=b"y", header=b"h"), Outcome.SENT)]


def test_offer_of_a_seen_round_changes_nothing():
    assert step(State(), machine.Offered(record(), seen=True)) == (State(), [])


def test_offer_while_at_work_changes_nothing():
    busy = State(Phase.TRAINING, record())
    assert step(busy, machine.Offered(record(round=b"other"), seen=False)) == (busy, [])


def test_restart_with_a_sealed_report_sends_it_again():
    sealed = record(y_hash=b"y", header=b"h")
    state, actions = step(State(), machine.Started(sealed, late=False, spooled=True))
    assert state == State(Phase.SENDING, sealed)
    assert actions == [machine.DropLeftovers((b"r", 0)), machine.Send(sealed)]


def test_restart_while_training_takes_a_new_attempt():
    state, actions = step(State(), machine.Started(record(attempt=1)))
    assert state.record == record(attempt=2)
    assert [type(a) for a in actions] == [machine.DropLeftovers, machine.Begin, machine.Train]


def test_restarts_that_never_end_are_given_up():
    last = record(attempt=machine.MAX_ATTEMPTS)
    state, actions = step(State(), machine.Started(last))
    assert state == State()
    assert machine.Finish(last, Outcome.FAILED) in actions
    assert isinstance(actions[-1], machine.Decline)


def test_report_refused_after_a_lost_answer_counts_as_disclosed():
    """The hub may hold the first copy: nobody knows, so it is counted."""
    sealed = record(y_hash=b"y", header=b"h")
    _, actions = step(State(Phase.SENDING, sealed), machine.Answered(b"r", 0, "round.closed"))
    assert actions == [machine.Finish(sealed, Outcome.UNSURE)]
