from __future__ import annotations

import dataclasses

import pytest

from initiator.model import Disk, DiskState, Link, LinkState, Path, SessionState, Snapshot
from tests.tui import samples
from tui.query import parse
from tui.tree import rows
from tui.world import Group, Kind, Row, Target, World


def everything(snapshot: Snapshot, words: str = "") -> list[Row]:
    return rows(World(snapshot), lambda _key, _kind: True, parse(words))


def outline(found: list[Row]) -> list[str]:
    return [f"{row.guide}|{row.kind}" for row in found]


def test_targets_hold_disks_with_volumes_and_paths_then_sessions_then_come_links() -> None:
    assert outline(everything(samples.practice())) == [
        "|target",
        "t|disk",
        "st|volume",
        "st|path",
        "sl|path",
        "t|disk",
        "st|path",
        "sl|path",
        "l|sessions",
        " t|session",
        " t|session",
        " t|session",
        " l|session",
        "|target",
        "t|disk",
        "st|volume",
        "st|path",
        "sl|path",
        "l|sessions",
        " t|session",
        " l|session",
        "|links",
        "t|link",
        "l|link",
    ]


def test_keys_are_unique_and_stay_the_same() -> None:
    keys = [row.key for row in everything(samples.practice())]
    assert len(set(keys)) == len(keys)
    assert keys == [row.key for row in everything(samples.practice(pulled=samples.PORTALS[0]))]


def test_closed_branches_hide_what_is_below() -> None:
    found = rows(World(samples.practice()), lambda _key, kind: kind is Kind.TARGET)
    assert outline(found) == ["|target", "t|disk", "t|disk", "l|sessions", "|target", "t|disk", "l|sessions", "|links"]
    assert [row.opened for row in found] == [True, False, False, False, True, False, False, False]


def test_a_filter_shows_what_fits_with_its_ancestors_and_draws_the_branches_anew() -> None:
    pulled = samples.practice(pulled=samples.PORTALS[1])
    found = everything(pulled, "kind:path state:failed name:data")
    assert outline(found) == ["|target", "l|disk", " l|path"]


def test_a_filter_opens_closed_branches() -> None:
    found = rows(World(samples.practice()), lambda _key, _kind: False, parse("kind:path name:vault"))
    assert [row.kind for row in found] == [Kind.TARGET, Kind.DISK, Kind.PATH, Kind.PATH]
    assert [row.opened for row in found] == [True, True, None, None]


def test_what_fits_keeps_what_is_below_it() -> None:
    found = everything(samples.practice(), "kind:disk name:vault")
    assert [row.kind for row in found] == [Kind.TARGET, Kind.DISK, Kind.VOLUME, Kind.PATH, Kind.PATH]


def test_a_filter_that_fits_nothing_leaves_nothing() -> None:
    assert everything(samples.practice(), "nosuchthing") == []


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("mount:/run/mooring/practice/vault kind:disk", {Kind.DISK}),
        ("fs:ext4", {Kind.VOLUME}),
        ("link:lo kind:path", {Kind.PATH}),
        ("portal:127.0.0.2 kind:session", {Kind.SESSION}),
        ("device:loop2 kind:disk", {Kind.DISK}),
        ("wwid:naa.6d0011c0ffee02", {Kind.DISK}),
        ("source:engine kind:session", {Kind.SESSION}),
    ],
)
def test_every_field_can_be_asked_for(words: str, kinds: set[Kind]) -> None:
    found = everything(samples.practice(), words)
    deepest = max(len(row.guide) for row in found if row.kind in kinds)
    assert {row.kind for row in found if len(row.guide) == deepest} >= kinds


