# SPDX-License-Identifier: Apache-2.0
"""Both hubs agree on S before anything is opened, or on a void after which nothing ever is.  No state.

In: accepted devices with their classes, the round's terms, envelopes of the other hub.  Out: statements,
envelopes.  Refuses another round, members that this hub did not accept with that class, a set below the
quorum or this hub's own floor.  Who answers once and never after a void is the hub's journal, not this file.
Source: docs/protocol.md, "Leader to helper"; secure-aggregation design, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgefl.errors import DataError, Refused
from edgefl.wire.envelope import open_envelope, seal
from edgefl.wire.keys import Signer, key_id, tagged_hash
from edgefl.wire.messages import Manifest, Member, SetStatement, VoidStatement

SET, VOID = "oneshot-set", "oneshot-void"


def set_digest(members: Iterable[Member]) -> bytes:
    """Return H(sorted (device, class))."""
    rows = sorted((m.device, m.class_) for m in members)
    return tagged_hash("edgefl/1/oneshot-set", [list(row) for row in rows])


def intersection(own: Mapping[bytes, str], other: Mapping[bytes, str]) -> dict[bytes, str]:
    """Return the devices that both hubs accepted with the same class."""
    return {device: class_ for device, class_ in own.items() if other.get(device) == class_}


def set_statement(manifest: Manifest, h: bytes, accepted: Mapping[bytes, str]) -> SetStatement:
    """Return the statement that S is exactly these devices (device -> class)."""
    members = tuple(Member(device, class_) for device, class_ in sorted(accepted.items()))
    return SetStatement(manifest.round, h, set_digest(members), members)


def check_set(
    statement: SetStatement, manifest: Manifest, h: bytes, accepted: Mapping[bytes, str], floor: int
) -> None:
    """Check a set against this hub's own accepted devices (device -> class).

    Raises
    ------
    Refused
        Another round, a wrong digest, a member that was not accepted here, or too few or too many members.
    """
    if statement.round != manifest.round or statement.h != h:
        raise Refused("the set belongs to another round or other terms")
    if statement.digest != set_digest(statement.members):
        raise Refused("the set's digest is not that of its members")
    n, least = len(statement.members), max(manifest.quorum, floor, 1)
    if not least <= n <= manifest.n_max:
        raise Refused(f"the set has {n} devices; this round allows {least}..{manifest.n_max}")
    for member in statement.members:
        if accepted.get(member.device) != member.class_:
            raise Refused(f"device {member.device.hex()} is in the set but was not accepted here as such")


def seal_set(statement: SetStatement, signers: Iterable[Signer]) -> bytes:
    """Return the signed set."""
    return seal(SET, statement.encode(), signers)


def open_set(data: bytes, keys: Iterable[bytes]) -> SetStatement:
    """Return a set that every one of these pinned hub keys signed."""
    return SetStatement.decode(_open(data, SET, keys))


def seal_void(manifest: Manifest, h: bytes, reason: str, signers: Iterable[Signer]) -> bytes:
    """Return the signed statement that this round is never answered."""
    return seal(VOID, VoidStatement(manifest.round, h, reason).encode(), signers)


def open_void(data: bytes, manifest: Manifest, h: bytes, keys: Iterable[bytes]) -> VoidStatement:
    """Return a void of this round that every one of these pinned hub keys signed."""
    statement = VoidStatement.decode(_open(data, VOID, keys))
    if statement.round != manifest.round or statement.h != h:
        raise Refused("the void belongs to another round or other terms")
    return statement


def _open(data: bytes, kind: str, keys: Iterable[bytes]) -> bytes:
    pinned = {key_id(key): key for key in keys}
    if not pinned:
        raise DataError(f"no hub key is pinned to check the {kind} with")
    return open_envelope(data, kind, pinned, len(pinned))
