# SPDX-License-Identifier: Apache-2.0
"""Whole rounds with two real hub processes and simulated devices: sums, dropouts, voids, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.adapters.http import refusal
from edgefl.ota import patch
from edgefl.wire.messages import PatchRef
from hub.devices import SimDevice, enroll_all, until
from hub.hubs import Pair, add_task, found_pair, invite, running
from server_min.rounds.release import load_master
from server_min.store import RoundRow, Store

pytestmark = pytest.mark.timeout(120)


@contextlib.asynccontextmanager
async def fleet(
    hubs: Pair, folder: Path, n: int, take: Callable[[SimDevice, bytes], bool] = lambda device, manifest: True
) -> AsyncIterator[list[SimDevice]]:
    """n enrolled devices that poll, install and report; `take` False: that device never reports."""
    devices = await enroll_all(folder, invite(hubs, n))
    tasks = [asyncio.create_task(d.live(take)) for d in devices]
    try:
        yield devices
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for device in devices:
            with contextlib.suppress(Exception):
                await device.close()


async def ended(store: Store, run: int, rounds: int = 1) -> list[RoundRow]:
    def over() -> list[RoundRow]:
        rows = [r for r in store.rounds.all(run=run) if r.state in ("installed", "void")]
        return rows if len(rows) == rounds else []

    return list(await until(over, 40))


def stored_sum(store: Store, row: RoundRow) -> np.ndarray:
    assert row.masked_sum is not None
    return np.frombuffer(store.blobs.read(row.masked_sum), "<i8")


def independent_master(before: np.ndarray, total: np.ndarray, hub_rate: float, clip: int, scale: int, n: int):  # type: ignore[no-untyped-def]
    """m + rne(hub_rate*C*2^16*sum/(S*n)), with Python's own round-half-even, one coordinate at a time."""
    steps = [round(hub_rate * clip * 65536 * int(s) / (scale * n)) for s in total]
    return before + np.array(steps, np.int64)


def test_sum_master_and_patch_are_exact_over_two_rounds(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 4) as devices:
            with hubs.store() as store:
                vectors = []
                for _ in range(2):
                    (row,) = await ended(store, store.tasks.queue("tiny", 1, 0, 0))
                    assert (row.state, row.cohort, row.reason) == ("installed", 4, "")
                    vectors.append(sum(d.vector for d in devices))
                    assert (stored_sum(store, row) == vectors[-1]).all()
                third, second, first = store.tasks.releases("tiny")
                masters = [load_master(store.blobs, r) for r in (first, second, third)]
                for before, after, total in zip(masters[:-1], masters[1:], vectors, strict=True):
                    assert (independent_master(before, total, 1.0, 1000, 64, 4) == after).all()
                files = [store.blobs.read(r.file) for r in (first, second, third)]
                release = devices[0].release
                assert release is not None and release.provenance.cohort == 4
                assert release.provenance.parents == (second.file,)
                assert [p.from_ for p in release.patches] == [second.file, first.file]
                for base, ref in zip(files[1::-1], release.patches, strict=True):
                    check_patch(store, base, ref, files[2])
                assert devices[0].file == files[2] != files[1]
        rows = json.loads(hubs.cli("rounds", "--hub", str(hubs.leader), "--json").stdout)
        assert [r["number"] for r in rows] == [0, 1]
        assert (
            {r["invited"] for r in rows}
            == {r["reported"] for r in rows}
            == {r["cohort"] for r in rows}
            == {4}
        )
        for r in rows:
            times = [r[k] for k in ("opened_at", "closed_at", "unmasked_at", "published_at", "installed_at")]
            assert times == sorted(times) and r["upload_header_bytes"] < 4 * 1024
            assert 0 < r["patch_bytes"] < r["full_bytes"] and r["model_bytes"] == len(files[0])

    with running(hubs):
        asyncio.run(scenario())


