# SPDX-License-Identifier: Apache-2.0
"""TOML text -> dataclasses, strictly; and the commented example file from the same dataclasses.

In: text, the folder that relative paths start from.  Out: an instance of the given dataclass of tables.
Refuses unknown tables and keys (with the nearest known one), wrong types and values out of range:
ConfigError, exit code 78.
Invariant: `load(example(T), T)` gives the defaults.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edgefl.errors import ConfigError

T = TypeVar("T")


def load(text: str, tables: type[T], base: Path) -> T:
    """Return the configuration that `text` holds.

    Parameters
    ----------
    text
        TOML.
    tables
        A dataclass whose fields are dataclasses, one a table.
    base
        Folder of the file: relative paths start there.

    Raises
    ------
    ConfigError
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration is not TOML: {error}") from None
    known = get_type_hints(tables)
    _refuse_unknown(document, known, "table")
    return tables(
        **{name: load_table(name, cls, document.get(name, {}), base) for name, cls in known.items()}
    )


HOW_TO_READ = "# Every key is shown with its default. Uncomment what you change.\n"


def example(tables: type[Any]) -> str:
    """Return the configuration file with every key at its default, commented out, and explained."""
    parts = [HOW_TO_READ]
    for name, cls in get_type_hints(tables).items():
        parts.append(f"# {cls.__doc__}\n[{name}]\n" + "\n".join(_keys(cls)) + "\n")
    return "\n".join(parts)


def example_table(cls: type[Any]) -> str:
    """Return the same of a file that is one table without a head."""
    return "\n".join([HOW_TO_READ, *_keys(cls), ""])


def _keys(cls: type[Any]) -> Iterator[str]:
    for item in fields(cls):
        yield f"# {item.metadata['doc']}{_limits(item)}"
        yield f"#{item.name} = {_toml(item.default)}"


def load_table(name: str, cls: type[Any], values: Any, base: Path) -> Any:
    """Return one table, from what a TOML parser made of it."""
    if not isinstance(values, dict):
        raise ConfigError(f"[{name}] must be a table")
    hints = get_type_hints(cls)
    _refuse_unknown(values, hints, f"key in [{name}]")
    declared = {item.name: item for item in fields(cls)}
    return cls(
        **{
            key: _value(f"[{name}] {key}", hints[key], declared[key], value, base)
            for key, value in values.items()
        }
    )


def _value(where: str, hint: Any, item: Field[Any], value: Any, base: Path) -> Any:
    """Check one value; paths become absolute, arrays tuples, integers floats where a float is declared."""
    if get_origin(hint) in (Union, types.UnionType):
        if value == "":
            return None
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be an array")
        return tuple(_value(where, get_args(hint)[0], item, entry, base) for entry in value)
    if hint is Path:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where} must be a path")
        return base / Path(value).expanduser()
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where} must be {_NAMES[hint]}, not {value!r}")
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if (low is not None and value < low) or (high is not None and not value <= high):
        raise ConfigError(f"{where} = {value} is outside {low}..{high}")
    if choices and value not in choices:
        raise ConfigError(f"{where} = {value!r} must be one of {', '.join(choices)}")
    return value


def _refuse_unknown(found: dict[str, Any], known: dict[str, Any], what: str) -> None:
    for name in found:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown {what}: {name}", hint=hint)


def _limits(item: Field[Any]) -> str:
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if choices:
        return f" ({' | '.join(choices)})"
    return f" ({low}..{high})" if low is not None else ""


def _toml(value: Any) -> str:
    if value is MISSING or value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return str(value)


_NAMES: dict[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
