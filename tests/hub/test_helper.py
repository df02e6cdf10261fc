# SPDX-License-Identifier: Apache-2.0
"""The helper: whom it believes, what it opens, and that it answers one set of a round, once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefl.native import masks
from edgefl.secagg import agree, oneshot
from edgefl.secagg.kdf import mask_key
from edgefl.secagg.secret import Secret
from edgefl.types import MaskedVector
from edgefl.wire import credential
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import blake2b, key_id, public_key, signer
from edgefl.wire.messages import Helper, Leader, Manifest, Report
from hub.devices import Entropy
from hub.hubs import Pair, found_pair
from server_min.helper import EXPIRE_S, HelperRounds
from server_min.refusal import Refusal
from server_min.store import SqliteStore

NOW = 1_800_000_000.0


class Bench:
    """A helper in memory with a leader's and some devices' keys."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.leader, self.helper = pair.hub("leader"), pair.hub("helper")
        self.ca = signer(self.leader.private("ca"))
        self.store = SqliteStore(pair.helper)
        self.now = NOW
        self.restart()

    def restart(self) -> None:
        self.rounds = HelperRounds(self.helper, self.store, lambda: self.now)

    def draft(self, **changes: object) -> Manifest:
        fields: dict[str, object] = dict(
            round=os.urandom(16), number=0, task=bytes(32), model=bytes(32), mode="oneshot", quorum=2,
            n_max=4, width=16, bits=10, value_bits=8, dim=50, length=57, scale=64, clip=1000,
            deadline=int(NOW) + 60, leader=Leader(self.leader.id, "hospital A"),
            helper=Helper(self.helper.id, "university B", bytes(32)),
        )  # fmt: skip
        return Manifest(**fields | changes)  # type: ignore[arg-type]

    def open(self, **changes: object) -> Manifest:
        envelope = self.rounds.open(self.draft(**changes))
        payload = open_envelope(envelope, "manifest", {self.helper.id: self.helper.public})
        return Manifest.decode(payload)

    def report(self, m: Manifest, **changes: object) -> tuple[Report, bytes]:
        """Return a device's header and its seed."""
        seed, secret = os.urandom(32), os.urandom(32)
        device = key_id(public_key(seed))
        issuer = changes.pop("issuer", self.ca)
        card = credential.issue(issuer, public_key(seed), "any", int(NOW))  # type: ignore[arg-type]
        masked = MaskedVector(os.urandom(m.payload_bytes), m.length, m.bits)
        update = oneshot.seal(
            masked, Secret(secret), m, blake2b(m.encode()), device=device, class_="any", attempt=0,
            credential=card, sign=signer(seed)[1], entropy=Entropy(),
        )  # fmt: skip
        return replace(Report.decode(update.header), **changes), secret  # type: ignore[arg-type]

    def give(self, m: Manifest, *headers: Report) -> list[str]:
        answer = self.rounds.take_reports(m.round, [h.encode() for h in headers])
        assert [bool(r) for r in answer.reasons] == [not a for a in answer.accepted]
        return list(answer.reasons)

    def set_of(self, m: Manifest, *reports: Report, key: bytes | None = None) -> bytes:
        statement = agree.set_statement(m, blake2b(m.encode()), {r.device: r.class_ for r in reports})
        return agree.seal_set(statement, [self.leader.signer if key is None else signer(key)])

    def close(self, m: Manifest, envelope: bytes):  # type: ignore[no-untyped-def]
        return asyncio.run(self.rounds.close(m.round, envelope))

    def void(self, m: Manifest, key: bytes | None = None) -> bytes:
        signers = [self.leader.signer if key is None else signer(key)]
        return self.rounds.void(m.round, agree.seal_void(m, blake2b(m.encode()), "below quorum", signers))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return found_pair(tmp_path_factory.mktemp("hubs"))


@pytest.fixture
def bench(pair: Pair) -> Iterator[Bench]:
    bench = Bench(pair)
    yield bench
    bench.store.close()


def refused(code: str):  # type: ignore[no-untyped-def]
    return pytest.raises(Refusal, check=lambda e: e.code == code)


