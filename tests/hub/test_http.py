# SPDX-License-Identifier: Apache-2.0
"""A real leader over mutual TLS: what it refuses, and how downloads behave."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgefl.adapters.http import Answer, Caller, Client, refusal, tls_context
from edgefl.errors import EdgeflError
from edgefl.wire import httpsig
from edgefl.wire.keys import key_id, sha256, signer
from edgefl.wire.messages import EnrollAnswer, EnrollRequest, PollAnswer, Release, Token
from hub.devices import SimDevice, enroll_all
from hub.hubs import Pair, add_task, edit, found_pair, invite, running
from server_min import ca, keys
from server_min.helper_link import WallClock


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = found_pair(tmp_path_factory.mktemp("http"), poll_s=0.3)
    add_task(pair)
    with running(pair, "leader"):
        yield pair


@pytest.fixture
def device(hubs: Pair, tmp_path: Path) -> SimDevice:
    return asyncio.run(enrolled(hubs, tmp_path))


async def enrolled(hubs: Pair, folder: Path) -> SimDevice:
    (device,) = await enroll_all(folder, invite(hubs, 1))
    await device.close()
    return device


def run(device: SimDevice, what: Callable[[], Awaitable[Any]]) -> Any:
    """Run one scenario and close the device's connection in the same loop."""

    async def scenario() -> Any:
        try:
            return await what()
        finally:
            await device.close()

    return asyncio.run(scenario())


def get(device: SimDevice, target: str, **headers: str) -> Answer:
    pairs = tuple((k.replace("_", "-"), v) for k, v in headers.items())
    return run(device, lambda: device.client.request("GET", target, headers=pairs))


def code(answer: Answer) -> tuple[int, str]:
    assert abs(int(answer.headers["edgefl-time"]) - time.time()) < 5
    return answer.status, refusal(answer)[0]


def post(device: SimDevice, target: str, body: bytes) -> Answer:
    return run(device, lambda: device.client.request("POST", target, body))


def first_release(hubs: Pair) -> Any:
    with hubs.store() as store:
        return store.tasks.newest("tiny")


# Identity


def test_no_certificate_and_foreign_certificate_end_in_the_handshake(
    hubs: Pair, device: SimDevice, tmp_path: Path
) -> None:
    foreign = keys.create_key(tmp_path / "foreign.key")
    root = ca.create_ca(foreign, "foreign", time.time())
    from cryptography.hazmat.primitives.serialization import Encoding

    (tmp_path / "foreign.pem").write_bytes(
        (tmp_path / "foreign.key").read_bytes() + root.public_bytes(Encoding.PEM)
    )
    for identity in (None, tmp_path / "foreign.pem"):
        tls = tls_context(hubs.hub().ca_der, identity)
        device.client = Client(device.token.hub, tls, device.client.caller, WallClock())
        with pytest.raises(EdgeflError, match=r"cert|unknown ca"):
            get(device, "/v1/releases/" + "00" * 32)


def test_tls_below_1_3_is_refused(hubs: Pair, device: SimDevice) -> None:
    device.client.tls.minimum_version = ssl.TLSVersion.TLSv1_2
    device.client.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(EdgeflError):
        get(device, "/v1/releases/" + "00" * 32)


def test_unsigned_request_is_refused(device: SimDevice) -> None:
    device.client.caller = None
    assert code(get(device, "/v1/releases/" + "00" * 32)) == (401, "request.signature")


def test_signature_of_a_key_without_enrolment_is_refused(device: SimDevice) -> None:
    device.client.caller = Caller(signer(os.urandom(32)), device.client.caller.audience)
    assert code(get(device, "/v1/releases/" + "00" * 32)) == (403, "device.unknown")


def test_signature_for_another_hub_is_refused(device: SimDevice) -> None:
    device.client.caller = replace(device.client.caller, audience="00" * 16)
    assert code(get(device, "/v1/releases/" + "00" * 32)) == (401, "request.signature")


class Skewed(WallClock):
    def now(self) -> float:
        return time.time() - 3600


def test_wrong_clock_is_refused_with_the_hubs_time_and_then_works(device: SimDevice) -> None:
    device.client.clock = Skewed()
    assert code(get(device, "/v1/releases/" + "00" * 32)) == (404, "not_found")
    assert 3590 < device.client.offset < 3610


def test_repeated_request_is_refused(device: SimDevice) -> None:
    created, nonce = int(time.time()), os.urandom(16)
    device.client.token = lambda n: nonce

    class Frozen(WallClock):
        def now(self) -> float:
            return created

    device.client.clock = Frozen()
    target = "/v1/releases/" + "00" * 32
    assert code(get(device, target)) == (404, "not_found")
    assert code(get(device, target)) == (409, "request.replay")


