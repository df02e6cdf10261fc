# SPDX-License-Identifier: Apache-2.0
"""The bytes of an .npz file -> its arrays, within limits.

In: a whole .npz file, which may be hostile. Out: arrays by name. Refuses pickled objects, more than MAX_BYTES
when unpacked, members whose header and size disagree, damaged archives. Invariant: nothing is allocated
before header and declared size agree and are within the limit.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from mmap import mmap
from types import ModuleType
from typing import IO, Any

import numpy as np

from edgefl.errors import DataError

MAX_BYTES = 1 << 30
_MAX_HEADER = 1 << 16
_PIECE = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    OSError,
    struct.error,
)


def read_npz(
    data: bytes | mmap,
    names: Iterable[str],
    optional: Iterable[str] = (),
    *,
    views: Collection[str] = (),
    release: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file.

    Parameters
    ----------
    data : bytes or mmap
        The file.
    names : iterable of str
        Arrays that must be there.
    optional : iterable of str
        Arrays that are read if they are there; others are not looked at.
    views : collection of str
        Arrays that stay where `data` has them if they are not compressed, perhaps unaligned. Of the others
        only those of single bytes do.
    release : callable
        Called after every megabyte that was looked at; a mapping can give its pages back then.

    Returns
    -------
    dict of ndarray
        The arrays, read-only.

    Raises
    ------
    DataError
        The file is not a sound .npz, an array is missing, holds objects or is too large.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else _File(data))
        members = {info.filename: info for info in archive.infolist()}
    except _BROKEN as error:
        raise DataError(
            "the data file is not an .npz archive", hint="write it with numpy.savez(file, x=..., y=...)"
        ) from error
    arrays: dict[str, np.ndarray] = {}
    left = MAX_BYTES
    present = [name for name in optional if f"{name}.npy" in members]
    for name in (*names, *present):
        info = members.get(f"{name}.npy")
        if info is None:
            raise DataError(
                f"the data file has no array '{name}'", hint="write it with numpy.savez(file, x=..., y=...)"
            )
        if info.file_size > left:
            raise DataError(f"the data file unpacks to more than {MAX_BYTES} bytes", hint="split it")
        left -= info.file_size
        try:
            arrays[name] = _read_member(archive, data, info, name, name in views, release)
        except _BROKEN as error:
            raise DataError(f"array '{name}' of the data file is damaged; write the file again") from error
    return arrays


class _File(io.RawIOBase):
    """A mapping as a file: ZipFile must not close it, and asks whether it can seek."""

    def __init__(self, data: mmap) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self._at, len(self._data))[whence]
        if start + offset < 0:
            raise OSError("seek before the start")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        part: bytes = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _read_member(
    archive: zipfile.ZipFile,
    data: bytes | mmap,
    info: zipfile.ZipInfo,
    name: str,
    view: bool,
    release: Callable[[], None],
) -> np.ndarray:
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        if dtype.hasobject:
            raise DataError(
                f"array '{name}' of the data file holds Python objects", hint="store plain numbers"
            )
        size = 1
        for n in shape:
            size *= n
        start = member.tell()  # where the header ended
        if min(shape, default=0) < 0 or size * dtype.itemsize != info.file_size - start:
            raise ValueError("header and size disagree")
        array: np.ndarray
        if info.compress_type == zipfile.ZIP_STORED and (view or dtype.itemsize == 1):
            at = _stored_at(data, info, release)
            array = np.frombuffer(data, dtype, size, at + start)
        else:
            raw = np.empty(size * dtype.itemsize, np.uint8)
            _fill(raw.data, member, release)
            raw.flags.writeable = False
            array = raw.view(dtype) if size else np.zeros(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _fill(target: memoryview, member: IO[bytes], release: Callable[[], None]) -> None:
    """Unpack all of a member; its end checks the sum."""
    at = 0
    while part := member.read(min(_PIECE, len(target) - at + 1)):
        if at + len(part) > len(target):
            raise ValueError("longer than it says")
        target[at : at + len(part)] = part
        at += len(part)
        release()
    if at < len(target):
        raise EOFError("shorter than it says")


def _stored_at(data: bytes | mmap, info: zipfile.ZipInfo, release: Callable[[], None]) -> int:
    """Offset of a member that is not compressed, its sum checked."""
    names: int
    extra: int
    names, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    at = info.header_offset + 30 + names + extra
    if info.flag_bits & 1 or info.compress_size != info.file_size or at + info.file_size > len(data):
        raise ValueError("a stored member has another size")
    crc = 0
    for begin in range(at, at + info.file_size, _PIECE):
        crc = zlib.crc32(data[begin : min(begin + _PIECE, at + info.file_size)], crc)
        release()
    if crc != info.CRC:
        raise zipfile.BadZipFile("wrong sum")
    return at


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column order and dtype of an .npy member."""
    form: ModuleType = np.lib.format
    version = form.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version}")
    read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, fortran, dtype = read(member, max_header_size=_MAX_HEADER)
    return tuple(int(n) for n in shape), bool(fortran), np.dtype(dtype)
