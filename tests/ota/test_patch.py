# SPDX-License-Identifier: Apache-2.0
"""Patches: hostile ones first, then round trips and sizes."""

from __future__ import annotations

import bz2
import struct
import tracemalloc

import bsdiff4
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ota_samples import FULL, NEW, OLD, PATCH, moved, weights

from edgefl.errors import DataError
from edgefl.ota import patch, swar


def frame_of(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data) if data else b""


def made(steps, values=b"", inserted=b"", gaps=b"", *, lengths=None, tail=b"") -> bytes:
    """Return a patch with any numbers."""
    control = steps if isinstance(steps, bytes) else b"".join(struct.pack(">iii", *s) for s in steps)
    frames = [frame_of(stream) for stream in (control, gaps, values, inserted)]
    head = struct.pack(">4sIII", b"efp1", *(lengths or map(len, frames[:3])))
    return head + b"".join(frames) + tail


UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(struct.pack(">iii", 4, 0, 0))


@pytest.mark.parametrize(
    "blob",
    [
        made([(5, 0, 0)], b"\0" * 4),  # adds more than it carries
        made([(4, 0, 0), (1, 0, 0)], b"\0" * 4),
        made([(0, 5, 0)], b"", b"\0" * 4),
        made([(-1, 5, 0)], b"", b"\0" * 4),
        made([(5, -1, 0)], b"\0" * 4),
        made([(0, 0, 1), (4, 0, 0)], b"\0" * 4),  # beyond the old file
        made([(0, 0, -1), (4, 0, 0)], b"\0" * 4),
        made([(0, 0, -3), (2, 2, 0)], b"\0" * 2, b"\0" * 2),  # an index from the end
        made([(0, 0, 2**31 - 1)] * 3 + [(4, 0, 0)], b"\0" * 4),
        made([(3, 0, 0)], b"\0" * 4),  # makes too little
        made([(4, 0, 0)], b"\0" * 5),
        made([(4, 0, 0)], b"\0" * 4, b"x"),
        made([], b"", b""),
        made([(4, 0, 0)], b"\1", gaps=b"\4"),  # a value behind the end
        made([(4, 0, 0)], b"\1", gaps=b"\xff\0"),
        made([(4, 0, 0)], b"\1", gaps=b"\0\0"),  # more gaps than values
        made([(4, 0, 0)], b"\1\1", gaps=b"\0"),  # more values than gaps
        made([(4, 0, 0)], b"\1\1"),
        made([(4, 0, 0)], b"\1", gaps=b"\0" * 9),
        made([(0, 0, 0)] * 65 + [(4, 0, 0)], b"\0" * 4),  # more steps than the file may have
        made([(0, 0, 0)] * 10**5, b"\0" * 4),
        made(struct.pack(">iii", 4, 0, 0) + b"\0", b"\0" * 4),
        made([(4, 0, 0)], b"\0" * 4, tail=b"\0"),
        made([(4, 0, 0)], b"\0" * 4, lengths=(2**32 - 1, 0, 0)),
        made([(4, 0, 0)], b"\0" * 4, lengths=(0, 2**32 - 1, 2**32 - 1)),
        made([(4, 0, 0)], b"\0" * 4, lengths=(0, 0, 0)),
        b"",
        b"efp1",
        b"efp1" + bytes(11),
        b"efp1" + bytes(12),
        b"efp2" + PATCH[4:],
        struct.pack(">4sIII", b"efp1", len(UNSIZED), 0, 0) + UNSIZED + frame_of(b"\0" * 4),
        b"BSDIFF40" + bytes(24),
    ],
)
def test_apply_hostile_patch_is_refused(blob):
    with pytest.raises(DataError):
        patch.apply(b"abcd", blob, 4)


