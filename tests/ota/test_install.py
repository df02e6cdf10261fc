# SPDX-License-Identifier: Apache-2.0
"""The install machine: refusals, kills and power cuts at every operation, planted faults, random lives."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ota_disk import CUTS, Crash, Device, Disk, installed
from ota_samples import FULL, NEW, NOW, OLD, PATCH, moved, verified

from edgefl.ota import install, patch
from edgefl.ota.gate import Verdict
from edgefl.ota.install import Failure, Step
from edgefl.wire import messages as m
from edgefl.wire.keys import sha256

OLD_FILE, NEW_FILE = sha256(OLD), sha256(NEW)
RELEASE = verified()
starts = pytest.mark.parametrize("disk", [installed(), Disk()], ids=["update", "first install"])


def life(disk: Disk, left: int | None = None, **options) -> Device:
    """Start a device and offer RELEASE; a crash after `left` operations ends it."""
    disk.left = left
    device = Device(disk, **options)
    try:
        device.start()
        device.offer(RELEASE)
    except Crash:
        pass
    return device


def operations(disk: Disk) -> list[str]:
    disk = copy.deepcopy(disk)
    life(disk)
    return disk.done


# What must not happen


def test_failed_gate_rejects_the_release_for_good():
    disk = installed()
    device = life(disk, verdicts=[Verdict.FAIL])
    disk.check()
    assert disk.db["active"] == disk.root["current"] == OLD_FILE
    assert disk.db["rejected"] == (RELEASE.sha256,) and disk.db["seen"] == NOW
    assert set(disk.slots) == {OLD_FILE.hex()}
    assert "rejected" in device.told[-1]
    again = life(disk)
    assert again.gated == [] and disk.root["current"] == OLD_FILE
    later = verified(sequence=NOW + 9)  # a later Release may carry the same file
    again.offer(later)
    assert disk.db["active"] == NEW_FILE


def test_older_or_equal_sequence_changes_nothing():
    disk = installed()
    disk.db["seen"] = RELEASE.body.sequence
    assert life(disk).gated == [] and disk.root["current"] == OLD_FILE


def test_crash_at_the_third_attempt_gives_up():
    disk = installed()
    gate_at = operations(disk).index("fsync slots") + 1
    for attempt in range(1, 4):
        device = life(disk, left=gate_at if attempt == 1 else 3)  # later starts: intent, then the kept slot
        assert disk.db["intent"].attempts == attempt
        disk = disk.after("kill")
    device = life(disk)
    assert disk.db["rejected"] == (RELEASE.sha256,) and disk.db["intent"] is None
    assert disk.root["current"] == OLD_FILE and "gave up after 3" in " ".join(device.told)


def test_no_verdict_holds_nothing_against_the_release():
    disk = installed()
    device = life(disk, verdicts=[Verdict.NO_VERDICT] * 9)
    for _ in range(8):
        device.offer(RELEASE)
        disk.check()
    assert disk.db["rejected"] == () and disk.db["intent"].attempts == 0
    device.offer(RELEASE)
    assert disk.db["active"] == NEW_FILE and disk.db["intent"] is None


def test_no_verdict_keeps_the_count_of_crashes():
    disk = installed()
    life(disk, left=3)
    disk = disk.after("kill")
    life(disk, verdicts=[Verdict.NO_VERDICT] * 2)
    assert disk.db["intent"].attempts == 1


def test_bad_patch_falls_back_to_the_whole_file():
    wrong = patch.build(OLD, moved(NEW, 9))
    release = verified(patches=(m.PatchRef(OLD_FILE, sha256(wrong), len(wrong)),))
    disk = installed()
    device = Device(disk, blobs={sha256(b): b for b in (wrong, FULL)}).start()
    device.offer(release)
    assert disk.db["active"] == NEW_FILE and "whole file" in device.told[0]
    assert disk.done.count("transaction") == 2  # one attempt: intent and commit


def test_damaged_active_file_is_fetched_anew():
    """The Release's file is the active one, but its slot rotted: that is not the Release's fault."""
    whole = patch.full(OLD)
    release = verified(file=OLD_FILE, size=len(OLD), full=m.BlobRef(sha256(whole), len(whole)), patches=())
    disk = installed()
    disk.slots[OLD_FILE.hex()].data = OLD[:-1] + b"?"
    device = Device(disk, blobs={sha256(whole): whole}).start()
    device.offer(release)
    disk.check()
    assert disk.db["seen"] == release.body.sequence and disk.db["rejected"] == ()
    assert disk.done.count("transaction") == 2


def test_patch_that_crashes_its_builder_falls_back_to_the_whole_file():
    state, _ = install.step(install.State(active=OLD_FILE), install.Offered(RELEASE))
    for step in (Step.FETCH, Step.INTENT):
        state, _ = install.step(state, install.Done(step))
    state, _ = install.step(state, install.Failed(Step.SLOT, Failure.RELEASE, "crashed"))
    assert state.step is Step.FETCH and state.download.kind == "full" and state.rejected == ()
    for step in (Step.FETCH, Step.INTENT):
        state, _ = install.step(state, install.Done(step))
    state, _ = install.step(state, install.Failed(Step.SLOT, Failure.RELEASE, "crashed"))
    assert state.rejected == (RELEASE.sha256,)


def test_bad_whole_file_rejects_the_release():
    wrong = patch.full(OLD)
    release = verified(full=m.BlobRef(sha256(wrong), len(wrong)), patches=())
    disk = installed()
    device = Device(disk, blobs={sha256(wrong): wrong}).start()
    device.offer(release)
    disk.check()
    assert disk.db["rejected"] == (release.sha256,) and disk.root["current"] == OLD_FILE


def test_missing_or_wrong_blob_leaves_no_trace():
    disk = installed()
    for blobs in ({}, {sha256(PATCH): PATCH[:-1]}):
        device = life(disk, blobs=blobs)
        assert disk.done == [] and device.state.step is Step.IDLE
    assert life(disk).state.active == NEW_FILE


def test_offer_during_an_install_is_ignored():
    state = install.State(active=OLD_FILE)
    state, _ = install.step(state, install.Offered(RELEASE))
    assert install.step(state, install.Offered(verified(sequence=NOW + 50))) == (state, [])


@pytest.mark.parametrize("step", list(Step))
def test_event_of_another_step_changes_nothing(step):
    state, _ = install.step(install.State(active=OLD_FILE), install.Offered(RELEASE))
    if step is not Step.FETCH:
        assert install.step(state, install.Done(step)) == (state, [])
        assert install.step(state, install.Failed(step, Failure.RELEASE, "late")) == (state, [])
    idle = install.State()
    assert install.step(idle, install.Done(step)) == (idle, [])


def test_expired_intent_is_forgotten_and_the_link_is_kept():
    disk = installed()
    life(disk, left=2)
    device = Device(disk.after("kill"))
    device.feed(install.Started(OLD_FILE, None))
    assert device.disk.db["intent"] is None and device.disk.db["rejected"] == ()
    device.disk.check()


def test_commit_of_a_linked_file_needs_no_release():
    disk = installed()
    life(disk, left=operations(disk).index("fsync root") + 1)
    device = Device(disk.after("kill"))
    device.feed(install.Started(NEW_FILE, None))
    assert device.disk.db["active"] == NEW_FILE and device.disk.db["seen"] == RELEASE.body.sequence


def test_prune_never_removes_what_the_link_names():
    """A database older than the link (a restored backup): the linked file stays until it is replaced."""
    disk = installed()
    disk.db.clear()
    device = Device(disk, verdicts=[Verdict.FAIL]).start()
    device.offer(RELEASE)
    assert OLD_FILE.hex() in disk.slots


@starts
@pytest.mark.parametrize("space", range(12))
def test_full_disk_at_every_operation_loses_nothing(disk, space):
    disk = copy.deepcopy(disk)
    disk.full_at = space
    device = life(disk)
    disk.check()
    for _ in range(3):  # still full: nothing changes for the worse
        if device.settle:
            device.settle = False
            device.feed(install.Started(disk.root.get("current"), device._kept_release()))
        device.offer(RELEASE)
        disk.check()
    disk.full_at = None
    device = life(disk)
    disk.check()
    assert disk.db["active"] == disk.root["current"] == NEW_FILE or RELEASE.sha256 in disk.db["rejected"]


@starts
@pytest.mark.parametrize("cut", CUTS)
def test_one_failed_operation_loses_nothing(disk, cut):
    """EIO once, at each operation: after it, after a cut on top of it, and when the device goes on."""
    for at in range(len(operations(disk))):
        one = copy.deepcopy(disk)
        one.fail_at = at
        device = life(one)
        one.check()
        life(one.after(cut)).disk.check()
        if device.settle:
            device.offer(verified(sequence=NOW + 50, file=OLD_FILE, size=len(OLD)))  # must not disturb it
            one.check()
            device.feed(install.Started(one.root.get("current"), device._kept_release()))
        device.offer(RELEASE)
        one.check()
        assert one.db["active"] == one.root["current"] == NEW_FILE


@pytest.mark.parametrize("link", [None, NEW_FILE, bytes(32)])
def test_link_that_is_neither_active_nor_intended_is_repaired(link):
    disk = installed()
    if link is None:
        del disk.root["current"]
    else:
        disk.root["current"] = link
    Device(disk).start()
    disk.check()
    assert disk.root["current"] == OLD_FILE


# Kills and power cuts


def test_operations_are_in_the_order_of_the_design():
    assert operations(installed()) == [
        "transaction",
        "write part",
        "fsync part",
        "rename part",
        "fsync slots",
        "link",
        "rename link",
        "fsync root",
        "transaction",
    ]


@starts
@pytest.mark.parametrize("cut", CUTS)
def test_cut_at_every_operation_leaves_old_or_new(disk, cut):
    for at in range(len(operations(disk)) + 1):
        one = copy.deepcopy(disk)
        life(one, left=at)
        one = one.after(cut)
        one.check()
        device = life(one)
        one.check()
        assert one.db["active"] == one.root["current"] == NEW_FILE
        assert one.db["intent"] is None and device.state.step is Step.IDLE


@starts
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("then", CUTS)
def test_two_cuts_leave_old_or_new(disk, cut, then):
    """Kinds mixed: a kill leaves names that nobody synced, and a power cut may take them back later."""
    for first in range(len(operations(disk)) + 1):
        for second in range(12):
            one = copy.deepcopy(disk)
            life(one, left=first)
            one = one.after(cut)
            life(one, left=second)
            one = one.after(then)
            one.check()
            life(one)
            one.check()
            assert one.db["active"] == one.root["current"] == NEW_FILE


@pytest.mark.parametrize("skip", ["fsync part", "fsync slots", "fsync root"])
def test_each_fsync_is_needed(skip):
    """The test bench itself: without any one fsync some cut breaks a device."""
    broken = 0
    for cut in CUTS:
        for at in range(20):
            disk = installed()
            disk.skip = skip
            life(disk, left=at)
            try:
                disk.after(cut).check()
            except AssertionError:
                broken += 1
    assert broken > 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_lives_never_break_the_device(data):
    disk = installed() if data.draw(st.booleans()) else Disk()
    whole = patch.full(OLD)
    back = verified(sequence=NOW + 9, file=OLD_FILE, full=m.BlobRef(sha256(whole), len(whole)), patches=())
    releases = [RELEASE, verified(sequence=NOW + 7), back]
    blobs = {sha256(b): b for b in (PATCH, FULL, whole)}
    seen = 0
    for _ in range(data.draw(st.integers(1, 6))):
        disk.left = data.draw(st.none() | st.integers(0, 25))
        disk.full_at = data.draw(st.none() | st.integers(0, 25))
        verdicts = data.draw(st.lists(st.sampled_from(list(Verdict)), max_size=4))
        try:
            device = Device(disk, verdicts, dict(blobs) if data.draw(st.booleans()) else {}).start()
            for release in data.draw(st.lists(st.sampled_from(releases), max_size=3)):
                device.offer(release)
                disk.check()
        except Crash:
            pass
        disk = disk.after(data.draw(st.sampled_from(CUTS)))
        disk.check()
        assert disk.db.get("seen", 0) >= seen
        seen = disk.db.get("seen", 0)
    last = Device(disk, [], dict(blobs)).start()
    last.offer(releases[-1])
    disk.check()
    done = releases[-1].body.sequence <= disk.db.get("seen", 0)
    assert done or releases[-1].sha256 in disk.db["rejected"]
