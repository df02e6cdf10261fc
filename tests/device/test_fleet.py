# SPDX-License-Identifier: Apache-2.0
"""Real devices with two real hubs: rounds, kills on both sides, tokens, revoking, leaving."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hub.hubs import Pair, add_task, found_pair, invite, running

from .conftest import Device, wait_for

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def hubs(tmp_path) -> Iterator[Pair]:
    pair = found_pair(tmp_path)
    add_task(pair)
    with running(pair):
        yield pair


@pytest.fixture
def fleet(hubs, tmp_path) -> Iterator[list[Device]]:
    """Three enrolled devices that run and have the first model."""
    devices = [Device(tmp_path / f"device{i}", shape=(8, 8, 2), classes=3, seed=i) for i in range(3)]
    try:
        for device, token in zip(devices, invite(hubs, 3), strict=True):
            device.command("enroll", token)
            device.start()
        for device in devices:
            wait_for(device.active)
        yield devices
    finally:
        for device in devices:
            device.end()


def rounds(hubs: Pair, n: int) -> None:
    hubs.cli("round", "start", "tiny", "--rounds", str(n), "--hub", str(hubs.leader))


def finished(hubs: Pair, n: int, seconds: float = 60) -> list:
    """The rounds, once n of them are over."""

    def over() -> list:
        with hubs.store() as store:
            rows = [r for r in store.rounds.all() if r.state in ("installed", "void")]
        return rows if len(rows) >= n else []

    return wait_for(over, seconds)


def test_two_rounds_end_with_one_model_on_all_devices(hubs, fleet):
    first = fleet[0].active()
    rounds(hubs, 2)
    rows = finished(hubs, 2)
    assert [row.cohort for row in rows] == [3, 3], [row.reason for row in rows]
    assert len({device.active() for device in fleet}) == 1
    assert fleet[0].active() != first
    kinds = [e["kind"] for e in fleet[0].log("release.install.begun")]
    assert kinds == ["full", "patch", "patch"]
    for device in fleet:
        sent = device.log("round.report.sent")
        assert len(sent) == 2 and all(e["header_bytes"] < 1000 for e in sent)
        assert device.stop(device.processes[-1]) == 0


def test_device_killed_while_training_comes_back_into_the_round(hubs, fleet):
    victim = fleet[0]
    rounds(hubs, 1)
    wait_for(lambda: victim.log("round.train.begun"))
    victim.processes[-1].kill()
    victim.processes[-1].wait()
    victim.start()
    (row,) = finished(hubs, 1)
    assert row.cohort == 3, row.reason
    assert len({device.active() for device in fleet}) == 1


def test_killed_leader_comes_back_and_the_fleet_goes_on(hubs, fleet):
    hubs.stop("leader", 9)
    wait_for(lambda: all(device.log("hub.link.down") for device in fleet))
    hubs.start("leader")
    rounds(hubs, 1)
    (row,) = finished(hubs, 1)
    assert row.cohort == 3, row.reason


def test_device_that_leaves_is_revoked_and_keeps_its_model(hubs, fleet):
    leaver = fleet[0]
    assert leaver.stop(leaver.processes[-1]) == 0
    device_id = json.loads(leaver.command("status", "--json"))["device"]
    leaver.command("leave")
    with hubs.store() as store:
        assert store.devices.get(bytes.fromhex(device_id)).revoked
    assert leaver.active()
    assert not (leaver.state / "id.pem").exists()


def test_revoked_device_stops_at_once(hubs, fleet):
    device_id = json.loads(fleet[0].command("status", "--json"))["device"]
    hubs.cli("devices", "revoke", device_id, "--hub", str(hubs.leader))
    assert fleet[0].processes[-1].wait(20) == 77
    assert fleet[1].processes[-1].poll() is None


def test_used_and_expired_tokens_are_77(hubs, tmp_path):
    first, second = (Device(tmp_path / name, shape=(8, 8, 2), classes=3) for name in ("first", "second"))
    (token,) = invite(hubs, 1)
    first.command("enroll", token)
    assert "token.used" in second.command("enroll", token, code=77)
    arguments = ("devices", "invite", "--task", "tiny", "--count", "1", "--valid", "1s")
    expired = hubs.cli(*arguments, "--hub", str(hubs.leader)).stdout.strip()
    time.sleep(2.1)  # the hub's clock decides: nothing else to wait for
    assert "token.expired" in second.command("enroll", expired, code=77)
