# SPDX-License-Identifier: Apache-2.0
"""Tables of a flatbuffer, read where they lie, each access checked against the end of the data.

In: bytes that may be hostile.  Out: numbers, tables, arrays that are views.  Refuses, with ValueError or
struct.error, every offset that points outside; loops nowhere, so that the caller bounds what it walks.
Source: https://flatbuffers.dev/internals (a table starts with the distance to its vtable; a vtable has its
size, the table's size, then an offset for each field, 0 if absent).
"""

from __future__ import annotations

import struct

import numpy as np


class Table:
    """One table; fields are named by their number in the schema."""

    __slots__ = ("_at", "_data", "_size", "_vtable")

    def __init__(self, data: bytes, at: int) -> None:
        """Find the vtable of the table at a byte offset."""
        self._data, self._at = data, at
        self._vtable = at - int(self._number("i", at))
        self._size = int(self._number("H", self._vtable))

    @classmethod
    def root(cls, data: bytes) -> Table:
        """Give the table that the data begins with."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def _number(self, form: str, at: int) -> int | float:
        if at < 0:
            raise ValueError("an offset points before the file")
        value: int | float = struct.unpack_from("<" + form, self._data, at)[0]
        return value

    def _field(self, slot: int) -> int:
        """Byte offset of a field, 0 if the table does not have it."""
        if 4 + 2 * slot + 2 > self._size:
            return 0
        offset = int(self._number("H", self._vtable + 4 + 2 * slot))
        return self._at + offset if offset else 0

    def _target(self, at: int) -> int:
        return at + int(self._number("I", at))

    def scalar(self, slot: int, form: str, default: float = 0) -> int | float:
        """Read a number; `form` is its letter in the struct module."""
        at = self._field(slot)
        return self._number(form, at) if at else default

    def whole(self, slot: int, form: str = "i") -> int:
        """Read a whole number, 0 if absent."""
        return int(self.scalar(slot, form))

    def table(self, slot: int) -> Table | None:
        """Read a reference to a table."""
        at = self._field(slot)
        return Table(self._data, self._target(at)) if at else None

    def count(self, slot: int) -> int:
        """Read the length of a vector or string as the file claims it, 0 if absent."""
        at = self._field(slot)
        return int(self._number("I", self._target(at))) if at else 0

    def start(self, slot: int) -> int:
        """Byte offset of a vector's first element, 0 if absent."""
        at = self._field(slot)
        return self._target(at) + 4 if at else 0

    def item(self, slot: int, index: int) -> Table:
        """Read one element of a vector of tables."""
        return Table(self._data, self._target(self.start(slot) + 4 * index))

    def numbers(self, slot: int, dtype: str) -> np.ndarray:
        """Give a vector of numbers as a view; empty if absent."""
        count = self.count(slot)
        kind = np.dtype(dtype).newbyteorder("<")
        if not count:
            return np.zeros(0, kind)
        values: np.ndarray = np.frombuffer(self._data, kind, count, self.start(slot))
        return values

    def text(self, slot: int, limit: int) -> str:
        """Read the beginning of a string, printable: it ends up in messages."""
        start, count = self.start(slot), self.count(slot)
        text = self._data[start : start + min(count, limit)].decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in text)
