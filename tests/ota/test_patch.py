# SPDX-License-Identifier: Apache-2.0
"""Patches: hostile ones first, then round trips and sizes."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ota_samples import FULL, NEW, OLD, PATCH, moved, weights

from edgefl.errors import DataError
from edgefl.ota import patch, swar


def made(old_size, new_size, steps, added=b"", inserted=b"", *, n_steps=None, n_added=None) -> bytes:
    """Return a patch with any numbers."""
    head = struct.pack(
        ">IIII",
        old_size,
        new_size,
        len(steps) if n_steps is None else n_steps,
        len(added) if n_added is None else n_added,
    )
    body = head + b"".join(struct.pack(">iii", *s) for s in steps) + added + inserted
    return b"efp1" + zstandard.ZstdCompressor().compress(body)


@pytest.mark.parametrize(
    "blob",
    [
        made(4, 4, [(5, 0, 0)], b"\0" * 4),  # adds more than it carries
        made(4, 4, [(4, 0, 0), (1, 0, 0)], b"\0" * 4),
        made(4, 4, [(0, 5, 0)], b"", b"\0" * 4),
        made(4, 4, [(-1, 5, 0)], b"", b"\0" * 4),
        made(4, 4, [(5, -1, 0)], b"\0" * 4),
        made(4, 4, [(0, 0, 1), (4, 0, 0)], b"\0" * 4),  # beyond the old file
        made(4, 4, [(0, 0, -1), (4, 0, 0)], b"\0" * 4),
        made(4, 4, [(0, 0, -3), (2, 2, 0)], b"\0" * 2, b"\0" * 2),  # an index from the end
        made(4, 4, [(0, 0, 2**31 - 1)] * 3 + [(4, 0, 0)], b"\0" * 4),
        made(4, 4, [(3, 0, 0)], b"\0" * 4),  # makes too little
        made(5, 4, [(4, 0, 0)], b"\0" * 4),  # another base
        made(4, 5, [(4, 0, 0)], b"\0" * 4),  # another size
        made(4, 4, [(4, 0, 0)], b"\0" * 5),
        made(4, 4, [(4, 0, 0)], b"\0" * 4, b"x"),
        made(4, 4, [(4, 0, 0)], b"\0" * 4, n_steps=2**32 - 1),
        made(4, 4, [(4, 0, 0)], b"\0" * 4, n_added=2**32 - 1),
        made(4, 4, [(0, 0, 0)] * 65, b"\0" * 4),
        made(4, 4, [(0, 0, 0)] * 10**5, b"\0" * 4),
        made(4, 4, [(4, 0, 0)], b"\0" * 4) + b"\0",
        b"",
        b"efp1",
        b"efp2" + PATCH[4:],
        b"efp1" + zstandard.ZstdCompressor().compress(b""),
        b"efp1" + zstandard.ZstdCompressor().compress(b"\0" * 15),
        b"efp1" + zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 20),
        b"BSDIFF40" + bytes(24),
    ],
)
def test_apply_hostile_patch_is_refused(blob):
    with pytest.raises(DataError):
        patch.apply(b"abcd", blob, 4)


@pytest.mark.parametrize("cut", [0, 3, 4, 5, 10, -1, -5])
def test_apply_truncated_patch_is_refused(cut):
    with pytest.raises(DataError):
        patch.apply(OLD, PATCH[:cut], len(NEW))


def test_declared_sizes_allocate_nothing():
    """A frame of some bytes that unpacks to 512 MB, declared or not, costs no memory."""
    bombs = []
    for declared in (True, False):
        c = zstandard.ZstdCompressor(write_content_size=declared).compressobj(
            size=512 << 20 if declared else -1
        )
        block = bytes(1 << 20)
        bombs.append(b"".join([*(c.compress(block) for _ in range(512)), c.flush()]))
    # A header that declares 1 GiB before almost no data: magic, single segment with 4-byte size, empty block.
    bombs.append(bytes.fromhex("28b52ffd") + b"\xa0" + struct.pack("<I", 1 << 30) + bytes.fromhex("010000"))
    tracemalloc.start()
    for bomb in bombs:
        assert len(bomb) < 100_000
        for call in (
            lambda b=bomb: patch.apply(OLD, b"efp1" + b, len(NEW)),
            lambda b=bomb: patch.unfull(b, len(NEW)),
        ):
            with pytest.raises(DataError):
                call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_unfull_damaged_or_of_another_size_is_refused():
    good = patch.full(NEW)
    for data, size in [
        (good[:-1], len(NEW)),
        (good, len(NEW) - 1),
        (good, len(NEW) + 1),
        (good + b"\0", len(NEW)),
        (good * 2, len(NEW)),
        (b"junk", 4),
        (b"", 0),
    ]:
        with pytest.raises(DataError):
            patch.unfull(data, size)


@settings(max_examples=300)
@given(st.data())
def test_apply_mutated_body_raises_data_error_only(data):
    """The frame is intact, its content is hostile."""
    old = b"abcdefgh" * 8
    new = b"abcdXfgh" * 7 + b"tail" * 5
    body = bytearray(zstandard.ZstdDecompressor().decompress(patch.build(old, new)[4:]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    try:
        out = patch.apply(old, b"efp1" + zstandard.ZstdCompressor().compress(bytes(body)), len(new))
    except DataError:
        return
    assert len(out) == len(new)


@given(st.data())
def test_apply_mutated_frame_raises_data_error_only(data):
    """Both kinds of blob, so that a hostile frame reaches the decoder of each."""
    blob = bytearray(data.draw(st.sampled_from([PATCH, b"efp1" + FULL])))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(len(blob) - 1, 60)))] = data.draw(st.integers(0, 255))
    for call in (
        lambda: patch.apply(OLD, bytes(blob), len(NEW)),
        lambda: patch.unfull(bytes(blob[4:]), len(NEW)),
    ):
        try:
            call()
        except DataError:
            pass


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_round_trip_of_any_files(old, new):
    assert patch.apply(old, patch.build(old, new), len(new)) == new
    assert patch.unfull(patch.full(new), len(new)) == new


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_round_trip_of_weights_and_its_size(share):
    old = weights(3, 20_000)
    new = moved(old, 4, share)
    made = patch.build(old, new)
    assert patch.apply(old, made, len(new)) == new
    assert len(made) < len(old) * (0.005 + 0.06 if share < 0.1 else 0.3)


def test_round_trip_after_bytes_moved():
    old = weights(5, 9000)
    new = old[4000:] + b"new tensor" + moved(old[:4000], 6)
    made = patch.build(old, new)
    assert patch.apply(old, made, len(new)) == new
    assert len(made) < len(new) // 2


@given(st.binary(max_size=9000), st.randoms())
def test_swar_equals_a_loop(a, rng):
    b = rng.randbytes(len(a))
    assert swar.add(a, b) == bytes((x + y) & 255 for x, y in zip(a, b, strict=True))
    assert swar.subtract(a, b) == bytes((x - y) & 255 for x, y in zip(a, b, strict=True))
    assert swar.add(swar.subtract(a, b), b) == a
