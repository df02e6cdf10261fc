# SPDX-License-Identifier: Apache-2.0
"""What a device believes about a Release, and the file that it makes of a download.

In: an envelope, pins and what was seen; later the downloaded blob and the base file.  Out: VerifiedRelease,
the choice of a download, the new file's bytes.  Refuses wrong signatures, another model or class, old or
equal sequences, expired and rejected ones, a newer runtime's, and sizes above the device's limit; a blob is
hashed before it is parsed. Invariant: bytes leave `reconstruct` only if their hash and size are the signed
ones. Source: updates-and-trust section 2 (Head, epoch and floor come with signed roots).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from edgefl.errors import DataError, Refused
from edgefl.ota import patch
from edgefl.wire.envelope import open_envelope
from edgefl.wire.keys import key_id, sha256
from edgefl.wire.messages import BlobRef, Probe, Release

KIND = "release"
ANY_CLASS = "any"


@dataclass(frozen=True)
class Pins:
    """What the device knows from its enrolment and its configuration."""

    publisher: bytes  # Ed25519 public key
    model: str
    class_: str
    runtime: str  # this device's edgefl version
    max_file_bytes: int


@dataclass(frozen=True)
class VerifiedRelease:
    """A Release that this device may install; built only by `verify`."""

    body: Release
    sha256: bytes  # of the envelope: its name
    envelope: bytes
    clock_trusted: bool  # False: this machine's clock is below the floor, expiry was judged by the floor


@dataclass(frozen=True)
class Download:
    """What to fetch for a Release: `kind` none means that the active file is the Release's file."""

    kind: Literal["none", "patch", "full"]
    blob: BlobRef | None


def verify(
    envelope: bytes,
    pins: Pins,
    *,
    seen: int,
    rejected: Collection[bytes] = (),
    clock: int,
    floor: int,
) -> VerifiedRelease:
    """Return the Release if this device may install it.

    Parameters
    ----------
    envelope : bytes
        As received from the hub or kept with an intent.
    pins : Pins
        Publisher key, model, class, runtime version, size limit.
    seen : int
        Sequence of the newest accepted Release, 0 if none.
    rejected : collection of bytes
        Hashes of Releases that failed here.
    clock, floor : int
        This machine's clock and the time that it cannot be before (build time, newest verified `issued`).

    Raises
    ------
    DataError
        Not a Release.
    Refused
        With the reason.
    """
    payload = open_envelope(envelope, KIND, {key_id(pins.publisher): pins.publisher}, exact=True)
    body, name = Release.decode(payload), sha256(envelope)
    if body.model != pins.model or body.class_ not in (ANY_CLASS, pins.class_):
        raise Refused(
            f"the release is for {body.model}/{body.class_}, this device is {pins.model}/{pins.class_}"
        )
    if body.sequence <= seen:
        raise Refused(f"the release has sequence {body.sequence}, this device has accepted {seen}")
    if name in rejected:
        raise Refused(f"release {name.hex()[:12]} failed on this device before")
    now = max(clock, floor)
    if now >= body.expires:
        raise Refused(
            f"the release expired {now - body.expires} s ago", hint="ask the hub's operator for a new one"
        )
    if version(body.runtime) > version(pins.runtime):
        raise Refused(
            f"the release needs edgefl {body.runtime}, this is {pins.runtime}", hint="upgrade edgefl"
        )
    limit = pins.max_file_bytes
    largest = max([body.size, body.full.size, *(p.size for p in body.patches)])
    if largest > limit or body.probe.size > Probe.max_bytes:
        raise Refused(
            f"the release has a file of {largest} bytes, at most {limit} allowed", hint="raise the limit"
        )
    return VerifiedRelease(body, name, envelope, clock >= floor)


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, `1.2.3rc1` as (1, 2, 3); trailing zeros do not count."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def choose(release: VerifiedRelease, active: bytes | None, *, whole: bool = False) -> Download:
    """Return the smallest download from the active file's hash; `whole`: the active file is of no use."""
    body = release.body
    if whole:
        return Download("full", body.full)
    if active == body.file:
        return Download("none", None)
    for p in body.patches:
        if p.from_ == active and p.size < body.full.size:
            return Download("patch", BlobRef(p.patch, p.size))
    return Download("full", body.full)


def reconstruct(release: VerifiedRelease, download: Download, blob: bytes, base: bytes) -> bytes:
    """Return the Release's file.

    Parameters
    ----------
    release : VerifiedRelease
        Signed hashes and sizes.
    download : Download
        What was fetched.
    blob : bytes
        The fetched bytes.
    base : bytes
        The active file; used for a patch (or if it is the Release's file already).

    Raises
    ------
    DataError
        A hash or size differs, or the blob is damaged.
    """
    body = release.body
    if download.blob is not None:
        check_blob(blob, download.blob, download.kind)
    if download.kind == "none":
        new = base
    elif download.kind == "full":
        new = patch.unfull(blob, body.size)
    else:
        start = sha256(base)
        if not any(p.from_ == start and p.patch == sha256(blob) for p in body.patches):
            raise DataError("the patch is for another base than the active file")
        new = patch.apply(base, blob, body.size)
    check_blob(new, BlobRef(body.file, body.size), "file")
    return new


def check_blob(data: bytes, ref: BlobRef, what: str) -> None:
    """Raise DataError unless the bytes have the signed size and hash."""
    if len(data) != ref.size:
        raise DataError(f"the {what} has {len(data)} bytes, the release says {ref.size}")
    if sha256(data) != ref.sha256:
        raise DataError(f"the {what} does not have the hash that the release states")
