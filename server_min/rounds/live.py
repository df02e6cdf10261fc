# SPDX-License-Identifier: Apache-2.0
"""A round in the leader's memory: its pure state beside what the I/O around it needs.

In: a stored round.  Out: `LiveRound`, with the running sum of masked vectors.  The sum is over masked vectors
only; it says nothing without R.  Invariant: `summed` names exactly the devices whose vectors are in `total`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgefl.native import masks
from edgefl.wire.messages import Manifest
from server_min.rounds.state import Phase, Round
from server_min.rounds.unmask import sum_payloads
from server_min.store import RoundRow, Store


class RunningSum:
    """Sum of y as reports arrive; made anew from the blobs if it does not cover exactly S."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.Lock()
        self._summed: set[bytes] = set()
        self._total = np.zeros(manifest.length, masks.dtype_of(manifest.width))

    def add(self, device: bytes, vector: masks.Ring) -> None:
        """Add one device's vector."""
        with self._lock:
            if device not in self._summed:
                masks.add(self._total, vector)
                self._summed.add(device)

    def over(self, members: tuple[bytes, ...], read: Callable[[bytes], bytes]) -> masks.Ring:
        """Return the sum over S; `read` gives a device's payload."""
        with self._lock:
            if self._summed == set(members):
                return self._total.copy()
        total = np.zeros_like(self._total)
        for device in members:
            masks.add(total, sum_payloads([read(device)], self._manifest))
        return total


@dataclass
class LiveRound:
    """A round that is not over."""

    row: RoundRow
    state: Round
    manifest: Manifest
    envelope: bytes
    sums: RunningSum
    release: int = 0  # sequence that it published
    published_at: float = 0.0
    envelope_hash: bytes = b""  # of that release
    delivered: dict[bytes, tuple[int, float]] = field(default_factory=dict)  # device: times sent, next time

    @property
    def id(self) -> bytes:
        """The round id."""
        return self.row.id

    @property
    def collecting(self) -> bool:
        """Whether reports may still come."""
        return self.state.phase in (Phase.INVITED, Phase.COLLECTING)


def restore(row: RoundRow, store: Store, manifest: Manifest) -> LiveRound:
    """Rebuild a round from the store."""
    reports = store.rounds.reports(row.id)
    invited = store.rounds.invited(row.id)
    refused = {r.device for r in reports if r.helper == 0}
    members: tuple[bytes, ...] = ()
    if row.members:
        members = tuple(row.members[i : i + 16] for i in range(0, len(row.members), 16))
    state = Round(
        phase=Phase(row.state),
        invited=frozenset(invited),
        quorum=row.quorum,
        close_at=row.close_at,
        deadline=row.deadline,
        reported=frozenset(r.device for r in reports),
        shared=frozenset(r.device for r in reports if r.helper == 1),
        out=frozenset(d for d, why in invited.items() if why is not None) | refused,
        members=members,
        reason=row.reason,
    )
    live = LiveRound(row, state, manifest, row.manifest, RunningSum(manifest))
    newest = store.tasks.newest(row.task)
    if state.phase is Phase.PUBLISHED and newest is not None:
        live.release, live.envelope_hash = newest.sequence, newest.envelope
        live.published_at = row.published_at or row.opened_at
    return live
