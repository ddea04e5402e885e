"""The views as data: rows, cells, order, filter. No screen."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.model import DiskState, Event, PathState, Severity, Snapshot
from tests.tui import samples
from tui import query
from tui.cli import VIEW_NAMES
from tui.keytable import widths
from tui.layout import fit, width_of
from tui.screens.travelling import columns_of
from tui.store import Store
from tui.views.catalogue import BY_ID, VIEWS, home_of
from tui.views.overview import Flow, summary, tiles
from tui.views.view import Draw, View
from tui.words import ASCII, UNICODE, Glyphs
from tui.world import World

LISTS = pytest.mark.parametrize("view", VIEWS, ids=[view.id for view in VIEWS])


def store_of(snapshot: Snapshot, view: str) -> Store:
    store = Store()
    store.apply(snapshot, samples.EVENTS, 1.0)
    store.apply(dataclasses.replace(snapshot, taken_at=snapshot.taken_at + 1), (), 2.0)
    store.look_at(view)
    return store


def texts(store: Store, width: int = 240, glyphs: Glyphs = UNICODE) -> list[str]:
    """The rows of a store as text, each exactly so wide."""
    assert store.sight is not None
    draw = Draw(store.sight, store.samples, glyphs, samples.NOW, store.before)
    cells = widths(columns_of(store.view), width)
    found = []
    for row in store.rows:
        line = [
            fit(cell, cell_width, "…")
            for cell, cell_width in zip(store.view.cells(row, draw, cells), cells, strict=True)
        ]
        assert [width_of(cell) for cell in line] == cells
        found.append(" ".join("".join(piece.text for piece in cell) for cell in line))
    return found


def names(store: Store) -> list[str]:
    return [row.item.name for row in store.rows]


def test_the_command_line_knows_the_same_views() -> None:
    assert tuple(view.id for view in VIEWS) == VIEW_NAMES


def test_every_digit_shows_one_view() -> None:
    assert len({view.key for view in VIEWS}) == len(VIEWS) == len(BY_ID)


@LISTS
@pytest.mark.parametrize("width", [60, 80, 120, 240])
def test_every_view_fits_every_width(view: View, width: int) -> None:
    store = store_of(samples.practice(pulled=samples.PORTALS[1]), view.id)
    shown = widths(columns_of(view), width)
    assert sum(shown) + sum(1 for cells in shown if cells) - 1 <= width, "the fixed columns are too wide"
    texts(store, width)


@LISTS
def test_ascii_views_are_ascii(view: View) -> None:
    store = store_of(samples.practice(pulled=samples.PORTALS[1]), view.id)
    assert all(line.isascii() for line in texts(store, 240, ASCII))


def test_disks_say_where_they_are_mounted_and_how_many_paths_work() -> None:
    lines = texts(store_of(samples.practice(pulled=samples.PORTALS[1]), "disks"))
    assert [line.split()[0] for line in lines] == ["data", "logs", "vault"]
    assert "1/2" in lines[0]
    assert "/run/mooring/practice/data 12%" in lines[0]
    assert "not mounted" in lines[1]


def test_sessions_say_what_they_carry() -> None:
    lines = texts(store_of(samples.kernel(), "sessions"))
    assert any("no disk" in line for line in lines)
    assert any("keeper" in line for line in lines), "the CHAP user"
    assert all("62 µs" in line for line in lines)


def test_volumes_links_and_events() -> None:
    assert "61%" in texts(store_of(samples.practice(), "volumes"))[1]
    assert "10 Gb/s" in "".join(texts(store_of(samples.practice(), "links")))
    events = store_of(samples.practice(), "events")
    assert "is degraded" in texts(events)[0], "newest first"
    events.apply(samples.practice(), [Event(1.0, "state", "x", "newest")], 3.0)
    assert events.rows[1].key == f"event:{len(samples.EVENTS)}", "an event keeps its key"


def test_rates_need_two_snapshots() -> None:
    base = samples.practice()
    store = store_of(base, "paths")
    grown = dataclasses.replace(
        base,
        taken_at=base.taken_at + 3,
        paths=tuple(
            dataclasses.replace(path, read_bytes=(path.read_bytes or 0) + 4 * samples.MIB) for path in base.paths
        ),
    )
    store.apply(grown, (), 3.0)
    assert all("2 MiB/s" in line for line in texts(store))
    assert store.flow.reads[-1] == 6 * 2 * samples.MIB
    fewer = dataclasses.replace(grown, taken_at=grown.taken_at + 1, paths=grown.paths[1:])
    store.apply(fewer, (), 4.0)
    assert store.flow.reads[-1] is None, "a path went: what was moved is not known"


# --- the overview -----------------------------------------------------------------------------------------------------


def test_the_overview_lists_what_is_wrong_first() -> None:
    base = samples.practice()
    paths = tuple(
        dataclasses.replace(path, state=PathState.FAILED, reason="no answer") if path.disk == "engine:d:vault" else path
        for path in base.paths
    )
    disks = tuple(
        dataclasses.replace(disk, state=DiskState.NO_PATH) if disk.name == "vault" else disk for disk in base.disks
    )
    store = store_of(dataclasses.replace(base, paths=paths, disks=disks), "overview")
    assert names(store) == ["vault", "data", "logs"]
    assert "I/O to it waits or fails" in texts(store)[0]


def test_the_tiles_count() -> None:
    well = {tile.title: tile for tile in tiles(World(samples.practice()))}
    assert all(tile.worst is Severity.NOTE for tile in well.values())
    assert well["Volumes"].said == "2, 61%"
    hurt = {tile.title: tile for tile in tiles(World(samples.practice(pulled=samples.PORTALS[1])))}
    assert hurt["Paths"].said == "3 of 6"
    assert hurt["Disks"].worst is Severity.WARN
    none = {tile.title: tile for tile in tiles(World(samples.empty()))}
    assert none["Sessions"].said == "none"


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (300, 100)])
def test_the_summary_fits(size: tuple[int, int]) -> None:
    from collections import deque

    flow = Flow(deque([1e6, None, 3e6]), deque())
    for snapshot in (samples.practice(pulled=samples.PORTALS[1]), samples.empty(), samples.large()):
        for line in summary(World(snapshot), flow, size, UNICODE):
            assert width_of(line) <= size[0]


# --- order and filter -------------------------------------------------------------------------------------------------


def test_sorting_is_stable_turns_round_and_puts_the_unknown_last() -> None:
    store = store_of(samples.practice(), "disks")
    store.sort("Mounted on")
    assert names(store) == ["data", "vault", "logs"]
    store.sort("Mounted on")
    assert names(store) == ["vault", "data", "logs"], "backwards, and what has no mount is still last"
    store.sort("Size")
    assert names(store) == ["logs", "vault", "data"], "equal sizes stay as they were"
    assert not store.place.backwards


def test_the_next_column_that_can_sort() -> None:
    store = store_of(samples.practice(), "disks")
    store.sort(by=1)
    assert store.place.sort == "State"
    store.sort(by=-1)
    assert store.place.sort == "Disk"


def test_each_view_has_its_own_filter_and_order() -> None:
    store = store_of(samples.practice(), "disks")
    store.filter("vault")
    assert names(store) == ["vault"]
    store.look_at("paths")
    assert len(store.rows) == 6
    store.look_at("disks")
    assert names(store) == ["vault"]


def test_a_disk_is_found_by_the_label_of_its_volume_among_many() -> None:
    base = samples.large()
    labelled = dataclasses.replace(samples.volume("ledger", 9, 64, 0.5), disks=(base.disks[321].id,), mountpoint="/srv")
    disks = list(base.disks)
    disks[321] = dataclasses.replace(disks[321], volumes=(labelled.id,))
    store = store_of(dataclasses.replace(base, disks=tuple(disks), volumes=(labelled,)), "disks")
    store.filter("label:ledger")
    assert names(store) == ["lun0321"]


def test_what_fits_nothing_exactly_is_read_loosely() -> None:
    store = store_of(samples.practice(), "disks")
    store.filter("vlt")
    assert names(store) == ["vault"]
    assert store.loosely
    store.filter("qqqq")
    assert names(store) == []


def test_what_fits_exactly_is_not_read_loosely() -> None:
    store = store_of(samples.practice(), "disks")
    store.filter("vault")
    assert names(store) == ["vault"]
    assert not store.loosely


def test_loose_words() -> None:
    fields = {"name": "harbour", "target": "iqn.2026-11.io.mooring.practice:harbour"}
    assert query.fits(query.parse("~hrbr"), fields)
    assert not query.fits(query.parse("~hzr"), fields)
    assert not query.fits(query.parse("~ngarbh"), fields)
    assert query.fits(query.parse("target:~mrng !vault"), fields)
    assert not query.fits(query.loosened(query.parse("hrbr !harb")), fields)


def test_everything_has_a_home() -> None:
    snapshot = samples.practice()
    world = World(snapshot)
    homes = {home_of(thing).id for thing in world.index.values()}
    assert homes == {"tree", "sessions", "disks", "paths", "volumes", "links"}
