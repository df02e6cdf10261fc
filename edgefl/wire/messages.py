# SPDX-License-Identifier: Apache-2.0
"""Every message of docs/protocol.md, each once; `MESSAGES` is the list that codec, tests and page share.

In: bytes or fields.  Out: frozen dataclasses.  Refuses unknown and missing fields, lengths and ranges
(field.py) and numbers that contradict each other.  What a device's policy refuses is decided elsewhere.
Invariant: the fields and their order are those of docs/protocol.md; a test compares them.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from edgefl.errors import DataError
from edgefl.wire.field import (
    U64,
    Blob,
    Bytes16,
    Bytes32,
    Bytes64,
    Count,
    Exactly,
    Line,
    Message,
    Most,
    Name,
    Pattern,
    Range,
    Row,
    Url,
)

TOKEN_PREFIX = "edgefl1."
MAX_DEVICES = 4096  # members of one round
MAX_DIM = 1 << 26  # trainable coordinates: 64 M parameters
MAX_VALUE_BITS = 16
MAX_CLIP = (1 << 32) - 1  # in units of the delta
MAX_SCALE = 1 << 20
CANARY_BITS = 64  # canaries hold at least so many bits of the packed vector

Width = Literal[16, 32]
Bits = Annotated[int, Range(1, 32)]
Dim = Annotated[int, Range(1, MAX_DIM)]
Step = Annotated[int, Range(1, (1 << 31) - 1)]
ValueBits = Annotated[int, Range(2, MAX_VALUE_BITS)]
Clip = Annotated[int, Range(1, MAX_CLIP)]
Scale = Annotated[int, Range(1, MAX_SCALE)]
Layers = Annotated[
    str, Most(8192), Pattern(r"head|bias\+head|all|last:[1-9][0-9]{0,3}|ops:[0-9]{1,6}b?(,[0-9]{1,6}b?)*")
]
Code = Annotated[str, Most(40), Pattern(r"[a-z_]+(\.[a-z_]+)?")]


# Enrolment


@dataclass(frozen=True)
class HubPin(Message):
    """A hub that the fleet trusts."""

    key: Bytes32
    operator: Line
    role: Literal["leader", "helper"]


@dataclass(frozen=True)
class Token(Message):
    """What a device needs for its first contact; handed over by a person."""

    max_bytes: ClassVar[int] = 4096

    url: Url
    hub: Url
    ca: Bytes32
    secret: Bytes32 = field(repr=False)
    publisher: Bytes32
    hubs: Annotated[tuple[HubPin, ...], Most(4)]
    task: Name
    expires: Count

    def check(self) -> None:
        """Refuse anything but one leader and one helper with keys of their own."""
        if sorted(h.role for h in self.hubs) != ["helper", "leader"] or len({h.key for h in self.hubs}) != 2:
            raise DataError("Token.hubs must be one leader and one helper with different keys")

    def to_text(self) -> str:
        """Return the token as one word."""
        return TOKEN_PREFIX + base64.urlsafe_b64encode(self.encode()).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str) -> Token:
        """Return the token of one word; raises DataError."""
        text = text.strip()
        if not text.startswith(TOKEN_PREFIX) or len(text) > 2 * cls.max_bytes:
            raise DataError(
                f"not an enrolment token (it starts with {TOKEN_PREFIX})", hint="ask the hub for one"
            )
        body = text[len(TOKEN_PREFIX) :]
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise DataError("the enrolment token is damaged", hint="copy it whole") from None
        return cls.decode(raw)


@dataclass(frozen=True)
class EnrollRequest(Message):
    """A device's first request: the token's secret and a certificate request."""

    secret: Bytes32 = field(repr=False)
    csr: Annotated[bytes, Most(4096)]


@dataclass(frozen=True)
class EnrollAnswer(Message):
    """What an enrolled device keeps."""

    device: Bytes16
    certificate: Blob
    ca: Blob
    credential: Blob


@dataclass(frozen=True)
class Credential(Message):
    """Payload of the CA's statement that a key belongs to a device of a class."""

    device: Bytes16
    key: Bytes32
    class_: Name
    expires: Count


# Device to leader


@dataclass(frozen=True)
class Poll(Message):
    """A device's heartbeat."""

    n: Count
    task: Name
    model: Bytes32 | None
    sequence: Count
    round: Bytes16 | None
    estimate_ms: Count
    samples: Count
    runtime: Line
    rejected: Annotated[tuple[Bytes32, ...], Most(64)]
    event: Line


