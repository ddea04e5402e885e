"""The overview: how much there is of everything and how much of it works, then what is wrong, worst first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from initiator.judgement import Verdict
from initiator.model import Disk, DiskState, Link, LinkState, MapState, Path, Session, SessionState, Severity, Snapshot
from tui import charts
from tui.feed import UNJUDGED, Judged
from tui.healthdetail import MARKS
from tui.layout import fit, width_of
from tui.rowtext import TREND_WIDTH
from tui.verdict import well
from tui.views.storage import best_latency, mark_cell, paths_cell, share_used, volume_cell
from tui.views.view import Draw, Field, Sight, View, row, text
from tui.words import Glyphs, Line, Mark, Piece, count, latency, mark, natural, say, short_target, size
from tui.world import Item, Kind, Row, Trouble, World, works

# --- the list ---------------------------------------------------------------------------------------------------------

Thing = TypeVar("Thing", Disk, Path, Link)

KINDS: tuple[tuple[type, Kind], ...] = ((Disk, Kind.DISK), (Session, Kind.SESSION), (Link, Kind.LINK))


def _rows(sight: Sight) -> Iterator[Row]:
    world = sight.world
    for key, (severity, told) in sight.troubles.items():
        item = world.index.get(key)
        kind = next((kind for cls, kind in KINDS if isinstance(item, cls)), None)
        if kind is not None and isinstance(item, Disk | Session | Link):
            yield row(kind, item)
        else:
            yield row(Kind.TROUBLE, Trouble(key, told, severity))
    well = (disk for disk in world.snapshot.disks if disk.id not in sight.troubles)
    yield from (row(Kind.DISK, disk) for disk in sorted(well, key=lambda disk: natural(disk.name)))


def _state(item: Item, draw: Draw, width: int) -> Line:
    if isinstance(item, Trouble):
        return mark(item.severity).pieces(draw.glyphs)
    found = draw.sight.verdicts.get(item.id)
    unused = isinstance(item, Disk) and item.state is DiskState.AVAILABLE
    if found is None or (unused and found.verdict is Verdict.OK):
        return mark_cell(item, draw, width)
    return MARKS[found.verdict].pieces(draw.glyphs)


def _what(item: Item, draw: Draw, width: int) -> Line:
    if isinstance(item, Trouble):
        return text("this host", "strong")
    if isinstance(item, Session):
        return text(f"session {say(short_target(item.target))}", "strong")
    if isinstance(item, Link):
        return text(f"link {say(item.name)}", "strong")
    return text(say(item.name), "strong")


def _how(item: Item, draw: Draw, width: int) -> Line:
    if isinstance(item, Trouble):
        return text(say(item.name), mark(item.severity).role)
    found = draw.sight.troubles.get(item.id)
    if found is not None:
        severity, told = found
        return text(told.removeprefix(f"{say(item.name)} "), mark(severity).role)
    return volume_cell(item, draw, width) if isinstance(item, Disk) else ()


def _paths(item: Item, draw: Draw, width: int) -> Line:
    return paths_cell(item, draw, width) if isinstance(item, Disk) else ()


def _size(item: Item, draw: Draw, width: int) -> Line:
    return text(size(item.size_bytes)) if isinstance(item, Disk) else ()


def _latency(item: Item, draw: Draw, width: int) -> Line:
    return text(latency(best_latency(item, draw.world), draw.glyphs)) if isinstance(item, Disk) else ()


def _trend(item: Item, draw: Draw, width: int) -> Line:
    if not isinstance(item, Disk):
        return ()
    working = [path for path in draw.world.paths_of(item) if works(path)]
    samples = draw.samples.get(working[0].id, ()) if working else ()
    return text(charts.sparkline(samples, TREND_WIDTH, draw.glyphs), "spark")


def _size_order(item: Item, world: World) -> Any:
    return item.size_bytes if isinstance(item, Disk) else None


def _latency_order(item: Item, world: World) -> Any:
    return best_latency(item, world) if isinstance(item, Disk) else None


OVERVIEW = View(
    "overview",
    "1",
    "Overview",
    "Over",
    "Health at a glance: how much of everything works, what is wrong first, then every disk",
    (
        Field("What", 12, _what, lambda item, world: natural(item.name), share=1),
        Field("State", 11, _state),
        Field("How it is", 20, _how, share=5),
        Field("Paths", 5, _paths, right=True),
        Field("Size", 9, _size, _size_order, from_width=70, right=True),
        Field("Latency", 8, _latency, _latency_order, right=True),
        Field("Last minute", TREND_WIDTH + 1, _trend, from_width=100),
    ),
    _rows,
    "Nothing is wrong, and there is no disk.",
    detail=False,
)

# --- the tiles above it -----------------------------------------------------------------------------------------------

BOXED_FROM = 30
"""Rows of a screen from which the tiles have frames."""
TALL, FLAT = 5, 3
"""Lines of tiles and the line below them."""


class Tile(NamedTuple):
    """One kind of thing: how much of it works."""

    title: str
    view: str
    key: str
    working: int
    total: int
    said: str
    """What stands beside the sign."""
    worst: Severity
    share: float


class Flow(NamedTuple):
    """Bytes each second over all paths, newest last; None where it cannot be said."""

    reads: deque[float | None]
    writes: deque[float | None]


def tiles(world: World, judged: Judged = UNJUDGED) -> tuple[Tile, ...]:
    """The six tiles; what is judged counts by its verdict."""
    snapshot = world.snapshot
    sessions = sum(session.state is SessionState.LOGGED_IN for session in snapshot.sessions)
    bad = {DiskState.DEAD, DiskState.NO_PATH}
    fine = {DiskState.ATTACHED, DiskState.AVAILABLE}
    disks = _working(snapshot.disks, judged, lambda disk: disk.state in fine)
    paths = _working(snapshot.paths, judged, works)
    lost = any(disk.state in bad for disk in snapshot.disks)
    maps = sum(joined.state is MapState.OK for joined in snapshot.maps)
    used = [link for link in world.links if link.id in world.used_links] or list(world.links)
    up = _working(used, judged, lambda link: link.state is LinkState.UP)
    return (
        _tile("Sessions", "sessions", "3", sessions, len(snapshot.sessions), lost=not sessions),
        _tile("Disks", "disks", "4", disks, len(snapshot.disks), lost=lost),
        _tile("Paths", "paths", "5", paths, len(snapshot.paths), lost=not world.working),
        _tile("Maps", "disks", "4", maps, len(snapshot.maps)),
        _tile("Links", "links", "6", up, len(used), lost=not up),
        _volumes(snapshot),
    )


def _working(items: Sequence[Thing], judged: Judged, works: Callable[[Thing], bool]) -> int:
    """How many work and are as they should be, by their verdicts where there are some."""
    return sum(works(item) and well(item.id, judged) is not False for item in items)


def _tile(title: str, view: str, key: str, working: int, total: int, *, lost: bool = False) -> Tile:
    worst = Severity.NOTE if working == total else Severity.BAD if lost else Severity.WARN
    said = "none" if not total else f"{working:,}" if working == total else f"{working:,} of {total:,}"
    return Tile(title, view, key, working, total, said, worst, working / total if total else 0.0)


def _volumes(snapshot: Snapshot) -> Tile:
    volumes = {volume.dev: volume for volume in snapshot.volumes if volume.disks}.values()
    shares = [share for volume in volumes if (share := share_used(volume)) is not None]
    fullest = max(shares, default=0.0)
    worst = Severity.BAD if fullest > 0.95 else Severity.WARN if fullest > 0.85 else Severity.NOTE
    full = f", {100 * fullest:.0f}%" if shares else ""
    return Tile("Volumes", "volumes", "7", len(volumes), len(volumes), f"{len(volumes)}{full}", worst, fullest)


def _sign(tile: Tile, glyphs: Glyphs) -> tuple[Piece, str]:
    if not tile.total:
        return Piece(f"{glyphs.idle} ", "dim"), "dim"
    state = Mark("good", "", "good") if tile.worst is Severity.NOTE else mark(tile.worst)
    return Piece(f"{getattr(glyphs, state.shape)} ", state.role), state.role


def _inside(tile: Tile, width: int, glyphs: Glyphs) -> tuple[Line, Line]:
    sign, role = _sign(tile, glyphs)
    to = f"view:{tile.view}"
    first: Line = (sign, Piece(tile.said, "strong" if role == "good" else role, to))
    drawn = charts.bar(tile.share, max(1, width), glyphs) if tile.total else " " * width
    return fit(first, width, glyphs.more), (Piece(drawn, "bar" if role == "good" else role, to),)


def summary(world: World, flow: Flow, size_: tuple[int, int], glyphs: Glyphs, judged: Judged = UNJUDGED) -> list[Line]:
    """The tiles for a screen of this width and height, and a line about what moves."""
    width, height = size_
    found = tiles(world, judged)
    room = (width - 2) // len(found)
    if height >= BOXED_FROM:
        lines = [_boxed(found, room, glyphs, row) for row in range(4)]
    else:
        lines = [_flat(found, room, glyphs, row) for row in range(2)]
    moving = _moving(world, flow, width, glyphs)
    return [*lines, moving if width_of(moving) <= width else fit(moving, width, glyphs.more)]


def _boxed(found: Sequence[Tile], room: int, glyphs: Glyphs, at: int) -> Line:
    line: Line = (Piece(" "),)
    inner = room - 5
    for tile in found:
        role = "frame" if tile.worst is Severity.NOTE else mark(tile.worst).role
        side = Piece(glyphs.side, role)
        if at == 0:
            title: Line = (Piece(f" {tile.key}", "key"), Piece(f" {tile.title} ", "heading", f"view:{tile.view}"))
            rule = glyphs.rule * max(0, inner + 2 - width_of(title) - 1)
            line += (Piece(glyphs.corners[0] + glyphs.rule, role), *title, Piece(f"{rule}{glyphs.corners[1]} ", role))
        elif at == 3:
            line += (Piece(f"{glyphs.corners[2]}{glyphs.rule * (inner + 2)}{glyphs.corners[3]} ", role),)
        else:
            line += (side, Piece(" "), *_inside(tile, inner, glyphs)[at - 1], Piece(" "), side, Piece(" "))
    return line


def _flat(found: Sequence[Tile], room: int, glyphs: Glyphs, at: int) -> Line:
    line: Line = (Piece(" "),)
    for tile in found:
        if at == 0:
            cell: Line = (Piece(tile.title, "heading", f"view:{tile.view}"),)
        else:
            cell = _inside(tile, room - 1, glyphs)[0]
        line += (*fit(cell, room - 1, glyphs.more), Piece(" "))
    return line


def _moving(world: World, flow: Flow, width: int, glyphs: Glyphs) -> Line:
    line: Line = (Piece(" "),)
    spark = 12 if width >= 100 else 6
    for name, values in (("Reading", flow.reads), ("Writing", flow.writes)):
        now = values[-1] if values else None
        told = "not known" if now is None else f"{size(int(now))}/s"
        graph = charts.sparkline(values, spark, glyphs) if any(values) else ""
        line += (Piece(f"{name} ", "dim"), Piece(f"{told:>11} ", "strong" if now else ""), Piece(graph, "spark"))
        line += (Piece("  "),)
    times = sorted(path.latency_us for path in world.snapshot.paths if works(path) and path.latency_us is not None)
    if times:
        middle, worst = latency(times[len(times) // 2], glyphs), latency(times[-1], glyphs)
        line += (Piece("Latency ", "dim"), Piece(middle, "strong"), Piece(f", slowest {worst}", "dim"))
    elif world.snapshot.paths:
        line += (Piece(f"no latency known of {count(len(world.snapshot.paths), 'path')}", "dim"),)
    return line
