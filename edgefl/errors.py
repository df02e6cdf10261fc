# SPDX-License-Identifier: Apache-2.0
"""Errors that reach a user, each with the exit code of its band (docs/architecture.md, "Command line").

In: what was wrong, the limit, what to do next. Out: one line on stderr and a documented exit code; never
a traceback for bad input. Codes follow sysexits.h. Nothing here imports anything else of edgefl.
"""

from __future__ import annotations


class EdgeflError(Exception):
    """Base of all errors meant for a user; `str()` is one line: what, the limit, what to do next."""

    exit_code = 70

    def __init__(self, what: str, *, hint: str = "") -> None:
        """Keep `what` (with the limit) and `hint` (what to do next) on one line."""
        super().__init__(" ".join(f"{what}; {hint}".split()) if hint else " ".join(what.split()))


class UsageError(EdgeflError):
    """The command line or an argument of the API is wrong (64)."""

    exit_code = 64


class DataError(EdgeflError):
    """A model, data file, patch or message is malformed or out of range (65)."""

    exit_code = 65


class ModelError(DataError):
    """A .tflite file is broken or holds an operator that edgefl cannot run (65)."""


class MissingInput(EdgeflError):
    """A named input does not exist (66)."""

    exit_code = 66


class Unavailable(EdgeflError):
    """The hub or a service cannot be reached, or an optional dependency is not installed (69)."""

    exit_code = 69


class StorageError(EdgeflError):
    """The disk is full or failed (74)."""

    exit_code = 74


class TemporaryFailure(EdgeflError):
    """It did not work now and may work later: a round was void, the hub is busy (75)."""

    exit_code = 75


class Refused(EdgeflError):
    """A signature, hash, sequence, certificate, token or policy says no (77)."""

    exit_code = 77


class ConfigError(EdgeflError):
    """The configuration is wrong (78)."""

    exit_code = 78
