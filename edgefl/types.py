# SPDX-License-Identifier: Apache-2.0
"""The types that data passes through, in order; each is built in exactly one module (docs/architecture.md).

Batch -> RawDelta -> RingVector -> MaskedVector -> MaskedUpdate ==> AggregateSum -> Release. Plain data,
no logic, no numpy at import time (the supervisor must stay small). Private values never show in a repr.
Invariant: `Transport.send_update` accepts a MaskedUpdate only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Batch:
    """Samples ready for the engine; built by edgefl/data/batch.py.

    x: int8 [n, H, W, C] in the model's input quantisation.  y: int64 labels [n]; float32 targets [n, ...], or
    int8 ones as the model's output stores them; None: the input is the target (autoencoder).
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray | None = field(repr=False)


@dataclass(frozen=True)
class RawDelta:
    """Trained minus received weights over the trainable vector; built by edgefl/train/fit.py.

    values: int32 [d], a weight coordinate in 1/256 LSB, a bias coordinate in 2^j bias LSBs
    (docs/training.md, "The trainable vector").
    It is private: it stays in the worker's memory.
    """

    values: np.ndarray = field(repr=False)
    samples: int


@dataclass(frozen=True)
class RingVector:
    """Clipped, scaled, rounded integers mod 2^W with canaries; built by edgefl/privacy/encode.py.

    values: uint16 or uint32 [L], L = d + canaries.  Private, worker only.
    """

    values: np.ndarray = field(repr=False)
    width: int  # W: 16 or 32


@dataclass(frozen=True)
class MaskedVector:
    """RingVector minus the mask, packed to M bits a coordinate; built by edgefl/secagg/mask.py.

    payload: ceil(L*M/8) bytes, uniform without the seed.  All that the worker hands to the supervisor.
    """

    payload: bytes
    length: int  # L
    bits: int  # M


@dataclass(frozen=True)
class MaskedUpdate:
    """The only thing that leaves the device; built by edgefl/secagg/oneshot.py in the supervisor.

    header: CBOR report (device, nonce, box, hashes, signature, credential).
    payload: the MaskedVector's bytes.
    """

    round_id: bytes
    attempt: int
    header: bytes
    payload: bytes

    @property
    def body(self) -> bytes:
        """The upload: header length (u32, big-endian), header, payload. Identical on every retry."""
        return len(self.header).to_bytes(4, "big") + self.header + self.payload


@dataclass(frozen=True)
class AggregateSum:
    """Sum over the accepted set, unmasked, canaries checked; built by server_min/rounds/unmask.py.

    values: int64 [d], the exact signed sum of the devices' integers.  count: |S|.
    """

    values: np.ndarray
    count: int
