# SPDX-License-Identifier: Apache-2.0
"""Declarative messages: a frozen dataclass whose annotations are its wire format.

In: annotations such as `Bytes32`, `Count`, `Line | None`, `tuple[Bytes16, ...]`, another message, a
Literal. Out: `encode()` to canonical CBOR and a strict `decode()`.  A `Message` is a map, a `Row` an array
in field order; a trailing underscore of a field's name is not part of its key (`class_` is `class`).
Refuses missing and unknown fields, wrong types, lengths and ranges, in both directions, with the field's
path.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgefl.errors import DataError
from edgefl.wire import cbor

M = TypeVar("M", bound="Message")


@dataclass(frozen=True)
class Exactly:
    """Bytes of one length."""

    n: int

    def fault(self, value: object) -> str:
        """Return what is wrong with the value, or an empty string."""
        return "" if isinstance(value, bytes) and len(value) == self.n else f"must be {self.n} bytes"


@dataclass(frozen=True)
class Most:
    """At most n bytes of text or bytes, or n items."""

    n: int

    def fault(self, value: object) -> str:
        """Return what is wrong with the value, or an empty string."""
        size = len(value.encode(errors="replace")) if isinstance(value, str) else len(value)  # type: ignore[arg-type]
        return "" if size <= self.n else f"has {size} bytes or items, at most {self.n} allowed"


@dataclass(frozen=True)
class Range:
    """An integer of lo..hi."""

    lo: int
    hi: int

    def fault(self, value: object) -> str:
        """Return what is wrong with the value, or an empty string."""
        good = isinstance(value, int) and self.lo <= value <= self.hi
        return "" if good else f"must be within {self.lo}..{self.hi}"


@dataclass(frozen=True)
class Printable:
    """Text that a terminal may show: no control characters, no line breaks."""

    def fault(self, value: object) -> str:
        """Return what is wrong with the value, or an empty string."""
        return "" if isinstance(value, str) and value.isprintable() else "must be one line of printable text"


@dataclass(frozen=True)
class Pattern:
    """Text that matches a regular expression as a whole."""

    expression: str

    def fault(self, value: object) -> str:
        """Return what is wrong with the value, or an empty string."""
        good = isinstance(value, str) and re.fullmatch(self.expression, value, re.ASCII)
        return "" if good else f"must match {self.expression}"


Rule = (Exactly, Most, Range, Printable, Pattern)

Bytes16 = Annotated[bytes, Exactly(16)]
Bytes32 = Annotated[bytes, Exactly(32)]
Bytes64 = Annotated[bytes, Exactly(64)]
Blob = Annotated[bytes, Most(1 << 16)]  # certificates, envelopes
Count = Annotated[int, Range(0, (1 << 63) - 1)]
U64 = Annotated[int, Range(0, (1 << 64) - 1)]
I64 = Annotated[int, Range(-(1 << 63), (1 << 63) - 1)]
Line = Annotated[str, Most(200), Printable()]
Url = Annotated[str, Most(300), Pattern(r"https://[!-~]+")]
Name = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")]  # safe as a file name


_FIELDS: dict[type, dict[str, tuple[str, object]]] = {}


def wire_fields(cls: type[Message]) -> dict[str, tuple[str, object]]:
    """Return {key on the wire: (attribute, annotation)} in declared order."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls, include_extras=True)
        _FIELDS[cls] = {f.name.rstrip("_"): (f.name, hints[f.name]) for f in fields(cls)}
    return _FIELDS[cls]


@dataclass(frozen=True)
class Message:
    """A CBOR map with text keys; subclasses are frozen dataclasses without defaults."""

    max_bytes: ClassVar[int] = 1 << 16

    def __post_init__(self) -> None:
        """Check every field, so that no malformed message can be built either."""
        for key, (attribute, hint) in wire_fields(type(self)).items():
            value = _check(hint, getattr(self, attribute), f"{type(self).__name__}.{key}")
            object.__setattr__(self, attribute, value)  # lists become tuples, maps become messages
        self.check()

    def check(self) -> None:
        """Check what several fields must fulfil together; raises DataError."""

    def plain(self) -> dict[str, object] | list[object]:
        """Return the message as CBOR values."""
        return {k: _plain(getattr(self, a)) for k, (a, _) in wire_fields(type(self)).items()}

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return cbor.dumps(self.plain())

    @classmethod
    def decode(cls: type[M], data: bytes) -> M:
        """Return the message of exactly these bytes.

        Raises
        ------
        DataError
            Not canonical CBOR, or a field missing, unknown or out of range.
        """
        return cls.from_plain(cbor.loads(data, max_bytes=cls.max_bytes))

    @classmethod
    def from_plain(cls: type[M], value: object) -> M:
        """Return the message of CBOR values that were decoded already."""
        return _build(cls, value, cls.__name__)


class Row(Message):
    """A message written as a CBOR array in the order of its fields."""

    def plain(self) -> dict[str, object] | list[object]:
        """Return the message as CBOR values."""
        return [_plain(getattr(self, f.name)) for f in fields(self)]


def _plain(value: object) -> object:
    if isinstance(value, Message):
        return value.plain()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _build(cls: type[M], value: object, path: str) -> M:
    """Return the message that a decoded map or array holds; its constructor checks the fields."""
    known = wire_fields(cls)
    if issubclass(cls, Row):
        if not isinstance(value, list) or len(value) != len(known):
            raise DataError(f"{path} must be a list of {len(known)}")
        value = dict(zip(known, value, strict=True))
    if not isinstance(value, dict):
        raise DataError(f"{path} must be a map")
    missing = [k for k in known if k not in value]
    if missing:
        raise DataError(f"{path}.{missing[0]} is missing")
    if len(value) != len(known):
        raise DataError(f"{path} has unknown fields: {len(value)} in all, {len(known)} known")
    return cls(**{attribute: value[key] for key, (attribute, _) in known.items()})


def _check(hint: object, value: object, path: str) -> object:
    """Return the value as the annotation wants it, lists as tuples and maps as messages; raise DataError."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *rules = get_args(hint)
        result = _check(inner, value, path)
        for rule in rules:
            fault = rule.fault(value) if isinstance(rule, Rule) else ""
            if fault:
                raise DataError(f"{path} {fault}")
        return result
    if origin in (Union, types.UnionType):
        (inner,) = (arm for arm in get_args(hint) if arm is not type(None))
        return None if value is None else _check(inner, value, path)
    if origin is Literal:
        choices = get_args(hint)
        if not any(type(value) is type(c) and value == c for c in choices):
            raise DataError(f"{path} must be one of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise DataError(f"{path} must be a list")
        inner = get_args(hint)[0]
        return tuple(_check(inner, item, f"{path}[{i}]") for i, item in enumerate(value))
    if not isinstance(hint, type):
        raise TypeError(f"{path}: unknown annotation {hint!r}")
    if issubclass(hint, Message):
        return value if type(value) is hint else _build(hint, value, path)
    if type(value) is not hint:
        raise DataError(f"{path} must be {_NAMES.get(hint, hint.__name__)}")
    return value


_NAMES = {int: "an integer", bytes: "bytes", str: "text", bool: "true or false"}
