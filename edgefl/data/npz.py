# SPDX-License-Identifier: Apache-2.0
"""The bytes of an .npz file -> its arrays, within limits.

In: a whole .npz file, which may be hostile. Out: arrays by name. Refuses pickled objects, more than MAX_BYTES
when unpacked, members whose header and size disagree, damaged archives. Invariant: nothing is allocated
before header and declared size agree and are within the limit.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable
from types import ModuleType
from typing import IO

import numpy as np

from edgefl.errors import DataError

MAX_BYTES = 1 << 30
_MAX_HEADER = 1 << 16
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    OSError,
)


def read_npz(data: bytes, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file.

    Parameters
    ----------
    data : bytes
        The file.
    names : iterable of str
        Arrays that must be there.
    optional : iterable of str
        Arrays that are read if they are there; others are not looked at.

    Returns
    -------
    dict of ndarray
        The arrays.

    Raises
    ------
    DataError
        The file is not a sound .npz, an array is missing, holds objects or is too large.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
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
            arrays[name] = _read_member(archive, info, name)
        except _BROKEN as error:
            raise DataError(f"array '{name}' of the data file is damaged; write the file again") from error
    return arrays


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        if dtype.hasobject:
            raise DataError(
                f"array '{name}' of the data file holds Python objects", hint="store plain numbers"
            )
        size = 1
        for n in shape:
            size *= n
        # member.tell() is where the header ended.
        if min(shape, default=0) < 0 or size * dtype.itemsize != info.file_size - member.tell():
            raise ValueError("header and size disagree")
        raw = member.read()
    array: np.ndarray = np.frombuffer(raw, dtype, size).reshape(shape, order="F" if fortran else "C")
    return array


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column order and dtype of an .npy member."""
    form: ModuleType = np.lib.format
    version = form.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version}")
    read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, fortran, dtype = read(member, max_header_size=_MAX_HEADER)
    return tuple(int(n) for n in shape), bool(fortran), np.dtype(dtype)
