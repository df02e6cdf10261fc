# SPDX-License-Identifier: Apache-2.0
"""The kernel's CSPRNG behind the Entropy port."""

from __future__ import annotations

import os


class SystemEntropy:
    """Blocks until the kernel's pool is seeded, never afterwards (getrandom)."""

    def token(self, n: int) -> bytes:
        """Return n fresh random bytes."""
        return os.urandom(n)


def jitter(entropy: SystemEntropy, seconds: float) -> float:
    """Return a uniform share of `seconds` in [0.5, 1), so that devices come back spread out."""
    return seconds * (0.5 + int.from_bytes(entropy.token(4), "big") / 2**33)
