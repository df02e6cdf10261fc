# SPDX-License-Identifier: Apache-2.0
"""Masks, M-bit packing and ring sums of the C core (csrc/secagg) on NumPy arrays.

In and out: ring vectors, contiguous and aligned, uint16 [n] (W = 16) or uint32 [n] (W = 32).  Refuses other
dtypes, shapes and read-only outputs before C sees them.  Seeds are copied into one buffer, zeroed before
return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefl.errors import DataError
from edgefl.native._core import ffi, lib
from edgefl.native.status import check

Ring = npt.NDArray[Any]  # uint16 or uint32, one axis

SEED_BYTES = 32
RING_MAX: int = lib.EFL_RING_MAX
_DTYPES: dict[int, np.dtype[Any]] = {16: np.dtype(np.uint16), 32: np.dtype(np.uint32)}


def dtype_of(width: int) -> np.dtype[Any]:
    """Return the dtype of a ring vector of W bits."""
    if width not in _DTYPES:
        raise DataError(f"ring width {width} is not supported; it must be 16 or 32")
    return _DTYPES[width]


def width_of(ring: Ring) -> int:
    """Return W of a ring vector, after checking that C can use it in place."""
    if not isinstance(ring, np.ndarray) or ring.ndim != 1:
        raise DataError("a ring vector must be an array with one axis")
    if not (ring.flags.c_contiguous and ring.flags.aligned):
        raise DataError("a ring vector must be contiguous and aligned")
    if ring.dtype not in _DTYPES.values():
        raise DataError(f"a ring vector must be uint16 or uint32, not {ring.dtype}")
    return ring.dtype.itemsize * 8


def _buffer(array: Ring, *, write: bool = False) -> Any:
    if write and not array.flags.writeable:
        raise DataError("a read-only ring vector cannot be changed")
    return ffi.from_buffer("uint8_t[]", array.view(np.uint8), require_writable=write)


def key_stream(n_bytes: int, key: bytes | bytearray, nonce: bytes = bytes(12), counter: int = 0) -> bytes:
    """Return ChaCha20 key stream (RFC 8439); used by tests and benchmarks."""
    if len(key) != SEED_BYTES or len(nonce) != 12 or not 0 <= counter < 1 << 32:
        raise DataError("ChaCha20 takes a key of 32 bytes, a nonce of 12 and a counter below 2^32")
    out = bytearray(n_bytes)
    status = lib.efl_chacha20_stream(
        ffi.from_buffer("uint8_t[]", out), n_bytes, nonce, counter, ffi.from_buffer("uint8_t[]", key)
    )
    check(status, "key stream")
    return bytes(out)


def expand(ring: Ring, seeds: Sequence[bytes | bytearray], signs: Sequence[int]) -> None:
    """Add (+1) or subtract (-1) the key stream of each seed, in place, mod 2^W.

    Parameters
    ----------
    ring : uint16 or uint32 [n], changed in place.
    seeds : PRG keys of 32 bytes, one stream (nonce 0, counter 0) over the whole vector each.
    signs : +1 or -1 for each seed.
    """
    width = width_of(ring)
    if len(seeds) != len(signs):
        raise DataError(f"{len(seeds)} mask seeds but {len(signs)} signs")
    if any(len(seed) != SEED_BYTES for seed in seeds):
        raise DataError("a mask seed must have 32 bytes")
    if any(sign not in (1, -1) for sign in signs):
        raise DataError("a mask sign must be +1 or -1")
    keys = bytearray(SEED_BYTES * len(seeds))
    try:
        for i, seed in enumerate(seeds):
            keys[SEED_BYTES * i : SEED_BYTES * (i + 1)] = seed
        status = lib.efl_mask_expand(
            _buffer(ring, write=True),
            ffi.new("int8_t[]", list(signs)),
            ring.size,
            len(seeds),
            width,
            ffi.from_buffer("uint8_t[]", keys),
        )
    finally:
        keys[:] = bytes(len(keys))
    check(status, "mask")


def packed_bytes(length: int, bits: int) -> int:
    """Return ceil(length * bits / 8)."""
    return (length * bits + 7) // 8


def pack(ring: Ring, bits: int) -> bytes:
    """Return the low `bits` bits of each coordinate, packed, least significant first."""
    width = width_of(ring)
    if not 1 <= bits <= width:
        raise DataError(f"cannot pack {bits} bits of {width}; choose 1..{width}")
    out = bytearray(packed_bytes(ring.size, bits))
    check(
        lib.efl_ring_pack(ffi.from_buffer("uint8_t[]", out), _buffer(ring), len(out), ring.size, width, bits),
        "pack",
    )
    return bytes(out)


def _check_payload(payload: bytes | bytearray | memoryview, length: int, bits: int) -> None:
    if not 0 <= length <= RING_MAX:
        raise DataError(f"{length} coordinates; at most {RING_MAX} fit a ring vector")
    if not 1 <= bits <= 32:
        raise DataError(f"{bits} bits a coordinate; it must be 1..32")
    if len(payload) != packed_bytes(length, bits):
        raise DataError(f"packed vector has {len(payload)} bytes; {packed_bytes(length, bits)} expected")


def unpack(payload: bytes | bytearray | memoryview, length: int, width: int, bits: int) -> Ring:
    """Return the packed coordinates, 0 .. 2^bits - 1; refuses other lengths and non-zero trailing bits."""
    _check_payload(payload, length, bits)
    ring = np.zeros(length, dtype_of(width))
    source = ffi.from_buffer("uint8_t[]", payload)
    check(
        lib.efl_ring_unpack(_buffer(ring, write=True), source, len(payload), length, width, bits),
        "packed vector",
    )
    return ring


def add_packed(ring: Ring, payload: bytes | bytearray | memoryview, bits: int) -> None:
    """Add packed coordinates in place, mod 2^W; on refusal the ring is untouched.

    A long payload may be fed in pieces `ring[a:b]`, a and b multiples of 8 (b of the last piece is the end).
    """
    width = width_of(ring)
    _check_payload(payload, ring.size, bits)
    source = ffi.from_buffer("uint8_t[]", payload)
    check(
        lib.efl_ring_unpack_add(_buffer(ring, write=True), source, len(payload), ring.size, width, bits),
        "packed vector",
    )


def add(ring: Ring, term: Ring) -> None:
    """Add another ring vector in place, mod 2^W."""
    width = width_of(ring)
    if width_of(term) != width or term.size != ring.size:
        raise DataError("ring vectors of different length or width cannot be added")
    check(lib.efl_ring_add(_buffer(ring, write=True), _buffer(term), ring.size, width), "ring sum")


def unwrap(ring: Ring, bits: int) -> npt.NDArray[np.int64]:
    """Return the low `bits` bits of each coordinate as signed integers."""
    width = width_of(ring)
    if not 1 <= bits <= width:
        raise DataError(f"cannot read {bits} bits of {width}; choose 1..{width}")
    out = np.empty(ring.size, np.int64)
    target = ffi.cast("int64_t *", _buffer(out, write=True))
    check(lib.efl_ring_unwrap_i64(target, _buffer(ring), ring.size, width, bits), "ring sum")
    return out
