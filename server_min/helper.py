# SPDX-License-Identifier: Apache-2.0
"""The helper's half of a round: a fresh key, seeds opened as reports come, one answer for one set S.

In: manifests, report headers, sets and voids, each signed by the pinned leader.  Out: its signature and R.
Refuses other leaders, rounds below its floors, reports that fail a check, a second S, any answer after a
void.
Invariant: round keys and seeds are in memory only and erased at the close, at a void and with the process;
the journal on disk decides what was accepted and answered.  Source: docs/protocol.md, "Leader to helper".
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from edgefl.errors import DataError, EdgeflError, Refused
from edgefl.native import masks
from edgefl.secagg import agree, oneshot
from edgefl.secagg.params import ring_params
from edgefl.secagg.secret import Secret
from edgefl.secagg.unmask import helper_sum
from edgefl.wire import credential
from edgefl.wire.envelope import open_envelope, seal
from edgefl.wire.keys import blake2b, key_id
from edgefl.wire.messages import Manifest, Report, ReportsAnswer, SetAnswer, SetStatement
from server_min.config import Hub
from server_min.refusal import Refusal, one_line
from server_min.store import HelpedRow, Store

log = logging.getLogger("edgefl.hub")
T = TypeVar("T")
ROUND_KEY_LATER = bytes(32)
MAX_OPEN = 64
# An open round that hears nothing for so long after its deadline is void: its key must not live on.
EXPIRE_S = 300


@dataclass
class OpenRound:
    """A round in memory: its secret key and the seeds that it has opened."""

    manifest: Manifest
    h: bytes
    secret: Secret
    seeds: dict[bytes, Secret] = field(default_factory=dict)
    classes: dict[bytes, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wipe(self) -> None:
        """Erase key and seeds."""
        self.secret.wipe()
        for seed in self.seeds.values():
            seed.wipe()
        self.seeds.clear()


class HelperRounds:
    """All rounds that this helper takes part in."""

    def __init__(self, hub: Hub, store: Store, clock: Callable[[], float]) -> None:
        self.hub = hub
        self.store = store
        self.clock = clock
        self.leader = hub.pinned_partner
        self.open_rounds: dict[bytes, OpenRound] = {}
        lost = store.helped.void_open("the helper was restarted and lost the round's key", clock())
        if lost:
            log.warning("%d open rounds are void: their keys were in memory only", lost)

    def open(self, draft: Manifest) -> bytes:
        """Agree to a round: return its manifest with a fresh round key, signed."""
        self.check_terms(draft)
        if len(self.open_rounds) >= MAX_OPEN:
            raise Refusal("busy", f"{MAX_OPEN} rounds are open here already")
        secret = Secret(os.urandom(32))
        manifest = replace(draft, helper=replace(draft.helper, round_key=oneshot.round_public(secret)))
        payload = manifest.encode()
        envelope = seal("manifest", payload, [self.hub.signer])
        h = blake2b(payload)
        if not self.store.helped.open(manifest.round, envelope, h, manifest.quorum, self.clock()):
            raise Refusal("round.closed", "this round id was used before; draw another")
        self.open_rounds[manifest.round] = OpenRound(manifest, h, secret)
        return envelope

    def check_terms(self, draft: Manifest) -> None:
        """Refuse a round that this helper must not take part in."""
        floors, now = self.hub.toml.floors, self.clock()
        own, leader = self.hub.toml.hub.operator, self.leader
        for wrong, text in (
            (draft.helper.key != self.hub.id, "the manifest names another helper"),
            (
                draft.helper.operator != own,
                f"the manifest names operator {draft.helper.operator}, this is {own}",
            ),
            (draft.leader.key != key_id(leader.public), "the manifest names another leader"),
            (draft.leader.operator != leader.operator, "the manifest names another operator of the leader"),
            (draft.helper.round_key != ROUND_KEY_LATER, "the round key must be left to the helper"),
            (
                draft.quorum < floors.quorum,
                f"quorum {draft.quorum} is below this helper's floor {floors.quorum}",
            ),
            (draft.deadline <= now, "the deadline has passed"),
            (draft.deadline > now + floors.deadline_s, f"the deadline is over {floors.deadline_s} s away"),
        ):
            if wrong:
                raise Refusal("request.malformed", text)

    def take_reports(self, round_id: bytes, headers: Sequence[bytes]) -> ReportsAnswer:
        """Check headers, open their boxes, keep the seeds; one answer each."""
        open_round = self.find(round_id)
        reasons = [self.take(open_round, header) for header in headers]
        return ReportsAnswer(
            accepted=tuple(not reason for reason in reasons),
            reasons=tuple(one_line(reason, 100) for reason in reasons),
        )

    def take(self, open_round: OpenRound, header: bytes) -> str:
        """Accept one report; returns why not, or an empty text."""
        manifest, h = open_round.manifest, open_round.h
        try:
            report = Report.decode(header)
            known = self.store.helped.header_hash(manifest.round, report.device)
            if known is not None:
                return "" if known == blake2b(header) else "this device has reported already"
            if len(open_round.classes) >= manifest.n_max:
                return f"{manifest.n_max} reports are in"
            card = credential.check(report.credential, self.hub.ca_key, int(self.clock()))
            if card.device != report.device:
                return "the credential is another device's"
            oneshot.verify_report(report, manifest, h, device_key=card.key, class_=card.class_)
            seed = oneshot.open_box(report, manifest, h, round_secret=open_round.secret)
        except (DataError, Refused) as error:
            return str(error) or "refused"
        if not self.store.helped.accept(
            manifest.round, report.device, report.nonce, report.class_, blake2b(header)
        ):
            seed.wipe()
            return "this nonce was used in another report"
        open_round.seeds[report.device] = seed
        open_round.classes[report.device] = report.class_
        return ""

    async def close(self, round_id: bytes, envelope: bytes) -> SetAnswer:
        """Sign S and return R; the same S again gets the same answer, another one never."""
        row = self.store.helped.get(round_id)
        if row is None:
            raise Refusal("round.unknown", "this helper knows no such round")
        statement = checked(lambda: agree.open_set(envelope, [self.leader.public]))
        if row.state == "open":
            open_round = self.find(round_id)
            async with open_round.lock:
                current = self.store.helped.get(round_id)
                if current is not None and current.state == "open":
                    await self.answer(open_round, statement)
        return self.stored_answer(round_id, statement)

    async def answer(self, open_round: OpenRound, statement: SetStatement) -> None:
        """Compute R off the event loop, store the answer, erase what it was made of."""
        manifest, h = open_round.manifest, open_round.h
        floor = self.hub.toml.floors.quorum
        checked(lambda: agree.check_set(statement, manifest, h, open_round.classes, floor))
        seeds = [(m.device, open_round.seeds[m.device]) for m in statement.members]
        shape = ring_params(manifest.width, manifest.value_bits, manifest.n_max, manifest.dim)
        total = await asyncio.to_thread(lambda: masks.pack(helper_sum(seeds, shape, h), shape.bits))
        answer = SetAnswer(set=agree.seal_set(statement, [self.hub.signer]), sum=total)
        blob = self.store.blobs.put(answer.encode())
        self.end(manifest.round, "answered", members=statement.encode(), answer=blob)

    def stored_answer(self, round_id: bytes, statement: SetStatement) -> SetAnswer:
        """Return the one answer of a round, if it was for this very S."""
        row = self.store.helped.get(round_id)
        if row is None or row.state != "answered" or row.answer is None:
            raise Refusal("round.closed", f"the round is void: {row.reason if row else ''}")
        if row.members != statement.encode():
            raise Refusal(
                "round.closed", "another set of this round was answered; there is one answer a round"
            )
        return SetAnswer.decode(self.store.blobs.read(row.answer))

    def void(self, round_id: bytes, envelope: bytes) -> bytes:
        """Promise never to answer a round; refused once it was answered."""
        row = self.store.helped.get(round_id)
        if row is None:
            raise Refusal("round.unknown", "this helper knows no such round")
        manifest = Manifest.decode(open_envelope(row.manifest, "manifest", {self.hub.id: self.hub.public}))
        statement = checked(lambda: agree.open_void(envelope, manifest, row.h, [self.leader.public]))
        if row.state == "open":
            self.end(round_id, "void", reason=statement.reason)
        elif row.state == "answered":
            raise Refusal("round.closed", "this round was answered; it cannot become void")
        return agree.seal_void(manifest, row.h, statement.reason, [self.hub.signer])

    def expire(self) -> None:
        """Void open rounds whose deadline is long past."""
        for round_id, open_round in list(self.open_rounds.items()):
            if self.clock() > open_round.manifest.deadline + EXPIRE_S and not open_round.lock.locked():
                self.end(round_id, "void", reason="the deadline passed and no set came")

    def end(
        self, round_id: bytes, state: str, *, reason: str = "", members: bytes | None = None,
        answer: bytes | None = None,
    ) -> None:  # fmt: skip
        """Leave `open` on disk, then erase the round's secrets."""
        self.store.helped.end(round_id, state, self.clock(), reason=reason, members=members, answer=answer)
        open_round = self.open_rounds.pop(round_id, None)
        if open_round is not None:
            open_round.wipe()
        log.info("round %s: %s %s", round_id.hex()[:8], state, reason)

    def find(self, round_id: bytes) -> OpenRound:
        """Return an open round, or refuse."""
        open_round = self.open_rounds.get(round_id)
        if open_round is not None:
            return open_round
        row: HelpedRow | None = self.store.helped.get(round_id)
        if row is None:
            raise Refusal("round.unknown", "this helper knows no such round")
        raise Refusal("round.closed", f"the round is {row.state}: {row.reason or 'closed'}")


def checked(what: Callable[[], T]) -> T:
    """Refuse what does not check."""
    try:
        return what()
    except EdgeflError as error:
        raise Refusal("report.signature", str(error)) from None
