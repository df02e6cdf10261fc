# SPDX-License-Identifier: Apache-2.0
"""What a hub needs of its memory, as Protocols; store/ fulfils them with SQLite and files.

In: nothing.  Out: `Store` and its parts.  PostgreSQL and object storage can stand in by fulfilling the same.
Invariant: a method that writes is durable and all-or-nothing when it returns, `record_poll`, `seen` and the
nonces excepted; a blob is whole and durable before a row names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

from edgefl.wire.messages import Poll, Task
from server_min.store.rows import (
    BlobRow,
    Device,
    Due,
    HelpedRow,
    ReleaseRow,
    ReportRow,
    RoundRow,
    Settings,
    TaskRow,
    Transition,
)  # fmt: skip


class Part(Protocol):
    """A blob being written; gone unless `commit` was called."""

    size: int

    def write(self, data: bytes) -> None:
        """Append a piece."""

    def commit(self) -> bytes:
        """Sync, give the blob its name, sync the folder; returns the hash."""

    def __enter__(self) -> Part:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the part unless it was committed."""


class Blobs(Protocol):
    """A folder of blobs."""

    def kind(self, sha256: bytes) -> str | None:
        """Return what a blob was recorded as."""

    def clean(self) -> None:
        """Drop what an earlier process left half-written."""

    def size(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not there."""

    def pieces(self, sha256: bytes, first: int, left: int) -> Iterator[bytes]:
        """Yield `left` bytes from `first` in pieces of 64 KiB."""

    def put(self, data: bytes) -> bytes:
        """Store bytes and return their hash."""

    def read(self, sha256: bytes) -> bytes:
        """Return a blob's bytes, hashed again."""

    def delete(self, sha256: bytes) -> None:
        """Forget a blob; a missing one is fine."""

    def stream(self, limit: int) -> Part:
        """Begin a blob that arrives in pieces, at most `limit` bytes in all."""


class Devices(Protocol):
    """Tables devices, tokens, nonces."""

    def add_token(self, secret: bytes, task: str, expires: int) -> None:
        """Remember a token by the hash of its secret."""

    def enroll(self, secret: bytes, device: Device, certificate: bytes, now: float) -> bytes:
        """Spend a token on a device and return its certificate: the one issued first, if it comes again."""

    def get(self, device: bytes) -> Device | None:
        """Return one device."""

    def all(self) -> list[Device]:
        """Return every device, the earliest first."""

    def revoked_ids(self) -> set[bytes]:
        """Return the ids of revoked devices."""

    def count(self) -> int:
        """Return how many devices are enrolled and not revoked."""

    def revoke(self, device: bytes, now: float) -> bool:
        """Revoke at once; False if there is no such device."""

    def record_poll(self, device: bytes, poll: Poll, now: float) -> bool:
        """Keep what a device says of itself; False if its number is not above the last one."""

    def seen(self, device: bytes, now: float) -> None:
        """Note that a device is alive (its long poll is still open)."""

    def use_nonce(self, key: bytes, nonce: bytes, created: int) -> bool:
        """Return whether this is the nonce's first use by this key."""

    def forget_nonces(self, before: int) -> None:
        """Drop nonces of requests that are too old to be accepted anyway."""


class Tasks(Protocol):
    """Tables tasks, releases, schedule."""

    def add(
        self, task: Task, settings: Settings, first: ReleaseRow, blobs: tuple[BlobRow, ...], now: float
    ) -> None:
        """Store a task with its first release."""

    def get(self, name: str) -> TaskRow | None:
        """Return one task."""

    def all(self) -> list[TaskRow]:
        """Return every task by name."""

    def releases(self, task: str, limit: int = 1 << 30) -> list[ReleaseRow]:
        """Return a task's releases, the newest first."""

    def newest(self, task: str) -> ReleaseRow | None:
        """Return a task's newest release."""

    def release(self, envelope: bytes) -> ReleaseRow | None:
        """Return the release with this envelope."""

    def queue(self, task: str, rounds: int, every_s: float, now: float) -> int:
        """Queue rounds (-1: without end) and return the run's id."""

    def due(self, now: float) -> list[Due]:
        """Return the runs that want a round now, in the order in which they were queued."""

    def remaining(self, run: int) -> int:
        """Return how many rounds of a run are still to start."""

    def cancel(self, run: int) -> None:
        """Start no further rounds of a run."""


class Rounds(Protocol):
    """Tables rounds, transitions, invitations, reports."""

    def open(self, row: RoundRow, devices: frozenset[bytes]) -> None:
        """Store a new round with its invitations; its run has one round less to start."""

    def next_number(self, task: str) -> int:
        """Return the number of a task's next round."""

    def get(self, round_id: bytes) -> RoundRow | None:
        """Return one round."""

    def all(self, task: str | None = None, run: int | None = None) -> list[RoundRow]:
        """Return rounds in the order in which they were opened."""

    def open_rounds(self) -> list[RoundRow]:
        """Return the rounds that are not over."""

    def move(
        self,
        round_id: bytes,
        state: str,
        now: float,
        *,
        cohort: int = 0,
        reason: str = "",
        members: bytes | None = None,
        masked_sum: bytes | None = None,
        release: ReleaseRow | None = None,
        blobs: tuple[BlobRow, ...] = (),
    ) -> None:
        """Enter a state, with what belongs to it."""

    def transitions(self, run: int, after: int) -> list[Transition]:
        """Return a run's state changes with an id above `after`."""

    def invited(self, round_id: bytes) -> dict[bytes, str | None]:
        """Return the invited devices, with the reason of those that declined."""

    def decline(self, round_id: bytes, device: bytes, reason: str) -> None:
        """Note that an invited device does not take part."""

    def add_report(self, row: ReportRow) -> bool:
        """Store a report; False if this device or this nonce has one in this round."""

    def report(self, round_id: bytes, device: bytes) -> ReportRow | None:
        """Return one device's report."""

    def reports(self, round_id: bytes) -> list[ReportRow]:
        """Return a round's reports in order of arrival."""

    def helper_said(self, round_id: bytes, device: bytes, accepted: bool, reason: str) -> None:
        """Keep the helper's answer to a report."""


class Helped(Protocol):
    """Tables helped, journal."""

    def open(self, round_id: bytes, manifest: bytes, h: bytes, quorum: int, now: float) -> bool:
        """Store a new round; False if the id was used before."""

    def get(self, round_id: bytes) -> HelpedRow | None:
        """Return one round."""

    def all(self) -> list[HelpedRow]:
        """Return every round, the earliest first."""

    def accept(self, round_id: bytes, device: bytes, nonce: bytes, class_: str, header_hash: bytes) -> bool:
        """Journal a report; False if the device or the nonce is there already."""

    def header_hash(self, round_id: bytes, device: bytes) -> bytes | None:
        """Return the hash of the header that was accepted from a device."""

    def end(
        self,
        round_id: bytes,
        state: str,
        now: float,
        *,
        reason: str = "",
        members: bytes | None = None,
        answer: bytes | None = None,
    ) -> bool:
        """Leave `open` for `answered` or `void`; False if it was left before."""

    def void_open(self, reason: str, now: float) -> int:
        """End every open round (after a restart their keys are gone) and return how many there were."""


class Store(Protocol):
    """Everything that a hub remembers."""

    blobs: Blobs
    devices: Devices
    tasks: Tasks
    rounds: Rounds
    helped: Helped

    def close(self) -> None:
        """Let go of it."""
