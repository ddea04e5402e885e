"""What multipathd and the device mapper say of multipath maps: the formats, without any socket.

multipathd's JSON is not escaped: a quote or a control character in what a target calls itself breaks it. Each map
stands by itself in it, so one broken map is read line by line and spoils no other one. Fields with `#` in them belong
to paths that multipathd has only heard of. Formats as of multipath-tools 0.8 to 0.14 (`show maps json`, `show paths raw
format`) and of the status line of the kernel's multipath target.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from initiator.errors import MooringError
from initiator.names import clean


class FormatError(MooringError):
    """An answer is not what any known version of multipathd or dmsetup gives."""

    code = "multipath-format"
    fix = "look at the output of: multipathd show maps json"


MAPS_COMMAND = "show maps json"
_MAP_FIELDS = {
    "%n": "name",
    "%w": "uuid",
    "%d": "sysfs",
    "%Q": "queueing",
    "%t": "dm_st",
    "%x": "failures",
    "%0": "path_faults",
    "%3": "total_q_time",
    "%4": "q_timeouts",
}
RAW_MAPS_COMMAND = f'show maps raw format "{"|".join(_MAP_FIELDS)}"'
_PATH_FIELDS = {
    "%i": "hcil",
    "%d": "dev",
    "%D": "dev_t",
    "%t": "dm_st",
    "%o": "dev_st",
    "%T": "chk_st",
    "%m": "map",
    "%0": "failures",
    "%I": "init_st",
    "%w": "uuid",
}
PATHS_COMMAND = f'show paths raw format "{"|".join(_PATH_FIELDS)}"'
"""Without %c, which makes some versions answer nothing if there is an orphan."""

_OF_PATH = ("dev", "dev_t", "dm_st", "dev_st", "chk_st", "checker")
_BETWEEN_MAPS = "\n   },{\n"
_LINE = re.compile(r'^ *"(\w+)" *: *(?:"(.*)"|(-?\d+)|(\[\{)),?$')
_NESTED = (list, dict)
"""What is no field of a map itself: its groups."""
_LONGEST = 200
_JSON = json.JSONDecoder(strict=False)
"""Takes control characters in texts as they are."""


class MapPath(NamedTuple):
    """One path of a map."""

    dev: str | None
    dev_t: str | None
    dm_st: str | None
    """active or failed: what the device mapper does with it."""
    dev_st: str | None = None
    chk_st: str | None = None
    checker: str | None = None
    priority: int | None = None
    group: int | None = None
    in_use: bool = False
    """Whether its group is the one that gets the I/O."""
    failures: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MapInfo:
    """One map."""

    name: str
    wwid: str | None
    sysfs: str | None
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Everything else under multipathd's own names."""
    paths: tuple[MapPath, ...] = ()
    suspended: bool | None = None
    policy: str | None = None
    queueing: str | None = None


class ListedPath(NamedTuple):
    """One path that multipathd knows, in a map or not."""

    dev: str | None
    hctl: str | None
    map: str | None
    """The map's name; None for an orphan."""
    wwid: str | None
    path: MapPath
    ready: bool = True
    """False while multipathd has not finished looking at it."""


@functools.lru_cache(maxsize=1 << 14)
def known(value: object) -> str | None:
    """A field as text; None for what multipathd writes where it does not know. Most paths say the same."""
    text = value if isinstance(value, str) else str(value)
    if not text.isascii() or not text.isprintable() or len(text) > _LONGEST:
        text = clean(text, _LONGEST)
    text = text.strip()
    return None if text in ("", "-", "undef", "[undef]", "unknown", "[unknown]") or "#" in text else text


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value
    text = str(value)
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else None


# --- JSON ---


class MapsParser:
    """Reads answers to `MAPS_COMMAND` one after another; what is the same as last time is not parsed again."""

    def __init__(self) -> None:
        self._known: dict[str, MapInfo] = {}

    def parse(self, text: str) -> tuple[MapInfo, ...]:
        """The maps of an answer.

        Raises:
            FormatError: it is no such answer.
        """
        body = _body(text)
        seen: dict[str, MapInfo] = {}
        for piece in () if body is None else body.split(_BETWEEN_MAPS):
            seen[piece] = self._known.get(piece) or _parse_map(piece)
        self._known = seen
        return tuple(seen.values())


