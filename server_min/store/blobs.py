# SPDX-License-Identifier: Apache-2.0
"""Content-addressed files, named by the SHA-256 of their bytes in hex.

In: bytes, or a stream of pieces.  Out: paths and bytes.  A file appears under its name only when it is whole
and synced (write, fsync, rename, fsync of the folder).  Refuses a stream above its limit.
Invariant: what `read` returns has the hash that was asked for; `insert_blobs` notes each one's origin (round,
cohort, parents).
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from edgefl.errors import DataError, StorageError
from server_min.store.database import Database
from server_min.store.rows import BlobRow

PIECE = 1 << 16


class FileBlobs:
    """A folder of blobs."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        self.parts = folder / ".part"
        self.parts.mkdir(parents=True, exist_ok=True, mode=0o700)

    def kind(self, sha256: bytes) -> str | None:
        """Return what a blob was recorded as."""
        row = self._database.db.execute("SELECT kind FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else str(row["kind"])

    def clean(self) -> None:
        """Drop what an earlier process left half-written."""
        for part in self.parts.iterdir():
            part.unlink()

    def path(self, sha256: bytes) -> Path:
        """Return where a blob lies, whether it is there or not."""
        return self.folder / sha256.hex()

    def size(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not there."""
        try:
            return self.path(sha256).stat().st_size
        except OSError:
            return None

    def pieces(self, sha256: bytes, first: int, left: int) -> Iterator[bytes]:
        """Yield `left` bytes from `first` in pieces of 64 KiB."""
        with open(self.path(sha256), "rb") as file:
            file.seek(first)
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece

    def put(self, data: bytes) -> bytes:
        """Store bytes and return their hash."""
        sha256 = hashlib.sha256(data).digest()
        if not self.path(sha256).exists():
            with self.stream(len(data)) as part:
                part.write(data)
                part.commit()
        return sha256

    def read(self, sha256: bytes) -> bytes:
        """Return a blob's bytes, hashed again."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read blob {sha256.hex()}: {error.strerror}") from None
        if hashlib.sha256(data).digest() != sha256:
            raise StorageError(f"blob {sha256.hex()} is damaged", hint="restore it from a backup")
        return data

    def delete(self, sha256: bytes) -> None:
        """Forget a blob; a missing one is fine."""
        self.path(sha256).unlink(missing_ok=True)

    def stream(self, limit: int) -> FilePart:
        """Begin a blob that arrives in pieces, at most `limit` bytes in all."""
        return FilePart(self, limit)


class FilePart:
    """A blob being written; gone unless `commit` was called."""

    def __init__(self, blobs: FileBlobs, limit: int) -> None:
        self.blobs = blobs
        self.limit = limit
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.path: Path | None = None
        try:
            fd, name = tempfile.mkstemp(dir=blobs.parts)
        except OSError as error:
            raise StorageError(f"cannot write to {blobs.folder}: {error.strerror}") from None
        self.path, self.file = Path(name), os.fdopen(fd, "wb")

    def write(self, data: bytes) -> None:
        """Append a piece."""
        self.size += len(data)
        if self.size > self.limit:
            raise DataError(f"more than {self.limit} bytes")
        self.sha256.update(data)
        try:
            self.file.write(data)
        except OSError as error:
            raise StorageError(f"cannot write to {self.blobs.folder}: {error.strerror}") from None

    def commit(self) -> bytes:
        """Sync, give the blob its name, sync the folder; returns the hash."""
        assert self.path is not None
        sha256 = self.sha256.digest()
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            os.rename(self.path, self.blobs.path(sha256))
            folder = os.open(self.blobs.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageError(f"cannot write to {self.blobs.folder}: {error.strerror}") from None
        self.path = None
        return sha256

    def __enter__(self) -> FilePart:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the part unless it was committed."""
        if self.path is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)


def insert_blobs(db: sqlite3.Connection, rows: Iterable[BlobRow]) -> None:
    """Note where blobs come from, inside the caller's transaction; the first note of a blob stays."""
    db.executemany(
        "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
        [(r.sha256, r.size, r.kind, r.round, r.cohort, b"".join(r.parents)) for r in rows],
    )