@dataclass(frozen=True)
class PollAnswer(Message):
    """What is new for one device."""

    release: Bytes32 | None
    round: Blob | None
    cancel: Annotated[tuple[Bytes16, ...], Most(64)]
    credential: Blob | None


@dataclass(frozen=True)
class Accepted(Message):
    """A report was stored."""

    accepted: bool


@dataclass(frozen=True)
class Decline(Message):
    """A device does not take part in a round."""

    reason: Line


@dataclass(frozen=True)
class Empty(Message):
    """A body without content."""


@dataclass(frozen=True)
class Problem(Message):
    """A refusal."""

    code: Code
    text: Line


CODES = (
    "request.signature",
    "request.age",
    "request.replay",
    "request.malformed",
    "device.unknown",
    "device.revoked",
    "token.used",
    "token.expired",
    "token.unknown",
    "round.unknown",
    "round.closed",
    "report.duplicate",
    "report.malformed",
    "report.signature",
    "body.too_large",
    "not_found",
    "busy",
)


# Release and task


@dataclass(frozen=True)
class Task(Message):
    """How a model is trained; its SHA-256 stands in every manifest."""

    name: Name
    layers: Layers
    loss: Name
    class_weights_nano: Annotated[tuple[Count, ...], Most(4096)] | None
    lr_nano: Count
    epochs: Step
    batch: Step
    micro_batch: Step
    step_cap_nano: Count
    shadow: Name
    seed: U64
    exponents: Annotated[tuple[Annotated[int, Range(-63, 63)], ...], Most(1024)]
    mode: Literal["oneshot"]
    width: Width
    value_bits: ValueBits
    hub_rate_nano: Count
    clip: Clip
    scale: Scale
    dim: Dim


@dataclass(frozen=True)
class PatchRef(Row):
    """A patch from one file to the Release's file."""

    from_: Bytes32
    patch: Bytes32
    size: Count


@dataclass(frozen=True)
class BlobRef(Row):
    """Content address and size of a blob."""

    sha256: Bytes32
    size: Count


@dataclass(frozen=True)
class ProbeRef(BlobRef):
    """The probe's blob, and the SHA-256 of this file's int8 outputs on it under the `xnnpack` rule."""

    outputs: Bytes32


@dataclass(frozen=True)
class Provenance(Message):
    """Where a model version comes from."""

    round: Bytes16 | None
    cohort: Count
    parents: Annotated[tuple[Bytes32, ...], Most(16)]


@dataclass(frozen=True)
class Release(Message):
    """Payload of the publisher's statement: this file is the next model."""

    model: Name
    class_: Name
    sequence: Annotated[int, Range(1, (1 << 63) - 1)]
    label: Line
    issued: Count
    expires: Count
    file: Bytes32
    size: Annotated[int, Range(1, (1 << 32) - 1)]
    schema: Bytes32
    patches: Annotated[tuple[PatchRef, ...], Most(64)]
    full: BlobRef
    probe: ProbeRef
    task: Task
    runtime: Name
    provenance: Provenance

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if self.sequence < self.issued:
            raise DataError("Release.sequence must be at least issued")
        if self.expires <= self.issued:
            raise DataError("Release.expires must be later than issued")
        if self.task.name != self.model:
            raise DataError("Release.task names another model")
        if len({p.from_ for p in self.patches}) != len(self.patches):
            raise DataError("Release.patches has two patches from one file")


@dataclass(frozen=True)
class Probe(Message):
    """n inputs, int8; the same blob for every Release of a task, so a device loads it once."""

    max_bytes: ClassVar[int] = 16 << 20

    n: Annotated[int, Range(1, 64)]
    x: Annotated[bytes, Most(12 << 20)]

    def check(self) -> None:
        """Refuse a length that n does not divide."""
        if not self.x or len(self.x) % self.n:
            raise DataError("Probe.x must hold n inputs")


# Round


@dataclass(frozen=True)
class Leader(Message):
    """The hub that devices speak to."""

    key: Bytes16
    operator: Line


@dataclass(frozen=True)
class Helper(Message):
    """The hub that opens seeds, with its key of this round."""

    key: Bytes16
    operator: Line
    round_key: Bytes32