def test_body_that_was_not_signed_is_refused(device: SimDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    real = httpsig.sign_request
    other = sha256(b"another body")
    monkeypatch.setattr(
        httpsig, "sign_request", lambda method, target, body, **k: real(method, target, other, **k)
    )
    assert code(post(device, "/v1/poll", device.poll_message().encode())) == (401, "request.signature")


def test_poll_number_must_grow(device: SimDevice) -> None:
    body = device.poll_message().encode()
    assert post(device, "/v1/poll", body).status == 200
    assert code(post(device, "/v1/poll", body)) == (409, "request.replay")


def test_malformed_bodies_are_refused(device: SimDevice) -> None:
    for body in (b"", b"\xff", b"\xa0", device.poll_message().encode() + b"\0", b"\xa1\x61n\x01" * 100):
        assert code(post(device, "/v1/poll", body)) == (400, "request.malformed")


def test_oversized_bodies_are_refused(device: SimDevice) -> None:
    assert code(post(device, "/v1/poll", bytes(1 << 17))) == (413, "body.too_large")


def test_unknown_paths_methods_and_ids_are_not_found(device: SimDevice) -> None:
    for target in (
        "/v1/nothing",
        "/",
        "/v1/blobs/xyz",
        "/v1/blobs/" + "AA" * 32,
        "/v1/releases/00",
        "/v1/poll",
    ):
        assert code(get(device, target)) == (404, "not_found")
    assert code(post(device, "/v1/releases/" + "00" * 32, b"")) == (404, "not_found")
    assert code(post(device, f"/v1/rounds/{'00' * 16}/decline", b"\xa1freasonaa")) == (404, "round.unknown")


def test_report_for_an_unknown_round_is_refused_before_its_body(device: SimDevice) -> None:
    target = f"/v1/rounds/{'00' * 16}/reports/0"
    answer = run(device, lambda: device.client.request("PUT", target, bytes(1 << 20)))
    assert code(answer) == (404, "round.unknown")


def test_revoked_device_is_refused_on_its_open_poll(hubs: Pair, tmp_path: Path) -> None:
    edit(hubs.leader / "hub.toml", poll_s=10.0)
    hubs.stop("leader")
    hubs.start("leader")

    async def scenario() -> None:
        (device,) = await enroll_all(tmp_path, invite(hubs, 1))
        await device.poll()  # the first release
        polling = asyncio.create_task(device.poll(sequence=first_release(hubs).sequence))
        await asyncio.sleep(0.3)
        hubs.cli("devices", "revoke", device.id.hex(), "--hub", str(hubs.leader))
        with pytest.raises(EdgeflError, match=r"device\.revoked"):
            await polling  # not only at the end of its ten seconds: then the answer would be an empty one
        with pytest.raises(EdgeflError, match=r"device\.revoked"):
            await device.poll()
        await device.close()

    try:
        asyncio.run(scenario())
    finally:
        edit(hubs.leader / "hub.toml", poll_s=0.3)
        hubs.stop("leader")
        hubs.start("leader")


def test_leave_revokes(hubs: Pair, device: SimDevice) -> None:
    assert post(device, "/v1/leave", b"\xa0").status == 200
    assert code(post(device, "/v1/poll", device.poll_message().encode())) == (403, "device.revoked")
    with hubs.store() as store:
        assert store.devices.get(device.id).revoked


# Enrolment


def enroll_with(token: Token, seed_file: Path, **changes: Any) -> Answer:
    key = keys.load_key(seed_file) if seed_file.exists() else keys.create_key(seed_file)
    seed = keys.seed_bytes(key)

    async def scenario() -> Answer:
        caller = Caller(signer(changes.get("sign", seed)), "enroll")
        client = Client(token.url, tls_context(None), caller, WallClock())
        fields = {"secret": token.secret, "csr": ca.create_csr(key, "x")} | {
            k: v for k, v in changes.items() if k != "sign"
        }
        try:
            return await client.request("POST", "/v1/enroll", EnrollRequest(**fields).encode())
        finally:
            await client.close()

    return asyncio.run(scenario())


def test_token_belongs_to_its_first_key_which_may_repeat(hubs: Pair, tmp_path: Path) -> None:
    token = Token.from_text(invite(hubs, 1)[0])
    first = enroll_with(token, tmp_path / "a.key")
    again = enroll_with(token, tmp_path / "a.key")
    assert first.status == again.status == 200
    assert EnrollAnswer.decode(first.body).certificate == EnrollAnswer.decode(again.body).certificate
    assert code(enroll_with(token, tmp_path / "b.key")) == (403, "token.used")


def test_unknown_and_expired_tokens_are_refused(hubs: Pair, tmp_path: Path) -> None:
    token = Token.from_text(invite(hubs, 1)[0])
    assert code(enroll_with(token, tmp_path / "a.key", secret=bytes(32))) == (403, "token.unknown")
    with hubs.store() as store:
        store.devices.add_token(b"x" * 32, "tiny", int(time.time()) - 1)
    assert code(enroll_with(token, tmp_path / "a.key", secret=b"x" * 32)) == (403, "token.expired")


def test_enrolment_must_be_signed_by_the_requests_key(hubs: Pair, tmp_path: Path) -> None:
    token = Token.from_text(invite(hubs, 1)[0])
    assert code(enroll_with(token, tmp_path / "a.key", sign=os.urandom(32))) == (403, "device.unknown")
    csr = ca.create_csr(keys.create_key(tmp_path / "c.key"), "x")
    broken = csr[:-1] + bytes([csr[-1] ^ 1])
    for bad in (b"", b"junk", broken):
        assert code(enroll_with(token, tmp_path / "a.key", csr=bad)) == (400, "request.malformed")
    assert enroll_with(token, tmp_path / "a.key").status == 200  # the token is not spent


def test_revoked_key_cannot_enrol_again(hubs: Pair, tmp_path: Path) -> None:
    tokens = [Token.from_text(t) for t in invite(hubs, 2)]
    assert enroll_with(tokens[0], tmp_path / "a.key").status == 200
    name = key_id(keys.public_bytes(keys.load_key(tmp_path / "a.key"))).hex()
    hubs.cli("devices", "revoke", name, "--hub", str(hubs.leader))
    for token in tokens:
        assert code(enroll_with(token, tmp_path / "a.key")) == (403, "device.revoked")


# Downloads


def test_download_with_etag_304_and_ranges(hubs: Pair, device: SimDevice) -> None:
    release = first_release(hubs)
    target, tag = f"/v1/blobs/{release.full.hex()}", f'"{release.full.hex()}"'
    whole = get(device, target)
    assert whole.status == 200 and sha256(whole.body) == release.full and whole.headers["etag"] == tag
    assert get(device, target, if_none_match=tag).status == 304
    assert get(device, target, if_none_match='"other"').status == 200
    part = get(device, target, range="bytes=100-")
    assert part.status == 206 and part.body == whole.body[100:]
    assert part.headers["content-range"] == f"bytes 100-{len(whole.body) - 1}/{len(whole.body)}"
    assert get(device, target, range="bytes=10-19").body == whole.body[10:20]
    assert get(device, target, range=f"bytes={len(whole.body)}-").status == 416
    assert get(device, target, range="lines=1-").status == 200


def test_masters_sums_and_releases_are_no_public_blobs(hubs: Pair, device: SimDevice) -> None:
    release = first_release(hubs)
    assert code(get(device, f"/v1/blobs/{release.master.hex()}")) == (404, "not_found")
    assert get(device, f"/v1/blobs/{release.probe.hex()}").status == 200
    assert code(get(device, f"/v1/releases/{release.file.hex()}")) == (404, "not_found")


def test_poll_names_the_newest_release_unless_it_was_rejected(hubs: Pair, device: SimDevice) -> None:
    release = first_release(hubs)

    async def poll(**changes: Any) -> PollAnswer:
        return await device.poll(**changes)

    assert run(device, poll).release == release.envelope
    assert run(device, lambda: poll(sequence=release.sequence)).release is None
    assert run(device, lambda: poll(rejected=(release.envelope,))).release is None
    envelope = get(device, f"/v1/releases/{release.envelope.hex()}").body
    body = Release.decode(envelope_payload(envelope))
    assert body.provenance.cohort == 0 and body.patches == () and body.full.sha256 == release.full


def envelope_payload(envelope: bytes) -> bytes:
    from edgefl.wire import cbor

    payload, _ = cbor.loads(envelope)  # type: ignore[misc]
    return bytes(payload)


def test_metrics_name_counts_and_no_device(hubs: Pair, device: SimDevice) -> None:
    get(device, "/v1/nothing")
    text = urllib.request.urlopen(hubs.metrics, timeout=5).read().decode()
    assert 'edgefl_refused_requests_total{code="not_found"}' in text
    assert "edgefl_sent_bytes_total" in text and device.id.hex() not in text
