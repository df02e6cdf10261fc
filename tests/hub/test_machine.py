# SPDX-License-Identifier: Apache-2.0
"""The round's state machine, without any I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server_min.rounds.invite import Candidate, choose
from server_min.rounds.machine import step
from server_min.rounds.state import (
    GRACE_S,
    Answered,
    AskHelper,
    AwaitInstalls,
    Failed,
    Forward,
    Installed,
    Out,
    Phase,
    Publish,
    Published,
    Reported,
    Restarted,
    Round,
    Shared,
    TellVoid,
    Tick,
)
from server_min.store import Settings

DEADLINE = 100.0
D = [bytes([i]) * 16 for i in range(12)]


def fresh(n: int = 8, quorum: int = 4, close_at: int = 0) -> Round:
    return Round(Phase.INVITED, frozenset(D[:n]), quorum, close_at, DEADLINE)


def play(round_: Round, *events: object) -> tuple[Round, list[object]]:
    actions: list[object] = []
    for event in events:
        round_, more = step(round_, event)  # type: ignore[arg-type]
        actions += more
    return round_, actions


def reports(devices: list[bytes]) -> list[object]:
    return [e for d in devices for e in (Reported(d), Shared(d))]


def test_all_reports_close_and_publish() -> None:
    round_, actions = play(
        fresh(3, 2), *reports(D[:3]), Answered(), Published(), Installed(), Tick(DEADLINE + 99)
    )
    assert round_.phase is Phase.INSTALLED and round_.members == tuple(D[:3])
    assert actions == [Forward(D[0]), Forward(D[1]), Forward(D[2]), AskHelper(), Publish(), AwaitInstalls()]


def test_close_at_closes_early() -> None:
    round_, actions = play(fresh(8, 4, close_at=5), *reports(D[:5]))
    assert round_.phase is Phase.CLOSED and actions[-1] == AskHelper() and len(round_.members) == 5


def test_declines_count_towards_close() -> None:
    round_, _ = play(fresh(5, 2), *reports(D[:3]), Out(D[3]), Out(D[4]))
    assert round_.phase is Phase.CLOSED and round_.members == tuple(D[:3])


def test_too_many_declines_void_at_once() -> None:
    round_, actions = play(fresh(5, 3), Reported(D[0]), Shared(D[0]), *(Out(d) for d in D[2:5]))
    assert round_.phase is Phase.VOID and actions[-1] == TellVoid()
    assert "only 2 of 5" in round_.reason and "quorum is 3" in round_.reason


def test_deadline_with_quorum_closes_with_those_that_came() -> None:
    round_, _ = play(fresh(8, 4), *reports(D[:5]), Tick(DEADLINE))
    assert round_.phase is Phase.CLOSED and round_.members == tuple(D[:5])


def test_deadline_below_quorum_voids_and_never_asks_helper() -> None:
    round_, actions = play(fresh(8, 4), *reports(D[:3]), Tick(DEADLINE), *reports(D[3:8]), Answered())
    assert round_.phase is Phase.VOID and round_.members == ()
    assert AskHelper() not in actions and Publish() not in actions


def test_deadline_waits_for_helpers_word_then_goes_on_without_it() -> None:
    waiting, actions = play(fresh(8, 2), *reports(D[:3]), Reported(D[3]), Tick(DEADLINE))
    assert waiting.phase is Phase.COLLECTING and AskHelper() not in actions
    assert play(waiting, Shared(D[3]), Tick(DEADLINE))[0].members == tuple(D[:4])
    assert play(waiting, Tick(DEADLINE + GRACE_S))[0].members == tuple(D[:3])


def test_report_that_helper_refused_is_not_in_the_set() -> None:
    round_, _ = play(fresh(3, 2), *reports(D[:2]), Reported(D[2]), Out(D[2]))
    assert round_.phase is Phase.CLOSED and D[2] not in round_.members


def test_device_revoked_after_reporting_is_not_in_the_set() -> None:
    round_, _ = play(fresh(4, 2), *reports(D[:3]), Out(D[0]), *reports([D[3]]))
    assert round_.members == (D[1], D[2], D[3])


def test_uninvited_device_changes_nothing() -> None:
    before = fresh(3, 2)
    assert play(before, Reported(D[9]), Shared(D[9]), Out(D[9])) == (before, [])


def test_failure_after_close_voids() -> None:
    round_, actions = play(fresh(2, 2), *reports(D[:2]), Failed("the helper lost its key"))
    assert round_.phase is Phase.VOID and round_.reason == "the helper lost its key"
    assert actions[-1] == TellVoid()


def test_restart_repeats_what_was_under_way() -> None:
    collecting, _ = play(fresh(4, 2), *reports(D[:1]), Reported(D[1]))
    assert play(collecting, Restarted())[1] == [Forward(D[1])]
    closed, _ = play(fresh(2, 2), *reports(D[:2]))
    assert play(closed, Restarted())[1] == [AskHelper()]
    unmasked, _ = play(closed, Answered())
    assert play(unmasked, Restarted())[1] == [Publish()]
    published, _ = play(unmasked, Published())
    assert play(published, Restarted())[1] == [AwaitInstalls()]


EVENTS = st.one_of(
    st.builds(Reported, st.sampled_from(D)),
    st.builds(Shared, st.sampled_from(D)),
    st.builds(Out, st.sampled_from(D)),
    st.builds(Tick, st.sampled_from([0.0, DEADLINE - 1, DEADLINE, DEADLINE + GRACE_S])),
    st.sampled_from([Answered(), Failed("x"), Published(), Installed(), Restarted()]),
)


@given(st.integers(2, 10), st.integers(2, 6), st.integers(0, 10), st.lists(EVENTS, max_size=60))
def test_any_history_keeps_the_promises(n: int, quorum: int, close_at: int, events: list[object]) -> None:
    round_ = fresh(n, quorum, close_at)
    asked: set[tuple[bytes, ...]] = set()
    accepted: set[bytes] = set()
    forwarded: list[object] = []
    final = None
    for event in events:
        was = round_
        round_, actions = step(round_, event)  # type: ignore[arg-type]
        if isinstance(event, Reported) and Forward(event.device) in actions:
            accepted.add(event.device)
        if not isinstance(event, Restarted):
            forwarded += [a for a in actions if isinstance(a, Forward)]
        if AskHelper() in actions:
            asked.add(round_.members)
        if final is not None:
            assert (round_, actions) == (final, ())
        if round_.phase in (Phase.VOID, Phase.INSTALLED):
            final = round_
        assert round_.usable <= accepted and accepted <= was.invited | set()
    # S once, of quorum size, out of reports that both hubs accepted; each report forwarded once.
    assert len(asked) <= 1
    for members in asked:
        assert len(members) >= quorum and set(members) <= accepted
    assert len(forwarded) == len(set(forwarded))


def test_choose_waits_for_devices_that_still_install() -> None:
    settings = Settings(n_max=4, quorum=2, close_at=0, deadline_s=10)
    ready = [Candidate(d, True, 100) for d in D[:3]]
    late = [*ready, Candidate(D[3], False, 100)]
    assert choose(ready, settings, waited_s=0, settle_s=15) == tuple(D[:3])
    assert choose(late, settings, waited_s=1, settle_s=15) == ()
    assert choose(late, settings, waited_s=15, settle_s=15) == tuple(D[:3])


def test_choose_leaves_out_slow_devices_and_keeps_n_max_and_quorum() -> None:
    settings = Settings(n_max=4, quorum=2, close_at=0, deadline_s=10)
    slow = [Candidate(D[0], True, 10_001), Candidate(D[1], True, 10_000)]
    assert choose(slow, settings, waited_s=99, settle_s=15) == ()
    many = [Candidate(d, True, 0) for d in D]
    assert len(choose(many, settings, waited_s=0, settle_s=15)) == 4