@dataclass(frozen=True)
class Manifest(Message):
    """Payload of both hubs' statement: the terms of a round."""

    round: Bytes16
    number: Count
    task: Bytes32
    model: Bytes32
    mode: Literal["oneshot"]
    quorum: Annotated[int, Range(1, MAX_DEVICES)]
    n_max: Annotated[int, Range(1, MAX_DEVICES)]
    width: Width
    bits: Bits
    value_bits: ValueBits
    dim: Dim
    length: Annotated[int, Range(1, MAX_DIM + CANARY_BITS)]
    scale: Scale
    clip: Clip
    deadline: Count
    leader: Leader
    helper: Helper

    def check(self) -> None:
        """Refuse numbers that contradict each other: M, L, quorum, one hub in both roles."""
        if self.quorum > self.n_max:
            raise DataError(f"Manifest.quorum {self.quorum} is above n_max {self.n_max}")
        # ceil(log2 n) bits of head room: n values of b bits cannot wrap in M bits.
        if self.bits != self.value_bits + (self.n_max - 1).bit_length() or self.bits > self.width:
            raise DataError("Manifest.bits must be value_bits + ceil(log2 n_max) and at most width")
        if self.length != self.dim + -(-CANARY_BITS // self.bits):
            raise DataError("Manifest.length must be dim + ceil(64/bits)")
        if self.leader.key == self.helper.key:
            raise DataError("Manifest.leader and helper are one hub")

    @property
    def payload_bytes(self) -> int:
        """Size of one masked update: L coordinates of M bits."""
        return -(-self.length * self.bits // 8)


@dataclass(frozen=True)
class Report(Message):
    """Header of a report body."""

    max_bytes: ClassVar[int] = 2048

    round: Bytes16
    attempt: Annotated[int, Range(0, 255)]
    device: Bytes16
    class_: Name
    nonce: Bytes16
    manifest: Bytes32
    y_hash: Bytes32
    box: Annotated[bytes, Most(512)]
    proof: Annotated[bytes, Exactly(0)]
    signature: Bytes64
    credential: Annotated[bytes, Most(512)]


# Leader to helper


@dataclass(frozen=True)
class Reports(Message):
    """Headers that the leader hands to the helper."""

    max_bytes: ClassVar[int] = 1 << 20

    reports: Annotated[tuple[Annotated[bytes, Most(Report.max_bytes)], ...], Most(MAX_DEVICES)]


@dataclass(frozen=True)
class ReportsAnswer(Message):
    """For each header whether the helper keeps it, and if not why."""

    max_bytes: ClassVar[int] = 1 << 20

    accepted: Annotated[tuple[bool, ...], Most(MAX_DEVICES)]
    reasons: Annotated[tuple[Line, ...], Most(MAX_DEVICES)]

    def check(self) -> None:
        """Refuse lists of different lengths."""
        if len(self.accepted) != len(self.reasons):
            raise DataError("ReportsAnswer.accepted and reasons differ in length")


@dataclass(frozen=True)
class Member(Row):
    """A device of S with its layer class."""

    device: Bytes16
    class_: Name


@dataclass(frozen=True)
class SetStatement(Message):
    """Payload of kind `oneshot-set`: the devices whose sum is opened."""

    max_bytes: ClassVar[int] = 1 << 20

    round: Bytes16
    h: Bytes32
    digest: Bytes32
    members: Annotated[tuple[Member, ...], Most(MAX_DEVICES)]

    def check(self) -> None:
        """Refuse members that repeat or are not in ascending order."""
        ids = [m.device for m in self.members]
        if any(a >= b for a, b in pairwise(ids)):
            raise DataError("SetStatement.members repeat or are out of order")


@dataclass(frozen=True)
class VoidStatement(Message):
    """Payload of kind `oneshot-void`: this round is never answered."""

    round: Bytes16
    h: Bytes32
    reason: Line


@dataclass(frozen=True)
class SetAnswer(Message):
    """The helper's signature over S and its share of the sum."""

    max_bytes: ClassVar[int] = 4 * (MAX_DIM + CANARY_BITS) + (1 << 20)

    set: Annotated[bytes, Most(1 << 20)]
    sum: bytes


MESSAGES: tuple[type[Message], ...] = (
    HubPin, Token, EnrollRequest, EnrollAnswer, Credential,
    Poll, PollAnswer, Accepted, Decline, Empty, Problem,
    Task, PatchRef, BlobRef, ProbeRef, Provenance, Release, Probe,
    Leader, Helper, Manifest, Report,
    Reports, ReportsAnswer, Member, SetStatement, VoidStatement, SetAnswer,
)  # fmt: skip
