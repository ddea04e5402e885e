"""Disks, the paths to them, and the volumes on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from initiator.model import Access, Disk, DiskState, MapState, Path, PathState, Volume
from tui import charts
from tui.layout import end_of
from tui.rowtext import TREND_WIDTH, used
from tui.views.view import Draw, Field, Sight, View, by_name, row, text
from tui.words import Line, Piece, latency, mark, natural, say, short_target, size, span
from tui.world import Kind, Row, World, works

BAR = 8
WORST = (DiskState.DEAD, DiskState.NO_PATH, DiskState.UNKNOWN, DiskState.DEGRADED, DiskState.OFFLINE)
"""States of a disk, worst first; the others are well."""
WORST_PATHS = (PathState.FAILED, PathState.UNKNOWN, PathState.OFFLINE, PathState.STANDBY, PathState.ACTIVE)


def rank(state: Any, worst: tuple[Any, ...]) -> int:
    """The place of a state among those that are listed worst first."""
    return worst.index(state) if state in worst else len(worst)


def mark_cell(item: Any, draw: Draw, width: int) -> Line:
    """Sign and word of the state of any thing of the model."""
    return mark(item.state).pieces(draw.glyphs)


def name_cell(item: Any, draw: Draw, width: int) -> Line:
    """The name of anything."""
    return text(say(item.name), "strong")


# --- disks ------------------------------------------------------------------------------------------------------------


def paths_cell(disk: Disk, draw: Draw, width: int) -> Line:
    """How many of its paths work."""
    paths = draw.world.paths_of(disk)
    working = sum(map(works, paths))
    if not paths:
        return text("none", "dim")
    return text(f"{working}/{len(paths)}", "" if working == len(paths) else "warn" if working else "bad")


def _map(disk: Disk, draw: Draw, width: int) -> Line:
    joined = draw.world.map_of(disk)
    if joined is None:
        return text("single path" if len(disk.paths) < 2 else "no map", "dim" if len(disk.paths) < 2 else "warn")
    role = "" if joined.state is MapState.OK else mark(joined.state).role
    return text(say(joined.name), role)


def volume_cell(disk: Disk, draw: Draw, width: int) -> Line:
    """Where it is mounted, and how full that is."""
    volumes = draw.world.volumes_of(disk)
    if not volumes:
        return text("not mounted" if disk.device else "", "dim")
    first = volumes[0]
    rest = f" +{len(volumes) - 1}" if len(volumes) > 1 else ""
    full = used(first).partition(" ")[0]
    tail = f"{f' {full}' if full else ''}{rest}"
    where = end_of(say(first.mountpoint), max(4, width - len(tail)), draw.glyphs.more)
    return (Piece(where, "volume"), Piece(tail, "dim"))


def device_cell(item: Disk | Path, draw: Draw, width: int) -> Line:
    """The device node without its folder."""
    return text(say((item.device or "").removeprefix("/dev/")))


def _target(disk: Disk, draw: Draw, width: int) -> Line:
    return text(say(short_target(draw.world.target_of(disk))), "dim")


def _lun(item: Disk | Path, draw: Draw, width: int) -> Line:
    return text("" if item.lun is None else str(item.lun))


def best_latency(disk: Disk, world: World) -> float | None:
    """The shortest time of its working paths."""
    times = [path.latency_us for path in world.paths_of(disk) if works(path) and path.latency_us is not None]
    return min(times) if times else None


def _disks(sight: Sight) -> Iterator[Row]:
    disks = sorted(sight.world.snapshot.disks, key=lambda disk: natural(disk.name))
    return (row(Kind.DISK, disk) for disk in disks)


DISKS = View(
    "disks",
    "4",
    "Disks",
    "Disks",
    "Every logical unit: its map or single path, what is mounted from it, its identity",
    (
        Field("Disk", 12, name_cell, by_name, share=2),
        Field("State", 11, mark_cell, lambda disk, world: rank(disk.state, WORST)),
        Field("Size", 9, lambda disk, draw, width: text(size(disk.size_bytes)), lambda d, w: d.size_bytes, right=True),
        Field("Paths", 5, paths_cell, lambda d, w: sum(map(works, w.paths_of(d))) - len(w.paths_of(d)), right=True),
        Field("Map", 11, _map, lambda d, w: natural(m.name) if (m := w.map_of(d)) else None, from_width=100),
        Field("Mounted on", 16, volume_cell, lambda d, w: _mountpoint(d, w), share=3),
        Field("Device", 14, device_cell, lambda d, w: natural(d.device) if d.device else None, from_width=88),
        Field("LUN", 4, _lun, lambda d, w: d.lun, from_width=120, right=True),
        Field("Target", 12, _target, lambda d, w: natural(w.target_of(d)), share=1, from_width=120),
        Field("WWID", 36, lambda d, draw, width: text(say(d.wwid or "no identity")), lambda d, w: d.wwid, 0, 190),
        Field("Serial", 16, lambda d, draw, width: text(say(d.serial or "")), lambda d, w: d.serial, 0, 220),
    ),
    _disks,
    "No disk: no session sees a logical unit.",
    sort="Disk",
)


def _mountpoint(disk: Disk, world: World) -> Any:
    volumes = world.volumes_of(disk)
    return natural(volumes[0].mountpoint) if volumes else None


# --- paths ------------------------------------------------------------------------------------------------------------


def _path_name(path: Path, draw: Draw, width: int) -> Line:
    device = (path.device or "").removeprefix("/dev/")
    return text(say(device or path.name), "strong")


def _path_disk(path: Path, draw: Draw, width: int) -> Line:
    disk = draw.world.disk(path.disk)
    return text(say(disk.name)) if disk else text("unknown", "warn")


def _latency(path: Path, draw: Draw, width: int) -> Line:
    return text(latency(path.latency_us if works(path) else None, draw.glyphs))


def _trend(path: Path, draw: Draw, width: int) -> Line:
    return text(charts.sparkline(draw.samples.get(path.id, ()), min(width, TREND_WIDTH), draw.glyphs), "spark")


def _access(path: Path, draw: Draw, width: int) -> Line:
    return text("" if path.access is Access.UNKNOWN else path.access.removeprefix("active/"), "dim")


def link_cell(item: Any, draw: Draw, width: int) -> Line:
    """The link that carries it; marked where that is down."""
    link = draw.world.link(item.link)
    if link is None:
        return ()
    state = mark(link.state)
    sign = () if state.role == "good" else (Piece(f"{getattr(draw.glyphs, state.shape)} ", state.role),)
    return (*sign, Piece(say(link.name), "" if state.role == "good" else state.role))


def link_order(item: Any, world: World) -> Any:
    """By the name of the link."""
    link = world.link(item.link)
    return natural(link.name) if link else None


def _since(path: Path, draw: Draw, width: int) -> Line:
    if path.since is None:
        return ()
    return text(" ".join(span(draw.now - path.since).split()[:2]), "dim")


def _throughput(path: Path, draw: Draw, width: int) -> Line:
    old = draw.before.index.get(path.id) if draw.before else None
    if not isinstance(old, Path) or draw.before is None:
        return ()
    seconds = draw.world.snapshot.taken_at - draw.before.snapshot.taken_at
    moved = _moved(path) - _moved(old)
    return text(f"{size(int(moved / seconds))}/s" if seconds > 0 and moved > 0 else "", "dim")


def _moved(path: Path) -> int:
    return (path.read_bytes or 0) + (path.write_bytes or 0)


def _path_reason(path: Path, draw: Draw, width: int) -> Line:
    return text(say(path.reason or ""), "warn")


def _paths(sight: Sight) -> Iterator[Row]:
    world = sight.world
    disks = sorted(world.snapshot.disks, key=lambda disk: natural(disk.name))
    for disk in disks:
        for path in world.paths_of(disk):
            yield row(Kind.PATH, path)
    known = {disk.id for disk in disks}
    yield from (row(Kind.PATH, path) for path in world.snapshot.paths if path.disk not in known)


PATHS = View(
    "paths",
    "5",
    "Paths",
    "Paths",
    "Every route to a disk: how it does, how fast it answers, what carries it",
    (
        Field("Path", 10, _path_name, lambda p, w: natural(p.device or p.name), share=1),
        Field("State", 10, mark_cell, lambda p, w: rank(p.state, WORST_PATHS)),
        Field("Disk", 12, _path_disk, lambda p, w: natural(d.name) if (d := w.disk(p.disk)) else None, share=2),
        Field("Portal", 15, lambda p, d, w: text(say(d.world.portal_of(p))), lambda p, w: natural(w.portal_of(p)), 1),
        Field("Latency", 8, _latency, lambda p, w: p.latency_us if works(p) else None, right=True),
        Field("Last minute", TREND_WIDTH + 1, _trend, from_width=100),
        Field("Link", 9, link_cell, link_order, from_width=72),
        Field("Access", 13, _access, lambda p, w: p.access.value, from_width=112),
        Field("I/O", 11, _throughput, lambda p, w: _moved(p) or None, from_width=126, right=True),
        Field(
            "Errors", 6, lambda p, d, w: text(str(p.errors) if p.errors else ""), lambda p, w: p.errors, 0, 126, True
        ),
        Field("Since", 9, _since, lambda p, w: p.since, from_width=140),
        Field("Why", 20, _path_reason, lambda p, w: p.reason, share=3, from_width=150),
    ),
    _paths,
    "No path: no session leads to a disk.",
)


# --- volumes ----------------------------------------------------------------------------------------------------------


def _mounted(volume: Volume, draw: Draw, width: int) -> Line:
    return text(end_of(say(volume.mountpoint), width, draw.glyphs.more), "volume")


def share_used(volume: Volume) -> float | None:
    """How full, from 0 to 1."""
    if not volume.size_bytes or volume.used_bytes is None:
        return None
    return volume.used_bytes / volume.size_bytes


def _used(volume: Volume, draw: Draw, width: int) -> Line:
    share = share_used(volume)
    if share is None:
        return ()
    role = "bad" if share > 0.95 else "warn" if share > 0.85 else "bar"
    return (
        Piece(charts.bar(share, BAR, draw.glyphs), role),
        Piece(f" {100 * share:3.0f}%", "" if role == "bar" else role),
    )


def _on_disk(volume: Volume, draw: Draw, width: int) -> Line:
    return text(", ".join(say(disk.name) for disk in map(draw.world.disk, volume.disks) if disk))


def _namespace(volume: Volume, draw: Draw, width: int) -> Line:
    return text("" if volume.namespace is None else f"namespace {say(volume.namespace)}", "warn")


def _volumes(sight: Sight) -> Iterator[Row]:
    volumes = [volume for volume in sight.world.snapshot.volumes if volume.disks]
    volumes.sort(key=lambda volume: (volume.namespace is not None, natural(volume.mountpoint)))
    return (row(Kind.VOLUME, volume) for volume in volumes)


VOLUMES = View(
    "volumes",
    "7",
    "Volumes",
    "Vols",
    "Every mounted file system on an iSCSI disk, and how full it is",
    (
        Field("Mounted on", 12, _mounted, lambda v, w: natural(v.mountpoint), share=3),
        Field("State", 11, mark_cell, lambda v, w: v.state.value),
        Field("Used", BAR + 5, _used, lambda v, w: share_used(v)),
        Field("Size", 9, lambda v, d, w: text(size(v.size_bytes)), lambda v, w: v.size_bytes, right=True),
        Field("Free", 9, lambda v, d, w: text(size(v.free_bytes)), lambda v, w: v.free_bytes, 0, 90, True),
        Field("Type", 6, lambda v, d, w: text(say(v.fstype)), lambda v, w: v.fstype, from_width=70),
        Field("Label", 10, lambda v, d, w: text(say(v.label or "")), lambda v, w: v.label, share=1, from_width=90),
        Field("Disk", 10, _on_disk, lambda v, w: _first_disk(v, w), share=1),
        Field("Device", 16, lambda v, d, w: text(say(v.device.removeprefix("/dev/"))), lambda v, w: v.device, 0, 120),
        Field("Seen in", 18, _namespace, lambda v, w: v.namespace, from_width=150),
        Field("Options", 24, lambda v, d, w: text(say(v.options), "dim"), lambda v, w: v.options, 1, 170),
    ),
    _volumes,
    "No volume: nothing is mounted from an iSCSI disk.",
    sort="Mounted on",
)


def _first_disk(volume: Volume, world: World) -> Any:
    disks = [disk for disk in map(world.disk, volume.disks) if disk]
    return natural(disks[0].name) if disks else None
