# SPDX-License-Identifier: Apache-2.0
"""Training samples in the worker: a folder of .npz files, or a plugin and own bounded copies of its samples.

In: names of a folder or an entry point of group `edgefl.sources`.  Out: x [n, ...], y [n, ...] or None.
Refuses files that are not sound .npz or do not go together, and plugins that are not installed.
Invariant: a user's folder is only read; edgefl deletes nothing but its own copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgefl.data.npz import read_npz
from edgefl.errors import DataError, MissingInput
from edgefl.ports import SampleSource

GROUP = "edgefl.sources"

Pair = tuple[np.ndarray, np.ndarray | None]


class NpzFolder:
    """All .npz files of a folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self.folder = folder

    def batches(self) -> Iterable[Pair]:
        """Yield (x, y) of each file."""
        if not self.folder.is_dir():
            raise MissingInput(f"the data folder {self.folder} does not exist", hint="see [data] folder")
        for path in sorted(self.folder.glob("*.npz")):
            try:
                arrays = read_npz(path.read_bytes(), ("x",), optional=("y",))
            except DataError as error:
                raise DataError(f"{path.name}: {error}") from None
            yield arrays["x"], arrays.get("y")


def load_samples(folder: Path | None, source: str, own: Path | None, limit: int) -> Pair:
    """Return the samples to train on, the newest `limit` of them.

    Parameters
    ----------
    folder
        A user's folder of .npz files.
    source
        Name of a plugin, used if there is no folder.
    own
        Where copies of the plugin's samples are kept; None keeps none.

    Raises
    ------
    MissingInput
        No such folder or plugin, or no samples.
    DataError
    """
    if folder is not None:
        return _join(NpzFolder(folder).batches(), limit)
    if not source:
        raise MissingInput("no samples are configured", hint="set [data] folder or source")
    fresh = list(find_plugin(source).batches())
    if own is None:
        return _join(fresh, limit)
    if fresh:
        keep_copy(own, _join(fresh, limit))
    return _join(NpzFolder(own).batches(), limit)


def find_plugin(name: str) -> SampleSource:
    """Return an instance of the plugin with this name."""
    from importlib.metadata import entry_points

    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise MissingInput(f"there is no sample source {name!r}", hint=f"install a package with {GROUP}")
    plugin: SampleSource = found[0].load()()
    return plugin


def keep_copy(own: Path, pair: Pair) -> None:
    """Store samples under a name that sorts by time."""
    import io
    import time

    from edgefl.adapters.files import PRIVATE, write_durable

    buffer = io.BytesIO()
    x, y = pair
    np.savez(buffer, x=x) if y is None else np.savez(buffer, x=x, y=y)
    write_durable(own / f"{time.time_ns():020d}.npz", buffer.getvalue(), PRIVATE)


def _join(pairs: Iterable[Pair], limit: int) -> Pair:
    parts = list(pairs)
    if not parts:
        raise MissingInput("there are no samples yet")
    xs, ys = [x for x, _ in parts], [y for _, y in parts if y is not None]
    kinds = [{(a.dtype, a.shape[1:]) for a in arrays if a.ndim} for arrays in (xs, ys)]
    whole = len(kinds[0]) == 1 and len(kinds[1]) == bool(ys) and len(ys) in (0, len(xs))
    if not whole or any(y is not None and len(x) != len(y) for x, y in parts):
        raise DataError("the files of the data folder do not go together", hint="one dtype and shape for all")
    x = xs[0] if len(xs) == 1 else np.concatenate(xs)
    if not ys:
        return x[-limit:], None
    y = ys[0] if len(ys) == 1 else np.concatenate(ys)
    return x[-limit:], y[-limit:]
