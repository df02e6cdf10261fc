# SPDX-License-Identifier: Apache-2.0
"""The machine's clocks behind the Clock port."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time may be wrong or jump; monotonic time only measures spans."""

    def now(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
