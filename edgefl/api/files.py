# SPDX-License-Identifier: Apache-2.0
"""Reading and replacing whole files for the public API and the command line.

In: a path. Out: its bytes, or a file replaced whole or not at all. Refuses files beyond a limit. Invariant:
after a crash or a full disk the old file or the new one is there, never a part.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from edgefl.adapters.files import write_durable
from edgefl.errors import DataError, MissingInput, Refused, StorageError, UsageError


def read_file(path: str | os.PathLike[str], what: str, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes; `what` names it in errors."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise MissingInput(f"there is no {what} at {os.fspath(path)}") from None
    except IsADirectoryError:
        raise UsageError(f"{os.fspath(path)} is a folder, a {what} is needed") from None
    except PermissionError:
        raise Refused(f"the {what} {os.fspath(path)} may not be read", hint="check its permissions") from None
    except OSError as error:
        raise StorageError(
            f"the {what} {os.fspath(path)} cannot be read: {error.strerror or error}"
        ) from None
    if len(data) > limit:
        raise DataError(f"the {what} {os.fspath(path)} has more than {limit} bytes")
    return data


def map_file(path: str | os.PathLike[str], what: str, limit: int) -> bytes | mmap.mmap:
    """Map a file of at most `limit` bytes; read what cannot be mapped, such as a pipe.

    Whoever writes the file must replace it, not shorten it: reading behind its end would kill the process.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if 0 < size <= limit:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        pass
    return read_file(path, what, limit)


def pages_giver(data: bytes | mmap.mmap) -> Callable[[], None]:
    """Give a function that takes a mapping's pages out of this process; they stay in the system's cache."""
    if isinstance(data, bytes) or not hasattr(mmap, "MADV_DONTNEED"):
        return lambda: None
    return lambda: data.madvise(mmap.MADV_DONTNEED)


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse a path that could not be written, before hours of work."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise UsageError(f"{os.fspath(path)} is a folder, a file is needed")
    if not folder.is_dir():
        raise MissingInput(f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise Refused(f"the folder {folder} may not be written", hint="check its permissions")


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file, whole or not at all; it keeps the mode of the one it replaces."""
    target = Path(path)
    write_durable(target, data, _mode(target))


def _mode(target: Path) -> int:
    """Mode of the file that is replaced, else what the umask leaves of 0666."""
    with contextlib.suppress(OSError):
        return os.stat(target).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