def parse_maps(text: str) -> tuple[MapInfo, ...]:
    """Like `MapsParser.parse`, once."""
    return MapsParser().parse(text)


def _body(text: str) -> str | None:
    """The members of `maps`, without the brackets around the first and after the last; None where there are none."""
    head, found, body = text.partition('"maps":')
    if not found or not head.lstrip().startswith("{"):
        raise FormatError(f"multipathd does not answer with its maps: {clean(text, 80)!r}")
    begin = body.find("[")
    end = body.rfind("]")
    if begin < 0 or end < begin or body[:begin].strip():
        raise FormatError("multipathd's list of maps ends in the middle")
    body = body[begin + 1 : end].strip()
    if not body:
        return None
    if not body.startswith("{") or not body.endswith("}"):
        raise FormatError("multipathd's list of maps ends in the middle")
    return body[1:-1]


def _parse_map(piece: str) -> MapInfo:
    try:
        found = _JSON.decode("{" + piece + "}")
    except (ValueError, RecursionError):
        found = _by_lines(piece)
    try:
        return _to_map(found)
    except (TypeError, AttributeError, KeyError) as error:
        raise FormatError("a map in multipathd's answer has another shape than expected") from error


def _by_lines(piece: str) -> dict[str, Any]:
    """One map from its lines: multipathd writes one field on each, and whatever is between the outer quotes is text."""
    found: dict[str, Any] = {"path_groups": []}
    into = found
    for line in piece.splitlines():
        fits = _LINE.match(line)
        if fits is None:
            # A next member of the list that is being read: a group ends with `]`, a path does not.
            if line.strip() == "},{" and "dev" in into:
                into = _append(found["path_groups"][-1]["paths"])
            elif line.strip() == "},{":
                into = _append(found["path_groups"])
            elif line.strip() == "}]" and found["path_groups"]:
                into = found["path_groups"][-1]
            continue
        key, string, digits, opens = fits.groups()
        if opens and key == "path_groups":
            into = _append(found["path_groups"])
        elif opens and key == "paths" and found["path_groups"]:
            into = found["path_groups"][-1]
            into["paths"] = []
            into = _append(into["paths"])
        elif not opens:
            into[key] = string if digits is None else int(digits)
    return found


def _append(items: list[dict[str, Any]]) -> dict[str, Any]:
    items.append({})
    return items[-1]


def _to_map(found: Mapping[str, Any]) -> MapInfo:
    groups: Sequence[Mapping[str, Any]] = found.get("path_groups") or ()
    # After each table load no group is active until the first I/O, which goes to the first that may be used.
    used = _first(groups, "active") or _first(groups, "enabled") or {}
    paths = []
    for number, group in enumerate(groups, 1):
        index = _whole(group.get("group", number))
        paths += [_to_path(path, index, group is used) for path in group.get("paths") or ()]
    fields = {key: text for key, value in found.items() if not isinstance(value, _NESTED) and (text := known(value))}
    name = fields.pop("name", None)
    if name is None:
        raise FormatError("a map in multipathd's answer has no name")
    state = fields.get("dm_st")
    return MapInfo(
        name=name,
        wwid=fields.pop("uuid", None),
        sysfs=fields.pop("sysfs", None),
        fields=fields,
        paths=tuple(paths),
        suspended=None if state is None else state.startswith("suspend"),
        policy=known(used.get("selector", "")),
        queueing=fields.get("queueing"),
    )


def _first(groups: Sequence[Mapping[str, Any]], state: str) -> Mapping[str, Any] | None:
    return next((group for group in groups if group.get("dm_st") == state), None)


def _to_path(path: Mapping[str, Any], group: int | None, in_use: bool) -> MapPath:
    dev, dev_t, dm_st, dev_st, chk_st, checker = [known(path.get(key, "")) for key in _OF_PATH]
    return MapPath(dev, dev_t, dm_st, dev_st, chk_st, checker, _whole(path.get("pri", "")), group, in_use)


# --- raw formats ---


class PathsParser:
    """Reads answers to `PATHS_COMMAND` one after another; a line that is the same as last time is not parsed again."""

    def __init__(self) -> None:
        self._known: dict[str, ListedPath] = {}

    def parse(self, text: str) -> tuple[ListedPath, ...]:
        """The paths of an answer.

        Raises:
            FormatError: it is no such answer.
        """
        before = self._known
        seen = {line: before.get(line) or _to_listed(line) for line in _lines(text)}
        self._known = seen
        return tuple(seen.values())


