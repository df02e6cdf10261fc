# SPDX-License-Identifier: Apache-2.0
"""What a device agrees to: a round's manifest against its pins, its task, its model and its own policy.

In: the manifest's envelope and what the device knows for itself.  Out: the manifest and its hash h. Refuses,
with one line, a missing or foreign hub signature, another operator than pinned, numbers that differ from the
publisher's task or do not follow from each other, a quorum below and a size above the device's own limits, a
round that will not be done in time, and one report too many for a base. Invariant: h is the hash of the very
bytes that both hubs signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgefl.config.device import Policy
from edgefl.errors import DataError, Refused
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import blake2b, key_id, sha256
from edgefl.wire.messages import HubPin, Manifest, Task

KIND = "manifest"


@dataclass(frozen=True)
class Situation:
    """What the device knows when it is invited."""

    hubs: tuple[HubPin, ...]  # pinned at enrolment
    task: Task  # of the active Release
    model: bytes  # SHA-256 of the active file
    reports: int  # masked reports that may have left for this base already
    estimate_s: float  # one round here, 0 if unknown
    now: float  # hub time


def check_manifest(envelope: bytes, situation: Situation, policy: Policy) -> tuple[Manifest, bytes]:
    """Return (manifest, h) of a round that this device takes part in.

    Raises
    ------
    Refused, DataError
        With the reason, which the hub is told.
    """
    manifest, h = open_manifest(envelope, situation.hubs)
    _check_hubs(manifest, situation.hubs, policy)
    _check_task(manifest, situation)
    if manifest.quorum < policy.quorum_min:
        raise Refused(f"the round's quorum is {manifest.quorum}, at least {policy.quorum_min} wanted here")
    if manifest.n_max > policy.n_max:
        raise Refused(f"the round takes {manifest.n_max} devices, at most {policy.n_max} wanted here")
    if situation.reports >= policy.reports_per_release:
        raise Refused(
            f"{situation.reports} reports for this model version have left this device, no more wanted"
        )
    left = manifest.deadline - situation.now - policy.deadline_margin_s
    if left < situation.estimate_s or left <= 0:
        raise Refused(f"a round takes {situation.estimate_s:.1f} s here, {max(left, 0):.1f} s are left")
    if situation.estimate_s > policy.max_round_s:
        raise Refused(f"a round takes {situation.estimate_s:.0f} s here, at most {policy.max_round_s} wanted")
    return manifest, h


def open_manifest(envelope: bytes, hubs: tuple[HubPin, ...]) -> tuple[Manifest, bytes]:
    """Return (manifest, h) of an envelope that every pinned hub signed."""
    keys = {key_id(hub.key): hub.key for hub in hubs}
    payload = open_envelope(envelope, KIND, keys, threshold=len(hubs))
    return Manifest.decode(payload), blake2b(payload)


def _check_hubs(manifest: Manifest, hubs: tuple[HubPin, ...], policy: Policy) -> None:
    pinned: dict[str, HubPin] = {hub.role: hub for hub in hubs}
    for role, named in (("leader", manifest.leader), ("helper", manifest.helper)):
        if named.key != key_id(pinned[role].key) or named.operator != pinned[role].operator:
            raise Refused(f"the round names another {role} than the enrolment did")
    if policy.distinct_operators and manifest.leader.operator == manifest.helper.operator:
        raise Refused(f"both hubs belong to {manifest.leader.operator!r}, distinct operators are wanted here")


def _check_task(manifest: Manifest, situation: Situation) -> None:
    task = situation.task
    if manifest.task != sha256(task.encode()):
        raise Refused("the round is for another task than the active release's")
    if manifest.model != situation.model:
        raise Refused("the round is for another model file than the active one")
    for name in ("mode", "width", "value_bits", "dim", "scale", "clip"):
        if getattr(manifest, name) != getattr(task, name):
            raise DataError(f"the round's {name} differs from the task's")
