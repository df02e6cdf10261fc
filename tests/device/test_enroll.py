# SPDX-License-Identifier: Apache-2.0
"""Joining and leaving a fleet, with the real commands against a scripted hub; refusals first."""

from __future__ import annotations

import json
import os
import stat
from hashlib import sha256

import pytest

from edgefl.adapters import identity
from edgefl.wire.messages import Token

from .conftest import Device, wait_for
from .fakehub import Authority, Drop
from .minihub import refuse


@pytest.fixture
def fresh(tmp_path) -> Device:
    """A device that is not enrolled."""
    return Device(tmp_path / "fresh")


def test_used_token_is_refused_for_another_device(hub, fresh, tmp_path):
    token = hub.token()
    fresh.command("enroll", token)
    other = Device(tmp_path / "other")
    error = other.command("enroll", token, code=77)
    assert "token.used" in error and error.count("\n") == 1
    assert not other.state.joinpath("id.pem").exists()


@pytest.mark.parametrize("code", ["token.expired", "token.unknown"])
def test_token_that_the_hub_refuses_is_77(hub, fresh, code):
    hub.faults["/v1/enroll"] = lambda: refuse(403, code)
    assert code in fresh.command("enroll", hub.token(), code=77)


def test_ca_of_another_hash_is_refused_before_anything_is_sent(hub, fresh):
    hub.faults["/v1/ca"] = lambda: (200, {}, Authority("impostor").der)
    assert "not the one that the token names" in fresh.command("enroll", hub.token(), code=77)
    assert hub.requests == ["GET /v1/ca"]


def test_hub_whose_certificate_the_ca_did_not_sign_is_refused(hub, fresh):
    """The impostor serves the true CA but cannot show a certificate of it."""
    token = Token.from_text(hub.token())
    other = Authority("impostor")
    from .fakehub import FakeHub

    door = FakeHub(hub.handle_door, other.server(fresh.folder), other.der, mutual=False)
    from dataclasses import replace

    assert "pinned CA" in fresh.command("enroll", replace(token, url=door.url).to_text(), code=77)
    door.stop()
    assert hub.requests == ["GET /v1/ca"]


@pytest.mark.parametrize("text", ["", "edgefl1.", "edgefl1.AAAA", "hello", "edgefl1.!!"])
def test_text_that_is_no_token_is_65(fresh, text):
    error = fresh.command("enroll", text, code=65)
    assert error.count("\n") == 1


def test_unreachable_hub_is_69(hub, fresh):
    token = hub.token()
    hub.stop()
    assert "cannot reach" in fresh.command("enroll", token, code=69)


def test_second_enrolment_is_refused(hub, device):
    assert "enrolled already" in device.command("enroll", hub.token(), code=64)


def test_lost_answer_does_not_spend_the_token(hub, fresh):
    """The hub has the key, the device never heard: the same token works again, with the same key."""
    token = hub.token()
    real, lost = hub.handle_door, []

    def handler(method, path, headers, body):
        answer = real(method, path, headers, body)
        if path == "/v1/enroll" and not lost:
            lost.append(1)
            raise Drop
        return answer

    hub.door.handler = handler
    fresh.command("enroll", token, code=69)
    assert len(hub.devices) == 1
    fresh.command("enroll", token)
    assert len(hub.devices) == 1
    assert not (fresh.state / "id.pem.new").exists()


def test_token_file_and_json(hub, fresh):
    (fresh.folder / "token").write_text(hub.token() + "\n")
    result = json.loads(fresh.command("enroll", "--token-file", str(fresh.folder / "token"), "--json"))
    assert bytes.fromhex(result["device"]) in hub.devices
    assert result["task"] == "tiny"


def test_key_is_for_its_owner_alone(hub, device):
    assert stat.S_IMODE((device.state / "id.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((device.state / "spool").stat().st_mode) == 0o700
    assert stat.S_IMODE((device.state / "slots").stat().st_mode) == 0o755


def replace_identity(hub, device, authority: Authority, start_d: int, end_d: int) -> None:
    pem = authority.device(device.folder, start_d, end_d, name="other.pem").read_bytes()
    (device.state / "id.pem").write_bytes(pem)


def test_expired_certificate_is_77_before_the_hub_is_asked(hub, device):
    replace_identity(hub, device, hub.authority, -10, -2)
    hub.requests.clear()
    error = device.command("run", "--once", code=77)
    assert "expired 2 days ago" in error and error.count("\n") == 1
    assert not hub.requests


def test_certificate_of_another_fleet_is_77(hub, device):
    replace_identity(hub, device, Authority("another fleet"), -1, 30)
    error = device.command("run", "--once", code=77).splitlines()[-1]
    assert "refuses this certificate" in error and "unknown ca" in error


def test_certificate_of_another_fleet_stops_the_daemon(hub, device):
    """No further try can help, so it ends instead of hammering the hub."""
    replace_identity(hub, device, Authority("another fleet"), -1, 30)
    assert device.start().wait(20) == 77


@pytest.mark.parametrize("command", ["run", "status", "leave"])
def test_command_before_enrolment_is_66(fresh, command):
    assert "not enrolled" in fresh.command(command, code=66)


def test_missing_configuration_is_66(fresh):
    (fresh.folder / "edgefl.toml").unlink()
    assert "--example-config" in fresh.command("run", code=66)


def test_wrong_configuration_is_78(fresh):
    fresh.configure(worker={"nice": 99})
    assert "outside 0..19" in fresh.command("run", code=78)


def test_leave_revokes_erases_and_keeps_the_model(hub, device):
    process = device.start()
    wait_for(device.active)
    assert "in use" in device.command("leave", code=75)
    assert device.stop(process) == 0
    samples = device.state / "samples" / "0.npz"
    samples.write_bytes(b"a sample")
    own = (device.folder / "data" / "a.npz").read_bytes()
    (device.state / "spool" / "round-00-0").write_bytes(b"masked")
    device_id = next(iter(hub.devices))
    device.command("leave")
    assert hub.revoked == {device_id}
    assert not (device.state / "id.pem").exists()
    assert not samples.exists() and not os.listdir(device.state / "spool")
    assert device.active() == sha256(hub.model).hexdigest()
    assert (device.folder / "data" / "a.npz").read_bytes() == own
    assert "not enrolled" in device.command("run", code=66)
    device.command("enroll", hub.token())
    assert len(hub.devices) == 2


def test_leave_without_the_hub_needs_a_word(hub, device):
    hub.stop()
    assert "--offline" in device.command("leave", code=69)
    assert (device.state / "id.pem").exists()
    assert json.loads(device.command("leave", "--offline", "--json")) == {"left": True, "hub_told": False}
    assert not (device.state / "id.pem").exists()


def test_leave_after_the_hub_forgot_still_erases(hub, device):
    """A kill between the hub's answer and the erasing: leaving again finishes it."""
    hub.revoked |= set(hub.devices)
    device.command("leave")
    assert not (device.state / "id.pem").exists()


def test_validity_of_certificates_is_read_without_a_library(tmp_path):
    from cryptography import x509

    authority = Authority()
    for days in (30, 20000, 40000):  # UTCTime, and GeneralizedTime after 2049
        pem = authority.device(tmp_path, -1, days).read_bytes()
        own = identity.load(tmp_path / "id.pem")
        certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
        assert own.not_before == int(certificate.not_valid_before_utc.timestamp())
        assert own.not_after == int(certificate.not_valid_after_utc.timestamp())
