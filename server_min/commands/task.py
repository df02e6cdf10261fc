# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub task`: a model becomes a task and release 0 is published; an example of its settings."""

from __future__ import annotations

import argparse
import re
import time

from edgefl.config.load import example_table
from edgefl.errors import UsageError
from edgefl.wire.keys import signer
from server_min.commands.output import show
from server_min.config import load_hub
from server_min.rounds.release import Source, build_release
from server_min.store import open_store
from server_min.tasks import TaskToml, prepare_task


def example(args: argparse.Namespace) -> int:
    """Print every key of task.toml."""
    text = example_table(TaskToml)
    show(args, {"toml": text}, text.rstrip())
    return 0


def add(args: argparse.Namespace) -> int:
    """Check, build, store; a serving hub offers the release at once."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", args.name, re.ASCII):
        raise UsageError(f"{args.name!r} is no task name", hint="use letters, digits, dot, dash, underscore")
    hub = load_hub(args.hub, "leader")
    new = prepare_task(args.name, args.model, args.config, args.calibration)
    store = open_store(hub.folder)
    try:
        if store.tasks.get(args.name) is not None:
            raise UsageError(f"task {args.name} exists already", hint="choose another name")
        now = time.time()
        source = Source(new.task, new.file, new.master, new.probe_x, None, 0, "0")
        publisher = signer(hub.private("publisher"))
        built = build_release(source, (), store.blobs, publisher, now, hub.toml.rounds.release_days)
        store.tasks.add(new.task, new.settings, built.row, built.blobs, now)
    finally:
        store.close()
    done = {
        "task": args.name,
        "release": built.row.sequence,
        "file": built.row.file.hex(),
        "parameters": new.task.dim,
        "exponents": list(new.task.exponents),
    }
    show(args, done, f"task {args.name}: {new.task.dim} trained parameters, release {built.row.sequence}")
    return 0
