from __future__ import annotations

import dataclasses

import pytest

from initiator.model import Disk, DiskState
from tests.tui import samples
from tui import glossary, tricks
from tui.actions import ACTIONS, BY_ID, Context, disk_of, key_name, why_not
from tui.screens.main import MainScreen
from tui.store import Store
from tui.world import Kind, Row

REMOVE = BY_ID["remove"]


def row(key: str) -> Row:
    store = Store()
    store.apply(samples.practice(), (), 0.0)
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
    assert refused == [*ordered, "path_out", "path_back", "probe"]


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
