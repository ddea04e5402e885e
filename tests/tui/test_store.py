from __future__ import annotations

import dataclasses

from initiator.model import Event, Path, PathState, Snapshot
from tests.tui import samples
from tui.store import EVENTS, SAMPLES, STALE_AFTER, Store
from tui.world import Kind


def filled(snapshot: Snapshot | None = None, height: int = 100) -> Store:
    store = Store()
    store.apply(snapshot or samples.practice(), samples.EVENTS, 10.0)
    store.fit_to(height)
    return store


def kinds(store: Store) -> set[Kind]:
    return {row.kind for row in store.rows}


def test_the_first_screen_opens_as_much_as_fits() -> None:
    assert Kind.SESSION in kinds(filled(height=24))
    middle = kinds(filled(height=18))
    assert Kind.SESSION not in middle
    assert Kind.PATH in middle
    small = kinds(filled(height=5))
    assert Kind.PATH not in small
    assert Kind.DISK in small


def test_what_was_chosen_once_is_not_chosen_again() -> None:
    store = filled(height=5)
    store.fit_to(100)
    assert Kind.PATH not in kinds(store)


def test_branches_stay_as_the_person_left_them() -> None:
    store = filled(height=18)
    store.toggle("engine:d:data")
    store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 11.0)
    paths = [row.key for row in store.rows if row.kind is Kind.PATH]
    assert paths
    assert not any("data" in key for key in paths)
    store.toggle("engine:d:data", True)
    assert any(row.key == "engine:p:data-127.0.0.1" for row in store.rows)


def test_toggling_a_leaf_or_nothing_changes_nothing() -> None:
    store = filled()
    before = list(store.rows)
    store.toggle("engine:p:data-127.0.0.1")
    store.toggle("no such key")
    assert store.rows == before


def test_open_and_close_all() -> None:
    store = filled(height=5)
    store.open_all(True)
    assert {Kind.SESSION, Kind.PATH, Kind.LINK} <= kinds(store)
    store.open_all(False)
    assert kinds(store) == {Kind.TARGET, Kind.DISK, Kind.SESSIONS, Kind.LINKS}


def test_pause_holds_the_rows_and_the_age_grows() -> None:
    store = filled()
    store.pause(True)
    shown = store.rows
    assert store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 20.0) is False
    assert store.rows is shown
    assert store.age(21.0) == 11.0
    store.pause(False)
    assert store.age(21.0) == 1.0
    assert [row.item.state for row in store.rows if isinstance(row.item, Path)].count(PathState.FAILED) == 3


def test_pause_goes_on_collecting_events_and_latencies() -> None:
    store = filled()
    store.pause(True)
    store.apply(samples.practice(latency_us=900.0), (Event(1.0, "state", "x", "later"),), 11.0)
    assert store.events[-1].text == "later"
    assert store.samples["engine:p:data-127.0.0.1"][-1] == 900.0


def test_a_dialog_freezes_the_rows_but_does_not_make_the_data_old() -> None:
    store = filled()
    store.freeze(True)
    shown = store.rows
    store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 20.0)
    assert store.rows is shown
    assert store.held is not None
    assert store.age(21.0) == 1.0
    store.freeze(False)
    assert store.rows is not shown


def test_leaving_a_dialog_does_not_end_a_pause() -> None:
    store = filled()
    store.pause(True)
    store.freeze(True)
    store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 20.0)
    shown = store.rows
    store.freeze(False)
    assert store.rows is shown


def test_old_data_is_stale() -> None:
    store = Store()
    assert store.age(5.0) is None
    assert store.stale(5.0)
    store.apply(samples.practice(), (), 10.0)
    assert not store.stale(10.0 + STALE_AFTER)
    assert store.stale(10.1 + STALE_AFTER)


def test_histories_are_short_and_go_with_their_paths() -> None:
    store = filled()
    for second in range(SAMPLES + 20):
        store.apply(samples.practice(latency_us=float(second)), (), float(second))
    assert len(store.samples["engine:p:data-127.0.0.1"]) == SAMPLES
    base = samples.practice()
    store.apply(dataclasses.replace(base, paths=base.paths[1:]), (), 200.0)
    assert "engine:p:data-127.0.0.1" not in store.samples


def test_events_are_bounded() -> None:
    store = Store()
    store.apply(samples.practice(), [Event(float(n), "state", "x", str(n)) for n in range(EVENTS + 5)], 1.0)
    assert len(store.events) == EVENTS
    assert store.events[0].text == "5"


def test_reveal_opens_what_hides_a_thing() -> None:
    store = filled(height=5)
    assert store.row("engine:p:vault-127.0.0.2") is None
    assert store.reveal("engine:p:vault-127.0.0.2") == "engine:p:vault-127.0.0.2"
    assert store.row("engine:p:vault-127.0.0.2") is not None
    assert store.reveal("volume:0") == "engine:d:data/volume:0"
    assert store.reveal("no such thing") is None
    assert Store().reveal("x") is None


def test_the_parent_of_a_row() -> None:
    store = filled()
    assert store.parent("engine:p:data-127.0.0.1") == "engine:d:data"
    assert store.parent("engine:d:data") == f"target:{samples.IQN}:harbour"
    assert store.parent(f"target:{samples.IQN}:harbour") is None
    assert store.parent("no such key") is None


def test_the_filter_is_kept_over_new_snapshots() -> None:
    store = filled()
    store.filter("name:vault kind:disk")
    store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 11.0)
    assert [row.item.name for row in store.rows if row.kind is Kind.DISK] == ["vault"]
    store.filter("")
    assert len([row for row in store.rows if row.kind is Kind.DISK]) == 3
