# SPDX-License-Identifier: Apache-2.0
"""32 secret bytes that never show and can be erased.

In: bytes.  Out: a bytearray while open.  Refuses use after wipe(), pickling and copying.
Python may have copied the bytes it was given: zeroing shortens a secret's life, it is no proof of absence.
"""

from __future__ import annotations

from typing import NoReturn

from edgefl.errors import DataError

SECRET_BYTES = 32


class Secret:
    """A seed or key; use as a context manager or call wipe()."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes | bytearray) -> None:
        """Copy 32 bytes; the caller zeroes its own buffer."""
        if len(data) != SECRET_BYTES:
            raise DataError(f"a secret must have {SECRET_BYTES} bytes")
        self._data: bytearray | None = bytearray(data)

    @property
    def data(self) -> bytearray:
        """The bytes themselves, not a copy."""
        if self._data is None:
            raise DataError("a secret was used after it was erased")
        return self._data

    def wipe(self) -> None:
        """Zero the bytes; the secret cannot be used any more."""
        if self._data is not None:
            self._data[:] = bytes(SECRET_BYTES)
            self._data = None

    def __enter__(self) -> Secret:
        """Return the secret itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Erase it."""
        self.wipe()

    def __repr__(self) -> str:
        """Show that there is a secret, and nothing of it."""
        return "Secret(erased)" if self._data is None else "Secret(...)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("a Secret cannot be pickled")
