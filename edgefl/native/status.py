# SPDX-License-Identifier: Apache-2.0
"""Status codes of the C core as exceptions.

In: an efl_status.  Out: nothing, or DataError with the core's own line, which never holds data or secrets.
"""

from __future__ import annotations

from edgefl.errors import DataError
from edgefl.native._core import ffi, lib


def check(status: int, what: str) -> None:
    """Raise DataError with the core's text if status is not EFL_OK."""
    if status != 0:
        raise DataError(f"{what}: {ffi.string(lib.efl_status_text(status)).decode()}")