def test_a_target_sums_up_its_disks_and_sessions() -> None:
    def summary(snapshot: Snapshot) -> str:
        return World(snapshot).targets[0].mark.word

    base = samples.practice()
    assert summary(base) == "ok"
    assert summary(samples.practice(pulled=samples.PORTALS[1])) == "degraded"
    dead = tuple(dataclasses.replace(disk, state=DiskState.DEAD) for disk in base.disks)
    assert summary(dataclasses.replace(base, disks=dead)) == "failing"
    lost = tuple(dataclasses.replace(session, state=SessionState.FAILED) for session in base.sessions)
    assert summary(dataclasses.replace(base, sessions=lost)) == "no session"
    away = tuple(dataclasses.replace(disk, state=DiskState.OFFLINE) for disk in base.disks)
    assert summary(dataclasses.replace(base, disks=away)) == "attention"


def test_a_disk_without_a_target_is_filed_under_the_target_of_its_session() -> None:
    base = samples.practice()
    bare = tuple(dataclasses.replace(disk, target=None) for disk in base.disks)
    world = World(dataclasses.replace(base, disks=bare))
    assert [target.name.rpartition(":")[2] for target in world.targets] == ["harbour", "lighthouse"]
    orphan = World(Snapshot("quay", 0.0, disks=(dataclasses.replace(bare[0], paths=()),)))
    assert [target.name for target in orphan.targets] == [""]


def test_references_that_lead_nowhere_do_no_harm() -> None:
    base = samples.practice()
    broken = dataclasses.replace(
        base,
        sessions=(),
        maps=(),
        links=(),
        volumes=(),
        paths=(*base.paths, Path("p:x", "x", base.paths[0].state, "engine:d:gone", "engine:s:gone", link="link:gone")),
    )
    found = everything(broken)
    assert [row.kind for row in found].count(Kind.PATH) == 6
    world = World(broken)
    assert world.portal_of(broken.paths[0]) == broken.paths[0].name


def test_only_links_that_matter_are_shown_the_used_ones_first() -> None:
    base = samples.practice()
    noise = Link("link:veth1", "veth1", LinkState.UP, kind="veth")
    spare = Link("link:eth7", "eth7", LinkState.DOWN, kind="ethernet")
    world = World(dataclasses.replace(base, links=(spare, noise, *base.links)))
    assert [link.name for link in world.links] == ["lo", "eth0", "eth7"]
    group = next(row.item for row in rows(world, lambda _k, _kind: True) if row.kind is Kind.LINKS)
    assert isinstance(group, Group)
    assert (group.working, group.total) == (1, 1), "a spare link without a cable is no trouble"


def test_what_a_used_link_stands_on_is_used_too() -> None:
    legs = tuple(Link(f"link:eth{n}", f"eth{n}", LinkState.UP, kind="ethernet", master="bond0") for n in (0, 1))
    bond = Link("link:bond0", "bond0", LinkState.UP, kind="bond", lower=("eth0", "eth1"))
    base = samples.practice()
    sessions = tuple(dataclasses.replace(session, link="link:bond0") for session in base.sessions)
    paths = tuple(dataclasses.replace(path, link="link:bond0") for path in base.paths)
    world = World(dataclasses.replace(base, sessions=sessions, paths=paths, links=(*legs, bond)))
    assert world.used_links == {"link:bond0", "link:eth0", "link:eth1"}


def test_the_disks_of_a_session_are_known() -> None:
    world = World(samples.practice())
    carried = [[disk.name for disk in world.carried_by(session)] for session in world.snapshot.sessions]
    assert carried == [["data"], ["data"], ["logs"], ["logs"], ["vault"], ["vault"]]


def test_names_are_in_natural_order() -> None:
    base = samples.practice()
    renamed = tuple(
        dataclasses.replace(disk, name=name, target="iqn.2026-11.io.x:t")
        for disk, name in zip(base.disks, ("disk10", "disk9", "disk1"), strict=True)
    )
    target = World(dataclasses.replace(base, disks=renamed)).targets[-1]
    assert isinstance(target, Target)
    names = [
        row.item.name for row in everything(dataclasses.replace(base, disks=renamed)) if isinstance(row.item, Disk)
    ]
    assert names == ["disk1", "disk9", "disk10"]
