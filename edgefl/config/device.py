# SPDX-License-Identifier: Apache-2.0
"""The tables of `edgefl.toml`, each a frozen dataclass; the text beside a default goes into the example file.

In: values that the loader has checked.  Out: `Config`. Invariant: a key exists once, here; loader, example
and documentation follow. Units stand in the names.
"""
# ruff: noqa: RUF009 (`setting` returns a dataclass field)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Declare a key: default, one line of explanation, range (both ends allowed) or choices."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": tuple(choices)})


@dataclass(frozen=True)
class State:
    """Where the device keeps its database, key, models and spool."""

    folder: Path = setting(Path("/var/lib/edgefl"), "one folder, created if missing; never on tmpfs")


@dataclass(frozen=True)
class Hub:
    """The hub; its address and every key come from the enrolment token."""

    url: str = setting(
        "", "use this address instead of the token's, for example of a proxy; empty: the token's"
    )


@dataclass(frozen=True)
class Model:
    """Models on disk and the check before one becomes active."""

    max_mib: int = setting(256, "refuse model files that are larger", low=1, high=2047)
    runtime: str = setting(
        "auto",
        "the application's interpreter, for the health gate; core: none",
        choices=("auto", "ai-edge-litert", "tflite-runtime", "core"),
    )
    gate_timeout_s: int = setting(120, "the health gate must be done by then", low=1, high=3600)


@dataclass(frozen=True)
class Data:
    """Training samples."""

    folder: Path | None = setting(None, "folder of .npz files with arrays x and y; edgefl never writes there")
    source: str = setting("", "name of a plugin (entry point group edgefl.sources) instead of a folder")
    min_samples: int = setting(1, "take part only with at least so many samples", low=1, high=1 << 31)
    max_samples: int = setting(100_000, "read at most so many samples a round", low=1, high=1 << 31)
    retain_mib: int = setting(
        0, "keep own copies of a plugin's samples up to this size; 0 keeps none", low=0, high=1 << 20
    )
    retain_days: int = setting(30, "delete own copies that are older", low=1, high=36500)


@dataclass(frozen=True)
class Policy:
    """What the device agrees to, whatever the hub asks."""

    quorum_min: int = setting(2, "refuse rounds whose sum may be opened with fewer devices", low=1, high=4096)
    n_max: int = setting(4096, "refuse rounds with more devices", low=1, high=4096)
    distinct_operators: bool = setting(False, "refuse rounds whose two hubs name the same operator")
    reports_per_release: int = setting(
        4, "masked reports for one base model; more than one is needed after void rounds", low=1, high=100
    )
    max_round_s: int = setting(
        3600, "refuse rounds that are expected to take longer here", low=1, high=604800
    )
    deadline_margin_s: float = setting(0.5, "time kept free before a round's deadline", low=0, high=3600)


@dataclass(frozen=True)
class Worker:
    """The training process."""

    command: tuple[str, ...] = setting(
        (), "interpreter and its options for child processes; empty: this Python"
    )
    memory_mib: int = setting(1024, "address space of the worker", low=256, high=1 << 20)
    nice: int = setting(10, "priority, 19 is the lowest", low=0, high=19)
    cpus: tuple[int, ...] = setting((), "CPU numbers that it may use; empty: all", low=0, high=4095)
    timeout_s: int = setting(3600, "a worker that takes longer is killed", low=1, high=604800)
    sandbox: bool = setting(True, "deny sockets and new programs in the worker with seccomp")


@dataclass(frozen=True)
class Transport:
    """The connection to the hub."""

    connect_timeout_s: float = setting(10.0, "until the hub's first word", low=0.1, high=600)
    answer_timeout_s: float = setting(
        45.0, "for one answer; a long poll takes 30 s at the hub", low=1, high=3600
    )
    upload_timeout_s: float = setting(600.0, "for one report or one blob", low=1, high=86400)
    backoff_min_s: float = setting(
        1.0, "first pause when the hub cannot be reached, then doubled", low=0.05, high=3600
    )
    backoff_max_s: float = setting(300.0, "longest pause", low=0.05, high=86400)


@dataclass(frozen=True)
class Log:
    """The log on standard error; it never holds samples, labels, gradients or keys."""

    format: str = setting(
        "text", "text for people, json for machines (one object a line)", choices=("text", "json")
    )
    level: str = setting(
        "info", "debug, info, warning or error", choices=("debug", "info", "warning", "error")
    )


@dataclass(frozen=True)
class Config:
    """All of `edgefl.toml`."""

    state: State = field(default_factory=State)
    hub: Hub = field(default_factory=Hub)
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    policy: Policy = field(default_factory=Policy)
    worker: Worker = field(default_factory=Worker)
    transport: Transport = field(default_factory=Transport)
    log: Log = field(default_factory=Log)