def test_apply_patch_of_the_documented_layout():
    assert patch.apply(b"abcd", made([(4, 0, 0)], b"\0\0\1\0"), 4) == b"abdd"
    assert patch.apply(b"abcd", made([(4, 0, 0)], b"\1", gaps=b"\2"), 4) == b"abdd"
    assert patch.apply(b"abcd", made([(4, 0, 0)]), 4) == b"abcd"
    assert patch.apply(b"abcd", made([(1, 2, 1), (2, 0, 0)], b"\1\0\0", b"xy"), 5) == b"bxycd"
    far = made([(600, 0, 0)], b"\1\2", gaps=b"\xff\x2d\xff\x00")
    assert patch.apply(bytes(600), far, 600) == bytes(300) + b"\1" + bytes(255) + b"\2" + bytes(43)


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
            lambda b=bomb: patch.apply(OLD, struct.pack(">4sIII", b"efp1", len(b), 0, 0) + b, len(NEW)),
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
def test_apply_mutated_streams_raise_data_error_only(data):
    """The frames are intact, their content is hostile."""
    old = b"abcdefgh" * 80
    new = b"abcdXfgh" * 70 + b"tail" * 5
    streams = [bytearray(s) for s in streams_of(patch.build(old, new))]
    for _ in range(data.draw(st.integers(1, 4))):
        stream = data.draw(st.sampled_from([s for s in streams if s]))
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    control, gaps, values, inserted = map(bytes, streams)
    try:
        out = patch.apply(old, made(control, values, inserted, gaps), len(new))
    except DataError:
        return
    assert len(out) == len(new)


def streams_of(blob: bytes) -> list[bytes]:
    """Return steps, gaps, values and insertions of a patch."""
    lengths, at, streams = struct.unpack_from(">III", blob, 4), 16, []
    for length in (*lengths, len(blob)):
        frame = blob[at : at + length]
        streams.append(zstandard.ZstdDecompressor().decompress(frame) if frame else b"")
        at += length
    return streams


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


@pytest.mark.parametrize(
    ("share", "limit"),
    [(0.0, 0.0), (0.001, 0.0025), (0.01, 0.0135), (0.1, 0.076), (0.5, 0.193), (1.0, 0.14)],
)
def test_patch_of_weights_is_near_the_entropy(share, limit):
    """The entropies are 0, 0.15, 1.13, 7.1, 18.7 and 12.5 %."""
    old = weights(3, 60_000)
    new = moved(old, 4, share)
    made = patch.build(old, new)
    assert patch.apply(old, made, len(new)) == new
    assert len(made) < len(old) * limit + 80  # header, frames, steps


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_patch_is_never_larger_than_bsdiff_in_zstd(old, new):
    assert len(patch.build(old, new)) <= size_of_bsdiff_in_zstd(old, new)


@pytest.mark.parametrize("kind", ["moved", "some moved", "shifted", "rewritten", "insertions"])
def test_patch_of_any_change_is_never_larger_than_bsdiff_in_zstd(kind):
    old = weights(8, 20_000)
    new = {
        "moved": moved(old, 1, 0.5),
        "some moved": old[:9000] + moved(old[9000:], 1, 0.02),
        "shifted": old[5000:] + b"tensor" + moved(old[:5000], 2, 0.1),
        "rewritten": weights(9, 20_000),
        "insertions": b"".join(old[i : i + 500] + bytes([i % 251]) * 3 for i in range(0, 20_000, 500)),
    }[kind]
    assert patch.apply(old, patch.build(old, new), len(new)) == new
    assert len(patch.build(old, new)) <= size_of_bsdiff_in_zstd(old, new)


def size_of_bsdiff_in_zstd(old: bytes, new: bytes) -> int:
    """Return the size of bsdiff4's container with its three streams in zstd, in one frame or in three."""
    raw = bsdiff4.diff(old, new)
    at, streams = 32, []
    for n in (*struct.unpack_from("<qq", raw, 8), len(raw)):
        streams.append(bz2.decompress(raw[at : at + n]))
        at += n
    compress = zstandard.ZstdCompressor(level=patch.LEVEL).compress
    return 32 + min(len(compress(b"".join(streams))), sum(len(compress(s)) for s in streams))


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
