# SPDX-License-Identifier: Apache-2.0
"""Commands of a device: `edgefl enroll`, `run`, `status`, `leave`.

In: arguments and `edgefl.toml`.  Out: the daemon's log on stderr; one line or one JSON object on stdout. Exit
codes: 0 done; 64 enrolled already; 65 bad token; 66 no configuration, or not enrolled; 69 hub unreachable; 74
disk; 75 temporary (another edgefl runs, a round gave no report); 77 token, certificate or device refused; 78
configuration.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.cli.main import Commands
from edgefl.errors import MissingInput, UsageError

if TYPE_CHECKING:
    from edgefl.config.device import Config
    from edgefl.daemon.journal import Journal

DEFAULT = "/etc/edgefl/edgefl.toml"


def register(commands: Commands) -> None:
    """Add the commands of this group."""
    enroll = commands.add_parser("enroll", help="join a fleet with a one-time token")
    enroll.add_argument("token", nargs="?", help="the token")
    enroll.add_argument("--token-file", type=Path, metavar="F", help="read the token from a file, - is stdin")
    enroll.set_defaults(run=run_enroll)
    run = commands.add_parser("run", help="the daemon: take part in rounds, install releases")
    run.add_argument("--once", action="store_true", help="one round or one release, then exit")
    run.add_argument("--example-config", action="store_true", help="print a commented configuration and exit")
    run.set_defaults(run=run_daemon)
    status = commands.add_parser("status", help="state of this device")
    status.set_defaults(run=run_status)
    leave = commands.add_parser("leave", help="revoke this device, erase its key and stored samples")
    leave.add_argument("--offline", action="store_true", help="erase without telling the hub")
    leave.set_defaults(run=run_leave)
    for command in (enroll, run, status, leave):
        command.add_argument("--config", type=Path, default=Path(DEFAULT), help=f"default: {DEFAULT}")
        command.add_argument("--json", action="store_true", help="machine-readable output")


def read_config(path: Path) -> Config:
    """Read the configuration file."""
    from edgefl.config.device import Config
    from edgefl.config.load import load

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingInput(
            f"there is no configuration at {path}", hint="edgefl run --example-config prints one"
        ) from None
    except UnicodeDecodeError:
        from edgefl.errors import ConfigError

        raise ConfigError(f"{path} is not UTF-8") from None
    return load(text, Config, path.resolve().parent)


def open_journal(config: Config, *, as_json: bool) -> Journal:
    """Open the log on stderr."""
    from edgefl.adapters.clock import SystemClock
    from edgefl.daemon.journal import Journal

    return Journal("json" if as_json else config.log.format, config.log.level, SystemClock().now)


def run_enroll(args: argparse.Namespace) -> None:
    """Join a fleet."""
    from edgefl.daemon.enroll import enroll

    if (args.token is None) == (args.token_file is None):
        raise UsageError("give the token or --token-file")
    text = args.token
    if text is None:
        try:
            text = sys.stdin.read() if str(args.token_file) == "-" else args.token_file.read_text("ascii")
        except FileNotFoundError:
            raise MissingInput(f"there is no token file {args.token_file}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{args.token_file} holds no token") from None
    fleet = enroll(read_config(args.config), text)
    result = {"device": fleet.device.hex(), "task": fleet.task, "hub": fleet.hub}
    say(args, result, f"device {result['device']} is enrolled for task {fleet.task} at {fleet.hub}")


def run_daemon(args: argparse.Namespace) -> None:
    """Run the daemon until TERM."""
    if args.example_config:
        from edgefl.config.device import Config
        from edgefl.config.load import example

        print(example(Config), end="")
        return
    import asyncio

    from edgefl.adapters.files import Layout
    from edgefl.adapters.sqlite import DeviceStore
    from edgefl.daemon.context import open_context
    from edgefl.daemon.supervisor import Supervisor

    config = read_config(args.config)
    layout = Layout(config.state.folder)
    layout.make()
    store = DeviceStore(layout.database)
    try:
        context = open_context(config, store, open_journal(config, as_json=args.json))
        asyncio.run(Supervisor(context, once=args.once).run())
    finally:
        store.close()


def run_status(args: argparse.Namespace) -> None:
    """Show the state: ask the daemon, or read the database if none runs."""
    from edgefl.adapters.files import Layout
    from edgefl.adapters.sqlite import DeviceStore
    from edgefl.daemon.context import describe
    from edgefl.daemon.control import ask_status

    layout = Layout(read_config(args.config).state.folder)
    status = ask_status(layout.socket)
    if status is None:
        if not layout.database.exists():
            raise MissingInput("this device is not enrolled", hint="run edgefl enroll")
        store = DeviceStore(layout.database)
        try:
            fleet = store.fleet()
            if fleet is None:
                raise MissingInput("this device is not enrolled", hint="run edgefl enroll")
            status = {"running": False, "connected": False, **describe(store, fleet)}
        finally:
            store.close()
    say(args, status, "\n".join(f"{name:12} {value}" for name, value in status.items()))


def run_leave(args: argparse.Namespace) -> None:
    """Leave the fleet."""
    from edgefl.daemon.leave import leave

    config = read_config(args.config)
    told = leave(config, open_journal(config, as_json=args.json), offline=args.offline)
    text = (
        "this device has left; its model stays" if told else "erased; the hub was not told, revoke it there"
    )
    say(args, {"left": True, "hub_told": told}, text)


def say(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Print a result as JSON or as text."""
    print(json.dumps(result) if args.json else text)
