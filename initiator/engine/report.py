"""The engine's part of the model as JSON, both ways.

`to_json` works for every dataclass of `initiator.model`; `from_json` builds the dataclass again and checks each field,
so that what a socket brought is either a sound object or a `ReportError`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from initiator.errors import MooringError
from initiator.model import Disk, Event, Map, Path, Session

T = TypeVar("T")


class ReportError(MooringError):
    """What came from the engine is not what this version of Mooring understands."""

    code = "bad-report"
    fix = "the running engine may be of another version: mooring engine status"


@dataclasses.dataclass(frozen=True, slots=True)
class EngineReport:
    """Everything the engine holds, at one moment. Tuples are sorted by id, events by time."""

    taken_at: float
    sessions: tuple[Session, ...] = ()
    disks: tuple[Disk, ...] = ()
    paths: tuple[Path, ...] = ()
    maps: tuple[Map, ...] = ()
    events: tuple[Event, ...] = ()
    """Recent messages of the engine, oldest first; at most a few hundred."""


def to_json(value: Any) -> Any:
    """A model object, or a tuple, mapping or plain value made of them, as what `json.dumps` takes."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], data: Any) -> T:
    """An object of the dataclass `kind` from what `to_json` made of one. Keys that `kind` does not have are ignored.

    Raises:
        ReportError: a field is missing or of the wrong kind; the text names it.
    """
    wanted: Any = kind
    built: T = _reader(wanted)(data, kind.__name__)
    return built


_Reader = Callable[[Any, str], Any]


@functools.cache
def _reader(kind: Any) -> _Reader:
    """How to read one annotated type: a function of the data and of the name to use in errors."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return lambda data, _where: data
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind))
    if origin is tuple:
        return _tuple(typing.get_args(kind)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(typing.get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    return _plain(kind)


def _plain(kind: type) -> _Reader:
    def read(data: Any, where: str) -> Any:
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            return float(data)
        if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
            raise ReportError(f"{where} is not a {kind.__name__}")
        return data

    return read


def _enum(kind: type[enum.Enum]) -> _Reader:
    def read(data: Any, where: str) -> Any:
        try:
            return kind(data)
        except ValueError as error:
            raise ReportError(f"{where}: {data!r} is no {kind.__name__}") from error

    return read


def _union(kinds: tuple[Any, ...]) -> _Reader:
    readers = [_reader(kind) for kind in kinds if kind is not types.NoneType]
    optional = types.NoneType in kinds

    def read(data: Any, where: str) -> Any:
        if data is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(data, where)
            except ReportError:
                continue
        return readers[-1](data, where)

    return read


def _tuple(kind: Any) -> _Reader:
    item = _reader(kind)

    def read(data: Any, where: str) -> Any:
        if not isinstance(data, list | tuple):
            raise ReportError(f"{where} is not a list")
        return tuple(item(part, where) for part in data)

    return read


def _mapping(kind: Any) -> _Reader:
    item = _reader(kind)

    def read(data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise ReportError(f"{where} is not an object")
        return {key: item(part, f"{where}.{key}") for key, part in data.items()}

    return read


def _dataclass(kind: Any) -> _Reader:
    hints = typing.get_type_hints(kind)
    fields = [(field.name, _reader(hints[field.name])) for field in dataclasses.fields(kind)]

    def read(data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise ReportError(f"{where} is not an object")
        given = {name: reader(data[name], f"{where}.{name}") for name, reader in fields if name in data}
        try:
            return kind(**given)
        except TypeError as error:
            raise ReportError(f"{where}: {error}") from error

    return read
