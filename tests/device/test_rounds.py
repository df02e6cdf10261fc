# SPDX-License-Identifier: Apache-2.0
"""The supervisor's half of a round in this process, with a database that fails at chosen points."""

from __future__ import annotations

import asyncio
import io

import pytest

from edgefl.adapters.sqlite import DeviceStore
from edgefl.cli.device import read_config
from edgefl.daemon.context import open_context
from edgefl.daemon.journal import Journal
from edgefl.daemon.rounds import Rounds
from edgefl.errors import StorageError
from edgefl.round.machine import State

from .conftest import wait_for


@pytest.fixture
def context(hub, device):
    """The context of a device that has its first model."""
    process = device.start()
    wait_for(device.active)
    wait_for(lambda: hub.polls and hub.polls[-1].model)
    assert device.stop(process) == 0
    store = DeviceStore(device.state / "edgefl.db")
    log = io.StringIO()
    context = open_context(
        read_config(device.folder / "edgefl.toml"), store, Journal("json", "debug", lambda: 0.0, log)
    )
    context.log = log
    yield context
    store.close()


def fail_once(monkeypatch, target, name: str) -> None:
    real, failed = getattr(target, name), []

    def call(*args):
        if not failed:
            failed.append(1)
            raise StorageError("the disk is full")
        return real(*args)

    monkeypatch.setattr(target, name, call)


async def one_round(context, hub, *, offers: int = 1) -> list:
    """Offer a round until it is sent; returns the updates that left."""
    sent = []

    async def send_update(update):
        sent.append(update)

    context.hub.send_update = send_update
    rounds = Rounds(context)
    await rounds.start()
    task = asyncio.create_task(rounds.run())
    envelope = hub.rounds[hub.invite()][2]
    for i in range(offers):
        try:
            await rounds.offer(envelope)
        except StorageError:
            assert rounds.state == State() and i < offers - 1
    for _ in range(2000):
        if rounds.outcomes or task.done():
            break
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await rounds.stop()
    await context.client.close()
    return sent


def test_disk_full_at_the_commit_trains_again_with_another_seed(monkeypatch, hub, context):
    seeds = []
    real = context.entropy.token
    monkeypatch.setattr(context.entropy, "token", lambda n: seeds.append(real(n)) or seeds[-1])
    fail_once(monkeypatch, context.store, "commit_report")
    sent = asyncio.run(one_round(context, hub))
    assert [update.attempt for update in sent] == [1]
    assert "daemon.work.failed" in context.log.getvalue()
    assert context.store.open_round() is None
    assert len(set(seeds)) == len(seeds)


def test_disk_full_at_the_beginning_leaves_nothing_and_the_next_offer_works(monkeypatch, hub, context):
    fail_once(monkeypatch, context.store, "begin_round")
    sent = asyncio.run(one_round(context, hub, offers=2))
    assert [update.attempt for update in sent] == [0]


def test_disk_full_at_the_end_does_not_send_another_body(monkeypatch, hub, context):
    fail_once(monkeypatch, context.store, "finish_round")
    sent = asyncio.run(one_round(context, hub))
    assert len(sent) == 2 and sent[0].body == sent[1].body
    assert [path.name for path in context.layout.spool.iterdir()] == [
        f"blob-{hub.releases[-1][0].probe.sha256.hex()}"
    ]


def test_secrets_do_not_show(hub, context):
    """Neither in the log nor in representations."""
    asyncio.run(one_round(context, hub))
    text = repr(context) + repr(context.client.caller) + context.log.getvalue()
    seed = (context.layout.identity).read_bytes()
    from edgefl.adapters.identity import seed_of

    key = seed_of(seed)
    assert key.hex() not in text and repr(key)[2:-1] not in text
