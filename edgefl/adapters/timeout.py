# SPDX-License-Identifier: Apache-2.0
"""A bound on how long a coroutine may take.

In: seconds, a coroutine.  Out: its result, or TimeoutError with the coroutine cancelled and ended.
Why not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes together with the result
(CPython issue 86296), so a daemon that was told to stop would go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, job: Coroutine[Any, Any, T]) -> T:
    """Return what `job` returns; raise asyncio.TimeoutError after `seconds`."""
    task = asyncio.ensure_future(job)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if task.cancel():
            await asyncio.wait({task})