def check_patch(store: Store, base: bytes, ref: PatchRef, file: bytes) -> None:
    delta = store.blobs.read(ref.patch)
    assert len(delta) == ref.size and patch.apply(base, delta, len(file)) == file


def quiet(*numbers: int) -> Callable[[SimDevice, bytes], bool]:
    return lambda device, manifest: device.number not in numbers


def test_three_of_eight_drop_out_and_the_sum_is_of_the_five(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=4, deadline_s=3)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 8, quiet(1, 3, 6)) as devices:
            with hubs.store() as store:
                (row,) = await ended(store, store.tasks.queue("tiny", 1, 0, 0))
                assert (row.state, row.cohort) == ("installed", 5)
                present = [d for d in devices if d.number not in (1, 3, 6)]
                assert (stored_sum(store, row) == sum(d.vector for d in present)).all()
                # A dropout that comes late is refused and changes nothing.
                late = devices[3]
                answer = await late.put(late.update)
                assert (answer.status, refusal(answer)[0]) == (410, "round.closed")
                await until(lambda: "cancelled" in late.events)

    with running(hubs):
        asyncio.run(scenario())


def test_five_of_eight_drop_out_and_nothing_is_opened(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=4, deadline_s=3)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 8, quiet(0, 1, 2, 3, 4)):
            with hubs.store() as store, hubs.store("helper") as other:
                (row,) = await ended(store, store.tasks.queue("tiny", 1, 0, 0))
                assert (row.state, row.masked_sum, row.members) == ("void", None, None)
                assert row.reason == "3 reports at the deadline, the quorum is 4"
                assert len(store.tasks.releases("tiny")) == 1
                await until(lambda: other.helped.all()[0].state == "void")
                assert other.helped.all()[0].answer is None
                # The masked vectors are gone from the leader's disk too.
                await until(
                    lambda: (
                        not any(store.blobs.size(r.payload) is not None for r in store.rounds.reports(row.id))
                    )
                )

    with running(hubs):
        asyncio.run(scenario())


def test_declines_void_at_once(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=3, deadline_s=30)

    async def scenario() -> None:
        declining: list[asyncio.Task[Any]] = []

        def decline(device: SimDevice, manifest: bytes) -> bool:
            assert device.manifest is not None
            declining.append(asyncio.create_task(device.decline(device.manifest.round, "battery is low")))
            return False

        async with fleet(hubs, tmp_path, 4, decline):
            with hubs.store() as store:
                (row,) = await ended(store, store.tasks.queue("tiny", 1, 0, 0))
                assert row.state == "void" and "only 2 of 4 devices can still report" in row.reason
                assert "battery is low" in store.rounds.invited(row.id).values()

    with running(hubs):
        asyncio.run(scenario())


def test_report_again_is_accepted_and_another_one_is_not(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=20)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 3, quiet(2)) as devices:
            with hubs.store() as store:
                run = store.tasks.queue("tiny", 1, 0, 0)
                await until(lambda: sum("put 200" in d.events for d in devices) == 2)
                await until(lambda: devices[2].update)
                first, last = devices[0], devices[2]
                assert (await first.put(first.update)).status == 200
                # Another vector under the same round and device, well signed.
                before = first.update
                again = first.prepare(store.rounds.all()[0].manifest)
                assert refusal(await first.put(again))[0] == "report.duplicate"
                # Somebody else's report, a truncated one, one with a changed payload, one too long.
                for body, code in (
                    (before.body, "report.malformed"),
                    (last.update.body[:-1], "report.malformed"),
                    (last.update.body[:-1] + bytes([last.update.body[-1] ^ 1]), "report.malformed"),
                    (last.update.body + bytes(4096), "body.too_large"),
                    (b"\0\0\0\0" + last.update.body, "report.malformed"),
                    (b"", "report.malformed"),
                ):
                    assert refusal(await last.put(last.update, body))[0] == code
                # Trailing bits that are not zero are not a vector of M bits.
                assert (await last.put(last.update)).status == 200
                (row,) = await ended(store, run)
                total = sum(d.vector for d in devices[1:]) + unmasked(first, before)
                assert (stored_sum(store, row) == total).all()
                assert (
                    await last.put(last.update)
                ).status == 200  # the round is over; the answer is the same

    with running(hubs):
        asyncio.run(scenario())


