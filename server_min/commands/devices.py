# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub devices`: list, invite, revoke."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import time

from edgefl.errors import MissingInput, UsageError
from edgefl.wire.keys import public_key, sha256
from edgefl.wire.messages import HubPin, Token
from server_min.commands.output import show
from server_min.config import Hub, load_hub
from server_min.store import Device, Store, open_store

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LIVE_S = 60


def run(args: argparse.Namespace) -> int:
    """Dispatch on the action."""
    if args.hub is None:
        raise UsageError("--hub DIR is missing", hint="see `edgefl-hub devices --help`")
    hub = load_hub(args.hub, "leader")
    store = open_store(hub.folder)
    try:
        match args.action:
            case "invite":
                return invite(args, hub, store)
            case "revoke":
                return revoke(args, store)
            case _:
                return list_devices(args, store)
    finally:
        store.close()


def invite(args: argparse.Namespace, hub: Hub, store: Store) -> int:
    """Print fresh tokens, one a line."""
    if store.tasks.get(args.task) is None:
        raise MissingInput(f"there is no task {args.task}", hint="add it with `edgefl-hub task add`")
    if not 1 <= args.count <= 10000:
        raise UsageError(f"--count {args.count} is outside 1..10000")
    expires = int(time.time() + seconds(args.valid))
    partner = hub.pinned_partner
    tokens = []
    for _ in range(args.count):
        secret = secrets.token_bytes(32)
        token = Token(
            url=hub.toml.hub.enroll_url,
            hub=hub.toml.hub.url,
            ca=sha256(hub.ca_der),
            secret=secret,
            publisher=public_key(hub.private("publisher")),
            hubs=(
                HubPin(hub.public, hub.toml.hub.operator, "leader"),
                HubPin(partner.public, partner.operator, "helper"),
            ),
            task=args.task,
            expires=expires,
        )
        store.devices.add_token(secret, args.task, expires)
        tokens.append(token.to_text())
    show(args, {"tokens": tokens, "expires": expires}, "\n".join(tokens))
    return 0


def revoke(args: argparse.Namespace, store: Store) -> int:
    """Revoke a device; the serving hub notices within moments."""
    try:
        device = bytes.fromhex(args.id)
    except ValueError:
        raise UsageError(f"{args.id!r} is not a device id in hex") from None
    if not store.devices.revoke(device, time.time()):
        raise MissingInput(f"there is no device {args.id}", hint="see `edgefl-hub devices`")
    show(args, {"revoked": args.id}, f"revoked {args.id}")
    return 0


def list_devices(args: argparse.Namespace, store: Store) -> int:
    """One line a device."""
    now = time.time()
    devices = store.devices.all()
    if args.json:
        print(json.dumps([describe(d, now) for d in devices]))
        return 0
    for d in devices:
        row = (
            d.id.hex(),
            f"{state(d, now):8}",
            f"{d.task:20}",
            f"release {d.sequence}",
            f"{d.samples} samples",
        )
        print("  ".join((*row, d.event)))
    return 0


def state(device: Device, now: float) -> str:
    """Return revoked, live, silent or enrolled."""
    if device.revoked is not None:
        return "revoked"
    return "enrolled" if not device.polled else "live" if now - device.polled < LIVE_S else "silent"


def describe(device: Device, now: float) -> dict[str, object]:
    """Return what `--json` shows."""
    return {
        "device": device.id.hex(),
        "state": state(device, now),
        "class": device.class_,
        "task": device.task,
        "enrolled": device.enrolled,
        "polled": device.polled or None,
        "release": device.sequence,
        "model": device.model.hex() if device.model else None,
        "round": device.round.hex() if device.round else None,
        "estimate_ms": device.estimate_ms,
        "samples": device.samples,
        "runtime": device.runtime,
        "event": device.event,
    }


def seconds(text: str) -> float:
    """Return the length of `90s`, `30m`, `1h` or `7d`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", text, re.ASCII)
    if not found or not float(found[1]):
        raise UsageError(f"{text!r} is no length of time", hint="write it as 90s, 30m, 1h or 7d")
    return float(found[1]) * UNITS[found[2]]
