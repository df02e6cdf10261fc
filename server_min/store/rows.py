# SPDX-License-Identifier: Apache-2.0
"""Rows of the store, as the rest of the hub sees them. Plain data; columns are explained in schema.sql."""

from __future__ import annotations

from dataclasses import dataclass

from edgefl.wire.messages import Task


@dataclass(frozen=True)
class BlobRow:
    """Where a blob comes from."""

    sha256: bytes
    size: int
    kind: str
    round: bytes | None
    cohort: int
    parents: tuple[bytes, ...]


@dataclass(frozen=True)
class Device:
    """A row of `devices`."""

    id: bytes
    key: bytes
    class_: str
    task: str
    enrolled: float
    revoked: float | None
    polled: float  # time of the newest poll, 0: never
    model: bytes | None
    sequence: int
    round: bytes | None
    estimate_ms: int
    samples: int
    runtime: str
    event: str


@dataclass(frozen=True)
class Settings:
    """How rounds of a task are run; the hub's own, not part of the task's hash."""

    n_max: int
    quorum: int
    close_at: int  # 0: all invited
    deadline_s: int


@dataclass(frozen=True)
class TaskRow:
    """A task with its settings."""

    task: Task
    settings: Settings


@dataclass(frozen=True)
class ReleaseRow:
    """A row of `releases`."""

    task: str
    sequence: int
    envelope: bytes
    file: bytes
    size: int
    full: bytes
    full_size: int
    patch_size: int | None
    probe: bytes
    master: bytes
    round: bytes | None
    cohort: int
    label: str
    issued: int


@dataclass(frozen=True)
class Due:
    """A queued run of rounds."""

    id: int
    task: str
    remaining: int
    every_s: float
    due: float


@dataclass(frozen=True)
class RoundRow:
    """A row of `rounds`."""

    id: bytes
    run: int
    task: str
    number: int
    state: str
    reason: str
    sequence: int
    manifest: bytes
    h: bytes
    quorum: int
    close_at: int
    deadline: float
    cohort: int
    members: bytes | None
    masked_sum: bytes | None
    opened_at: float
    collecting_at: float | None
    closed_at: float | None
    unmasked_at: float | None
    published_at: float | None
    installed_at: float | None


@dataclass(frozen=True)
class ReportRow:
    """An accepted report: header bytes, hash of the payload's blob, what the helper said."""

    round: bytes
    device: bytes
    attempt: int
    nonce: bytes
    header: bytes
    payload: bytes
    size: int
    received: float
    helper: int | None
    reason: str


@dataclass(frozen=True)
class Transition:
    """A state change."""

    id: int
    round: bytes
    number: int
    state: str
    t: float
    cohort: int
    reason: str


@dataclass(frozen=True)
class HelpedRow:
    """A row of `helped`."""

    id: bytes
    manifest: bytes
    h: bytes
    quorum: int
    state: str
    reason: str
    opened_at: float
    ended_at: float | None
    members: bytes | None
    answer: bytes | None
