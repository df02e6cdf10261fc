# SPDX-License-Identifier: Apache-2.0
"""State of a hub: one SQLite file and a folder of content-addressed blobs.

In: a folder.  Out: a `Store` with its parts; rounds, app and CLI know only their methods, so that PostgreSQL
and object storage can stand in later.  Invariant: a blob is durable before a row names it.
"""

from __future__ import annotations

from pathlib import Path

from edgefl.errors import MissingInput
from server_min.store.blobs import BlobRow, Blobs, Part
from server_min.store.database import Database
from server_min.store.devices import Device, Devices, TokenRefused
from server_min.store.helped import Helped, HelpedRow
from server_min.store.rounds import FINAL, ReportRow, RoundRow, Rounds, Transition
from server_min.store.tasks import Due, ReleaseRow, Settings, TaskRow, Tasks

__all__ = [
    "FINAL", "BlobRow", "Blobs", "Device", "Devices", "Due", "Helped", "HelpedRow", "Part", "ReleaseRow",
    "ReportRow", "RoundRow", "Rounds", "Settings", "Store", "TaskRow", "Tasks", "TokenRefused", "Transition",
]  # fmt: skip


class Store:
    """Everything that a hub remembers."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        path = folder / "store.sqlite"
        if not create and not path.exists():
            raise MissingInput(f"{folder} holds no hub", hint="run `edgefl-hub init` first")
        self._database = Database(path)
        self.blobs = Blobs(folder / "blobs", self._database)
        self.devices = Devices(self._database)
        self.tasks = Tasks(self._database)
        self.rounds = Rounds(self._database)
        self.helped = Helped(self._database)

    def close(self) -> None:
        """Close the files."""
        self._database.close()
