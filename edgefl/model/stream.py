# SPDX-License-Identifier: Apache-2.0
"""The seeded numbers of a round: start residuals, the shuffle of an epoch, keys of stochastic rounding.

In: seed, round, epoch or step.  Out: ChaCha20 key stream (RFC 8439, nonce 0, counter 0) as numbers, the same
on every device.  Refuses nothing (the caller checks ranges).  Source: docs/training.md, "Randomness".
"""

from __future__ import annotations

import hashlib

import numpy as np

from edgefl.native.masks import key_stream


def derive_key(use: str, *numbers: int) -> bytes:
    """SHA-256 of the label `edgefl/1/<use>`, a zero byte, and each number as u64, little-endian."""
    words = b"".join(n.to_bytes(8, "little") for n in numbers)
    return hashlib.sha256(f"edgefl/1/{use}".encode("ascii") + b"\0" + words).digest()


def start_residuals(size: int, seed: int, round_: int) -> np.ndarray:
    """Residual of every coordinate of the trainable vector, int8 [size]; those of biases are not used."""
    return np.frombuffer(key_stream(size, derive_key("residual", seed, round_)), np.int8)


def shuffled(n: int, seed: int, round_: int, epoch: int) -> np.ndarray:
    """Order of n samples in one epoch, int64 [n]: Fisher-Yates from the last position down."""
    stream = key_stream(4 * (n - 1), derive_key("shuffle", seed, round_, epoch)) if n > 1 else b""
    order = list(range(n))
    for i, word in zip(range(n - 1, 0, -1), np.frombuffer(stream, "<u4").tolist(), strict=True):
        j = (word * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def rounding_keys(seed: int, round_: int, step: int, param: int) -> bytes:
    """Two ChaCha20 keys of one step: tensor 2*param (its weights) and 2*param + 1 (its bias)."""
    return b"".join(derive_key("round", seed, round_, step, 2 * param + i) for i in (0, 1))