def test_sum_of_masks_is_exact_and_secrets_are_gone(bench: Bench) -> None:
    m = bench.open()
    pairs = [bench.report(m) for _ in range(3)]
    assert bench.give(m, *(r for r, _ in pairs)) == ["", "", ""]
    open_round = bench.rounds.open_rounds[m.round]
    seeds = list(open_round.seeds.values())
    answer = bench.close(m, bench.set_of(m, *(r for r, _ in pairs[:2])))
    h = blake2b(m.encode())
    expected = np.zeros(m.length, np.uint16)
    for report, secret in pairs[:2]:
        key = mask_key(secret, device=report.device, h=h, width=16, dim=m.dim)
        expected += np.frombuffer(masks.key_stream(2 * m.length, key), "<u2")
    assert (masks.unpack(answer.sum, m.length, 16, m.bits) == expected & (1 << m.bits) - 1).all()
    assert agree.open_set(answer.set, [bench.helper.public]).members[0].class_ == "any"
    assert all(repr(s) == "Secret(erased)" for s in [*seeds, open_round.secret])
    assert m.round not in bench.rounds.open_rounds


def test_exactly_one_set_is_answered(bench: Bench) -> None:
    m = bench.open()
    reports = [bench.report(m)[0] for _ in range(3)]
    bench.give(m, *reports)
    first = bench.close(m, bench.set_of(m, *reports))
    assert bench.close(m, bench.set_of(m, *reports)) == first
    with refused("round.closed"):
        bench.close(m, bench.set_of(m, *reports[:2]))
    bench.restart()  # the stored answer outlives the process
    assert bench.close(m, bench.set_of(m, *reports)) == first
    with refused("round.closed"):
        bench.close(m, bench.set_of(m, *reports[1:]))


def test_concurrent_sets_get_one_answer(bench: Bench) -> None:
    m = bench.open()
    reports = [bench.report(m)[0] for _ in range(4)]
    bench.give(m, *reports)

    async def race():  # type: ignore[no-untyped-def]
        sets = [bench.set_of(m, *reports), bench.set_of(m, *reports[:2]), bench.set_of(m, *reports[2:])]
        return await asyncio.gather(*(bench.rounds.close(m.round, s) for s in sets), return_exceptions=True)

    outcomes = asyncio.run(race())
    assert sum(not isinstance(o, Exception) for o in outcomes) == 1
    assert all(o.code == "round.closed" for o in outcomes if isinstance(o, Refusal))


def test_no_answer_after_void_and_no_void_after_answer(bench: Bench) -> None:
    m = bench.open()
    reports = [bench.report(m)[0] for _ in range(2)]
    bench.give(m, *reports)
    signed = bench.void(m)
    agree.open_void(signed, m, blake2b(m.encode()), [bench.helper.public])
    assert bench.void(m) == signed  # a repeat is fine
    with refused("round.closed"):
        bench.close(m, bench.set_of(m, *reports))
    answered = bench.open()
    reports = [bench.report(answered)[0] for _ in range(2)]
    bench.give(answered, *reports)
    bench.close(answered, bench.set_of(answered, *reports))
    with refused("round.closed"):
        bench.void(answered)


def test_forged_leader_signatures_are_refused(bench: Bench) -> None:
    m, forger = bench.open(), os.urandom(32)
    reports = [bench.report(m)[0] for _ in range(2)]
    bench.give(m, *reports)
    with refused("report.signature"):
        bench.close(m, bench.set_of(m, *reports, key=forger))
    with refused("report.signature"):
        bench.void(m, key=forger)
    assert bench.store.helped.get(m.round).state == "open"  # type: ignore[union-attr]


def test_set_below_quorum_or_with_strangers_is_refused(bench: Bench) -> None:
    m = bench.open(quorum=3)
    reports = [bench.report(m)[0] for _ in range(4)]
    bench.give(m, *reports[:3])
    with refused("report.signature"):
        bench.close(m, bench.set_of(m, *reports[:2]))
    with refused("report.signature"):
        bench.close(m, bench.set_of(m, *reports))
    assert bench.close(m, bench.set_of(m, *reports[:3]))


