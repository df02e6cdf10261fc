# SPDX-License-Identifier: Apache-2.0
"""What the pure layers need from the world, as Protocols; adapters provide them.

In: nothing. Out: Protocols. Invariant: only a MaskedUpdate can be sent; clocks and entropy always come
from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from edgefl.types import MaskedUpdate


class Clock(Protocol):
    """Wall and monotonic time in seconds."""

    def now(self) -> float:
        """Unix time by this machine's clock; may be wrong."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Entropy(Protocol):
    """Bytes from the kernel's CSPRNG."""

    def token(self, n: int) -> bytes:
        """Return n fresh random bytes."""


class Transport(Protocol):
    """The device's one connection to its hub."""

    async def send_update(self, update: MaskedUpdate) -> None:
        """Upload a masked update; idempotent.

        Raises
        ------
        Refused, Unavailable, TemporaryFailure
        """


class SampleSource(Protocol):
    """Samples on the device, from a folder or a plugin (entry point group `edgefl.sources`)."""

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield (x [n, ...], y [n, ...]) arrays; x float32 or the model's own input dtype.

        y is what the task's loss takes: classes, values; None where x is its own target.
        """
