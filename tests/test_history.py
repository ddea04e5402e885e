"""Rings, rates, flaps, settling and events, lived through with a clock of our own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.history import Counter, EventRing, Flaps, History, Ring, Series, Settle
from initiator.model import Event, Link, LinkState, Path, PathState, Snapshot


def shown(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def test_a_ring_shows_the_newest_slots_oldest_first() -> None:
    ring = Ring(1.0, 5)
    for second in range(7):
        ring.add(second + 0.5, float(second))
    assert shown(ring.last(5, 6.9)) == [2, 3, 4, 5, 6]
    assert shown(ring.last(3, 6.9)) == [4, 5, 6]
    assert shown(ring.last(7, 6.9)) == [None, None, 2, 3, 4, 5, 6]
    assert shown(ring.last(4, 8.0)) == [5, 6, None, None], "what is not yet measured is a gap"
    assert shown(ring.last(2, 100.0)) == [None, None]


def test_a_slot_holds_the_mean_or_what_was_asked_for() -> None:
    mean, total, worst = Ring(1.0, 3), Ring(1.0, 3, lambda a, b: a + b), Ring(1.0, 3, max)
    for value in (1.0, 2.0, 6.0):
        for ring in (mean, total, worst):
            ring.add(10.2, value)
    assert [ring.last(1, 10.9) for ring in (mean, total, worst)] == [[3.0], [9.0], [6.0]]


def test_silence_leaves_gaps_and_a_long_silence_leaves_nothing() -> None:
    ring = Ring(1.0, 4)
    ring.add(0, 1.0)
    ring.add(3, 4.0)
    assert shown(ring.last(4, 3)) == [1, None, None, 4]
    ring.add(1, 2.0)
    assert shown(ring.last(4, 3)) == [1, 2, None, 4], "what comes late fills a gap"
    ring.add(1, 9.0)
    assert shown(ring.last(4, 3)) == [1, 2, None, 4], "and changes nothing that is there"
    ring.add(1000, 5.0)
    assert shown(ring.last(4, 1000)) == [None, None, None, 5]
    ring.add(0, 7.0)
    assert shown(ring.last(4, 1000)) == [None, None, None, 5]


def test_an_empty_ring_is_all_gaps() -> None:
    assert shown(Ring(1.0, 4).last(3, 50)) == [None, None, None]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1000)), max_size=60), st.integers(1, 12))
@settings(max_examples=100)
def test_a_ring_is_a_window_on_all_that_was_added_in_order(added: list[tuple[int, int]], slots: int) -> None:
    ring = Ring(1.0, slots, max)
    known: dict[int, float] = {}
    for at, value in sorted(added):
        ring.add(float(at), float(value))
        known[at] = max(known.get(at, 0.0), float(value))
    newest = max(known, default=0)
    window = [known.get(at) for at in range(newest - slots + 1, newest + 1)]
    assert shown(ring.last(slots, float(newest))) == window
    assert len(ring) <= slots


def test_a_series_keeps_an_hour_of_seconds_and_a_day_of_minutes() -> None:
    series = Series()
    for second in range(0, 90_000, 10):
        series.add(float(second), float(second))
    assert len(series.hours) <= 3600
    assert len(series.days) == 1440
    day = series.days.last(1440, 89_999.0)
    assert not any(math.isnan(value) for value in day)
    assert day == sorted(day)
    assert day[-1] == pytest.approx(89_965)


def test_what_idles_takes_no_room() -> None:
    series = Series()
    for second in range(100):
        series.add(float(second), 0.0)
    assert len(series.hours) == 0
    series.add(100.0, 1.0)
    series.add(101.0, 0.0)
    assert shown(series.hours.last(2, 101.0)) == [1, 0]


def test_a_counter_makes_a_rate_and_survives_a_reset() -> None:
    counter = Counter()
    assert counter.rate(10.0, 1000) is None
    assert counter.rate(12.0, 3000) == 1000
    assert counter.rate(12.0, 9000) is None, "no time has passed"
    assert counter.rate(13.0, 3000) == 0
    assert counter.rate(14.0, 50) is None, "it was set back"
    assert counter.rate(15.0, 150) == 100


def test_the_first_change_counts_at_once_and_flapping_does_not() -> None:
    settle = Settle("active", 0.0, hold=3.0)
    assert settle.see("failed", 10.0) == "failed"
    assert settle.see("active", 10.5) == "failed"
    flapping = settle.settled
    assert not flapping
    assert settle.see("failed", 11.0) == "failed"
    assert settle.see("active", 11.5) == "failed"
    assert settle.see("active", 14.0) == "failed"
    assert settle.see("active", 14.5) == "active", "it has lasted"
    assert settle.settled
    assert settle.see("failed", 30.0) == "failed"


def test_falls_are_counted_within_the_window() -> None:
    flaps = Flaps(window=60.0)
    for at, working in ((0, True), (1, False), (2, False), (3, True), (4, False), (50, True), (58, False)):
        flaps.see(working, float(at))
    assert flaps.count(59.0) == 3
    assert flaps.count(62.0) == 2
    assert flaps.count(1000.0) == 0
    flaps.fell(1000.0, 4)
    assert flaps.count(1001.0) == 4


def event(at: float, text: str = "x") -> Event:
    return Event(at, "state", "p1", text)


def test_events_come_once_and_in_order_and_the_oldest_go() -> None:
    ring = EventRing(3)
    assert ring.add([event(2), event(1), event(2)]) == (event(1), event(2))
    assert ring.add([event(1), event(2)]) == ()
    assert ring.add([event(4), event(3)]) == (event(3), event(4))
    assert ring.newest() == (event(2), event(3), event(4))
    assert ring.newest(2) == (event(3), event(4))
    assert ring.newest(0) == ()


def path(state: PathState = PathState.ACTIVE, **fields: float) -> Path:
    return Path("p1", "p1", state, "d1", "s1", **fields)  # type: ignore[arg-type]


def snapshot(*paths: Path, links: tuple[Link, ...] = ()) -> Snapshot:
    return Snapshot("host", 0.0, paths=paths, links=links)


def test_a_path_is_followed() -> None:
    history = History()
    history.add(snapshot(path(latency_us=100.0, read_bytes=0, write_bytes=0, errors=0, failures=0)), 10.0)
    history.add(snapshot(path(latency_us=300.0, read_bytes=4096, write_bytes=0, errors=2, failures=2)), 11.0)
    history.add(snapshot(path(PathState.FAILED, latency_us=300.0, errors=2, timeouts=1, failures=3)), 12.0)
    kept = history.paths["p1"]
    assert shown(kept.latency_us.hours.last(3, 12.0)) == [100, 300, None], "a failed path has no latency"
    assert shown(kept.read_bytes_s.hours.last(3, 12.0)) == [None, 4096, None]
    assert shown(kept.errors.hours.last(3, 12.0)) == [None, 2, 1]
    assert kept.flaps.count(12.0) == 3, "failures between two looks count too"


def test_without_a_failure_counter_the_state_tells() -> None:
    history = History()
    for at, state in enumerate((PathState.ACTIVE, PathState.FAILED, PathState.ACTIVE, PathState.FAILED)):
        history.add(snapshot(path(state)), float(at))
    assert history.paths["p1"].flaps.count(4.0) == 2


def test_a_link_is_followed() -> None:
    history = History()
    history.add(snapshot(links=(Link("l", "l", LinkState.UP, carrier_changes=2, rx_bytes=0, tx_bytes=5),)), 1.0)
    history.add(snapshot(links=(Link("l", "l", LinkState.UP, carrier_changes=6, rx_bytes=700, tx_bytes=5),)), 2.0)
    history.add(snapshot(links=(Link("l", "l", LinkState.DOWN, carrier_changes=7, rx_bytes=700, tx_bytes=5),)), 3.0)
    kept = history.links["l"]
    assert kept.flaps.count(3.0) == 3
    assert shown(kept.rx_bytes_s.hours.last(2, 3.0)) == [700, 0]
    assert len(kept.tx_bytes_s.hours) == 0


def test_what_has_gone_is_kept_for_a_while() -> None:
    history = History(keep=60.0)
    history.add(snapshot(path(latency_us=5.0)), 0.0)
    history.add(snapshot(), 30.0)
    assert "p1" in history.paths
    history.add(snapshot(path(latency_us=6.0)), 59.0)
    assert shown(history.paths["p1"].latency_us.hours.last(60, 59.0))[0] == 5
    history.add(snapshot(), 119.0)
    assert history.paths == {}


def test_very_many_paths_get_less_each() -> None:
    history = History(detailed=2)
    for second in range(700):
        paths = [Path(f"p{n}", "", PathState.ACTIVE, "d", "s", latency_us=9.0) for n in range(3)]
        history.add(snapshot(*paths), float(second))
    lengths = [len(kept.latency_us.hours) for kept in history.paths.values()]
    assert lengths == [700, 700, 600]
