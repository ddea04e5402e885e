"""What the recent past says: falls, returns, errors, segments sent again, and mates that share the work badly."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.fabric import EMPTY
from initiator.judgement import LinkTrend, Trend, Verdict
from initiator.lookout import Lookout
from initiator.model import Link, LinkState, Path, PathState, Snapshot, TcpInfo
from initiator.monitor import BUCKET, BUCKETS, DROPS, SLOT, Monitor, lagging, share
from tests import wiring
from tests.wiring import session


def host(**path: object) -> Snapshot:
    """The well-wired host with this of its first path."""
    snapshot, _ = wiring.two_links()
    return wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], **path))  # type: ignore[arg-type]


def states(monitor: Monitor, *steps: tuple[float, PathState]) -> Trend | None:
    """The trend of the first path after it was seen in these states at these times."""
    found = None
    for at, state in steps:
        found = monitor.see(host(state=state), at).paths.get("p0")
    return found


ACTIVE, STANDBY, FAILED = PathState.ACTIVE, PathState.STANDBY, PathState.FAILED


def test_a_quiet_host_has_no_past() -> None:
    monitor = Monitor()
    snapshot = host()
    for at in range(120):
        trends = monitor.see(snapshot, float(at))
    assert (trends.paths, trends.links, trends.uneven, trends.settle_s) == ({}, {}, {}, 60.0)


def test_a_path_that_came_back_is_settling_until_nobody_asks() -> None:
    monitor = Monitor(settle_s=30.0)
    trend = states(monitor, (0, ACTIVE), (1, FAILED), (5, ACTIVE), (45, ACTIVE))
    assert trend == Trend(falls=1, back_s=40.0)
    assert monitor.see(host(), 46.0).settle_s == 30.0


def test_standby_to_active_is_no_return() -> None:
    assert states(Monitor(), (0, STANDBY), (1, ACTIVE), (2, STANDBY)) in (None, Trend())


def test_a_path_that_was_down_when_we_came_comes_back_too() -> None:
    assert states(Monitor(), (0, FAILED), (4, ACTIVE), (6, ACTIVE)) == Trend(back_s=2.0)


def test_a_path_that_falls_again_is_not_back() -> None:
    assert states(Monitor(), (0, ACTIVE), (1, FAILED), (2, ACTIVE), (3, FAILED)) == Trend(falls=2)


def test_taking_a_path_offline_is_no_fall() -> None:
    assert states(Monitor(), (0, ACTIVE), (1, PathState.OFFLINE)) == Trend()


def test_a_fall_between_two_looks_is_known_from_the_counter() -> None:
    monitor = Monitor()
    monitor.see(host(failures=1), 0.0)
    assert monitor.see(host(failures=3), 1.0).paths["p0"] == Trend(falls=2, back_s=0.0)


def test_errors_and_timeouts_count_for_a_minute() -> None:
    monitor = Monitor()
    monitor.see(host(errors=5, timeouts=1), 0.0)
    assert monitor.see(host(errors=7, timeouts=2), 10.0).paths["p0"].errors == 3
    assert monitor.see(host(errors=8, timeouts=2), 40.0).paths["p0"].errors == 4
    assert monitor.see(host(errors=8, timeouts=2), 71.0).paths["p0"].errors == 1
    assert monitor.see(host(errors=0, timeouts=0), 72.0).paths["p0"].errors == 1, "a reset is no error"


def test_segments_that_were_sent_again_in_the_last_minute() -> None:
    monitor = Monitor()

    def sent(number: int, at: float) -> Trend | None:
        tcp = TcpInfo("established", retransmits=number)
        return monitor.see(wiring.changed(host(), session(1, "eth1", "10.9.1.1", "10.9.1.2", tcp=tcp)), at).paths.get(
            "p0"
        )

    assert sent(100, 0.0) is None
    assert sent(112, 1.0) == Trend(resent=12)
    assert sent(112, 30.0) == Trend(resent=12)
    assert sent(113, 62.0) == Trend(resent=1)
    assert sent(2, 63.0) == Trend(resent=1), "a new connection begins at nothing"


def wire(monitor: Monitor, at: float, retransmits: int, sent: int | None, port: int = 40_001) -> Trend | None:
    """The trend of the first path when its connection has counted this."""
    plain = session(1, "eth1", "10.9.1.1", "10.9.1.2", tcp=TcpInfo("established", retransmits=retransmits, sent=sent))
    over = dataclasses.replace(
        plain, connections=tuple(dataclasses.replace(each, local_port=port) for each in plain.connections)
    )
    return monitor.see(wiring.changed(host(), over), at).paths.get("p0")


def test_what_was_sent_again_is_told_with_what_was_sent_in_the_same_time() -> None:
    monitor = Monitor()
    assert wire(monitor, 0.0, 100, 5_000) is None
    assert wire(monitor, 10.0, 100, 6_000) is None, "nothing was lost, and nothing is to be told"
    assert wire(monitor, 20.0, 112, 7_500) == Trend(resent=12, sent=2_500), "what was sent before counts as well"
    assert wire(monitor, 69.0, 112, 7_500) == Trend(resent=12, sent=2_500)
    assert wire(monitor, 70.0, 112, 7_500) == Trend(resent=12, sent=1_500), "each ages by itself"
    assert wire(monitor, 79.0, 115, 8_000) == Trend(resent=15, sent=2_000)
    assert wire(monitor, 81.0, 115, 8_000) == Trend(resent=3, sent=500)


def test_a_minute_of_many_looks_is_kept_in_few_numbers() -> None:
    monitor = Monitor()
    for number in range(400):
        trend = wire(monitor, number / 4, number, 1_000 * number)
    assert trend is not None
    assert trend.sent == 1_000 * trend.resent
    assert 55 * 4 <= trend.resent <= 60 * 4
    assert len(monitor._wires["s1"]._slots) <= 60 / SLOT


def test_the_counter_of_a_fast_link_runs_over() -> None:
    monitor = Monitor()
    wire(monitor, 0.0, 100, 2**32 - 1_000)
    assert wire(monitor, 1.0, 112, 4_000) == Trend(resent=12, sent=5_000)


@pytest.mark.parametrize(("port", "retransmits"), [(40_002, 500), (40_001, 2)])
def test_a_new_connection_of_the_session_begins_at_nothing(port: int, retransmits: int) -> None:
    """Its counters may stand higher than those of the one before, which were near their end."""
    monitor = Monitor()
    wire(monitor, 0.0, 100, 3_000_000_000)
    wire(monitor, 1.0, 112, 3_000_010_000)
    assert wire(monitor, 2.0, retransmits, 9_000, port) == Trend(resent=12, sent=10_000)
    assert wire(monitor, 3.0, retransmits + 1, 9_100, port) == Trend(resent=13, sent=10_100)


def test_where_the_kernel_does_not_tell_what_was_sent_nobody_knows_the_share() -> None:
    monitor = Monitor()
    wire(monitor, 0.0, 100, None)
    assert wire(monitor, 1.0, 112, None) == Trend(resent=12, sent=None)


def test_a_probe_speaks_for_every_path_of_its_session() -> None:
    monitor = Monitor()
    assert monitor.see(host(), 0.0, {"s1": "a probe gets no answer"}).paths == {
        "p0": Trend(probe="a probe gets no answer")
    }


def link(**more: object) -> Snapshot:
    snapshot = host()
    return wiring.changed(snapshot, dataclasses.replace(snapshot.links[0], **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "trend"),
    [
        ({"rx_errors": 1, "tx_errors": 0}, {"rx_errors": 3, "tx_errors": 1}, LinkTrend(errors=3)),
        ({"rx_dropped": 0}, {"rx_dropped": DROPS}, LinkTrend(drops=DROPS)),
        ({"rx_dropped": 0}, {"rx_dropped": DROPS - 1}, LinkTrend()),
        ({"carrier_changes": 2}, {"carrier_changes": 4}, LinkTrend(falls=1)),
        ({"carrier_changes": 2}, {"carrier_changes": 3, "state": LinkState.DOWN}, LinkTrend(falls=1)),
        ({"carrier_changes": None}, {"carrier_changes": None, "state": LinkState.DOWN}, LinkTrend(falls=1)),
        ({"rx_errors": 9}, {"rx_errors": 2}, None),
        ({"rx_errors": None}, {"rx_errors": 2}, None),
    ],
)
def test_the_past_of_a_link(before: dict[str, object], after: dict[str, object], trend: LinkTrend | None) -> None:
    monitor = Monitor()
    monitor.see(link(**before), 0.0)
    assert monitor.see(link(**after), 1.0).links.get("link:eth1") == trend
    assert (monitor.see(link(**after), 70.0).links.get("link:eth1") or LinkTrend()).errors == 0


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_fall_of_a_carrier_is_counted_however_seldom_we_look(looks: list[bool]) -> None:
    """A carrier goes down and up in turn; some of that is looked at. Falls are counted once, seen or not."""
    monitor = Monitor()
    changes, at = 0, 0.0
    monitor.see(link(carrier_changes=0), at)
    found: Link | LinkTrend | None = None
    for look in looks:
        changes, at = changes + 1, at + 1.0
        if look:
            state = LinkState.DOWN if changes % 2 else LinkState.UP
            found = monitor.see(link(carrier_changes=changes, state=state), at).links.get("link:eth1")
    state = LinkState.DOWN if changes % 2 else LinkState.UP
    found = monitor.see(link(carrier_changes=changes, state=state), at + 1.0).links.get("link:eth1")
    assert isinstance(found, LinkTrend)
    assert found.falls == (changes + 1) // 2


def busy(seconds: int, rates: tuple[int, int], latencies: tuple[float, float]) -> tuple[Monitor, Snapshot, float]:
    """A host whose two active paths have worked at these rates for so long."""
    monitor = Monitor()
    base, _ = wiring.two_links()
    snapshot, at = base, 0.0
    for second in range(seconds):
        at = float(second)
        paths: list[Path] = [
            dataclasses.replace(path, reads=rate * second, writes=0, latency_us=latency, group=1)
            for path, rate, latency in zip(base.paths, rates, latencies, strict=True)
        ]
        snapshot = wiring.changed(base, *paths)
        monitor.see(snapshot, at)
    return monitor, snapshot, at


def test_active_paths_that_share_the_work_badly() -> None:
    seconds = int(BUCKET * BUCKETS)
    monitor, snapshot, at = busy(seconds, (90, 10), (500.0, 500.0))
    assert monitor.see(snapshot, at + 0.5).uneven == {"d1": "its active paths share the work unevenly: 90 to 10 %"}
    monitor, snapshot, at = busy(seconds, (60, 40), (500.0, 500.0))
    assert monitor.see(snapshot, at + 0.5).uneven == {}


def test_a_path_that_is_much_slower_than_its_mate() -> None:
    monitor, snapshot, at = busy(int(BUCKET * BUCKETS), (50, 50), (20_000.0, 500.0))
    assert monitor.see(snapshot, at + 0.5).paths["p0"].slower == 40.0


@pytest.mark.parametrize(
    ("done", "says"),
    [
        ({"a": 10.0, "b": 0.0}, None),
        ({"a": 100.0, "b": 0.0}, "its active paths share the work unevenly: 100 to 0 %"),
        ({"a": 100.0, "b": 26.0}, None),
        ({"a": 80.0, "b": 80.0, "c": 10.0}, "its active paths share the work unevenly: 47 to 47 to 6 %"),
    ],
)
def test_shares(done: dict[str, float], says: str | None) -> None:
    assert share(done) == says


@pytest.mark.parametrize(
    ("latencies", "late"),
    [
        ({"a": 9000.0, "b": 1000.0}, {"a": 9.0}),
        ({"a": 900.0, "b": 100.0}, {}),
        ({"a": 9000.0}, {}),
        ({"a": 9000.0, "b": 0.0}, {}),
        ({"a": 9000.0, "b": 8000.0}, {}),
    ],
)
def test_lagging(latencies: dict[str, float], late: dict[str, float]) -> None:
    assert lagging(latencies) == late


def test_a_lookout_joins_it_all() -> None:
    clock = iter(float(second) for second in range(100))
    snapshots = iter((host(), host(state=FAILED, reason="gone"), host(state=FAILED, reason="gone")))
    lookout = Lookout(lambda: next(snapshots), None, monotonic=lambda: next(clock))
    first = lookout.look()
    assert (first.events, first.alerts, first.fabric) == ((), (), EMPTY)
    assert first.health.judgements["d1"].verdict is Verdict.OK
    second = lookout.look()
    assert [event.subject for event in second.events] == ["p0"]
    assert second.health.judgements["d1"].verdict is Verdict.AT_RISK
    assert lookout.look().events == ()
