"""Settings of a person and of a host: TOML files, read strictly. What is wrong in one is named with file and line.

The host's file (`/etc/mooring/config.toml`) is read first, then the person's (`$XDG_CONFIG_HOME/mooring/config.toml`);
what both set is as the person says. An entry that is not understood counts as not written: the default holds, and
the mistake is told, so that a slip of the pen never keeps anybody from a disk that has to go.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs

from initiator.names import clean

FILE = "config.toml"
SYSTEM = Path("/etc/mooring")


@dataclasses.dataclass(frozen=True, slots=True)
class Dashboard:
    """How the dashboard looks and behaves."""

    theme: Literal["dark", "light", "terminal"] = "dark"
    """`terminal` keeps to the sixteen colours that the terminal itself was given."""
    ascii: bool = False
    """Draw with ASCII characters only, also where the terminal knows UTF-8."""
    mouse: bool = True
    """False leaves the mouse to the terminal, which then selects text as usual."""
    interval_s: float = 1.0
    """Seconds from one reading of the host to the next."""
    read_only: bool = False
    """Show everything, change nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What makes this host stand out on the screen, so that nobody takes it for another one."""

    label: str = ""
    """A word beside the host's name, as PRODUCTION."""
    colour: Literal["", "red", "yellow", "green", "blue", "magenta", "cyan"] = ""
    """The colour of the title line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """How patient a removal is."""

    watch_s: float = 5.0
    """Seconds for which nothing may come back at the end."""
    settle_s: float = 60.0
    """Seconds that a path has to work without a break before a removal counts on it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alerts:
    """What is worth disturbing somebody, and how."""

    least: Literal["degraded", "at-risk", "down"] = "degraded"
    """What is less bad than this is not told."""
    raise_s: float = 1.0
    """Seconds that something has to be worse before it is told; what is down is told at once."""
    clear_s: float = 10.0
    """Seconds that something has to be better before that is told."""
    paths: bool = False
    """Tell of each path too; a disk speaks for its paths."""
    toast: bool = True
    """Show a message on the dashboard."""
    bell: bool = True
    """Ring the terminal's bell on the dashboard."""
    journal: bool = False
    """Write a line to the system's journal (journald)."""
    hook: str = ""
    """A program by its full path, with arguments, that is run for each alert; it gets the alert as JSON."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probes:
    """Sessions of Mooring's own beside those of the kernel, to see a dying path before the kernel does."""

    on: bool = False
    """Each takes a place at its target; they never write, and make way for the kernel's."""
    interval_s: float = 0.5
    """Seconds from one measurement to the next."""


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set. A field of a section is a key below `[section]`."""

    dashboard: Dashboard = dataclasses.field(default_factory=Dashboard)
    host: Host = dataclasses.field(default_factory=Host)
    removal: Removal = dataclasses.field(default_factory=Removal)
    alerts: Alerts = dataclasses.field(default_factory=Alerts)
    probes: Probes = dataclasses.field(default_factory=Probes)
    keys: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """By the name of an action: the keys that do it instead of its usual ones; none takes them away."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mistake:
    """One thing in a file that is not understood."""

    file: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return f"{where}: {self.text}"


def files() -> tuple[Path, ...]:
    """Where settings are looked for, the person's last. `MOORING_CONFIG_DIR` names the only folder."""
    named = os.environ.get("MOORING_CONFIG_DIR")
    folders = (Path(named),) if named else (SYSTEM, Path(platformdirs.user_config_dir("mooring", appauthor=False)))
    return tuple(folder / FILE for folder in folders)


def load(places: Iterable[Path] | None = None, actions: Iterable[str] = ()) -> tuple[Config, tuple[Mistake, ...]]:
    """The settings in force, and what in their files is not understood.

    Args:
        places: Files to read in this order; those of `files` when None. One that is not there says nothing.
        actions: Names that may stand below `[keys]`; any name when empty.
    """
    config = Config()
    mistakes: list[Mistake] = []
    for path in files() if places is None else places:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            mistakes.append(Mistake(path, None, f"cannot be read: {reason}"))
            continue
        config = read(text, path, config, mistakes, frozenset(actions))
    return config, tuple(mistakes)


def read(text: str, path: Path, base: Config, mistakes: list[Mistake], actions: frozenset[str] = frozenset()) -> Config:
    """The settings of one file on top of `base`; what is not understood goes to `mistakes`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        mistakes.append(Mistake(path, line, f"this is not TOML: {error}"))
        return base
    sections = {field.name: getattr(base, field.name) for field in dataclasses.fields(Config)}
    for name, table in tables.items():
        where = Mistake(path, _line(text, name, None), "")
        if name not in sections:
            mistakes.append(dataclasses.replace(where, text=_unknown(f"[{clean(name)}]", name, sections)))
        elif not isinstance(table, dict):
            mistakes.append(dataclasses.replace(where, text=f"{name} is a section: write [{name}]"))
        else:
            told = _keys(table, actions) if name == "keys" else _section(sections[name], table)
            for key, value in told:
                if isinstance(value, _Wrong):
                    mistakes.append(Mistake(path, _line(text, name, key), value.text))
                elif name == "keys":
                    sections[name] = {**sections[name], key: value}
                else:
                    sections[name] = dataclasses.replace(sections[name], **{key: value})
    return Config(**sections)


@dataclasses.dataclass(frozen=True, slots=True)
class _Wrong:
    text: str


def _section(section: Any, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kinds = typing.get_type_hints(type(section))
    for key, value in table.items():
        if key not in kinds:
            yield key, _Wrong(_unknown(clean(key), key, kinds))
        else:
            yield key, _checked(key, value, kinds[key])


def _checked(key: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        return _Wrong(_unknown(f"{key} = {clean(repr(value))}", str(value), [each for each in choices if each]))
    if kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 86_400:
            return float(value)
        return _Wrong(f"{key} = {clean(repr(value))}: it is a number of seconds above 0 and below 86400")
    if isinstance(value, kind):
        return value
    wanted = {bool: "true or false", str: "a text in quotation marks"}[kind]
    return _Wrong(f"{key} = {clean(repr(value))}: it is {wanted}")


def _keys(table: Mapping[str, Any], actions: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for action, value in table.items():
        given = [value] if isinstance(value, str) else value
        if actions and action not in actions:
            yield action, _Wrong(_unknown(clean(action), action, actions))
        elif isinstance(given, list) and all(isinstance(key, str) and (key.strip() or key == " ") for key in given):
            yield action, tuple(given)
        else:
            yield action, _Wrong(f'{clean(action)} = {clean(repr(value))}: it is a key, as "x", or a list of keys')


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(names)}"
    return f"{what} is not known; {hint}"


def _line(text: str, section: str, key: str | None) -> int | None:
    """Where a key of a section (or the section itself) is written: `tomllib` does not tell."""
    name = re.escape(section)
    head = re.compile(rf"""\s*(\[\s*["']?{name}["']?\s*\]|["']?{name}["']?\s*[.=])""")
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if head.match(line):
            inside = True
            if key is None or re.search(rf"""[.{{\s"']{re.escape(key)}["']?\s*=""", line):
                return number
        elif line.lstrip().startswith("["):
            inside = False
        elif inside and key is not None and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return number
    return None
