from __future__ import annotations

import dataclasses

import pytest

from initiator.model import Disk, DiskState, Snapshot
from tests.tui import samples
from tui import glossary, tricks
from tui.actions import ACTIONS, BY_ID, Context, around, disk_of, disks_of, key_name, why_not
from tui.screens.main import MainScreen
from tui.store import Store
from tui.views.view import row as list_row
from tui.world import Kind, Row, World

REMOVE = BY_ID["remove"]


def row(key: str, view: str = "tree", snapshot: Snapshot | None = None) -> Row:
    store = Store()
    store.look_at(view)
    store.apply(snapshot or samples.practice(), (), 0.0)
    store.open_all(True)
    found = store.row(key)
    assert found is not None
    return found


def context(key: str | None = "engine:d:data", **changes: object) -> Context:
    base = Context(row(key) if key else None, "", stale=False, paused=False, age_s=0.5)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_every_action_has_a_method_a_key_and_words() -> None:
    keys = [key for action in ACTIONS for key in action.keys]
    assert len(set(keys)) == len(keys), "one key, one action"
    for action in ACTIONS:
        assert callable(getattr(MainScreen, f"do_{action.id}"))
        assert action.label
        assert action.text
        assert key_name(action)


@pytest.mark.parametrize(
    ("key", "disk"),
    [
        ("engine:d:data", "engine:d:data"),
        ("engine:d:data/volume:0", "engine:d:data"),
        ("engine:p:vault-127.0.0.2", "engine:d:vault"),
        ("engine:s:data-127.0.0.1", None),
        (f"target:{samples.IQN}:harbour", None),
        ("links", None),
        ("link:lo", None),
    ],
)
def test_the_disk_of_a_row(key: str, disk: str | None) -> None:
    assert disk_of(row(key)) == disk


def on(*disks: str) -> Snapshot:
    """The practice range with its first volume on these disks."""
    base = samples.practice()
    first = dataclasses.replace(base.volumes[0], disks=tuple(f"engine:d:{disk}" for disk in disks))
    return dataclasses.replace(base, volumes=(first, *base.volumes[1:]))


def test_the_disk_of_a_volume_in_the_list_of_volumes() -> None:
    assert disk_of(row("volume:0", "volumes")) == "engine:d:data"
    both = row("volume:0", "volumes", on("data", "logs"))
    assert (disks_of(both), disk_of(both)) == (("engine:d:data", "engine:d:logs"), None)
    assert disk_of(row("engine:d:data/volume:0", snapshot=on("data", "logs"))) == "engine:d:data"


def test_a_removal_on_a_volume_of_several_disks_says_which() -> None:
    assert why_not(REMOVE, context(row=row("volume:0", "volumes"))) == ""
    seen = on("data", "logs")
    found = context(row=row("volume:0", "volumes", seen))
    said = why_not(REMOVE, around(found, World(seen), probes=None))
    assert said.startswith("It is on several disks: data, logs. Move the cursor to one of them")
    item = dataclasses.replace(seen.volumes[0], disks=())
    assert why_not(REMOVE, context(row=list_row(Kind.VOLUME, item))) == "It is not on an iSCSI disk."


def test_a_removal_can_begin_on_a_disk_its_volume_and_its_paths() -> None:
    assert why_not(REMOVE, context()) == ""
    assert why_not(REMOVE, context("engine:d:data/volume:0")) == ""
    assert why_not(REMOVE, context("engine:p:data-127.0.0.1")) == ""


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (context(read_only="Read-only: you are not root."), "not root"),
        (context(paused=True), "paused"),
        (context(stale=True, age_s=9.0), "9 s old"),
        (context(stale=True, age_s=None), "not there yet"),
        (context("links"), "Move the cursor"),
        (context(None), "no disk"),
    ],
)
def test_an_action_that_cannot_be_done_says_why(given: Context, word: str) -> None:
    assert word in why_not(REMOVE, given)


def test_a_disk_that_is_not_attached_is_not_removed() -> None:
    found = row("engine:d:data")
    assert isinstance(found.item, Disk)
    free = found._replace(item=dataclasses.replace(found.item, state=DiskState.AVAILABLE))
    assert "not attached" in why_not(REMOVE, context(row=free))


def test_looking_is_always_allowed() -> None:
    shut = context(None, read_only="no", stale=True, paused=True, age_s=None)
    refused = [action.id for action in ACTIONS if why_not(action, shut)]
    ordered = ["remove", "unmount", "look", "discover", "attach", "login", "logout", "rescan", "startup"]
    assert refused == [*ordered, "path_out", "path_back", "probe", "probe_one"]


def test_the_glossary_explains_the_words_of_every_kind_of_row() -> None:
    assert set(glossary.OF_KIND) == set(Kind)
    for kind in Kind:
        first, rest = glossary.for_kind(kind)
        assert first
        assert len(first) + len(rest) == len(glossary.TERMS)
    assert glossary.find("mpio") is not None
    assert glossary.find("frobnicator") is None
    for term in glossary.TERMS:
        assert term.text.endswith(".")
        assert 1 <= term.text.count(". ") + 1 <= 4, term.name


def test_every_fault_of_the_range_has_a_sentence_that_the_range_understands() -> None:
    from initiator.practice import faults

    base = samples.practice()
    found = tricks.tricks(base)
    disks = [disk.name for disk in base.disks]
    for trick in found:
        faults.parse(trick.fault, trick.args, samples.PORTALS, disks)
    assert {trick.fault for trick in found} == {fault.name for fault in faults.FAULTS}
    assert "Pull the cable of 127.0.0.2" in [trick.text for trick in found if trick.first]
