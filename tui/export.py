"""Snapshots as JSON for programs and as aligned text for people."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from initiator.model import PathState, Portal, Snapshot
from initiator.names import clean

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def as_json(value: Any) -> Any:
    """Dataclasses, enums, mappings and tuples as plain JSON values; portals and file names as text."""
    if isinstance(value, Portal | PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    return value


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """The object that `mooring list --json` prints; `schema` and `host` come first."""
    body: dict[str, Any] = as_json(snapshot)
    return {"schema": body.pop("schema"), **body}


def dumps(value: Any) -> str:
    """One JSON document, readable and with every non-ASCII and control character escaped."""
    return json.dumps(as_json(value), indent=2)


def human_size(size: int | None) -> str:
    """A size in binary units with three significant digits; `?` when it is not known."""
    if size is None:
        return "?"
    value = float(size)
    for unit in UNITS:
        if value < 1024 or unit == UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    return f"{size} B"


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns under a title; an empty table says so. Cells are cleaned of control characters."""
    cells = [[clean("-" if cell is None or cell == "" else str(cell)) for cell in row] for row in rows]
    if not cells:
        return f"{title}: none"
    widths = [max(len(headers[i]), *(len(row[i]) for row in cells)) for i in range(len(headers))]
    lines = [f"{title} ({len(cells)})"]
    for row in [list(headers), *cells]:
        lines.append(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    return "\n".join(lines)


Rows = Iterator[Sequence[object]]
Names = Mapping[str, str]
"""The name of each thing by its id."""


class Sheet(NamedTuple):
    """One kind of thing as a table."""

    headers: tuple[str, ...]
    rows: Callable[[Snapshot, Names], Rows]


def human_list(snapshot: Snapshot, kinds: Iterable[str] = ()) -> str:
    """What `mooring list` prints for a person: one small table for each kind of thing, or for those in `kinds`."""
    chosen = tuple(kinds)
    names = _names(snapshot)
    parts = [
        table(kind.capitalize(), sheet.headers, sheet.rows(snapshot, names))
        for kind, sheet in SHEETS.items()
        if kind in chosen or not chosen
    ]
    if snapshot.problems:
        rows = ((each.source, each.subject, each.reason) for each in snapshot.problems)
        parts.append(table("Could not be read", ("BY", "WHAT", "WHY"), rows))
    if not chosen:
        parts.append(f"Engine: {clean(snapshot.engine)}")
    return "\n\n".join(parts)


def csv_list(snapshot: Snapshot, kind: str) -> str:
    """One kind of thing as comma-separated values (RFC 4180) with a line of headers; an unknown value is empty.

    A cell that a spreadsheet would take for a formula is led in by an apostrophe: names come from outside.
    """
    import csv
    import io

    sheet = SHEETS[kind]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header.lower().replace(" ", "_") for header in sheet.headers)
    for row in sheet.rows(snapshot, _names(snapshot)):
        writer.writerow(harmless("" if cell is None else clean(str(cell)) for cell in row))
    return out.getvalue()


def harmless(cells: Iterable[str]) -> list[str]:
    """Cells of a spreadsheet; one that would be taken for a formula is led in by an apostrophe."""
    return [f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in cells]


def _names(snapshot: Snapshot) -> Names:
    return {key: item.name for key, item in snapshot.index().items()}


_BY_NAME = operator.attrgetter("name")


def _disk_rows(snapshot: Snapshot, _: Names) -> Rows:
    points = {volume.id: volume.mountpoint for volume in snapshot.volumes}
    total = Counter(path.disk for path in snapshot.paths)
    good = Counter(path.disk for path in snapshot.paths if path.state in (PathState.ACTIVE, PathState.STANDBY))
    for disk in sorted(snapshot.disks, key=_BY_NAME):
        mounted = ", ".join(points[key] for key in disk.volumes if key in points)
        paths = f"{good[disk.id]} of {total[disk.id]}"
        yield disk.name, disk.state, human_size(disk.size_bytes), disk.device, paths, mounted, disk.wwid


def _session_rows(snapshot: Snapshot, names: Names) -> Rows:
    for each in sorted(snapshot.sessions, key=_BY_NAME):
        yield each.name, each.state, each.source, each.target, each.portal, _named(each.link, names)


def _path_rows(snapshot: Snapshot, names: Names) -> Rows:
    for path in sorted(snapshot.paths, key=_BY_NAME):
        ends = (_named(key, names) for key in (path.disk, path.session, path.link))
        yield path.name, path.state, *ends, path.access, human_latency(path.latency_us)


def _volume_rows(snapshot: Snapshot, names: Names) -> Rows:
    for each in snapshot.volumes:
        if each.disks:
            sizes = (human_size(each.size_bytes), human_size(each.used_bytes))
            disks = ", ".join(names.get(key, key) for key in each.disks)
            yield each.mountpoint, each.state, each.fstype, *sizes, each.device, disks


def _link_rows(snapshot: Snapshot, _: Names) -> Rows:
    for link in snapshot.links:
        speed = f"{link.speed_mbps} Mb/s" if link.speed_mbps else None
        yield link.name, link.state, link.kind, speed, link.mtu, ", ".join(link.addresses)


SHEETS: Mapping[str, Sheet] = {
    "disks": Sheet(("NAME", "STATE", "SIZE", "DEVICE", "PATHS", "MOUNTED ON", "WWID"), _disk_rows),
    "sessions": Sheet(("NAME", "STATE", "BY", "TARGET", "PORTAL", "LINK"), _session_rows),
    "paths": Sheet(("NAME", "STATE", "DISK", "SESSION", "LINK", "ACCESS", "LATENCY"), _path_rows),
    "volumes": Sheet(("MOUNTED ON", "STATE", "TYPE", "SIZE", "USED", "DEVICE", "DISK"), _volume_rows),
    "links": Sheet(("NAME", "STATE", "KIND", "SPEED", "MTU", "ADDRESSES"), _link_rows),
}


def _named(key: str | None, names: Names) -> str | None:
    return names.get(key, key) if key else None


def human_latency(microseconds: float | None) -> str | None:
    """A latency in the unit that reads best."""
    if microseconds is None:
        return None
    return f"{microseconds / 1000:.1f} ms" if microseconds >= 1000 else f"{microseconds:.0f} us"


def human_fields(value: object, indent: str = "") -> str:
    """Every field of one object, a line each, nested ones indented."""
    lines: list[str] = []
    for key, item in as_json(value).items():
        lines.extend(_field_lines(key, item, indent))
    return "\n".join(lines)


def _field_lines(key: str, item: Any, indent: str) -> list[str]:
    if isinstance(item, dict) and item:
        inner = [line for name, value in item.items() for line in _field_lines(name, value, indent + "  ")]
        return [f"{indent}{key}:", *inner]
    if isinstance(item, list) and item and isinstance(item[0], dict):
        return [f"{indent}{key}:"] + [
            line for entry in item for name, value in entry.items() for line in _field_lines(name, value, indent + "  ")
        ]
    if isinstance(item, list):
        item = ", ".join(str(part) for part in item)
    return [f"{indent}{key}: {'-' if item in (None, '', {}) else clean(str(item))}"]