def unmasked(device: SimDevice, update: Any) -> np.ndarray:
    """The vector of an earlier update: the device drew a new one since."""
    return device.earlier[update.header]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_leader_restart_goes_on_with_the_round(tmp_path: Path, how: int) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=30)

    async def scenario() -> None:
        devices = await enroll_all(tmp_path, invite(hubs, 3))
        with hubs.store() as store:
            for device in devices:
                await device.install((await device.poll()).release)
            run = store.tasks.queue("tiny", 1, 0, 0)
            answers = await asyncio.gather(*(d.poll() for d in devices))
            for device, answer in zip(devices, answers, strict=True):
                device.prepare(answer.round)
            for device in devices[:2]:
                assert (await device.put(device.update)).status == 200
            await asyncio.to_thread(hubs.stop, "leader", how)
            await asyncio.to_thread(hubs.start, "leader")
            assert (await devices[0].put(devices[0].update)).status == 200
            assert (await devices[2].put(devices[2].update)).status == 200
            await until(lambda: store.rounds.all(run=run)[0].state == "published")
            for device in devices:
                device.round = None
                await device.install((await device.poll()).release)
            polls = [asyncio.create_task(d.poll()) for d in devices]
            (row,) = await ended(store, run)
            assert (stored_sum(store, row) == sum(d.vector for d in devices)).all()
            for poll in polls:
                poll.cancel()
        for device in devices:
            await device.close()

    with running(hubs):
        asyncio.run(scenario())


def test_helper_restart_voids_the_round_with_a_reason(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=30)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 3, quiet(2)) as devices:
            with hubs.store() as store:
                run = store.tasks.queue("tiny", 1, 0, 0)
                await until(lambda: [r.helper for r in store.rounds.reports(first_id(store))] == [1, 1])
                await asyncio.to_thread(hubs.stop, "helper", signal.SIGKILL)
                await asyncio.to_thread(hubs.start, "helper")
                await devices[2].put(devices[2].update)
                (row,) = await ended(store, run)
                assert row.state == "void" and "lost the round's key" in row.reason
                # The next round works, with fresh keys.
                again = store.tasks.queue("tiny", 1, 0, 0)
                await until(lambda: store.rounds.all(run=again))
                assert store.rounds.all(run=again)[0].number == 1

    with running(hubs):
        asyncio.run(scenario())


def first_id(store: Store) -> bytes:
    rows = store.rounds.all()
    return rows[0].id if rows else b""


def test_revoked_device_is_out_of_the_open_round(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=30)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 3, quiet(2)) as devices:
            with hubs.store() as store:
                run = store.tasks.queue("tiny", 1, 0, 0)
                await until(lambda: devices[2].update)
                store.devices.revoke(devices[2].id, 0)
                (row,) = await ended(store, run)
                assert (row.state, row.cohort) == ("installed", 2)
                assert (stored_sum(store, row) == devices[0].vector + devices[1].vector).all()

    with running(hubs):
        asyncio.run(scenario())


def test_wait_prints_one_json_line_a_state_change(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 3):
            args = ("round", "start", "tiny", "--rounds", "2", "--wait", "--json", "--hub", str(hubs.leader))
            done = await asyncio.to_thread(hubs.cli, *args)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            states = ["invited", "collecting", "closed", "unmasked", "published", "installed"]
            assert [(line["number"], line["state"]) for line in lines] == [
                (n, s) for n in (0, 1) for s in states
            ]
            assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
            assert all(line["cohort"] == 3 for line in lines if line["state"] in states[2:])

    with running(hubs):
        asyncio.run(scenario())
