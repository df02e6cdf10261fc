# SPDX-License-Identifier: Apache-2.0
"""A child's end of the pipe: the job on stdin, messages (CBOR, each with a u32 length) on stdout.

In: CBOR.  Out: CBOR. A failure becomes one line and an errno; an unexpected exception gives its type only,
since its text might hold a value of the data.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from edgefl.errors import DataError, EdgeflError, StorageError
from edgefl.wire import cbor

MAX_MESSAGE = 1 << 20


def read_job() -> dict[str, Any]:
    """Return the job; the child calls this first."""
    job = cbor.loads(sys.stdin.buffer.read())
    if not isinstance(job, dict):
        raise DataError("a job is a map")
    return job


def say(message: dict[str, object]) -> None:
    """Send one message to the supervisor."""
    data = cbor.dumps(message)
    view = memoryview(len(data).to_bytes(4, "big") + data)
    while view:
        view = view[os.write(1, view) :]


def failure(error: BaseException) -> dict[str, object]:
    """Return a message for an error: one line and the errno if there is one; never a value of the data."""
    number = error.errno or 0 if isinstance(error, OSError) else 0
    cause = error.__cause__ or error.__context__
    if isinstance(error, StorageError) and isinstance(cause, OSError):
        number = cause.errno or 0
    if isinstance(error, MemoryError):
        number = 12  # ENOMEM
    text = str(error) if isinstance(error, EdgeflError) else type(error).__name__
    data = isinstance(error, DataError)
    return {"ok": False, "reason": text[:200], "errno": number, "data": data}
