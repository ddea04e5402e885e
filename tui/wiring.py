"""How one disk is wired, as a picture: volumes, what lies between, the map, then each path down to its link.

Boxes stand on what they are made of; below the disk each path is one line. The same picture at any width: boxes become
narrower, and their text is cut.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from initiator.model import BlockNode, Disk, Path, Volume
from tui.layout import fit, width_of
from tui.rowtext import speed, used
from tui.words import Glyphs, Line, Piece, latency, mark, say, short_target, size
from tui.world import World, works

KINDS = {"part": "partition", "lvm": "LV", "crypt": "LUKS", "md": "md array", "mpath": "map", "bcache": "bcache"}
NARROWEST = 16
"""Cells of the narrowest box; where more would have to stand side by side, the last one says how many are left out."""
DEEPEST = 12
"""Layers at most: the stack of a sane host has three or four."""


@dataclasses.dataclass(slots=True)
class Box:
    """One thing of the stack, with what stands on it."""

    text: Line
    above: list[Box] = dataclasses.field(default_factory=list)
    role: str = "frame"


def wiring(disk: Disk, world: World, width: int, glyphs: Glyphs) -> list[Line]:
    """The picture, `width` cells wide."""
    root = _root(disk, world, glyphs)
    lines = _drawn(root, max(NARROWEST, min(width, _wanted(root))), glyphs, _indent(width) + 1)
    routes = _paths(disk, world, width, glyphs)
    return [*lines, *(line if width_of(line) <= width else fit(line, width, glyphs.more) for line in routes)]


# --- the boxes --------------------------------------------------------------------------------------------------------


def _root(disk: Disk, world: World, glyphs: Glyphs) -> Box:
    joined, state = world.map_of(disk), mark(disk.state)
    paths = world.paths_of(disk)
    working = sum(map(works, paths))
    kind = f"map {say(joined.name)}" if joined and joined.name != disk.name else "disk"
    facts = [size(disk.size_bytes), say(disk.device or "not attached"), f"{working} of {len(paths)} paths work"]
    text: Line = (
        *_kind(kind),
        *state.pieces(glyphs),
        Piece(f"  {say(disk.name)}", "strong", disk.id),
        Piece(f"  {f' {glyphs.dot} '.join(facts)}"),
    )
    return Box(text, _above(disk, world, glyphs), "frame" if state.role in ("good", "calm") else state.role)


def _above(disk: Disk, world: World, glyphs: Glyphs) -> list[Box]:
    nodes = {node.kname: node for node in world.snapshot.block}
    volumes = world.volumes_of(disk)
    base = next((node for node in nodes.values() if disk.dev and node.dev == disk.dev), None)
    shown: set[str] = set()
    boxes = _standing(base, nodes, volumes, world, glyphs, shown, 0) if base is not None else []
    # What no block device leads to stands directly on the disk: better shown in the wrong place than not at all.
    return [*boxes, *(_volume(volume, glyphs) for volume in volumes if volume.id not in shown)]


def _standing(
    node: BlockNode,
    nodes: dict[str, BlockNode],
    volumes: Sequence[Volume],
    world: World,
    glyphs: Glyphs,
    shown: set[str],
    depth: int,
) -> list[Box]:
    """What stands on a block device: its mounts, its swap, its partitions and holders with what stands on these."""
    mounted = [volume for volume in volumes if volume.dev == node.dev and volume.id not in shown]
    shown.update(volume.id for volume in mounted)
    boxes = [_volume(volume, glyphs) for volume in mounted]
    boxes += [Box((*_kind("swap"), Piece(say(swap.path)))) for swap in world.snapshot.swaps if swap.dev == node.dev]
    for name in dict.fromkeys((*node.partitions, *node.holders)):
        upper = nodes.get(name)
        if upper is None or name in shown or depth >= DEEPEST:
            continue
        shown.add(name)
        others = [each for each in upper.slaves if each != node.kname]
        text: Line = (*_kind(KINDS.get(upper.kind, upper.kind)), Piece(say(upper.dm_name or upper.kname), "strong"))
        text += (Piece(f"  {size(upper.size_bytes)}"),)
        if others:
            text += (Piece(f"  also on {say(', '.join(others))}", "warn"),)
        boxes.append(Box(text, _standing(upper, nodes, volumes, world, glyphs, shown, depth + 1)))
    return boxes


def _volume(volume: Volume, glyphs: Glyphs) -> Box:
    state = mark(volume.state)
    facts = f" {glyphs.dot} ".join(filter(None, (say(volume.fstype), used(volume))))
    where = () if volume.namespace is None else (Piece("  in another namespace", "warn"),)
    text: Line = (
        *_kind("volume"),
        Piece(f"{getattr(glyphs, state.shape)} ", state.role),
        Piece(say(volume.mountpoint), "volume", volume.id),
        Piece(f"  {facts}"),
        *where,
    )
    return Box(text)


def _kind(name: str) -> Line:
    return (Piece(f"{say(name)}  ", "dim"),)


# --- drawing them -----------------------------------------------------------------------------------------------------


def _wanted(box: Box) -> int:
    """Cells that a box would like to have: for its own text, and for all that stands on it side by side."""
    return max(width_of(box.text) + 4, sum(map(_wanted, box.above)) + max(0, len(box.above) - 1))


def _drawn(box: Box, width: int, glyphs: Glyphs, foot: int) -> list[Line]:
    """A box with all that stands on it, exactly `width` cells wide; what it stands on is joined at the cell `foot`."""
    above = _that_fit(box.above, width)
    upper: list[list[Line]] = []
    feet: list[int] = []
    at = 0
    for child, room in zip(above, _shares(above, width), strict=True):
        feet.append(at + room // 2)
        upper.append(_drawn(child, room, glyphs, room // 2))
        at += room + 1
    left, right, low_left, low_right = tuple(glyphs.corners)
    up, down = glyphs.joints[0], glyphs.joints[1]
    inner = width - 2
    top = [glyphs.rule] * inner
    for under in feet:
        top[min(max(0, under - 1), inner - 1)] = up
    bottom = [glyphs.rule] * inner
    bottom[min(max(0, foot - 1), inner - 1)] = down
    side = Piece(glyphs.side, box.role)
    lines = _side_by_side(upper, width)
    lines.append((Piece(f"{left}{''.join(top)}{right}", box.role),))
    lines.append((side, Piece(" "), *fit(box.text, inner - 2, glyphs.more), Piece(" "), side))
    lines.append((Piece(f"{low_left}{''.join(bottom)}{low_right}", box.role),))
    return lines


def _that_fit(boxes: list[Box], width: int) -> list[Box]:
    most = max(1, (width + 1) // (NARROWEST + 1))
    if len(boxes) <= most:
        return boxes
    kept = boxes[: most - 1]
    return [*kept, Box((Piece(f"{len(boxes) - len(kept)} more", "warn"),))]


def _shares(boxes: Sequence[Box], width: int) -> list[int]:
    """The cells of each of some boxes that together fill a width, a cell between two."""
    if not boxes:
        return []
    room = width - (len(boxes) - 1)
    wanted = [_wanted(box) for box in boxes]
    whole = sum(wanted)
    spare = room - NARROWEST * len(boxes)
    shares = [NARROWEST + spare * want // whole for want in wanted] if spare > 0 else [room // len(boxes)] * len(boxes)
    shares[-1] += room - sum(shares)
    return shares


def _side_by_side(blocks: list[list[Line]], width: int) -> list[Line]:
    """Blocks of lines beside each other, standing on the same ground."""
    if not blocks:
        return []
    height = max(map(len, blocks))
    widths = [width_of(block[-1]) for block in blocks]
    lines = []
    for row in range(height):
        line: Line = ()
        for block, cells in zip(blocks, widths, strict=True):
            at = row - (height - len(block))
            line += (*((Piece(" "),) if line else ()), *(block[at] if at >= 0 else (Piece(" " * cells),)))
        lines.append(line)
    return lines


# --- the paths --------------------------------------------------------------------------------------------------------

HEADS = ("path", "session", "portal", "link")


def _indent(width: int) -> int:
    """Where the line of the paths leaves the disk."""
    return min(3, max(1, width // 20))


def _paths(disk: Disk, world: World, width: int, glyphs: Glyphs) -> list[Line]:
    paths = world.paths_of(disk)
    if not paths:
        return [(Piece("no path leads to it", "bad"),)]
    rows = [_route(path, world, glyphs) for path in paths]
    indent = " " * (_indent(width) + 1)
    room = width - len(indent) - 3
    columns = [max(len(head), *(width_of(row[at]) for row in rows)) for at, head in enumerate(HEADS)]
    while sum(columns) + 4 * (len(HEADS) - 1) > room and max(columns) > 8:
        columns[columns.index(max(columns))] -= 1
    heads: Line = (Piece(f"{indent}{glyphs.side}  ", "frame"),)
    for head, cells in zip(HEADS, columns, strict=True):
        heads += (Piece(head.ljust(cells + 4), "heading"),)
    lines = [heads]
    for number, (path, row) in enumerate(zip(paths, rows, strict=True)):
        role = "frame" if works(path) else "bad"
        turn = glyphs.last if number == len(rows) - 1 else glyphs.branch
        line: Line = (Piece(indent, ""), Piece(turn, "frame"), Piece(" "))
        for at, (cell, cells) in enumerate(zip(row, columns, strict=True)):
            cut = fit(cell, min(cells, width_of(cell)), glyphs.more)
            gap = cells - width_of(cut) + 2
            line += cut if at == len(row) - 1 else (*cut, Piece(f" {glyphs.rule * gap} ", role))
        lines.append(line)
    return lines


def _route(path: Path, world: World, glyphs: Glyphs) -> tuple[Line, Line, Line, Line]:
    """A path, its session, the portal and the link."""
    session, link = world.session_of(path), world.link(path.link)
    device = say((path.device or "").removeprefix("/dev/"))
    time = latency(path.latency_us if works(path) else None, glyphs)
    first: Line = (
        *_signed(path.state, glyphs),
        Piece(" ".join(filter(None, (device, time))) or "path", "link", path.id),
    )
    second: Line = (Piece("unknown", "warn"),)
    third: Line = (Piece(say(path.name)),)
    if session is not None:
        where = say(short_target(session.target))
        second = (*_signed(session.state, glyphs), Piece(where, "link", session.id))
        third = (Piece(say(str(session.portal))),)
    fourth: Line = (Piece("unknown", "warn"),)
    if link is not None:
        fourth = (
            *_signed(link.state, glyphs),
            Piece(say(link.name), "link", link.id),
            Piece(f" {speed(link)}".rstrip(), "dim"),
        )
    return first, second, third, fourth


def _signed(state: enum.StrEnum, glyphs: Glyphs) -> Line:
    found = mark(state)
    good = found.role == "good"
    word = "" if good else f"{found.word} "
    return (Piece(f"{getattr(glyphs, found.shape)} {word}", found.role),)
