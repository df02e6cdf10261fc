# SPDX-License-Identifier: Apache-2.0
"""The daemon as a real process against a scripted hub: refusals, faults, kills, and the way it should go."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from tinymodel import Net, small_cnn

from .conftest import wait_for
from .fakehub import Drop, GoAway
from .minihub import nudged, refuse


def installed(device, model: bytes) -> None:
    wait_for(lambda: device.active() == sha256(model).hexdigest())


def test_install_then_round_then_patch(hub, device):
    """The whole loop once; the sum that both hubs open is the device's vector with its canaries."""
    process = device.start()
    installed(device, hub.model)
    round_id = hub.invite()
    wait_for(lambda: hub.reports)
    vector = hub.opened(round_id)
    manifest = hub.rounds[round_id][0]
    assert len(vector) == manifest.length
    assert (vector == 1).sum() >= manifest.length - manifest.dim
    assert 0 < abs(vector).max() <= 127
    new = nudged(hub.model, 1)
    hub.publish(new)
    installed(device, new)
    wait_for(lambda: hub.polls[-1].model == sha256(new).digest())
    assert device.log("release.install.begun")[-1]["kind"] == "patch"
    assert hub.polls[-1].samples == 40
    assert not device.log("worker.sandbox.absent")
    assert device.stop(process) == 0
    assert (device.state / "current").read_bytes() == new


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"key": bytes(32)}, "0 of 1 trusted signatures"),
        (
            {"sequence": 2000, "issued": 1000},
            None,
        ),  # older than what is installed: the hub does not even offer it
        ({"model": "other", "task": None}, "this device is tiny"),
        ({"expires": 1001, "issued": 1000}, "expired"),
        ({"runtime": "99"}, "needs edgefl 99"),
        ({"size": 2**31 - 1}, "at most"),
    ],
)
def test_bad_release_is_refused_and_the_device_goes_on(hub, device, changes, reason):
    process = device.start()
    good = hub.model
    installed(device, good)
    if changes.get("model"):
        from dataclasses import replace

        changes = {**changes, "task": replace(hub.releases[-1][0].task, name="other")}
    if reason is None:
        hub.publish(nudged(good, 1), **changes)
        hub.releases[-1], forced = hub.releases[-2], hub.releases[-1]
        serve_release(hub, forced[1])
        reason = "has accepted"
    else:
        hub.publish(nudged(good, 1), **changes)
    wait_for(lambda: any(reason in e["reason"] for e in device.log("release.offer.refused")))
    hub.model = good
    hub.faults.clear()
    hub.publish(good)  # a sound one, so that rounds go on
    wait_for(lambda: len(device.log("release.install.done")) == 2)
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.active() == sha256(good).hexdigest()
    assert device.stop(process) == 0


def serve_release(hub, envelope: bytes) -> None:
    """Offer this very envelope, once."""
    from dataclasses import replace

    from edgefl.wire.keys import sha256 as digest

    from .minihub import NOTHING

    hub.keep(envelope)
    hub.releases.insert(0, (hub.releases[-1][0], envelope))
    offers = iter([(200, {}, replace(NOTHING, release=digest(envelope)).encode())])
    hub.faults["/v1/poll"] = lambda: next(offers, None)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:-1] + bytes([b[-1] ^ 1])]
)
def test_damaged_patch_falls_back_to_the_whole_file(hub, device, damage):
    process = device.start()
    installed(device, hub.model)
    new = nudged(hub.model, 1)
    hub.publish(new)
    ref = hub.releases[-1][0].patches[0]
    hub.blobs[ref.patch] = damage(hub.blobs[ref.patch])
    installed(device, new)
    assert device.stop(process) == 0


