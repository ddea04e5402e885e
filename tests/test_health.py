"""Verdicts: each rule where it speaks, where it is silent, and where nobody can know."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.chain import Footing, Kind, lanes
from initiator.fabric import EMPTY, Fabric, Nic, Route, TargetPort
from initiator.health import FLAPPING, RESENT, RESENT_SHARE, _disjoint, assess, settling
from initiator.judgement import RANK, Judgement, LinkTrend, Trend, Trends, Verdict
from initiator.model import DiskState, Link, LinkState, MapState, Path, PathState, SessionState, Snapshot, TcpInfo
from tests import wiring
from tests.wiring import link, path, session


def path_is(snapshot: Snapshot, fabric: Fabric = EMPTY, trend: Trend | None = None) -> Judgement:
    return assess(snapshot, fabric, Trends(paths={"p0": trend} if trend else {})).judgements["p0"]


def disk_is(snapshot: Snapshot, fabric: Fabric = EMPTY, trends: Trends | None = None) -> Judgement:
    return assess(snapshot, fabric, trends or Trends()).judgements["d1"]


def test_a_well_wired_host_is_well_and_says_what_it_counted() -> None:
    snapshot, fabric = wiring.two_links()
    health = assess(snapshot, wiring.switched(fabric, eth1="left", eth2="right"))
    assert {each.verdict for each in health.judgements.values()} == {Verdict.OK}
    assert set(health.judgements) == {"p0", "p1", "d1", "md1", "link:eth1", "link:eth2"}
    assert health.judgements["d1"].reason == "all 2 paths work, 2 of them independent"
    assert health.wrong() == ()
    ways = health.ways["d1"]
    assert (ways.total, ways.working, ways.independent, ways.shared, ways.unknown) == (2, 2, 2, (), ())


def test_what_is_not_known_of_the_wiring_is_said() -> None:
    snapshot, _ = wiring.two_links()
    assert disk_is(snapshot).reason == "all 2 paths work, 2 of them independent (not known: network, switch)"


def test_a_disk_that_no_map_joins_is_at_risk_however_many_paths_it_has() -> None:
    snapshot, fabric = wiring.unjoined()
    told = disk_is(snapshot, fabric)
    assert told.verdict is Verdict.AT_RISK
    assert "no map joins its 2 paths" in told.reason


# --- paths ---


def states(state: PathState, reason: str | None = None) -> Snapshot:
    snapshot, _ = wiring.two_links()
    return wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], state=state, reason=reason))


@pytest.mark.parametrize(
    ("state", "reason", "verdict", "says"),
    [
        (PathState.ACTIVE, None, Verdict.OK, "it works"),
        (PathState.STANDBY, None, Verdict.OK, "it works"),
        (PathState.FAILED, "the checker says faulty", Verdict.DOWN, "the checker says faulty"),
        (PathState.OFFLINE, None, Verdict.DOWN, "it is offline"),
        (PathState.UNKNOWN, None, Verdict.UNKNOWN, "nobody tells its state"),
    ],
)
def test_the_state_of_a_path_comes_first(state: PathState, reason: str | None, verdict: Verdict, says: str) -> None:
    judgement = path_is(states(state, reason))
    assert (judgement.verdict, judgement.reason) == (verdict, says)
    assert judgement.evidence[0].startswith(f"state {state}" if verdict is not Verdict.UNKNOWN else "nobody")


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (SessionState.LOGGED_IN, Verdict.OK),
        (SessionState.FAILED, Verdict.DOWN),
        (SessionState.FREE, Verdict.DOWN),
        (SessionState.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_the_session_of_a_path_that_claims_to_work(state: SessionState, verdict: Verdict) -> None:
    snapshot, fabric = wiring.two_links()
    lost = session(1, "eth1", "10.9.1.1", "10.9.1.2", state)
    assert path_is(wiring.changed(snapshot, lost), fabric).verdict is verdict


def test_a_path_without_a_session_is_unknown() -> None:
    snapshot, _ = wiring.two_links()
    assert path_is(wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], session="gone"))).verdict is (
        Verdict.UNKNOWN
    )


def test_a_pulled_cable_is_told_before_the_session_notices() -> None:
    snapshot, fabric = wiring.two_links()
    judgement = path_is(wiring.changed(snapshot, link("eth1", state=LinkState.DOWN)), fabric)
    assert (judgement.verdict, judgement.reason) == (Verdict.AT_RISK, "link eth1 under it is down")
    assert judgement.evidence == ("eth1 no carrier",)


def bonded(*states: LinkState) -> Snapshot:
    members = tuple(link(f"eth{n}", state=state) for n, state in enumerate(states))
    over = session(1, "bond0.7", "10.9.1.1", "10.9.1.2")
    bond = link("bond0", *(each.name for each in members), kind="bond")
    return wiring.host((*members, bond, link("bond0.7", "bond0", kind="vlan")), (over,), (path(0, over),))


@pytest.mark.parametrize(
    ("states", "verdict", "says"),
    [
        ((LinkState.UP, LinkState.UP), Verdict.OK, "it works"),
        ((LinkState.UP, LinkState.UP, LinkState.DOWN), Verdict.DEGRADED, "bond0.7 under it has lost eth2: 2 of 3 left"),
        ((LinkState.UP, LinkState.DOWN), Verdict.AT_RISK, "bond0.7 under it has lost eth1: 1 of 2 left"),
        ((LinkState.DOWN, LinkState.DOWN), Verdict.AT_RISK, "link eth0, eth1 under it is down"),
        ((LinkState.UNKNOWN, LinkState.UP), Verdict.OK, "it works"),
    ],
)
def test_the_cables_of_a_bond_are_counted(states: tuple[LinkState, ...], verdict: Verdict, says: str) -> None:
    judgement = path_is(bonded(*states))
    assert (judgement.verdict, judgement.reason) == (verdict, says)


@pytest.mark.parametrize(
    ("tcp", "verdict"),
    [
        (TcpInfo("established", unacked=3, unanswered=2, last_received_ms=7200, rto_us=800_000), Verdict.AT_RISK),
        (TcpInfo("established", unacked=3, unanswered=0, last_received_ms=7200), Verdict.OK),
        (TcpInfo("established", unacked=0, unanswered=0, last_received_ms=60_000), Verdict.OK),
        (TcpInfo("established"), Verdict.OK),
        (None, Verdict.OK),
    ],
)
def test_a_silent_target_is_one_that_does_not_acknowledge(tcp: TcpInfo | None, verdict: Verdict) -> None:
    snapshot, fabric = wiring.two_links()
    judgement = path_is(wiring.changed(snapshot, session(1, "eth1", "10.9.1.1", "10.9.1.2", tcp=tcp)), fabric)
    assert judgement.verdict is verdict
    if verdict is not Verdict.OK:
        assert judgement.reason == (
            "the target does not acknowledge what was sent 2 times in a row, and nothing has come for 7.2 s"
        )
        assert "unacknowledged 3 segments" in judgement.evidence[0]


def test_packets_that_leave_through_another_link() -> None:
    snapshot, fabric = wiring.two_links()
    astray = dataclasses.replace(fabric, routes={("10.9.1.1", "10.9.1.2"): Route("eth2")})
    assert path_is(snapshot, astray).reason == "its packets leave through eth2 with the address of eth1"
    for routes in ({}, {("10.9.1.1", "10.9.1.2"): Route("eth1")}, {("10.9.1.1", "10.9.1.2"): Route(None)}):
        assert path_is(snapshot, dataclasses.replace(fabric, routes=routes)).verdict is Verdict.OK


def test_packets_of_a_session_that_is_bound_to_its_link_do_not_stray() -> None:
    snapshot, fabric = wiring.one_network()
    health = assess(snapshot, fabric)
    assert [health.judgements[key].verdict for key in ("p0", "p1")] == [Verdict.OK, Verdict.OK]
    free = wiring.changed(snapshot, session(2, "eth2", "10.9.1.2", "10.9.1.9"))
    assert assess(free, fabric).judgements["p1"].reason == "its packets leave through eth1 with the address of eth2"


@pytest.mark.parametrize(("duplex", "verdict"), [("half", Verdict.DEGRADED), ("full", Verdict.OK), (None, Verdict.OK)])
def test_half_duplex(duplex: str | None, verdict: Verdict) -> None:
    snapshot, fabric = wiring.two_links()
    other = dataclasses.replace(snapshot.links[0], duplex=duplex)
    health = assess(wiring.changed(snapshot, other), fabric)
    assert {health.judgements[key].verdict for key in ("p0", "link:eth1")} == {verdict}


@pytest.mark.parametrize(
    ("above", "below", "verdict"),
    [(9000, 1500, Verdict.DEGRADED), (1500, 9000, Verdict.OK), (9000, 9000, Verdict.OK), (9000, None, Verdict.OK),
     (None, 1500, Verdict.OK)],
)  # fmt: skip
def test_a_link_cannot_send_more_than_the_one_under_it(above: int | None, below: int | None, verdict: Verdict) -> None:
    over = session(1, "eth0.7", "10.9.1.1", "10.9.1.2")
    vlan = dataclasses.replace(link("eth0.7", "eth0", kind="vlan"), mtu=above)
    snapshot = wiring.host((vlan, dataclasses.replace(link("eth0"), mtu=below)), (over,), (path(0, over),))
    assert path_is(snapshot).verdict is verdict


@pytest.mark.parametrize(
    ("trend", "verdict", "says"),
    [
        (Trend(), Verdict.OK, "it works"),
        (Trend(back_s=20.0), Verdict.AT_RISK, "it came back 20 s ago and settles for another 40 s"),
        (Trend(back_s=60.0), Verdict.OK, "it works"),
        (Trend(falls=FLAPPING), Verdict.AT_RISK, "it flaps: 3 falls in the last hour"),
        (Trend(falls=FLAPPING - 1), Verdict.OK, "it works"),
        (Trend(errors=1), Verdict.DEGRADED, "1 command failed in the last minute"),
        (
            Trend(resent=4_000, sent=2_500_000),
            Verdict.DEGRADED,
            "4,000 of 2,500,000 segments were sent again in the last minute (0.2 %)",
        ),
        (
            Trend(resent=RESENT, sent=round(RESENT / RESENT_SHARE)),
            Verdict.DEGRADED,
            "10 of 10,000 segments were sent again in the last minute (0.1 %)",
        ),
        (
            Trend(resent=12, sent=12),
            Verdict.DEGRADED,
            "12 of 12 segments were sent again in the last minute (100.0 %)",
        ),
        (Trend(resent=RESENT, sent=round(RESENT / RESENT_SHARE) + 1), Verdict.OK, "it works"),
        (Trend(resent=900, sent=50_000_000), Verdict.OK, "it works"),
        (Trend(resent=RESENT - 1, sent=24), Verdict.OK, "it works"),
        (Trend(resent=1, sent=1), Verdict.OK, "it works"),
        (
            Trend(resent=RESENT),
            Verdict.DEGRADED,
            "10 segments were sent again in the last minute; of how many the kernel does not tell",
        ),
        (Trend(resent=RESENT - 1), Verdict.OK, "it works"),
        (Trend(slower=6.0), Verdict.DEGRADED, "a command takes 6 times as long as on its mates"),
        (Trend(probe="a probe gets no answer for 0.9 s"), Verdict.AT_RISK, "a probe gets no answer for 0.9 s"),
    ],
)
def test_the_recent_past_of_a_path(trend: Trend, verdict: Verdict, says: str) -> None:
    snapshot, fabric = wiring.two_links()
    judgement = path_is(snapshot, fabric, trend)
    assert (judgement.verdict, judgement.reason) == (verdict, says)


@given(st.none() | st.floats(0, 1e6), st.floats(0.1, 1e5))
def test_settling_ends_when_its_time_is_over(back_s: float | None, settle_s: float) -> None:
    left = settling(back_s, settle_s)
    assert (left is not None) == (back_s is not None and back_s < settle_s)
    assert left is None or 0 < left <= settle_s


# --- disks ---


@pytest.mark.parametrize(
    ("disk", "paths", "verdict", "says"),
    [
        (DiskState.ATTACHED, "aa", Verdict.OK, "all 2 paths work, 2 of them independent"),
        (DiskState.DEGRADED, "af", Verdict.AT_RISK, "only one of its 2 paths works"),
        (DiskState.DEGRADED, "aaf", Verdict.DEGRADED, "1 of its 3 paths do not work"),
        (DiskState.NO_PATH, "ff", Verdict.DOWN, "none of its paths works: I/O waits or fails"),
        (DiskState.DEAD, "", Verdict.DOWN, "nothing serves it any more"),
        (DiskState.ATTACHED, "a", Verdict.AT_RISK, "it has only one path"),
        (DiskState.AVAILABLE, "aa", Verdict.OK, "all 2 paths work, 2 of them independent"),
        (DiskState.AVAILABLE, "ff", Verdict.DOWN, "none of its paths works"),
        (DiskState.UNKNOWN, "au", Verdict.UNKNOWN, "nobody can say how it is"),
    ],
)
def test_a_disk_by_its_paths(disk: DiskState, paths: str, verdict: Verdict, says: str) -> None:
    letters = {"a": PathState.ACTIVE, "f": PathState.FAILED, "u": PathState.UNKNOWN}
    over = tuple(session(n, f"eth{n}", f"10.9.{n}.1", f"10.9.{n}.2") for n in range(len(paths)))
    made = tuple(path(n, over[n], letters[letter]) for n, letter in enumerate(paths))
    links = tuple(link(f"eth{n}") for n in range(len(paths)))
    nics = {each.name: Nic((f"10.9.{n}.0/24",)) for n, each in enumerate(links)}
    snapshot = wiring.host(links, over, made, (wiring.disk(disk),))
    judgement = disk_is(snapshot, wiring.switched(Fabric(nics), **{each.name: each.name for each in links}))
    assert (judgement.verdict, judgement.reason) == (verdict, says)


def test_a_suspended_map_holds_all_io() -> None:
    snapshot, fabric = wiring.two_links()
    held = dataclasses.replace(snapshot, maps=(dataclasses.replace(snapshot.maps[0], state=MapState.SUSPENDED),))
    assert (disk_is(held, fabric).verdict, disk_is(held, fabric).reason) == (
        Verdict.DOWN, "its map is suspended: I/O waits",
    )  # fmt: skip


def one_thing(kind: Kind) -> tuple[Snapshot, Fabric]:
    """Two paths that are one because of this."""
    snapshot, fabric = wiring.two_links()
    fabric = wiring.switched(fabric, eth1="left", eth2="right")
    if kind is Kind.PORTAL:
        snapshot = wiring.changed(snapshot, session(2, "eth2", "10.9.2.1", "10.9.1.2"))
    elif kind is Kind.LINK:
        vlans = (link("eth1.1", "eth1", kind="vlan"), link("eth1.2", "eth1", kind="vlan"))
        over = (session(1, "eth1.1", "10.9.1.1", "10.9.1.2"), session(2, "eth1.2", "10.9.2.1", "10.9.2.2"))
        paths = tuple(path(n, each) for n, each in enumerate(over))
        snapshot = wiring.host((link("eth1"), *vlans), over, paths)
        fabric = Fabric({"eth1.1": Nic(("10.9.1.0/24",)), "eth1.2": Nic(("10.9.2.0/24",))})
    elif kind is Kind.NETWORK:
        fabric = dataclasses.replace(fabric, nics=dict.fromkeys(("eth1", "eth2"), Nic(("10.9.0.0/16",))))
    elif kind is Kind.SWITCH:
        fabric = wiring.switched(fabric, eth1="left", eth2="left")
    else:  # the path to the other controller has failed
        third = path(2, snapshot.sessions[1], PathState.FAILED)
        snapshot = dataclasses.replace(snapshot, paths=(*snapshot.paths, third))
        ports = {"p0": TargetPort(1), "p1": TargetPort(1), "p2": TargetPort(2)}
        fabric = dataclasses.replace(fabric, ports=ports)
    return snapshot, fabric


@pytest.mark.parametrize("kind", Kind)
def test_paths_with_one_thing_in_common_are_one(kind: Kind) -> None:
    snapshot, fabric = one_thing(kind)
    health = assess(snapshot, fabric)
    assert (health.ways["d1"].working, health.ways["d1"].independent) == (2, 1)
    assert [each.kind for each in health.ways["d1"].common] == [kind]
    assert health.judgements["d1"].verdict is Verdict.AT_RISK
    assert health.judgements["d1"].reason.startswith(f"its 2 working paths are one: all over {kind} ")


def test_one_target_port_group_alone_says_nothing_of_controllers() -> None:
    snapshot, fabric = wiring.two_links()
    fabric = dataclasses.replace(fabric, ports={"p0": TargetPort(1), "p1": TargetPort(1)})
    assert disk_is(snapshot, fabric).verdict is Verdict.OK


def test_a_sick_path_leaves_its_disk_at_risk_if_only_one_good_one_is_left() -> None:
    snapshot, fabric = wiring.two_links()
    judgement = disk_is(snapshot, fabric, Trends(paths={"p0": Trend(errors=2)}))
    assert judgement.verdict is Verdict.AT_RISK
    assert judgement.reason == "path two@10.9.1.2 lun 0: 2 commands failed in the last minute"


@pytest.mark.parametrize(("sent", "verdict"), [(20_000, Verdict.AT_RISK), (50_000_000, Verdict.OK)])
def test_what_tcp_sends_again_is_judged_by_what_it_sends(sent: int, verdict: Verdict) -> None:
    """A disk with two paths is not at risk for fifty lost segments of a link that carries fifty million."""
    snapshot, fabric = wiring.two_links()
    judgement = disk_is(snapshot, fabric, Trends(paths={"p0": Trend(resent=50, sent=sent)}))
    assert judgement.verdict is verdict
    if verdict is Verdict.AT_RISK:
        lost = "50 of 20,000 segments were sent again in the last minute (0.2 %)"
        assert judgement.reason == f"path two@10.9.1.2 lun 0: {lost}"


def test_unevenly_used_paths_are_told() -> None:
    snapshot, fabric = wiring.two_links()
    judgement = disk_is(snapshot, fabric, Trends(uneven={"d1": "its active paths are used unevenly: 90 to 10 %"}))
    assert (judgement.verdict, judgement.reason) == (
        Verdict.DEGRADED, "its active paths are used unevenly: 90 to 10 %",
    )  # fmt: skip


FOOTINGS = [Footing(kind, str(number)) for kind in (Kind.LINK, Kind.PORTAL, Kind.SWITCH) for number in range(3)]


@given(st.lists(st.sets(st.sampled_from(FOOTINGS), max_size=3), max_size=6))
def test_independent_ways_are_the_largest_set_without_anything_in_common(stands: list[set[Footing]]) -> None:
    best = max(
        len(chosen)
        for size in range(len(stands) + 1)
        for chosen in itertools.combinations(stands, size)
        if sum(map(len, chosen)) == len(set().union(*chosen))
    )
    assert _disjoint(tuple(tuple(sorted(each)) for each in stands)) == best


# --- links ---


def link_is(links: tuple[Link, ...], nic: Nic | None = None, trend: LinkTrend | None = None) -> Judgement:
    over = session(1, links[0].name, "10.9.1.1", "10.9.1.2")
    fabric = Fabric({links[0].name: nic} if nic else {})
    trends = Trends(links={links[0].id: trend} if trend else {})
    return assess(wiring.host(links, (over,), (path(0, over),)), fabric, trends).judgements[links[0].id]


@pytest.mark.parametrize(
    ("state", "verdict", "says"),
    [
        (LinkState.UP, Verdict.OK, "it is up"),
        (LinkState.DOWN, Verdict.DOWN, "it has no carrier"),
        (LinkState.UNKNOWN, Verdict.UNKNOWN, "nobody tells whether it has a carrier"),
    ],
)
def test_the_state_of_a_link(state: LinkState, verdict: Verdict, says: str) -> None:
    judgement = link_is((link("eth0", state=state),))
    assert (judgement.verdict, judgement.reason) == (verdict, says)


def test_a_link_that_is_switched_off() -> None:
    off = dataclasses.replace(link("eth0", state=LinkState.DOWN), carrier=None)
    assert link_is((off,)).reason == "it is switched off"


def bond(*members: Link) -> tuple[Link, ...]:
    return (link("bond0", *(each.name for each in members), kind="bond"), *members)


@pytest.mark.parametrize(
    ("links", "nic", "verdict", "says"),
    [
        (bond(link("eth0"), link("eth1")), None, Verdict.OK, "it is up"),
        (
            bond(link("eth0"), link("eth1", state=LinkState.DOWN)),
            None,
            Verdict.AT_RISK,
            "only 1 of its 2 members are up",
        ),
        (
            bond(link("eth0"), link("eth1"), link("eth2", state=LinkState.DOWN)),
            None,
            Verdict.DEGRADED,
            "only 2 of its 3 members are up",
        ),
        (
            bond(link("eth0"), dataclasses.replace(link("eth1"), speed_mbps=1000)),
            None,
            Verdict.DEGRADED,
            "its members run at different speeds: 1000, 10000 Mb/s",
        ),
        (bond(link("eth0"), link("eth1")), Nic(active="eth9"), Verdict.AT_RISK, "its active member eth9 is not up"),
        (bond(link("eth0"), link("eth1")), Nic(active="eth0"), Verdict.OK, "it is up"),
        (bond(link("eth0"), dataclasses.replace(link("eth1"), speed_mbps=None)), None, Verdict.OK, "it is up"),
    ],
)
def test_the_members_of_a_bond(links: tuple[Link, ...], nic: Nic | None, verdict: Verdict, says: str) -> None:
    judgement = link_is(links, nic)
    assert (judgement.verdict, judgement.reason) == (verdict, says)


@pytest.mark.parametrize(
    ("trend", "verdict", "says"),
    [
        (LinkTrend(), Verdict.OK, "it is up"),
        (LinkTrend(falls=1), Verdict.DEGRADED, "it lost its carrier 1 time in the last hour"),
        (LinkTrend(falls=FLAPPING), Verdict.AT_RISK, "it flaps: 3 falls in the last hour"),
        (LinkTrend(errors=4), Verdict.DEGRADED, "4 damaged packets in the last minute"),
        (LinkTrend(drops=1), Verdict.DEGRADED, "1 dropped packet in the last minute"),
    ],
)
def test_the_recent_past_of_a_link(trend: LinkTrend, verdict: Verdict, says: str) -> None:
    judgement = link_is((link("eth0"),), trend=trend)
    assert (judgement.verdict, judgement.reason) == (verdict, says)


def test_a_link_without_iscsi_is_not_judged() -> None:
    snapshot, fabric = wiring.two_links()
    more = dataclasses.replace(snapshot, links=(*snapshot.links, link("eth9", state=LinkState.DOWN)))
    assert "link:eth9" not in assess(more, fabric).judgements


@given(st.lists(st.sampled_from(PathState), min_size=1, max_size=5))
def test_the_worst_is_first_and_nothing_but_ok_is_left_out(letters: list[PathState]) -> None:
    over = tuple(session(n, f"eth{n}", f"10.9.{n}.1", f"10.9.{n}.2") for n in range(len(letters)))
    paths: tuple[Path, ...] = tuple(path(n, over[n], state) for n, state in enumerate(letters))
    health = assess(wiring.host(tuple(link(f"eth{n}") for n in range(len(letters))), over, paths))
    wrong = health.wrong()
    assert [RANK.index(each.verdict) for each in wrong] == sorted(
        (RANK.index(each.verdict) for each in wrong), reverse=True
    )
    told = {each.subject for each in wrong}
    assert {
        key for key, each in health.judgements.items() if each.kind != "map" and each.verdict is not Verdict.OK
    } == told
    assert len(lanes(wiring.host((), over, paths))) == len(over)
