# SPDX-License-Identifier: Apache-2.0
"""Releases on the device: every refusal, then the choice of a download and the reconstruction."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ota_samples import FULL, NEW, NOW, OLD, PATCH, PINS, STRANGER, TASK, envelope, release, verified

from edgefl.errors import DataError, Refused
from edgefl.ota import patch
from edgefl.ota.release import Download, check_blob, choose, reconstruct, verify, version
from edgefl.wire import cbor
from edgefl.wire import messages as m
from edgefl.wire.keys import sha256, signer


def attempt(data=None, *, seen=0, rejected=(), clock=NOW, floor=NOW, pins=PINS, **changes):
    return verify(
        data or envelope(release(**changes)), pins, seen=seen, rejected=rejected, clock=clock, floor=floor
    )


def test_wrong_key_is_refused():
    with pytest.raises(Refused, match="0 of 1"):
        attempt(envelope(release(), STRANGER))


def test_forged_signature_is_refused():
    data = bytearray(envelope(release()))
    data[-1] ^= 1
    with pytest.raises(Refused, match="wrong signature"):
        attempt(bytes(data))


def test_another_kind_is_refused():
    with pytest.raises(Refused):
        attempt(envelope(release(), kind="manifest"))


@pytest.mark.parametrize("seen", [NOW + 5, NOW + 6, NOW + 10**6])
def test_equal_or_older_sequence_is_refused(seen):
    with pytest.raises(Refused, match="sequence"):
        attempt(seen=seen)


@pytest.mark.parametrize(
    "changes", [{"class_": "gpu"}, {"model": "kws", "task": dataclasses.replace(TASK, name="kws")}]
)
def test_another_class_or_model_is_refused(changes):
    with pytest.raises(Refused, match="this device is"):
        attempt(**changes)


def test_expired_is_refused_by_the_clock_and_by_the_floor():
    for clock, floor in [(NOW + 86400, NOW), (0, NOW + 86400)]:
        with pytest.raises(Refused, match="expired"):
            attempt(clock=clock, floor=floor)
    assert attempt(clock=NOW + 86399).clock_trusted
    assert not attempt(clock=0).clock_trusted


def test_rejected_before_is_refused():
    with pytest.raises(Refused, match="failed on this device"):
        attempt(rejected={sha256(envelope(release()))})


def test_rejected_release_does_not_come_back_under_another_name():
    """A hub without the publisher's key adds a signature, so that the envelope has another hash."""
    payload, signatures = cbor.loads(envelope(release()))
    for extra in (bytes(64), signer(STRANGER)[1](b"anything")):
        again = cbor.dumps([payload, {**signatures, bytes(16): extra}])
        with pytest.raises(Refused, match="unknown key"):
            attempt(again, rejected={sha256(envelope(release()))})


def test_newer_runtime_is_refused():
    for runtime in ("0.2", "1", "0.1.0.1", "0.10.0"):
        with pytest.raises(Refused, match="upgrade"):
            attempt(runtime=runtime)
    for runtime in ("0.1", "0.1.0", "0.0.9", "0.1.0rc1"):
        attempt(runtime=runtime)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": PINS.max_file_bytes + 1},
        {"full": m.BlobRef(bytes(32), PINS.max_file_bytes + 1)},
        {"patches": (m.PatchRef(bytes(32), bytes(32), PINS.max_file_bytes + 1),)},
        {"probe": m.ProbeRef(bytes(32), m.Probe.max_bytes + 1, bytes(32))},
    ],
)
def test_oversized_is_refused(changes):
    with pytest.raises(Refused, match="limit"):
        attempt(**changes)


@given(st.data())
def test_mutated_envelope_is_refused(data):
    raw = bytearray(envelope(release()))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Refused, DataError)):
        attempt(bytes(raw))


def test_version_order():
    assert version("0.1.0") == version("0.1") < version("0.1.1") < version("0.10") < version("1")
    assert version("1.2.3rc1.dev5") == (1, 2, 3)
    assert version("x") == ()


def test_good_release_is_accepted():
    got = attempt(seen=NOW + 4)
    assert got.body == release() and got.sha256 == sha256(got.envelope)
    assert attempt(pins=dataclasses.replace(PINS, class_="gpu"), class_="gpu").body.class_ == "gpu"


# Downloads


def test_choose_patch_from_the_active_file_only():
    assert choose(verified(), sha256(OLD)) == Download("patch", m.BlobRef(sha256(PATCH), len(PATCH)))
    assert choose(verified(), sha256(b"other")).kind == "full"
    assert choose(verified(), None).kind == "full"
    assert choose(verified(), sha256(OLD), whole=True).kind == "full"
    assert choose(verified(), sha256(NEW)) == Download("none", None)
    assert choose(verified(), sha256(NEW), whole=True).kind == "full"
    larger = (m.PatchRef(sha256(OLD), sha256(PATCH), len(FULL)),)
    assert choose(verified(patches=larger), sha256(OLD)).kind == "full"


def test_reconstruct_gives_the_signed_file():
    for active, blob, base in [(sha256(OLD), PATCH, OLD), (None, FULL, b""), (sha256(NEW), b"", NEW)]:
        assert reconstruct(verified(), choose(verified(), active), blob, base) == NEW


@pytest.mark.parametrize(
    ("active", "blob", "base"),
    [
        (OLD, PATCH[:-1], OLD),  # truncated
        (OLD, PATCH + b"\0", OLD),
        (OLD, bytes([PATCH[0] ^ 1]) + PATCH[1:], OLD),
        (OLD, PATCH, NEW),  # another base
        (OLD, PATCH, OLD[:-1]),
        (OLD, FULL, OLD),
        (None, FULL[:-1], b""),
        (None, PATCH, b""),
        (NEW, b"", OLD),
    ],
)
def test_reconstruct_from_wrong_bytes_is_refused(active, blob, base):
    with pytest.raises(DataError):
        reconstruct(verified(), choose(verified(), active and sha256(active)), blob, base)


def test_reconstruct_signed_patch_that_gives_another_file_is_refused():
    wrong = patch.build(OLD, bytes(len(NEW)))
    body = verified(patches=(m.PatchRef(sha256(OLD), sha256(wrong), len(wrong)),))
    with pytest.raises(DataError, match="hash"):
        reconstruct(body, Download("patch", m.BlobRef(sha256(wrong), len(wrong))), wrong, OLD)
    full = patch.full(bytes(len(NEW)))
    body = verified(full=m.BlobRef(sha256(full), len(full)))
    with pytest.raises(DataError, match="hash"):
        reconstruct(body, choose(body, None), full, b"")
    long = patch.full(NEW + b"!")
    body = verified(full=m.BlobRef(sha256(long), len(long)))
    with pytest.raises(DataError, match="more bytes"):
        reconstruct(body, choose(body, None), long, b"")


def test_check_blob_names_what_differs():
    with pytest.raises(DataError, match="3 bytes"):
        check_blob(b"abc", m.BlobRef(sha256(b"abc"), 4), "probe")
    with pytest.raises(DataError, match="hash"):
        check_blob(b"abc", m.BlobRef(bytes(32), 3), "probe")
