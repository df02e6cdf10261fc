# SPDX-License-Identifier: Apache-2.0
"""What a device agrees to: each clause of the policy refused once, and the round that passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgefl.config.device import Policy
from edgefl.errors import DataError, EdgeflError, Refused
from edgefl.round.policy import Situation, check_manifest
from edgefl.wire import messages as m
from edgefl.wire.envelope import seal
from edgefl.wire.keys import blake2b, key_id, public_key, sha256, signer

LEADER, HELPER, STRANGER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
HUBS = (
    m.HubPin(key=public_key(LEADER), operator="Hospital A", role="leader"),
    m.HubPin(key=public_key(HELPER), operator="Hospital B", role="helper"),
)
TASK = m.Task(
    name="ecg", layers="all", loss="softmax_ce", class_weights_nano=None, lr_nano=1, epochs=1, batch=1,
    micro_batch=1, step_cap_nano=1, shadow="residual", seed=1, exponents=(), mode="oneshot", width=16,
    value_bits=8, hub_rate_nano=1, clip=100, scale=512, dim=1000,
)  # fmt: skip
NOW = 1_800_000_000
SITUATION = Situation(hubs=HUBS, task=TASK, model=b"m" * 32, reports=0, estimate_s=10.0, now=NOW)


def manifest(**changes) -> m.Manifest:
    fields = {
        "round": bytes(16), "number": 0, "task": sha256(TASK.encode()), "model": b"m" * 32, "mode": "oneshot",
        "quorum": 4, "n_max": 8, "width": 16, "bits": 11, "value_bits": 8, "dim": 1000, "length": 1006,
        "scale": 512, "clip": 100, "deadline": NOW + 60,
        "leader": m.Leader(key=key_id(public_key(LEADER)), operator="Hospital A"),
        "helper": m.Helper(key=key_id(public_key(HELPER)), operator="Hospital B", round_key=b"k" * 32),
    }  # fmt: skip
    return m.Manifest(**{**fields, **changes})


def signed(body: m.Manifest, *keys: bytes) -> bytes:
    return seal("manifest", body.encode(), [signer(k) for k in keys or (LEADER, HELPER)])


def test_sound_round_is_accepted_with_the_hash_of_what_was_signed():
    body = manifest()
    assert check_manifest(signed(body), SITUATION, Policy()) == (body, blake2b(body.encode()))


@pytest.mark.parametrize("keys", [(LEADER,), (HELPER,), (LEADER, LEADER), (LEADER, STRANGER), (STRANGER,)])
def test_round_without_both_hubs_signatures_is_refused(keys):
    with pytest.raises(Refused, match=r"[01] of 2"):
        check_manifest(signed(manifest(), *keys), SITUATION, Policy())


def test_changed_round_is_refused():
    envelope = signed(manifest()).replace(b"Hospital A", b"Hospital X")
    with pytest.raises(Refused, match="wrong signature"):
        check_manifest(envelope, SITUATION, Policy())


@pytest.mark.parametrize("kind", ["release", "oneshot-set"])
def test_signature_of_another_kind_is_refused(kind):
    envelope = seal(kind, manifest().encode(), [signer(LEADER), signer(HELPER)])
    with pytest.raises(Refused):
        check_manifest(envelope, SITUATION, Policy())


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"leader": m.Leader(key=bytes(16), operator="Hospital A")}, "another leader"),
        ({"leader": m.Leader(key=key_id(public_key(LEADER)), operator="Other")}, "another leader"),
        (
            {"helper": m.Helper(key=key_id(public_key(HELPER)), operator="Other", round_key=b"k" * 32)},
            "another helper",
        ),
        ({"helper": m.Helper(key=bytes(16), operator="Hospital B", round_key=b"k" * 32)}, "another helper"),
        ({"task": bytes(32)}, "another task"),
        ({"model": bytes(32)}, "another model file"),
        ({"width": 32}, "width differs"),
        ({"value_bits": 7, "bits": 10, "length": 1007}, "value_bits differs"),
        ({"dim": 999, "length": 1005}, "dim differs"),
        ({"scale": 511}, "scale differs"),
        ({"clip": 101}, "clip differs"),
        ({"quorum": 1}, "quorum is 1"),
        ({"n_max": 64, "bits": 14, "length": 1005}, "takes 64 devices"),
        ({"deadline": NOW + 10}, "9.5 s are left"),
        ({"deadline": NOW - 1}, "0.0 s are left"),
    ],
)
def test_each_clause_refuses(changes, reason):
    with pytest.raises((Refused, DataError), match=reason):
        check_manifest(signed(manifest(**changes)), SITUATION, Policy(n_max=32))


@pytest.mark.parametrize("changes", [{"bits": 12}, {"length": 1005}, {"bits": 11, "n_max": 9}])
def test_numbers_that_do_not_follow_from_each_other_never_decode(changes):
    plain = manifest().plain()
    payload = __import__("edgefl.wire.cbor", fromlist=["dumps"]).dumps({**plain, **changes})
    envelope = seal("manifest", payload, [signer(LEADER), signer(HELPER)])
    with pytest.raises(EdgeflError):
        check_manifest(envelope, SITUATION, Policy())


def test_operators_must_differ_if_that_is_wanted():
    hubs = (HUBS[0], replace(HUBS[1], operator="Hospital A"))
    body = manifest(
        helper=m.Helper(key=key_id(public_key(HELPER)), operator="Hospital A", round_key=b"k" * 32)
    )
    situation = replace(SITUATION, hubs=hubs)
    check_manifest(signed(body), situation, Policy())
    with pytest.raises(Refused, match="distinct operators"):
        check_manifest(signed(body), situation, Policy(distinct_operators=True))


def test_one_report_too_many_for_a_base_is_refused():
    policy = Policy(reports_per_release=2)
    check_manifest(signed(manifest()), replace(SITUATION, reports=1), policy)
    with pytest.raises(Refused, match="2 reports"):
        check_manifest(signed(manifest()), replace(SITUATION, reports=2), policy)


def test_round_that_takes_too_long_here_is_refused():
    situation = replace(SITUATION, estimate_s=50.0)
    with pytest.raises(Refused, match="at most 40"):
        check_manifest(signed(manifest()), situation, Policy(max_round_s=40))