def test_file_that_computes_something_else_is_rejected_for_good(hub, device):
    """The stated outputs are another model's: the health gate says no, the Release is never tried again."""
    process = device.start()
    good = hub.model
    installed(device, good)
    other = hub.releases[-1][0].probe
    name = hub.publish(nudged(good, 1), probe=replace(other, outputs=bytes(32)))
    wait_for(lambda: name in hub.polls[-1].rejected)
    assert device.active() == sha256(good).hexdigest()
    assert device.log("release.gate.verdict")[-1]["verdict"] == "fail"
    assert device.stop(process) == 0
    process = device.start()
    polls = len(hub.polls)
    wait_for(lambda: len(hub.polls) > polls)
    assert name in hub.polls[-1].rejected, "remembered across a restart"
    assert device.stop(process) == 0


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"quorum": 1}, "quorum is 1"),
        ({"deadline": 1000}, "are left"),
        ({"model": bytes(32)}, "another model file"),
        ({"task": bytes(32)}, "another task"),
        ({"clip": 1}, "clip differs"),
        ({"dim": 100, "length": 106}, "dim differs"),
    ],
)
def test_round_against_the_policy_is_declined(hub, device, changes, reason):
    process = device.start()
    installed(device, hub.model)
    round_id = hub.invite(**changes)
    wait_for(lambda: hub.declined)
    assert hub.declined[0][0] == round_id
    assert reason in hub.declined[0][1]
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_round_that_one_hub_did_not_sign_is_refused(hub, device):
    process = device.start()
    installed(device, hub.model)
    hub.invite(keys=(hub.leader,))
    wait_for(lambda: any("1 of 2" in e["reason"] for e in device.log()[5:] if "reason" in e))
    assert not hub.reports
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_missing_data_fails_the_round_and_the_daemon_goes_on(hub, device):
    process = device.start()
    installed(device, hub.model)
    file = device.folder / "data" / "a.npz"
    saved = file.read_bytes()
    file.write_bytes(b"not an archive")
    hub.invite()
    wait_for(lambda: hub.declined)
    assert hub.declined[0][1] == "the samples here cannot be used"  # which file is nobody else's business
    assert "a.npz" in device.log("round.train.failed")[0]["reason"]
    wait_for(lambda: hub.polls[-1].event == "round.train.failed")
    file.write_bytes(saved)
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_killed_worker_fails_the_round_and_the_daemon_goes_on(hub, device):
    device.configure(worker={"command": ["/bin/sh", "-c", "kill -9 $$", "worker"]})
    process = device.start()
    wait_for(lambda: device.log("release.install.failed"))  # the installer's child dies just so
    assert device.stop(process) == 0
    device.configure()
    process = device.start()
    installed(device, hub.model)
    assert device.stop(process) == 0
    device.configure(worker={"command": ["/bin/sh", "-c", "kill -9 $$", "worker"]})
    process = device.start()
    hub.invite()
    wait_for(lambda: any("killed by signal 9" in reason for _, reason in hub.declined))
    assert process.poll() is None
    assert device.stop(process) == 0


def test_unreachable_hub_backs_off_and_resumes(hub, device):
    process = device.start()
    installed(device, hub.model)
    down = [True]

    def fault():
        if down:
            raise Drop

    hub.faults["/"] = fault
    wait_for(lambda: len(device.log("hub.link.down")) >= 4)
    pauses = [e["retry_s"] for e in device.log("hub.link.down")]
    assert max(pauses) <= 0.4 and pauses[0] <= 0.1
    down.clear()
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_hub_that_says_goodbye_is_found_again(hub, device):
    process = device.start()
    installed(device, hub.model)
    byes = iter([GoAway, GoAway])

    def fault():
        error = next(byes, None)
        if error:
            raise error

    hub.faults["/v1/poll"] = fault
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_lost_answer_repeats_the_same_bytes(hub, device):
    """The hub takes the report and the connection breaks before it says so: the retry is the same body."""
    process = device.start()
    installed(device, hub.model)
    round_id = hub.invite()
    taken = []

    def fault():
        if len(taken) < 2:
            taken.append(1)
            return refuse(503, "busy")

    bodies = []
    real = hub.route

    def route(method, path, headers, body, who):
        if "reports" in path:
            bodies.append(body)
            if len(bodies) < 3:
                raise Drop
        return real(method, path, headers, body, who)

    hub.route = route
    wait_for(lambda: hub.reports)
    assert len(bodies) == 3 and len(set(bodies)) == 1
    hub.opened(round_id)
    assert device.stop(process) == 0


def test_round_over_ends_the_work(hub, device):
    device.configure(worker={"command": ["/bin/sleep", "60"]})
    process = None
    try:
        device.configure()
        process = device.start()
        installed(device, hub.model)
        device.stop(process)
        device.configure(worker={"command": ["/bin/sh", "-c", "exec sleep 60", "worker"]})
        process = device.start()
        round_id = hub.invite()
        wait_for(lambda: device.log("round.train.begun"))
        hub.end(round_id)
        wait_for(lambda: any(e["outcome"] == "cancelled" for e in device.log("round.over")))
    finally:
        assert device.stop(process) == 0


def test_revoked_device_stops_with_77_and_keeps_its_model(hub, device):
    process = device.start()
    installed(device, hub.model)
    hub.revoked |= set(hub.devices)
    hub.wake()
    assert process.wait(20) == 77
    assert device.active() == sha256(hub.model).hexdigest()
    assert "device.revoked" in (device.folder / "log").read_text()


def test_once_installs_then_takes_part_in_one_round(hub, device):
    assert device.start("--once").wait(30) == 0
    assert device.active() == sha256(hub.model).hexdigest()
    hub.invite()
    assert device.start("--once").wait(30) == 0
    assert len(hub.reports) == 1


def test_once_without_a_hub_is_69(hub, device):
    hub.stop()
    assert device.start("--once").wait(30) == 69


