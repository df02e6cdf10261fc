# SPDX-License-Identifier: Apache-2.0
"""Patches between model files, and whole files, both as one zstd frame.

In: old and new bytes; or old bytes, a patch and the size that the signed Release states.  Out: the patch;
or the new bytes.  A patch is `efp1` and a frame of: old size, new size, number of steps, size of the
differences (u32 each, big-endian), steps (i32 x 3: bytes to add, bytes to insert, bytes to skip in the old
file), differences, insertions: bsdiff's algorithm without its bz2.  `apply` needs neither bsdiff4 nor
numpy. Refuses a frame whose declared size is not within the bound before anything is decompressed, and any
step outside the old file or the declared sizes.  Invariant: memory is O(old + size), whatever the patch
says. Source: C. Percival, "Naive differences of executable code", 2003; updates-and-trust section 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import zstandard

from edgefl.errors import DataError
from edgefl.ota import swar

MAGIC = b"efp1"
MAX_FILE = (1 << 31) - 1
LEVEL = 22  # on 1 % of 1 M weights moved 11 % smaller than 19; one-shot decoding needs no window
_HEADER = struct.Struct(">IIII")
_STEP = struct.Struct(">iii")

Step = tuple[int, int, int]  # bytes to add to the old ones, bytes to insert, bytes to skip in the old file


def _max_steps(size: int) -> int:
    """Return how many steps a patch to `size` bytes may have; beyond it the whole file is smaller anyway."""
    return size // 8 + 64


# Building, on the hub


def build(old: bytes, new: bytes) -> bytes:
    """Return the smaller one of a bsdiff patch and, for files of one size, the plain difference.

    The plain difference wins when weights everywhere move by a step: bsdiff loses its alignment there.

    Raises
    ------
    DataError
        A file of 2 GiB or more.
    """
    if max(len(old), len(new)) > MAX_FILE:
        raise DataError(f"a model file may have at most {MAX_FILE} bytes")
    candidates = [_pack(old, new, *_bsdiff(old, new))]
    if len(old) == len(new):
        candidates.append(_pack(old, new, [(len(new), 0, 0)], swar.subtract(new, old), b""))
    return min(candidates, key=len)


def _pack(old: bytes, new: bytes, steps: list[Step], added: bytes, inserted: bytes) -> bytes:
    if len(steps) > _max_steps(len(new)):
        steps, added, inserted = [(0, len(new), 0)], b"", new
    head = _HEADER.pack(len(old), len(new), len(steps), len(added))
    body = head + b"".join(_STEP.pack(*s) for s in steps) + added + inserted
    return MAGIC + zstandard.ZstdCompressor(level=LEVEL).compress(body)


def _bsdiff(old: bytes, new: bytes) -> tuple[list[Step], bytes, bytes]:
    """Return (steps, differences, insertions) out of bsdiff4's documented BSDIFF40 container."""
    import bz2

    import bsdiff4

    raw = bsdiff4.diff(old, new)
    n_steps, n_added = _int64(raw, 8), _int64(raw, 16)
    control = bz2.decompress(raw[32 : 32 + n_steps])
    added = bz2.decompress(raw[32 + n_steps : 32 + n_steps + n_added])
    inserted = bz2.decompress(raw[32 + n_steps + n_added :])
    steps = [
        (_int64(control, i), _int64(control, i + 8), _int64(control, i + 16))
        for i in range(0, len(control), 24)
    ]
    return steps, added, inserted


def _int64(data: bytes, at: int) -> int:
    """Return bsdiff's integer: magnitude in 63 bits, little-endian, sign in the top bit."""
    n = int.from_bytes(data[at : at + 8], "little")
    return -(n & ~(1 << 63)) if n >> 63 else n


# Applying, on the device


def apply(old: bytes, patch: bytes, size: int) -> bytes:
    """Return the new file.

    Parameters
    ----------
    old : bytes
        The file that the patch starts from; the caller has checked its hash.
    patch : bytes
        The patch blob; the caller has checked its hash.
    size : int
        Exact size of the new file, from the signed Release.

    Raises
    ------
    DataError
        Truncated, for another base, or with sizes or steps that do not fit.
    """
    if patch[: len(MAGIC)] != MAGIC:
        raise DataError("not an edgefl patch (it starts with efp1)")
    bound = _HEADER.size + _max_steps(size) * _STEP.size + size
    body = memoryview(_decompress(patch[len(MAGIC) :], bound))
    if len(body) < _HEADER.size:
        raise DataError("the patch is cut short")
    old_size, new_size, n_steps, n_added = _HEADER.unpack_from(body)
    if old_size != len(old):
        raise DataError(f"the patch starts from a file of {old_size} bytes, this one has {len(old)}")
    data_at = _HEADER.size + n_steps * _STEP.size
    if new_size != size or n_added > size or n_steps > _max_steps(size) or len(body) != data_at + size:
        raise DataError(f"the patch's sizes do not fit a file of {size} bytes")
    steps = _STEP.iter_unpack(body[_HEADER.size : data_at])
    added, inserted = body[data_at : data_at + n_added], body[data_at + n_added :]
    out = bytearray()
    for piece in _pieces(memoryview(old), steps, added, inserted):
        out += piece
    if len(out) != size:
        raise DataError(f"the patch makes {len(out)} bytes, the release says {size}")
    return bytes(out)


def _pieces(
    old: memoryview, steps: Iterable[tuple[int, ...]], added: memoryview, inserted: memoryview
) -> Iterator[bytes | memoryview]:
    """Yield the new file; every index is checked, so pieces hold no more than the body carries."""
    at = used_added = used_inserted = 0
    for add, insert, skip in steps:
        if add < 0 or insert < 0 or used_added + add > len(added) or used_inserted + insert > len(inserted):
            raise DataError("a step of the patch takes more bytes than it carries")
        if add and not 0 <= at <= len(old) - add:
            raise DataError("a step of the patch lies outside the old file")
        yield swar.add(old[at : at + add], added[used_added : used_added + add]) if add else b""
        yield inserted[used_inserted : used_inserted + insert]
        used_added, used_inserted, at = used_added + add, used_inserted + insert, at + add + skip


# Whole files


def full(new: bytes) -> bytes:
    """Return the file as one zstd frame."""
    if len(new) > MAX_FILE:
        raise DataError(f"a model file may have at most {MAX_FILE} bytes")
    return zstandard.ZstdCompressor(level=LEVEL).compress(new)


def unfull(data: bytes, size: int) -> bytes:
    """Return the file of exactly `size` bytes; raises DataError."""
    out = _decompress(data, size)
    if len(out) != size:
        raise DataError(f"the file has {len(out)} bytes, the release says {size}")
    return out


def _decompress(frame: bytes, bound: int) -> bytes:
    """Return the content of one frame that declares its size, at most `bound` bytes."""
    try:
        declared = zstandard.get_frame_parameters(frame).content_size
        # Without a declared size this is 2^64-1 (unknown), so it is refused too.
        if declared > bound:
            raise DataError("the frame declares more bytes than the release allows, or none")
        # One shot into a buffer of the declared size: no window, no growth.
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False) if declared else b""
    except zstandard.ZstdError as e:
        raise DataError(f"the zstd frame is damaged: {e}") from None
    if len(content) != declared:
        raise DataError("the zstd frame is cut short")
    return content
