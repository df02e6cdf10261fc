# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub`: the commands of docs/protocol.md, "Command lines".

In: arguments.  Out: text, or with `--json` one JSON object (or line) on stdout; one line on stderr and a
documented exit code for every error.  Commands and the serving process share the store: what a command
queues, the process picks up.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edgefl.errors import EdgeflError, UsageError
from server_min.commands.output import show
from server_min.config import Listen


class Parser(argparse.ArgumentParser):
    """Errors are UsageErrors, so that they leave like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting with 2."""
        raise UsageError(message, hint=f"see `{self.prog} --help`")


def build_parser() -> Parser:
    """Return the parser of all commands."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="machine-readable output")
    at_hub = argparse.ArgumentParser(add_help=False)
    at_hub.add_argument("--hub", type=Path, required=True, metavar="DIR", help="the hub's folder")
    top = Parser("edgefl-hub", description="The aggregator of a fleet: a leader and a helper hub.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        into: Any, name: str, help: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = into.add_parser(
            name, help=help, description=help, parents=[shared, *parents]
        )
        return parser

    init = command(commands, "init", "found a hub")
    init.add_argument("dir", type=Path)
    init.add_argument("--helper", action="store_true", help="a helper instead of a leader")
    init.add_argument("--url", help="where devices reach it (default: https:// and the --listen address)")
    init.add_argument("--enroll-url", default="", help="where new devices reach it")
    init.add_argument("--listen", default=Listen().devices, metavar="H:P")
    init.add_argument("--enroll-listen", default=Listen().enroll, metavar="H:P")
    init.add_argument(
        "--metrics-listen", metavar="H:P", help="for Prometheus (default: 127.0.0.1:9440, helper: off)"
    )
    init.add_argument("--operator", default="", help="who runs it, as devices see it")
    pair = command(commands, "pair", "leader: take a helper in")
    pair.add_argument("dir", type=Path)
    pair.add_argument("request", type=Path)
    pair.add_argument("-o", dest="grant", type=Path, required=True, metavar="GRANT")
    pair.add_argument("--helper-url", required=True)
    accept = command(commands, "accept", "helper: pin CA and leader of a grant")
    accept.add_argument("dir", type=Path)
    accept.add_argument("grant", type=Path)
    serve = command(commands, "serve", "run the hub; prints `ready`, TERM stops it")
    serve.add_argument("dir", type=Path)
    serve.add_argument("--helper", action="store_true", help="refuse to run unless it is a helper")
    task = command(commands, "task", "tasks").add_subparsers(dest="action", required=True, metavar="ACTION")
    command(task, "example", "print a task.toml with every key, its default and its range")
    add = command(task, "add", "make a model a task and publish release 0", at_hub)
    add.add_argument("name")
    add.add_argument("model", type=Path)
    add.add_argument("--config", type=Path, required=True, metavar="task.toml")
    add.add_argument("--calibration", type=Path, required=True, metavar="F.npz")
    devices = command(commands, "devices", "list devices, invite, revoke")
    devices.add_argument("--hub", type=Path, metavar="DIR")
    action = devices.add_subparsers(dest="action", metavar="ACTION")
    invite = command(action, "invite", "print enrolment tokens, one a line", at_hub)
    invite.add_argument("--task", required=True)
    invite.add_argument("--count", type=int, default=1)
    invite.add_argument("--valid", default="1h", help="such as 30m, 1h, 7d")
    revoke = command(action, "revoke", "revoke a device at once", at_hub)
    revoke.add_argument("id")
    rounds = command(commands, "round", "start rounds").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    start = command(rounds, "start", "queue rounds; the serving hub runs them one after another", at_hub)
    start.add_argument("task")
    start.add_argument("--rounds", type=int, help="how many (default: 1; with --every: without end)")
    start.add_argument("--every", help="time from one start to the next, such as 1h")
    start.add_argument("--wait", action="store_true", help="follow them to the end")
    command(commands, "rounds", "list rounds", at_hub)
    command(commands, "releases", "list releases", at_hub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        args = build_parser().parse_args(argv)
        return run(args)
    except EdgeflError as error:
        print(f"edgefl-hub: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 74
    except OSError as error:
        print(f"edgefl-hub: {error.strerror or error}", file=sys.stderr)
        return 74


def run(args: argparse.Namespace) -> int:
    """Dispatch; each command imports what it needs."""
    match args.command:
        case "init":
            return init_hub(args)
        case "pair" | "accept":
            return join(args)
        case "serve":
            from server_min.commands.serve import serve

            return serve(args)
        case "task":
            from server_min.commands import task

            return task.example(args) if args.action == "example" else task.add(args)
        case "devices":
            from server_min.commands import devices

            return devices.run(args)
        case _:
            from server_min.commands import rounds

            return rounds.run(args)


def init_hub(args: argparse.Namespace) -> int:
    """`init`."""
    from server_min.setup import init_helper, init_leader

    if args.helper and (args.url or args.enroll_url):
        raise UsageError(
            "a helper has no --url of its own", hint="the leader names it in `pair --helper-url`"
        )
    operator = args.operator or ("helper" if args.helper else "leader")
    if args.helper:
        hub = init_helper(args.dir, Listen(args.listen, "", args.metrics_listen or ""), operator)
        done = {"role": "helper", "hub": hub.id.hex(), "pair_request": str(args.dir / "pair-request")}
        text = f"helper {hub.id.hex()}; give {args.dir / 'pair-request'} to the leader"
    else:
        metrics = args.metrics_listen or Listen().metrics
        listen = Listen(args.listen, args.enroll_listen, metrics)
        hub = init_leader(args.dir, args.url or f"https://{args.listen}", listen, operator, args.enroll_url)
        done = {
            "role": "leader",
            "hub": hub.id.hex(),
            "url": hub.toml.hub.url,
            "enroll_url": hub.toml.hub.enroll_url,
        }
        text = f"leader {hub.id.hex()} at {hub.toml.hub.url}; next: pair it with a helper"
    show(args, done, text)
    return 0


def join(args: argparse.Namespace) -> int:
    """`pair` and `accept`."""
    from server_min.setup import accept, pair

    if args.command == "pair":
        partner = pair(args.dir, args.request, args.grant, args.helper_url)
        text = f"paired with helper of {partner.operator}; give {args.grant} to it"
    else:
        partner = accept(args.dir, args.grant)
        text = f"paired with leader of {partner.operator}"
    show(args, {"partner": partner.key, "operator": partner.operator, "url": partner.url}, text)
    return 0
