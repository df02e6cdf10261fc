# SPDX-License-Identifier: Apache-2.0
"""Strict canonical CBOR: the deterministic encoding of RFC 8949 section 4.2.1, without floats and tags.

In: integers of -2^63..2^64-1, bytes, text, lists, maps (keys: integer, text, bytes), booleans, None. Out:
bytes, and back.  Refuses everything else: longer forms than needed, unsorted or repeated keys, indefinite
lengths, floats, tags, other simple values, bad UTF-8, trailing bytes, more than `max_bytes` or MAX_ITEMS,
deeper than `max_depth`.  Invariant: `loads(b)` succeeds only if `dumps(loads(b)) == b`: a value has one
encoding, so a hash over it is safe.  A declared length allocates nothing: strings are compared with the bytes
at hand, lists and maps grow item by item.
"""

from __future__ import annotations

from edgefl.errors import DataError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_ITEMS = 1 << 16  # an empty list is one byte on the wire and 64 in memory; the largest message has 12 300
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1

_UINT, _NINT, _BYTES, _TEXT, _LIST, _MAP = range(6)
_SIMPLE: dict[int, bool | None] = {0xF4: False, 0xF5: True, 0xF6: None}


def _head(major: int, n: int) -> bytes:
    """Return the shortest head of a major type with argument n, 0 <= n < 2^64."""
    if n < 24:
        return bytes((major << 5 | n,))
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << (8 * size):
            return bytes((major << 5 | info,)) + n.to_bytes(size, "big")
    raise DataError("CBOR: number above 2^64-1")


def dumps(obj: object, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Return the one canonical encoding of obj; tuples are written as lists.

    Raises
    ------
    DataError
        A type, number, text or depth that the codec does not carry.
    """
    out = bytearray()
    _write(obj, out, max_depth)
    return bytes(out)


def _write(obj: object, out: bytearray, depth: int) -> None:
    if depth < 0:
        raise DataError("CBOR: nested too deeply")
    if obj is None:
        out.append(0xF6)
    elif isinstance(obj, bool):
        out.append(0xF5 if obj else 0xF4)
    elif isinstance(obj, int):
        if not INT_MIN <= obj <= INT_MAX:
            raise DataError("CBOR: number outside -2^63..2^64-1")
        out += _head(_UINT, obj) if obj >= 0 else _head(_NINT, -1 - obj)
    elif isinstance(obj, bytes):
        out += _head(_BYTES, len(obj))
        out += obj
    elif isinstance(obj, str):
        try:
            raw = obj.encode()
        except UnicodeEncodeError:
            raise DataError("CBOR: text with a lone surrogate") from None
        out += _head(_TEXT, len(raw))
        out += raw
    elif isinstance(obj, (list, tuple)):
        out += _head(_LIST, len(obj))
        for item in obj:
            _write(item, out, depth - 1)
    elif isinstance(obj, dict):
        out += _head(_MAP, len(obj))
        # Encodings of different keys differ, so values are never compared.
        for key, value in sorted((_key(k), v) for k, v in obj.items()):
            out += key
            _write(value, out, depth - 1)
    else:
        raise DataError(f"CBOR: cannot write a {type(obj).__name__}")


def _key(key: object) -> bytes:
    if isinstance(key, bool) or not isinstance(key, (int, str, bytes)):
        raise DataError(f"CBOR: a map key cannot be a {type(key).__name__}")
    out = bytearray()
    _write(key, out, 0)
    return bytes(out)


def loads(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> object:
    """Return the value of one canonical encoding that fills data exactly.

    Raises
    ------
    DataError
        Anything that `dumps` would not have written, or more than max_bytes, max_depth or MAX_ITEMS.
    """
    if len(data) > max_bytes:
        raise DataError(f"CBOR: {len(data)} bytes, at most {max_bytes} allowed")
    reader = _Reader(data)
    value = reader.value(max_depth)
    if reader.at != len(data):
        raise DataError(f"CBOR: {len(data) - reader.at} bytes after the end")
    return value


class _Reader:
    """Reads items one after another; each costs one of MAX_ITEMS."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.left = data, 0, MAX_ITEMS

    def value(self, depth: int) -> object:
        if depth < 0:
            raise DataError("CBOR: nested too deeply")
        if self.left == 0:
            raise DataError(f"CBOR: more than {MAX_ITEMS} items")
        self.left -= 1
        if self.at < len(self.data) and self.data[self.at] in _SIMPLE:
            self.at += 1
            return _SIMPLE[self.data[self.at - 1]]
        major, n = self._head()
        if major == _UINT:
            return n
        if major == _NINT:
            if n >= 1 << 63:
                raise DataError("CBOR: number below -2^63")
            return -1 - n
        if major > _MAP:
            raise DataError("CBOR: float, tag or unknown simple value")
        if major == _BYTES:
            return self._take(n)
        if major == _TEXT:
            try:
                return self._take(n).decode()
            except UnicodeDecodeError:
                raise DataError("CBOR: text is not UTF-8") from None
        if major == _LIST:
            return [self.value(depth - 1) for _ in range(n)]
        return self._map(n, depth - 1)

    def _head(self) -> tuple[int, int]:
        """Return (major type, argument)."""
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info
        if info > 27:
            raise DataError("CBOR: indefinite or reserved length")
        size = 1 << (info - 24)
        n = int.from_bytes(self._take(size), "big")
        if n < (24 if size == 1 else 1 << (4 * size)):
            raise DataError("CBOR: not the shortest form")
        return major, n

    def _take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise DataError("CBOR: cut short")
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def _map(self, n: int, depth: int) -> dict[int | str | bytes, object]:
        entries: dict[int | str | bytes, object] = {}
        previous = b""
        for _ in range(n):
            start = self.at
            key = self.value(0)
            if isinstance(key, bool) or not isinstance(key, (int, str, bytes)):
                raise DataError("CBOR: a map key must be an integer, text or bytes")
            encoded = bytes(self.data[start : self.at])
            if encoded <= previous:
                raise DataError("CBOR: map keys repeated or out of order")
            previous = encoded
            entries[key] = self.value(depth)
        return entries
