"""One snapshot as the rows of the tree: targets, their disks with volumes and paths, their sessions, the links.

Pure: the same snapshot, the same open branches and the same filter give the same rows. Rows are cheap, because they are
made anew for every snapshot; what a row says is worked out only when it is on screen (see `rowtext`).
"""

from __future__ import annotations

from collections.abc import Callable

from initiator.model import Disk, LinkState, SessionState
from tui import query as filters
from tui.fields import fields
from tui.world import Group, Item, Kind, Row, Target, World

Opened = Callable[[str, Kind], bool]
"""Whether the branch with this key is open."""


def rows(world: World, opened: Opened, query: filters.Query = ()) -> list[Row]:
    """The visible rows, top to bottom. A filter shows what fits, its ancestors, and what is below it."""
    found: list[Row] = []
    for target in world.targets:
        top = Row(target.id, Kind.TARGET, target, "", opened(target.id, Kind.TARGET))
        _add(found, top, world, opened, query)
    if world.links:
        wanted = [link for link in world.links if link.id in world.used_links] or world.links
        working = sum(link.state is LinkState.UP for link in wanted)
        group = Group("links", "links", len(wanted), working)
        _add(found, Row(group.id, Kind.LINKS, group, "", opened(group.id, Kind.LINKS)), world, opened, query)
    return _redrawn(found) if query else found


def _add(found: list[Row], row: Row, world: World, opened: Opened, query: filters.Query) -> bool:
    """Add a row and what is visible below it; returns whether anything was added."""
    fits = not query or filters.fits(query, fields(world, row.kind, row.item))
    at = len(found)
    found.append(row)
    if fits and not row.opened:
        return True
    below = False
    for child in _children(world, row, opened):
        if fits and not child.opened:
            found.append(child)
        else:
            below |= _add(found, child, world, opened, () if fits else query)
    if fits or below:
        if row.opened is False:
            found[at] = row._replace(opened=True)
        return True
    del found[at:]
    return False


def _redrawn(found: list[Row]) -> list[Row]:
    """The branches drawn anew after a filter took rows away: from the bottom up it is known what goes on below."""
    drawn: list[Row] = []
    going_on: set[int] = set()
    for row in reversed(found):
        depth = len(row.guide)
        stems = "".join("s" if level in going_on else " " for level in range(1, depth))
        end = ("t" if depth in going_on else "l") if depth else ""
        drawn.append(row._replace(guide=stems + end))
        going_on = {level for level in going_on if level < depth} | {depth}
    drawn.reverse()
    return drawn


def _children(world: World, row: Row, opened: Opened) -> list[Row]:
    item = row.item
    if isinstance(item, Target):
        below: list[tuple[str, Kind, Item, bool | None]] = []
        for disk in item.disks:
            leaf = not disk.paths and not disk.volumes
            below.append((disk.id, Kind.DISK, disk, None if leaf else opened(disk.id, Kind.DISK)))
        if item.sessions:
            working = sum(session.state is SessionState.LOGGED_IN for session in item.sessions)
            group = Group(f"sessions:{item.name}", "sessions", len(item.sessions), working, item.name)
            below.append((group.id, Kind.SESSIONS, group, opened(group.id, Kind.SESSIONS)))
    elif isinstance(item, Disk):
        below = [(f"{item.id}/{volume.id}", Kind.VOLUME, volume, None) for volume in world.volumes_of(item)]
        below += [(path.id, Kind.PATH, path, None) for path in world.paths_of(item)]
    elif row.kind is Kind.LINKS:
        below = [(link.id, Kind.LINK, link, None) for link in world.links]
    else:
        target = item.target if isinstance(item, Group) else ""
        below = [(session.id, Kind.SESSION, session, None) for session in world.sessions_of(target)]
    stem = row.guide[:-1] + {"t": "s", "l": " ", "": ""}[row.guide[-1:]]
    more, last = stem + "t", len(below) - 1
    return [Row(k, kind, i, stem + "l" if n == last else more, o) for n, (k, kind, i, o) in enumerate(below)]
