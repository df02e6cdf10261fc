# SPDX-License-Identifier: Apache-2.0
"""The .npz reader: sound files, damaged ones, and files that would take too much memory."""

from __future__ import annotations

import io
import mmap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.data import npz
from edgefl.data.npz import read_npz
from edgefl.errors import DataError


def packed(compress: bool = False, **arrays: np.ndarray) -> bytes:
    """An .npz file as numpy writes it."""
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


def member(name: str, content: bytes) -> bytes:
    """An archive with one hand-made member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_read_npz_gives_what_numpy_wrote(compress: bool) -> None:
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 3, 2)))
    y = np.arange(4, dtype=">i4")
    arrays = read_npz(packed(compress, x=x, y=y, other=np.zeros(3)), ("x", "y"))
    assert np.array_equal(arrays["x"], x) and np.array_equal(arrays["y"], y) and set(arrays) == {"x", "y"}


@pytest.mark.parametrize("compress", [False, True])
def test_read_npz_of_a_mapping_gives_the_same_and_releases(tmp_path: Path, compress: bool) -> None:
    x, y = np.arange(900_000).reshape(300, 3000).astype("f4"), np.arange(300)
    path = tmp_path / "d.npz"
    path.write_bytes(packed(compress, x=x, y=y, b=(x % 100).astype(np.int8)))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        calls: list[int] = []
        found = read_npz(data, ("x", "y", "b"), views=("x",), release=lambda: calls.append(1))
        assert all(np.array_equal(found[k], v) for k, v in (("x", x), ("y", y), ("b", (x % 100))))
        assert len(calls) >= 5 and not any(a.flags.writeable for a in found.values())
        assert found["y"].flags.aligned
        with pytest.raises(DataError):
            read_npz(data, ("z",))
        found.clear()


def test_read_npz_stored_array_with_a_wrong_byte_is_refused() -> None:
    data = bytearray(packed(False, x=np.arange(1000, dtype=np.int8)))
    at = bytes(data).index(bytes(range(90, 100)))
    data[at] ^= 1
    with pytest.raises(DataError, match="damaged"):
        read_npz(bytes(data), ("x",))


def test_read_npz_missing_array_is_named() -> None:
    with pytest.raises(DataError, match="no array 'y'"):
        read_npz(packed(x=np.zeros(3)), ("x", "y"))


def test_read_npz_objects_are_refused() -> None:
    with pytest.raises(DataError, match="Python objects"):
        read_npz(packed(x=np.array([{}, 1], object)), ("x",))


def test_read_npz_too_large_is_refused_before_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than"):
        read_npz(packed(True, x=np.zeros(1000)), ("x",))
    with pytest.raises(DataError, match="more than"):
        read_npz(packed(x=np.zeros(60), y=np.zeros(60)), ("x", "y"))


def test_read_npz_header_that_promises_more_is_refused() -> None:
    """A bomb: the header says 8 TB, the member holds a few bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(DataError, match="damaged"):
        read_npz(member("x.npy", file.getvalue() + bytes(64)), ("x",))


def test_read_npz_other_content_is_refused() -> None:
    for data in (b"", b"PK", bytes(200), b"\x93NUMPY\x01\x00" + bytes(100), packed(x=np.zeros(9))[:-40]):
        with pytest.raises(DataError):
            read_npz(data, ("x",))
    for content in (b"", b"hello", b"\x93NUMPY\x09\x00" + bytes(80), b"\x93NUMPY\x01\x00\x02\x00()"):
        with pytest.raises(DataError, match="damaged"):
            read_npz(member("x.npy", content), ("x",))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=5), st.booleans())
def test_read_npz_damaged_bytes_read_or_refuse(edits: list[tuple[int, int]], compress: bool) -> None:
    data = bytearray(packed(compress, x=np.arange(60.0), y=np.arange(9)))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        read_npz(bytes(data), ("x", "y"))
    except DataError as error:
        assert "\n" not in str(error)
