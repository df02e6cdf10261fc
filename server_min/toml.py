# SPDX-License-Identifier: Apache-2.0
"""TOML files of a hub, read by the strict loader of edgefl.config and written back with their comments.

In: a path, a dataclass of tables (or one flat table).  Out: an instance; or the file's text.  Refuses what
the loader refuses: unknown keys, with the nearest known one, wrong types, values out of range.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from edgefl.config.load import load, load_table
from edgefl.errors import ConfigError, MissingInput

T = TypeVar("T")


def read_tables(path: Path, tables: type[T]) -> T:
    """Read a file of tables; its name goes into errors."""
    text = _read(path)
    try:
        return load(text, tables, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_flat(path: Path, name: str, cls: type[T]) -> T:
    """Read a file that is one table without a head."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = _read(path)
    try:
        table: T = load_table(name, cls, tomllib.loads(text), path.parent)
        return table
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def write_tables(tables: Any) -> str:
    """Return the text of a file with these values, each with its comment."""
    lines: list[str] = []
    for head in fields(tables):
        lines.append(f"[{head.name}]")
        table = getattr(tables, head.name)
        for item in fields(table):
            doc = item.metadata["doc"]
            lines.append(f"{item.name} = {_literal(getattr(table, item.name))}  # {doc}")
        lines.append("")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
