"""What a row of the tree says, cell by cell. Called only for the rows on screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from initiator.model import Access, Disk, Link, Path, Session, Volume
from tui import charts
from tui.layout import end_of, width_of
from tui.words import Glyphs, Line, Mark, Piece, count, latency, mark, say, short_target, size
from tui.world import Group, Kind, Row, Target, World, works

TREND_WIDTH = 10


class Cells(NamedTuple):
    """One row: what it is, its state, a number, where it is, and the last samples of a path."""

    name: Line
    state: Line
    measure: Line
    place: Line
    trend: Line


Samples = Mapping[str, Sequence[float | None]]
"""Latencies of the last samples by path id, in microseconds."""


def cells(row: Row, world: World, samples: Samples, glyphs: Glyphs, name_width: int) -> Cells:
    """The cells of one row. Mount points longer than `name_width` lose their beginning: the end tells them apart."""
    name: Line = _branches(row, glyphs)
    state: Line = ()
    measure = trend = ""
    place: Line = ()
    item = row.item
    if isinstance(item, Target):
        title = say(short_target(item.name)) if item.name else "no target known"
        name += (Piece(title, "title"),)
        state = item.mark.pieces(glyphs)
        place = (Piece(count(len(item.disks), "disk"), "dim"),)
    elif isinstance(item, Group):
        name += (Piece(item.name, "title" if row.kind is Kind.LINKS else "dim"),)
        state, place = _group(item, glyphs)
    elif isinstance(item, Disk):
        name += (Piece(say(item.name), "strong"),)
        state, measure, place = mark(item.state).pieces(glyphs), size(item.size_bytes), _disk_place(item)
    elif isinstance(item, Volume):
        room = name_width - width_of(name)
        name += (Piece(end_of(say(item.mountpoint), room, glyphs.more), "volume"),)
        state, measure, place = _volume(item, glyphs)
    elif isinstance(item, Path):
        name += _path_name(item, world)
        state, measure, place = _path(item, world, glyphs)
        trend = charts.sparkline(samples.get(item.id, ()), TREND_WIDTH, glyphs)
    elif isinstance(item, Session):
        name += (Piece(say(str(item.portal))),)
        state, measure, place = _session(item, world, glyphs)
    elif isinstance(item, Link):
        name += (Piece(say(item.name)),)
        state, measure, place = _link(item, glyphs)
    return Cells(name, state, (Piece(measure),), place, (Piece(trend, "spark"),))


def _branches(row: Row, glyphs: Glyphs) -> Line:
    signs = {True: f"{glyphs.opened} ", False: f"{glyphs.closed} ", None: ""}
    sign = Piece(signs[row.opened], "dim")
    if not row.guide:
        return (sign,)
    drawn = "".join(glyphs.stem if step == "s" else "  " for step in row.guide[:-1])
    drawn += glyphs.branch if row.guide[-1] == "t" else glyphs.last
    return (Piece(drawn if sign.text else f"{drawn} ", "rule"), sign)


def _group(group: Group, glyphs: Glyphs) -> tuple[Line, Line]:
    if group.working == group.total:
        return Mark("good", f"{group.total} up", "good").pieces(glyphs), ()
    return Mark("warn", f"{group.working} of {group.total} up", "warn").pieces(glyphs), ()


def _disk_place(disk: Disk) -> Line:
    if disk.device:
        return (Piece(say(disk.device)),)
    return (Piece("" if disk.lun is None else f"LUN {disk.lun}", "dim"),)


def _volume(volume: Volume, glyphs: Glyphs) -> tuple[Line, str, Line]:
    place: Line = (Piece(say(volume.fstype)),)
    if volume.namespace is not None:
        place += (Piece(f" in namespace {say(volume.namespace)}", "warn"),)
    return mark(volume.state).pieces(glyphs), used(volume), place


def used(volume: Volume) -> str:
    """How full a volume is, in whole per cent of what it can hold."""
    if volume.size_bytes is None or volume.used_bytes is None or not volume.size_bytes:
        return ""
    return f"{100 * volume.used_bytes / volume.size_bytes:.0f}% used"


def _path_name(path: Path, world: World) -> Line:
    device: Line = (Piece(f"{say(path.device.removeprefix('/dev/'))} "),) if path.device else ()
    return (*device, Piece("via ", "dim"), Piece(say(world.portal_of(path))))


def _path(path: Path, world: World, glyphs: Glyphs) -> tuple[Line, str, Line]:
    link = world.link(path.link)
    place: Line = (Piece(say(link.name)),) if link else ()
    if path.access is not Access.UNKNOWN:
        place += (Piece(f"{' ' if place else ''}{path.access.removeprefix('active/')}", "dim"),)
    # What a path took before it failed says nothing about now.
    return mark(path.state).pieces(glyphs), latency(path.latency_us if works(path) else None, glyphs), place


def _session(session: Session, world: World, glyphs: Glyphs) -> tuple[Line, str, Line]:
    tcp = next((c.tcp for c in session.connections if c.tcp), None)
    carried = world.carried_by(session)
    text = say(carried[0].name) if len(carried) == 1 else count(len(carried), "disk")
    place: Line = (Piece(text, "" if carried else "dim"),)
    return mark(session.state).pieces(glyphs), latency(tcp.rtt_us if tcp else None, glyphs), place


def speed(link: Link) -> str:
    """The speed of a link, as `1 Gb/s`; empty for links that have none."""
    if not link.speed_mbps or link.speed_mbps < 0:
        return ""
    return f"{link.speed_mbps / 1000:g} Gb/s" if link.speed_mbps >= 1000 else f"{link.speed_mbps} Mb/s"


def _link(link: Link, glyphs: Glyphs) -> tuple[Line, str, Line]:
    where = link.addresses[0] if link.addresses else link.kind
    return mark(link.state).pieces(glyphs), speed(link), (Piece(say(where), "dim"),)
