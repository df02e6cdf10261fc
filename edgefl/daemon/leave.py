# SPDX-License-Identifier: Apache-2.0
"""Leaving a fleet: revoked at the hub, then key, pins and stored samples are erased; the model stays.

In: configuration.  Out: a device that is enrolled nowhere. Refuses while the daemon runs, and while the hub
cannot be reached, unless told to erase anyway (the hub then still lists the device).
Invariant: the hub knows before the key is gone; a kill in between is repaired by leaving again.
"""

from __future__ import annotations

import asyncio

from edgefl.adapters.files import Layout, erase
from edgefl.adapters.http import HubRefused
from edgefl.adapters.sqlite import DeviceStore
from edgefl.config.device import Config
from edgefl.daemon.context import Context, open_context
from edgefl.daemon.journal import Journal
from edgefl.errors import EdgeflError, MissingInput, Refused, Unavailable


def leave(config: Config, journal: Journal, *, offline: bool = False) -> bool:
    """Leave the fleet; returns whether the hub knows.

    Raises
    ------
    MissingInput
        Not enrolled.
    Unavailable
        The hub cannot be reached and `offline` is not set.
    """
    layout = Layout(config.state.folder)
    if not layout.database.exists():
        raise MissingInput("this device is not enrolled")
    store = DeviceStore(layout.database)
    try:
        told = False
        if not offline:
            told = _tell(config, store, journal)
        erase_all(layout, store)
        return told
    finally:
        store.close()


def _tell(config: Config, store: DeviceStore, journal: Journal) -> bool:
    """Revoke this device at the hub; a revoked or unknown one has nothing to tell."""
    try:
        context = open_context(config, store, journal)
    except Refused:
        return False  # the certificate has expired
    try:
        asyncio.run(_revoke(context))
    except HubRefused as error:
        if error.code not in ("device.revoked", "device.unknown"):
            raise
    except EdgeflError as error:
        raise Unavailable(str(error), hint="try again, or add --offline to erase without telling") from None
    return True


async def _revoke(context: Context) -> None:
    try:
        await context.hub.leave()
    finally:
        await context.client.close()


def erase_all(layout: Layout, store: DeviceStore) -> None:
    """Erase key, samples, spool and pins, in an order that a second run can finish."""
    for folder in (layout.samples, layout.spool):
        if folder.is_dir():
            for path in folder.iterdir():
                erase(path)
    erase(layout.identity)
    erase(layout.pending_key)
    store.forget_fleet()
