# SPDX-License-Identifier: Apache-2.0
"""Durable files: whole or not at all, each fsynced before the rename that exposes it, its folder after.

In: paths and bytes.  Out: files. A failed fsync drops the file and is never retried: the kernel may have
forgotten the data. Invariant: after a power cut a name shows the old content or the new one.
Source: updates-and-trust design, section 3.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from edgefl.errors import StorageError

PRIVATE = 0o600
PUBLIC = 0o644


class Layout:
    """Names inside the state folder."""

    def __init__(self, root: Path) -> None:
        """`root` need not exist yet."""
        self.root = root
        self.database = root / "edgefl.db"
        self.identity = root / "id.pem"
        self.pending_key = root / "id.pem.new"
        self.slots = root / "slots"
        self.current = root / "current"
        self.spool = root / "spool"
        self.samples = root / "samples"
        self.socket = root / "status.sock"

    def make(self) -> None:
        """Create the folders; models are for everybody to read, spool and samples for the owner alone."""
        try:
            for folder, mode in (
                (self.root, 0o755),
                (self.slots, 0o755),
                (self.spool, 0o700),
                (self.samples, 0o700),
            ):
                if not folder.is_dir():
                    folder.mkdir(mode=mode, parents=folder == self.root)
                    sync_folder(folder.parent)
        except OSError as error:
            raise storage_error(error, self.root) from None

    def slot(self, file: bytes) -> Path:
        """Where the model file with this SHA-256 lives."""
        return self.slots / file.hex()

    def part(self, file: bytes) -> Path:
        """Where it is written before it is whole."""
        return self.slots / f".part-{file.hex()}"

    def blob(self, sha256: bytes) -> Path:
        """Where a download is collected."""
        return self.spool / f"blob-{sha256.hex()}"

    def masked(self, round_id: bytes, attempt: int) -> Path:
        """Where the worker puts a masked vector."""
        return self.spool / f"round-{round_id.hex()}-{attempt}"


def hash_of(path: Path) -> bytes | None:
    """Return the SHA-256 of a file, None if there is none; memory does not grow with the file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(1 << 16):
                digest.update(piece)
    except FileNotFoundError:
        return None
    return digest.digest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_durable(path: Path) -> None:
    """Sync a file that another process wrote, and its name.

    Raises
    ------
    StorageError
        The disk failed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from None


def write_durable(path: Path, data: bytes, mode: int = PUBLIC, part: Path | None = None) -> None:
    """Replace a file: write beside it, fsync, rename, fsync the folder.

    Raises
    ------
    StorageError
        The disk is full or failed; the old file is untouched and no part is left.
    """
    part = part or path.with_name(f".part-{path.name}")
    try:
        with _created(part, mode) as handle:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, path) from None
    except BaseException:  # a signal: no part is left either
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _created(path: Path, mode: int) -> Iterator[int]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(handle, mode)  # whatever the umask, and whoever created a leftover
        yield handle
    finally:
        os.close(handle)


def relink(link: Path, target: Path) -> None:
    """Let a symbolic link name another file of its folder's tree; durable when this returns."""
    part = link.with_name(f".part-{link.name}")
    try:
        part.unlink(missing_ok=True)
        os.symlink(os.path.relpath(target, link.parent), part)
        os.replace(part, link)
        sync_folder(link.parent)
    except OSError as error:
        raise storage_error(error, link) from None


def linked(link: Path) -> str:
    """Return the file name that a link leads to, empty without a link."""
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return ""


def erase(path: Path) -> None:
    """Delete a secret: overwritten first, as far as the file system does that in place."""
    try:
        size = path.stat().st_size
        with open(path, "r+b", buffering=0) as file:
            file.write(bytes(size))
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, path) from None


def remove_others(folder: Path, keep: Callable[[str], bool]) -> list[str]:
    """Delete the plain files of a folder that `keep` does not name; returns their names."""
    gone = []
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False) and not keep(entry.name):
            os.unlink(entry.path)
            gone.append(entry.name)
    return gone


def prune_samples(folder: Path, max_bytes: int, max_age_s: float, now: float) -> list[str]:
    """Delete own copies of samples that are too old, then the oldest beyond the size; return the names."""
    entries = []
    for entry in os.scandir(folder):
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            entries.append((info.st_mtime, entry.name, info.st_size))
    entries.sort(reverse=True)  # newest first
    total, gone = 0, []
    for mtime, name, size in entries:
        total += size
        if total > max_bytes or now - mtime > max_age_s:
            os.unlink(folder / name)
            gone.append(name)
    return gone


def storage_error(error: OSError, path: Path) -> StorageError:
    """One line for a failed file operation."""
    hint = "free some space" if error.errno in (28, 122) else ""
    return StorageError(f"cannot write {path}: {error.strerror or error}", hint=hint)
