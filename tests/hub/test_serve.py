# SPDX-License-Identifier: Apache-2.0
"""Starting, refusing to start, and stopping of a hub; what the command line says."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hub.devices import enroll_all
from hub.hubs import ROOT, Pair, add_task, found_pair, free_ports, invite, running
from server_min import serve
from server_min.store import SqliteStore


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    pair = found_pair(tmp_path_factory.mktemp("serve"), poll_s=30.0)
    add_task(pair)
    return pair


WITHOUT_VERIFICATION = """
import sys
from granian.server.embed import Server
from server_min import cli, serve
real = serve.create_server
def open_door(listener, folder, level):
    server = real(listener, folder, level)
    server.ssl_ctx = (*server.ssl_ctx[:5], None, [], False)  # as if ssl_ca were missing
    return server
serve.create_server = open_door
sys.exit(cli.main(["serve", sys.argv[1]]))
"""


def test_hub_that_lets_strangers_in_exits_78(hubs: Pair) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VERIFICATION, str(hubs.leader)],
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 78
    assert "without a certificate" in done.stderr and "ready" not in done.stdout


def test_term_answers_long_polls_and_ends_the_process(hubs: Pair, tmp_path: Path) -> None:
    """Polls last 30 s here and `stop` waits for 10: the end does not wait for them."""

    async def scenario() -> None:
        devices = await enroll_all(tmp_path, invite(hubs, 3))
        for device in devices:
            await device.install((await device.poll()).release)
        polls = [asyncio.create_task(d.poll()) for d in devices]
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(hubs.stop, "leader") == 0
        assert [answer.release for answer in await asyncio.gather(*polls)] == [None] * 3
        for device in devices:
            await device.close()

    with running(hubs, "leader"):
        asyncio.run(scenario())


def test_term_with_an_idle_client_connected(hubs: Pair) -> None:
    with running(hubs, "leader"):
        host, port = serve.split_address(hubs.hub().toml.listen.devices)
        with socket.create_connection((host, port)):
            assert hubs.stop("leader") == 0


def test_taken_port_is_one_line_and_69(hubs: Pair) -> None:
    with running(hubs, "leader"):
        done = hubs.cli("serve", str(hubs.leader), check=False)
    assert done.returncode == 69 and "is another hub running?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "exit_code", "text"),
    [
        (["serve", "{tmp}/none"], 66, "edgefl-hub init"),
        (["serve", "{leader}", "--helper"], 78, "this command needs a helper"),
        (["init", "{leader}"], 78, "is not empty"),
        (["init", "{tmp}/x", "--url", "http://a"], 64, "https"),
        (["init", "{tmp}/x", "--listen", "nowhere"], 78, "host:port"),
        (["pair", "{leader}", "{tmp}/none", "-o", "{tmp}/g", "--helper-url", "https://a"], 66, "cannot read"),
        (["accept", "{helper}", "{leader}/hub.toml"], 65, "CBOR"),
        (["devices", "invite", "--task", "nope", "--hub", "{leader}"], 66, "no task nope"),
        (["devices", "invite", "--task", "tiny", "--valid", "soon", "--hub", "{leader}"], 64, "1h"),
        (["devices", "revoke", "xyz", "--hub", "{leader}"], 64, "hex"),
        (["devices", "revoke", "00", "--hub", "{leader}"], 66, "no device"),
        (["round", "start", "nope", "--hub", "{leader}"], 66, "no task"),
        (["round", "start", "tiny", "--rounds", "0", "--hub", "{leader}"], 64, "--rounds"),
        (["rounds", "--hub", "{helper}"], 78, "needs a leader"),
        (["frobnicate"], 64, "--help"),
    ],
    ids=lambda v: " ".join(v[:2]) if isinstance(v, list) else None,
)
def test_wrong_commands_are_one_line(
    hubs: Pair, tmp_path: Path, args: list[str], exit_code: int, text: str
) -> None:
    names = {"tmp": tmp_path, "leader": hubs.leader, "helper": hubs.helper}
    done = hubs.cli(*(a.format(**names) for a in args), check=False)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert text in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_unknown_key_in_hub_toml_names_the_nearest(hubs: Pair) -> None:
    path = hubs.leader / "hub.toml"
    before = path.read_text()
    path.write_text(before.replace("settle_s", "settel_s"))
    try:
        done = hubs.cli("rounds", "--hub", str(hubs.leader), check=False)
    finally:
        path.write_text(before)
    assert done.returncode == 78 and "settle_s" in done.stderr


def test_key_that_others_may_read_is_refused(hubs: Pair) -> None:
    path = hubs.leader / "hub.key"
    path.chmod(0o640)
    try:
        done = hubs.cli("devices", "--hub", str(hubs.leader), check=False)
    finally:
        path.chmod(0o600)
    assert done.returncode == 78 and "chmod 600" in done.stderr


def test_private_keys_are_0600_pkcs8(hubs: Pair) -> None:
    names = {p.name for p in hubs.leader.glob("*.key")}
    assert names == {"ca.key", "publisher.key", "hub.key", "tls.key"}
    for path in [*hubs.leader.glob("*.key"), *hubs.helper.glob("*.key"), hubs.leader / "store.sqlite"]:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.suffix != ".key" or path.read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_listings_as_json(hubs: Pair) -> None:
    releases = json.loads(hubs.cli("releases", "--hub", str(hubs.leader), "--json").stdout)
    assert [r["label"] for r in releases] == ["0"] and releases[0]["patch_bytes"] is None
    assert json.loads(hubs.cli("rounds", "--hub", str(hubs.leader), "--json").stdout) == []
    tokens = json.loads(
        hubs.cli(
            "devices", "invite", "--task", "tiny", "--count", "2", "--hub", str(hubs.leader), "--json"
        ).stdout
    )["tokens"]
    assert len(tokens) == 2 and all(t.startswith("edgefl1.") for t in tokens)


def test_grant_for_another_helper_is_refused(hubs: Pair, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    hubs.cli("init", str(tmp_path / "h"), "--helper", "--listen", f"127.0.0.1:{port}")
    done = hubs.cli("accept", str(tmp_path / "h"), str(hubs.leader.parent / "grant"), check=False)
    assert done.returncode == 65 and "another helper" in done.stderr
    done = hubs.cli(
        "pair", str(hubs.leader), str(tmp_path / "h" / "pair-request"), "-o", str(tmp_path / "g"),
        "--helper-url", "https://127.0.0.1:1", check=False,
    )  # fmt: skip
    assert done.returncode == 78 and "paired with another helper" in done.stderr


def test_store_of_an_unknown_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no hub"):
        SqliteStore(tmp_path)
    assert list(tmp_path.iterdir()) == []
