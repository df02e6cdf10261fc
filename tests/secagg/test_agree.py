# SPDX-License-Identifier: Apache-2.0
"""Agreement of both hubs on S: what a hub signs and what it refuses to sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgefl.errors import DataError, Refused
from edgefl.secagg.agree import (
    check_set,
    intersection,
    open_set,
    open_void,
    seal_set,
    seal_void,
    set_digest,
    set_statement,
)
from edgefl.wire import envelope, keys
from edgefl.wire.messages import Manifest, Member, SetStatement
from tests.secagg.test_oneshot import terms

A, B = b"\xa1" * 32, b"\xb2" * 32
KEY_A, KEY_B = keys.public_key(A), keys.public_key(B)
FLEET = {bytes([i]) * 16: "any" for i in range(5)}


def good() -> tuple[SetStatement, Manifest, bytes]:
    m, h = terms()
    return set_statement(m, h, FLEET), m, h


def test_set_signed_by_both_opens_and_checks() -> None:
    statement, m, h = good()
    data = seal_set(statement, [keys.signer(A), keys.signer(B)])
    assert open_set(data, [KEY_A, KEY_B]) == statement
    check_set(statement, m, h, FLEET, 1)


def test_set_digest_is_the_documented_hash_in_any_order() -> None:
    statement, _, _ = good()
    rows = [[d, c] for d, c in sorted(FLEET.items())]
    assert statement.digest == keys.tagged_hash("edgefl/1/oneshot-set", rows)
    assert set_digest(reversed(statement.members)) == statement.digest


def test_intersection_needs_the_same_class() -> None:
    other = {**FLEET, bytes(16): "small", b"\x09" * 16: "any"}
    assert intersection(FLEET, other) == {d: c for d, c in FLEET.items() if d != bytes(16)}


def with_members(statement: SetStatement, members: list[Member]) -> SetStatement:
    return replace(statement, members=tuple(members), digest=set_digest(members))


CHANGES: dict[str, Callable[[SetStatement], SetStatement]] = {
    "round": lambda s: replace(s, round=b"\x0f" * 16),
    "h": lambda s: replace(s, h=b"\x0f" * 32),
    "digest": lambda s: replace(s, digest=bytes(32)),
    "a member left out under the old digest": lambda s: replace(s, members=s.members[1:]),
    "an unknown device": lambda s: with_members(s, [*s.members, Member(b"\xff" * 16, "any")]),
    "another class": lambda s: with_members(s, [Member(s.members[0].device, "big"), *s.members[1:]]),
    "below the quorum": lambda s: with_members(s, list(s.members[:1])),
    "empty": lambda s: with_members(s, []),
}


@pytest.mark.parametrize("case", CHANGES)
def test_check_set_changed_refused(case: str) -> None:
    statement, m, h = good()
    with pytest.raises(Refused):
        check_set(CHANGES[case](statement), m, h, FLEET, 1)


def test_check_set_below_own_floor_or_above_n_max_refused() -> None:
    statement, m, h = good()
    with pytest.raises(Refused, match=r"6\.\.8"):
        check_set(statement, m, h, FLEET, 6)
    many = {bytes([i]) * 16: "any" for i in range(9)}
    with pytest.raises(Refused):
        check_set(set_statement(m, h, many), m, h, many, 1)


def test_set_with_a_device_twice_cannot_be_built() -> None:
    statement, _, _ = good()
    with pytest.raises(DataError):
        with_members(statement, [statement.members[0], *statement.members])


def test_open_set_needs_every_pinned_key() -> None:
    statement, _, _ = good()
    only_a = seal_set(statement, [keys.signer(A)])
    with pytest.raises(Refused):
        open_set(only_a, [KEY_A, KEY_B])
    with pytest.raises(Refused):
        open_set(only_a, [KEY_B])
    with pytest.raises(DataError):
        open_set(only_a, [])
    assert open_set(only_a, [KEY_A]) == statement


def test_void_cannot_stand_for_a_set_nor_for_another_round() -> None:
    m, h = terms()
    data = seal_void(m, h, "quorum not reached", [keys.signer(A)])
    assert open_void(data, m, h, [KEY_A]).reason == "quorum not reached"
    with pytest.raises(Refused):
        open_set(data, [KEY_A])
    other, other_h = terms(round_id=b"\x0f" * 16)
    with pytest.raises(Refused):
        open_void(data, other, other_h, [KEY_A])
    with pytest.raises(Refused):
        open_void(data, m, bytes(32), [KEY_A])
    with pytest.raises((Refused, DataError)):
        open_void(envelope.seal("oneshot-void", b"\xa0", [keys.signer(A)]), m, h, [KEY_A])
