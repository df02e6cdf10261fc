# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub round start`, `rounds`, `releases`."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from edgefl.errors import MissingInput, TemporaryFailure, UsageError
from server_min.commands.devices import seconds
from server_min.commands.output import show
from server_min.config import load_hub
from server_min.store import FINAL, ReleaseRow, RoundRow, Store, Transition, open_store

LOOK_S = 0.05


def run(args: argparse.Namespace) -> int:
    """Dispatch on the command."""
    hub = load_hub(args.hub, "leader")
    store = open_store(hub.folder)
    try:
        match args.command:
            case "round":
                return start(args, store)
            case "rounds":
                return list_rounds(args, store)
            case _:
                return list_releases(args, store)
    finally:
        store.close()


def start(args: argparse.Namespace, store: Store) -> int:
    """Queue rounds; with --wait follow them to the end: 75 if one was void."""
    if store.tasks.get(args.task) is None:
        raise MissingInput(f"there is no task {args.task}", hint="add it with `edgefl-hub task add`")
    load_hub(args.hub).pinned_partner  # noqa: B018  (without a helper no round would ever start)
    every = seconds(args.every) if args.every else 0.0
    rounds = args.rounds if args.rounds is not None else (-1 if args.every else 1)
    if args.rounds is not None and not 1 <= args.rounds <= 1_000_000:
        raise UsageError(f"--rounds {args.rounds} is outside 1..1000000")
    queued = store.tasks.queue(args.task, rounds, every, time.time())
    if args.wait:
        return follow(args, store, queued, rounds)
    count = "rounds without end" if rounds < 0 else f"{rounds} round{'s' * (rounds > 1)}"
    show(args, {"run": queued, "task": args.task, "rounds": rounds}, f"queued {count} of {args.task}")
    return 0


def follow(args: argparse.Namespace, store: Store, run_id: int, rounds: int) -> int:
    """Print each state change of a run until all its rounds are over."""
    seen, over, void = 0, 0, 0
    while over != rounds:
        for change in store.rounds.transitions(run_id, seen):
            seen = change.id
            print(line(args, change), flush=True)
            over += change.state in FINAL
            void += change.state == "void"
        if not store.tasks.remaining(run_id) and len(store.rounds.all(run=run_id)) == over != rounds:
            raise TemporaryFailure("the hub dropped the queued rounds", hint="see its log")
        time.sleep(LOOK_S)
    return TemporaryFailure.exit_code if void else 0


def line(args: argparse.Namespace, change: Transition) -> str:
    """Return one state change as text or JSON."""
    if args.json:
        return json.dumps(
            {
                "round": change.round.hex(),
                "number": change.number,
                "state": change.state,
                "t": change.t,
                "cohort": change.cohort,
                "reason": change.reason,
            }
        )
    clock = time.strftime("%H:%M:%S", time.localtime(change.t))
    cohort = f" {change.cohort} devices" if change.cohort else ""
    reason = f": {change.reason}" if change.reason else ""
    return f"{clock} round {change.number} {change.state}{cohort}{reason}"


def list_rounds(args: argparse.Namespace, store: Store) -> int:
    """One line a round."""
    rows = [describe(store, row) for row in store.rounds.all()]
    if args.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(
            f"{row['task']} {row['number']:4} {row['state']:10} {row['reported']}/{row['invited']} reported, "
            f"{row['cohort']} in the sum  {row['reason']}".rstrip()
        )
    return 0


def describe(store: Store, row: RoundRow) -> dict[str, Any]:
    """Return what `--json` shows of a round."""
    reports = store.rounds.reports(row.id)
    release = next((r for r in store.tasks.releases(row.task) if r.round == row.id), None)
    header = sum(4 + len(r.header) for r in reports)
    payload = sum(r.size for r in reports)
    return {
        "round": row.id.hex(),
        "number": row.number,
        "task": row.task,
        "state": row.state,
        "reason": row.reason,
        "invited": len(store.rounds.invited(row.id)),
        "reported": len(reports),
        "cohort": row.cohort,
        "opened_at": row.opened_at,
        "collecting_at": row.collecting_at,
        "closed_at": row.closed_at,
        "unmasked_at": row.unmasked_at,
        "published_at": row.published_at,
        "installed_at": row.installed_at,
        "upload_header_bytes": header,
        "upload_payload_bytes": payload,
        "upload_bytes_per_device": (header + payload) // len(reports) if reports else None,
        "patch_bytes": release and release.patch_size,
        "full_bytes": release and release.full_size,
        "model_bytes": release and release.size,
    }


def list_releases(args: argparse.Namespace, store: Store) -> int:
    """One line a release, the newest last."""
    rows = [r for task in store.tasks.all() for r in reversed(store.tasks.releases(task.task.name))]
    if args.json:
        print(json.dumps([describe_release(r) for r in rows]))
        return 0
    for r in rows:
        patch = f"patch {r.patch_size} bytes" if r.patch_size is not None else "no patch"
        file = f"{r.file.hex()[:16]} {r.size} bytes"
        print(f"{r.task} {r.sequence} {r.label:12} {file}, {patch}, {r.cohort} devices")
    return 0


def describe_release(row: ReleaseRow) -> dict[str, Any]:
    """Return what `--json` shows of a release."""
    return {
        "task": row.task,
        "sequence": row.sequence,
        "label": row.label,
        "issued": row.issued,
        "release": row.envelope.hex(),
        "file": row.file.hex(),
        "model_bytes": row.size,
        "full_bytes": row.full_size,
        "patch_bytes": row.patch_size,
        "round": row.round.hex() if row.round else None,
        "cohort": row.cohort,
    }