def parse_paths(text: str) -> tuple[ListedPath, ...]:
    """Like `PathsParser.parse`, once."""
    return PathsParser().parse(text)


def _to_listed(line: str) -> ListedPath:
    hctl, dev, dev_t, dm_st, dev_st, chk_st, name, failures, init_st, wwid = _values(line, len(_PATH_FIELDS))
    name = name.strip()
    path = MapPath(
        dev=known(dev),
        dev_t=known(dev_t),
        dm_st=known(dm_st),
        dev_st=known(dev_st),
        chk_st=known(chk_st),
        failures=_whole(failures.strip()),
    )
    loose = name in ("[orphan]", "[offline]", "[unknown]", "")
    return ListedPath(
        dev=path.dev,
        hctl=known(hctl),
        map=None if loose else known(name),
        wwid=known(wwid),
        path=path,
        ready=name != "[unknown]" and init_st.strip() in ("ok", "failed"),
    )


def parse_raw_maps(text: str, listed: Iterable[ListedPath]) -> tuple[MapInfo, ...]:
    """The answer to `RAW_MAPS_COMMAND`, with the paths that `listed` has for each map; groups are not known then."""
    by_map: dict[str, list[MapPath]] = {}
    for path in listed:
        if path.map is not None:
            by_map.setdefault(path.map, []).append(path.path)
    found = []
    for line in _lines(text):
        row = zip(_MAP_FIELDS.values(), _values(line, len(_MAP_FIELDS)), strict=True)
        fields = {key: value for key, text in row if (value := known(text))}
        name = fields.pop("name", None)
        if name is None:
            raise FormatError("a map in multipathd's answer has no name")
        state = fields.get("dm_st")
        suspended = None if state is None else state.startswith("suspend")
        paths = tuple(by_map.get(name, ()))
        uuid, place, queueing = fields.pop("uuid", None), fields.pop("sysfs", None), fields.get("queueing")
        found.append(MapInfo(name, uuid, place, fields, paths, suspended, None, queueing))
    return tuple(found)


def _lines(text: str) -> list[str]:
    if not text.strip():  # where there is nothing to list, multipathd says ok; an empty answer is a known bug
        raise FormatError("multipathd gives an empty answer")
    # splitlines would also split at what only a target's own text can have in it
    return [line for line in text.split("\n") if line and line != "ok"]


def _values(line: str, count: int) -> list[str]:
    values = line.split("|")
    if len(values) != count:
        raise FormatError(f"a line of multipathd has {len(values)} fields instead of {count}")
    return values


# --- the device mapper ---


def parse_dm_status(text: str) -> tuple[MapInfo, ...]:
    """The output of `dmsetup status --target multipath`: what the kernel itself does with each path.

    Raises:
        FormatError: a line is not as the kernel's multipath target writes it.
    """
    return tuple(_dm_line(line) for line in text.split("\n") if "multipath" in line.split()[3:4])


def _dm_line(line: str) -> MapInfo:
    name, _, rest = line.partition(": ")
    words = iter(rest.split())
    try:
        for _ in range(3):  # first sector, length, `multipath`
            next(words)
        for _ in range(2):  # how much is queued; what the hardware handler says
            for _ in range(int(next(words))):
                next(words)
        groups = int(next(words))
        following = int(next(words))
        members = [_dm_group(words, group) for group in range(1, groups + 1)]
        used = next((group for group, (state, _) in enumerate(members, 1) if state == "A"), following)
        paths = [path._replace(in_use=path.group == used) for _, found in members for path in found]
    except (StopIteration, ValueError) as error:
        raise FormatError(f"dmsetup's status of {clean(name, 80)!r} is not understood") from error
    return MapInfo(clean(name), None, None, {}, tuple(paths), None)


def _dm_group(words: Iterator[str], group: int) -> tuple[str, list[MapPath]]:
    state = next(words)  # A in use, E enabled, D switched off
    for _ in range(int(next(words))):
        next(words)
    count = int(next(words))
    arguments = int(next(words))
    found = []
    for _ in range(count):
        dev_t, path_state, failures = next(words), next(words), int(next(words))
        for _ in range(arguments):
            next(words)
        dm_st = {"A": "active", "F": "failed"}.get(path_state)
        found.append(MapPath(None, dev_t, dm_st, group=group, failures=failures))
    return state, found
