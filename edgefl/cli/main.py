# SPDX-License-Identifier: Apache-2.0
"""`edgefl`: finds the module of a command, runs it, turns every outcome into an exit code.

In: arguments. Out: exit code (0 ok, 64 usage, 65 data or model, 66 missing, 69 unavailable, 70 internal, 74
I/O, 75 temporary, 77 permission, 78 configuration, 130 Ctrl-C, 143 SIGTERM). Refuses to show a traceback
unless EDGEFL_DEBUG=1. Invariant: starting one command imports that command's group only; no group imports
numpy before it runs.

A group module has `register(commands)`: for each command `parser = commands.add_parser(name, help=...)`, its
arguments, and `parser.set_defaults(run=function)`; `function(args)` returns the exit code (None is 0).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeAlias

from edgefl import __version__
from edgefl.errors import EdgeflError, StorageError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], "int | None"]

# Command -> module with register(). Only the module of the command at hand is imported; help imports all.
GROUPS: dict[str, str] = {
    "demo": "edgefl.demo.command",
    "eval": "edgefl.cli.score",
    "train": "edgefl.cli.train",
    "plan": "edgefl.cli.plan",
    "bench": "edgefl.cli.bench",
    "model": "edgefl.cli.models",
    "enroll": "edgefl.cli.device",
    "run": "edgefl.cli.device",
    "leave": "edgefl.cli.device",
    "status": "edgefl.cli.device",
}
INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, in commands that have something to put in order first."""


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors exit with 64 and say so on one line."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line."""
        self.exit(64, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(command: str | None) -> Parser:
    """Parser with the group of `command`, or with all groups if it names none."""
    parser = Parser(prog="edgefl", description="Federated learning on small boards with int8 .tflite models.")
    parser.add_argument("--version", action="version", version=f"edgefl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    wanted = [GROUPS[command]] if command in GROUPS else dict.fromkeys(GROUPS.values())
    for module in wanted:
        try:
            group = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # A group of an extra that is not installed, or not part of this build, is left out of the help.
            if command in GROUPS or not (error.name or "").startswith("edgefl"):
                raise
            continue
        group.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default: those of the process.

    Returns
    -------
    int
        The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        namespace = build_parser(next((a for a in args if not a.startswith("-")), None)).parse_args(args)
        run: Run = namespace.run
        code = run(namespace) or 0
        sys.stdout.flush()
        return code
    except EdgeflError as error:
        return _report(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away; the interpreter must not complain about it at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        return _report(str(stop) or "interrupted", code)
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        return _report(f"{error.strerror or error}{name}", StorageError.exit_code)
    except MemoryError:
        return _report(
            "out of memory; close other programs or give a smaller model or batch", EdgeflError.exit_code
        )
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return _report(f"internal error: {what}; set EDGEFL_DEBUG=1 for the details", EdgeflError.exit_code)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated in here; only in a main thread, others get no signals."""
    import signal

    def stop(number: int, frame: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(line: str, code: int) -> int:
    """Print one line on stderr (after the traceback, with EDGEFL_DEBUG=1) and pass the code on."""
    if os.environ.get("EDGEFL_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    with contextlib.suppress(OSError):
        print("edgefl:", " ".join(line.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
