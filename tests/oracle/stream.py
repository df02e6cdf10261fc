# SPDX-License-Identifier: Apache-2.0
"""The seeded numbers of a round: ChaCha20 (RFC 8439) key stream, start residuals, shuffle."""

from __future__ import annotations

import hashlib
import struct

import numpy as np

_QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
             (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))  # fmt: skip


def keystream(key: bytes, n_bytes: int) -> np.ndarray:
    """First `n_bytes` of ChaCha20 with nonce 0 and counter 0, uint8."""
    n_blocks = -(-n_bytes // 64)
    start = np.zeros((16, n_blocks), np.uint32)
    start[:4] = np.array(struct.unpack("<4I", b"expand 32-byte k"), np.uint32)[:, None]
    start[4:12] = np.array(struct.unpack("<8I", key), np.uint32)[:, None]
    start[12] = np.arange(n_blocks, dtype=np.uint32)
    x = start.copy()
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            for p, q, r, s in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] += x[q]
                x[r] ^= x[p]
                x[r] = (x[r] << np.uint32(s)) | (x[r] >> np.uint32(32 - s))
    return np.ascontiguousarray((x + start).T).astype("<u4").view(np.uint8).reshape(-1)[:n_bytes]


def derive_key(label: str, *numbers: int) -> bytes:
    """SHA-256 of the label, a zero byte, and each number as u64 little-endian."""
    return hashlib.sha256(
        label.encode("ascii") + b"\0" + b"".join(n.to_bytes(8, "little") for n in numbers)
    ).digest()


def start_residual(n: int, seed: int, round_: int) -> np.ndarray:
    """Residual of every coordinate of the trainable vector, int8 [n]."""
    return keystream(derive_key("edgefl/1/residual", seed, round_), n).view(np.int8)


def shuffle(n: int, seed: int, round_: int, epoch: int) -> np.ndarray:
    """Order of the samples in one epoch, int64 [n]."""
    words = (
        keystream(derive_key("edgefl/1/shuffle", seed, round_, epoch), 4 * n).view("<u4").astype(np.uint64)
    )
    order = np.arange(n)
    for draw, i in enumerate(range(n - 1, 0, -1)):
        j = (int(words[draw]) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return order
