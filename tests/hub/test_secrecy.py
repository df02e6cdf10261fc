# SPDX-License-Identifier: Apache-2.0
"""What each hub gets to see in a round: alone it is noise, together it is the sum and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.native import masks
from edgefl.secagg.canary import canary_positions
from edgefl.wire.messages import Report, SetAnswer
from hub.devices import SimDevice, enroll_all, until
from hub.hubs import Pair, add_task, found_pair, invite, running
from hub.test_round import fleet, quiet

pytestmark = pytest.mark.timeout(120)


def chi_square(data: bytes) -> float:
    """Deviation of the byte histogram from uniform, in standard deviations of chi-square with 255 degrees."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(2 * 255))


def clear_payload(device: SimDevice) -> bytes:
    """What the device would have sent without a mask."""
    m = device.manifest
    assert m is not None and device.vector is not None
    ring = np.ones(m.length, np.uint16)
    values = np.ones(m.length, bool)
    values[list(canary_positions(device.h, m.length, m.length - m.dim))] = False
    ring[values] = device.vector.astype(np.uint16)
    return masks.pack(ring, m.bits)


def uniform_bytes(payload: bytes, bits: int, length: int) -> bytes:
    """The high 8 of M bits of each coordinate: uniform if it is; those of a small integer are 0 or 255."""
    return (masks.unpack(payload, length, 16, bits) >> (bits - 8)).astype(np.uint8).tobytes()


def files_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


def memory_of(pid: int) -> bytes:
    """Every writable page of a process; skips where the kernel does not allow it."""
    found = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
            for line in maps:
                where, rights = line.split()[:2]
                if not rights.startswith("rw") or "[v" in line:
                    continue
                start, end = (int(x, 16) for x in where.split("-"))
                try:
                    memory.seek(start)
                    found.append(memory.read(end - start))
                except (OSError, OverflowError):
                    continue
    except OSError as error:
        pytest.skip(f"another process's memory cannot be read here: {error.strerror}")
    return b"".join(found)


def traces_of(device: SimDevice) -> dict[str, bytes]:
    """Pieces that give a device's vector or seed away wherever they stand."""
    assert device.vector is not None
    middle = device.vector[100:148]
    return {
        "clear payload": clear_payload(device)[200:280],
        "as uint16": middle.astype("<u2").tobytes(),
        "as int32": middle.astype("<i4").tobytes(),
        "as int64": middle.astype("<i8").tobytes(),
    }


def test_either_hub_alone_sees_noise_and_both_see_the_sum(tmp_path: Path) -> None:
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=120)

    async def scenario() -> None:
        async with fleet(hubs, tmp_path, 5, quiet(4)) as devices:
            with hubs.store() as store, hubs.store("helper") as helper:
                store.tasks.queue("tiny", 1, 0, 0)
                await until(lambda: devices[4].update and sum("put 200" in d.events for d in devices) == 4)
                (row,) = store.rounds.all()
                await until(lambda: [r.helper for r in store.rounds.reports(row.id)] == [1] * 4)
                m, reports = devices[0].manifest, store.rounds.reports(row.id)
                assert m is not None
                # The leader's dump: y of every device, headers with sealed boxes.
                seen = {r.device: store.blobs.read(r.payload) for r in reports}
                pooled = b"".join(uniform_bytes(y, m.bits, m.length) for y in seen.values())
                assert abs(chi_square(pooled)) < 5
                planted = b"".join(uniform_bytes(clear_payload(d), m.bits, m.length) for d in devices[:4])
                assert chi_square(planted) > 5  # the test does see a missing mask
                assert not hidden_in(hubs, "leader", devices[:4], with_seeds=True)
                # The helper's dump: seeds in memory, no vector at all.
                assert not hidden_in(hubs, "helper", devices[:4], with_seeds=False)
                await devices[4].put(devices[4].update)
                await until(lambda: store.rounds.all()[0].state == "installed")
                assert store.rounds.all()[0].cohort == 5
                answer = helper.helped.all()[0]
                assert answer.answer is not None and answer.state == "answered"
                r_packed = SetAnswer.decode(helper.blobs.read(answer.answer)).sum
                assert abs(chi_square(uniform_bytes(r_packed, m.bits, m.length))) < 5
                # Together: the sum, integer for integer. y + R, by NumPy alone.
                ys = [*seen.values(), devices[4].update.payload]  # type: ignore[union-attr]
                total = sum(masks.unpack(y, m.length, 16, m.bits).astype(np.int64) for y in ys)
                total = (total + masks.unpack(r_packed, m.length, 16, m.bits)) % (1 << m.bits)
                signed = np.where(total >= 1 << (m.bits - 1), total - (1 << m.bits), total)
                spots = list(canary_positions(devices[0].h, m.length, m.length - m.dim))
                assert (signed[spots] == 5).all()
                assert (np.delete(signed, spots) == sum(d.vector for d in devices)).all()
                # Seeds were in the helper's memory only.
                assert not seeds_in(files_of(hubs.helper), devices)

    with running(hubs):
        asyncio.run(scenario())


def hidden_in(hubs: Pair, which: str, devices: list[SimDevice], *, with_seeds: bool) -> list[tuple[str, int]]:
    """Traces of any device's vector (and seed) in a hub's memory and on its disk."""
    memory = memory_of(hubs.processes[which].pid)
    haystacks: dict[str, Any] = {"memory": memory, "disk": files_of(getattr(hubs, which))}
    found = []
    for place, data in haystacks.items():
        for device in devices:
            found += [
                (f"{place}: {name}", device.number) for name, t in traces_of(device).items() if t in data
            ]
        if with_seeds:
            found += [(f"{place}: seed", n) for n in seeds_in(data, devices)]
    # The search itself works: the hub's own key is there.
    assert hubs.hub(which).seed in memory
    return found


def seeds_in(data: bytes, devices: list[SimDevice]) -> list[int]:
    return [d.number for d in devices if d.secret in data]


def test_header_holds_nothing_of_the_vector(tmp_path: Path) -> None:
    """A header's size does not depend on the vector, and its parts are hashes, keys and ciphertext."""
    hubs = found_pair(tmp_path)
    add_task(hubs, quorum=2, deadline_s=30)

    async def scenario() -> None:
        devices = await enroll_all(tmp_path, invite(hubs, 2))
        with hubs.store() as store:
            for device in devices:
                await device.install((await device.poll()).release)
            store.tasks.queue("tiny", 1, 0, 0)
            answers = await asyncio.gather(*(d.poll() for d in devices))
            updates = [d.prepare(a.round) for d, a in zip(devices, answers, strict=True)]
            again = [devices[0].prepare(answers[0].round) for _ in range(20)]
        headers = [Report.decode(u.header) for u in [*updates, *again]]
        assert len({len(u.header) for u in [*updates, *again]}) == 1
        assert len({h.box for h in headers}) == len({h.nonce for h in headers}) == len(headers)
        assert abs(chi_square(b"".join(h.box for h in headers))) < 5
        for device in devices:
            await device.close()

    with running(hubs):
        asyncio.run(scenario())