def test_bad_reports_are_refused_one_by_one(bench: Bench) -> None:
    m, other = bench.open(), bench.open()
    good, _ = bench.report(m)
    stranger, _ = bench.report(m, issuer=signer(os.urandom(32)))
    bad = [
        stranger,
        replace(good, signature=bytes(64)),
        replace(good, y_hash=bytes(32)),
        replace(good, box=bytes(len(good.box))),
        bench.report(other)[0],
        replace(good, class_="vip"),
    ]
    reasons = bench.give(m, *bad, good)
    assert all(reasons[:-1]) and reasons[-1] == ""
    answer = bench.rounds.take_reports(m.round, [b"\xff" * 40, good.encode()])
    assert answer.accepted == (False, True)  # malformed; a repeat of an accepted one


def test_second_report_of_a_device_and_reused_nonce_are_refused(bench: Bench) -> None:
    m = bench.open()
    first, _ = bench.report(m)
    assert bench.give(m, first) == [""]
    assert bench.give(m, replace(first, attempt=1)) == ["this device has reported already"]
    bench.restart()
    with refused("round.closed"):
        bench.give(m, first)


def test_full_round_takes_no_more(bench: Bench) -> None:
    m = bench.open(n_max=2, bits=9, length=58)
    assert bench.give(m, *(bench.report(m)[0] for _ in range(3)))[2] == "2 reports are in"


@pytest.mark.parametrize(
    "changes",
    [
        {"quorum": 1},
        {"deadline": int(NOW)},
        {"deadline": int(NOW) + 10**7},
        {"helper": "other key"},
        {"helper": "own round key"},
        {"leader": "other operator"},
        {"leader": "other key"},
    ],
    ids=str,
)
def test_terms_below_the_helpers_floors_are_refused(bench: Bench, changes: dict[str, object]) -> None:
    named = {
        "other key": bytes(range(16)),
        "own round key": Helper(bench.helper.id, "university B", bytes([9]) * 32),
        "other operator": Leader(bench.leader.id, "somebody"),
    }
    if changes.get("helper") == "other key":
        changes = {"helper": Helper(bytes(range(16)), "university B", bytes(32))}
    elif changes.get("leader") == "other key":
        changes = {"leader": Leader(bytes(range(16)), "hospital A")}
    else:
        changes = {k: named.get(v, v) if isinstance(v, str) else v for k, v in changes.items()}
    with refused("request.malformed"):
        bench.rounds.open(bench.draft(**changes))


def test_round_id_is_used_once(bench: Bench) -> None:
    m = bench.open()
    with refused("round.closed"):
        bench.rounds.open(bench.draft(round=m.round))


def test_restart_voids_open_rounds(bench: Bench) -> None:
    m = bench.open()
    reports = [bench.report(m)[0] for _ in range(2)]
    bench.give(m, *reports)
    bench.restart()
    with refused("round.closed"):
        bench.close(m, bench.set_of(m, *reports))
    assert "restarted" in bench.store.helped.get(m.round).reason  # type: ignore[union-attr]
    bench.void(m)  # the leader gets its statement all the same


def test_forgotten_round_expires(bench: Bench) -> None:
    m = bench.open()
    bench.give(m, bench.report(m)[0])
    bench.now = m.deadline + EXPIRE_S + 1
    bench.rounds.expire()
    assert m.round not in bench.rounds.open_rounds
    assert bench.store.helped.get(m.round).state == "void"  # type: ignore[union-attr]


def test_nothing_secret_on_the_helpers_disk(bench: Bench) -> None:
    m = bench.open()
    pairs = [bench.report(m) for _ in range(2)]
    bench.give(m, *(r for r, _ in pairs))
    round_secret = bytes(bench.rounds.open_rounds[m.round].secret.data)
    bench.close(m, bench.set_of(m, *(r for r, _ in pairs)))
    disk = b"".join(p.read_bytes() for p in sorted(Path(bench.pair.helper).rglob("*")) if p.is_file())
    assert all(secret not in disk for secret in [round_secret, *(s for _, s in pairs)])