def test_two_daemons_on_one_state_are_refused(hub, device):
    process = device.start()
    installed(device, hub.model)
    assert "in use" in device.command("run", "--once", code=75)
    status = json.loads(device.command("status", "--json"))
    assert status["running"] and status["model"] == sha256(hub.model).hexdigest()
    assert device.stop(process) == 0
    assert json.loads(device.command("status", "--json"))["running"] is False


@pytest.mark.parametrize("when", ["release.install.begun", "release.gate.verdict", "release.install.done"])
def test_kill_during_an_install_goes_on(hub, device, when):
    process = device.start()
    wait_for(lambda: device.log(when))
    process.kill()
    process.wait()
    model = hub.model
    device.start()
    installed(device, model)
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(device.processes[-1]) == 0


@pytest.mark.parametrize("when", ["round.train.begun", "round.train.done", "round.report.sent"])
def test_kill_during_a_round_sends_one_body(hub, device, when):
    process = device.start()
    installed(device, hub.model)
    round_id = hub.invite()
    wait_for(lambda: device.log(when))
    process.kill()
    process.wait()
    device.start()
    wait_for(lambda: hub.reports)
    wait_for(lambda: hub.polls[-1].round is None)
    assert len({body for _, _, _, body in hub.reports}) == 1
    hub.reports[1:] = []
    hub.opened(round_id)
    assert device.stop(device.processes[-1]) == 0
    assert not list((device.state / "spool").glob("round-*"))


def test_worker_dies_with_the_supervisor(hub, device):
    device.configure(worker={"nice": 7})
    process = device.start()
    installed(device, hub.model)
    hub.invite()
    wait_for(lambda: device.log("round.train.begun"))
    process.send_signal(signal.SIGKILL)
    process.wait()

    def workers():
        found = []
        for pid in os.listdir("/proc"):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            if b"edgefl.daemon.worker" in line and str(device.folder).encode() in line:
                found.append(pid)
        return found

    wait_for(lambda: not workers())


def test_disk_full_while_installing_keeps_the_old_model(hub, device):
    """A file-size limit stands in for a full disk: the new model does not fit, then it does."""
    process = device.start()
    good = hub.model
    installed(device, good)
    assert device.stop(process) == 0
    big = small_cnn(5)
    limit = f'ulimit -f {len(big) // 1024 - 1}; exec {json.dumps(sys.executable)} "$@"'
    device.configure(worker={"command": ["/bin/sh", "-c", limit, "sh"]})
    process = device.start()
    hub.publish(big)
    wait_for(lambda: device.log("release.install.failed"))
    assert device.active() == sha256(good).hexdigest()
    assert device.stop(process) == 0
    device.configure()
    process = device.start()
    installed(device, big)
    assert device.stop(process) == 0


def test_full_disk_stops_nothing_but_the_work(hub, device):
    """A limit on the size of files: the database cannot grow; the daemon waits, and goes on later."""
    limit = f'ulimit -f 56; exec {json.dumps(sys.executable)} "$@"'
    argv = [
        "/bin/sh",
        "-c",
        limit,
        "sh",
        "-m",
        "edgefl",
        "run",
        "--config",
        str(device.folder / "edgefl.toml"),
    ]
    process = device.start(argv=argv)
    first = hub.model
    models = [nudged(first, i) for i in range(1, 8)]
    last = sha256(models[-1]).digest()

    def script(poll):
        if poll.model == sha256(hub.model).digest() and models:
            hub.publish(models.pop(0))

    hub.script = script
    wait_for(lambda: device.log("daemon.work.failed") or device.log("release.install.failed"))
    active = device.active()
    assert sha256((device.state / "current").read_bytes()).hexdigest() == active
    polls = len(hub.polls)
    wait_for(lambda: len(hub.polls) > polls)
    assert device.stop(process) == 0
    process = device.start()
    wait_for(lambda: hub.polls[-1].model == last)
    hub.invite()
    wait_for(lambda: hub.reports)
    assert device.stop(process) == 0


def test_hub_that_answers_at_once_is_not_hammered(hub, device):
    process = device.start()
    installed(device, hub.model)
    from .minihub import NOTHING

    hub.faults["/v1/poll"] = lambda: (200, {}, NOTHING.encode())
    begun = len(hub.requests)
    time.sleep(1.0)
    assert len(hub.requests) - begun < 30
    assert device.stop(process) == 0


def test_model_with_large_outputs_passes_the_gate(hub, device):
    """1.2 MB of outputs on the probe: what the child reports does not grow with the model."""
    device.configure(model={"runtime": "core"})
    process = device.start()
    installed(device, hub.model)
    wide = Net((1, 8, 8, 3), np.random.default_rng(0)).conv(1200).build()
    hub.publish(wide)
    installed(device, wide)
    assert device.stop(process) == 0
