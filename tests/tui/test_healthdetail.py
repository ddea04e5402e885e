"""What the detail pages tell of health, as plain text."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.fabric import Fabric, Neighbour, Nic, Route, TargetPort
from initiator.health import assess
from initiator.history import History
from initiator.model import PathState, Snapshot
from tests import wiring
from tests.wiring import link, path, session
from tui.detail import Page
from tui.feed import Judged
from tui.healthdetail import condensed, with_health
from tui.words import ASCII, UNICODE, Line, Piece
from tui.world import World

TITLE: Line = (Piece("title"),)


def shown(snapshot: Snapshot, fabric: Fabric, key: str, width: int = 60, history: History | None = None) -> list[str]:
    """The page of one thing, without what the page had before."""
    judged = Judged(assess(snapshot, fabric), fabric, (), history)
    page = Page(World(snapshot), {}, ASCII if width < 40 else UNICODE, width, 0.0, judged)
    lines = with_health([TITLE], snapshot.index()[key], page)
    assert lines[0] is TITLE
    return ["".join(piece.text for piece in line) for line in lines[1:]]


def wired() -> tuple[Snapshot, Fabric]:
    over = session(1, "bond0.7", "10.9.1.1", "10.9.1.2")
    members = (link("eth0"), link("eth1"))
    bond = (link("bond0", "eth0", "eth1", kind="bond"), link("bond0.7", "bond0", kind="vlan"))
    snapshot = wiring.host((*members, *bond), (over,), (path(0, over, group=1, priority=50),))
    fabric = Fabric(
        {"bond0.7": Nic(("10.9.1.0/24",)), "eth0": Nic(model="X550 10G")},
        {("10.9.1.1", "10.9.1.2"): Route("bond0.7", "10.9.1.254")},
        {"eth0": Neighbour("02:01", "left", "Gi0/1"), "eth1": Neighbour("02:02", "right")},
        {"p0": TargetPort(11, 3)},
    )
    return snapshot, fabric


def test_the_way_of_a_path_down_to_the_switches() -> None:
    text = " ".join(" ".join(shown(*wired(), "p0")).split())
    for part in (
        "Way", "number 1 · service-time 0 · priority 50", "group 11 · port 3", "bond0.7 ✓ up", "→ eth1 ✓ up",
        "X550 10G", "through bond0.7 · by way of 10.9.1.254", "10.9.1.0/24", "left · Gi0/1, right",
    ):  # fmt: skip
        assert part in text, (part, text)


def test_what_is_wrong_stands_under_the_title_with_its_evidence() -> None:
    snapshot, fabric = wiring.two_links()
    broken = wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], state=PathState.FAILED, reason="gone"))
    assert shown(broken, fabric, "p0")[:2] == ["✗ down: gone", "  state failed"]
    assert shown(broken, fabric, "d1")[0] == "▲ at risk: only one of its 2 paths works"
    assert "down" not in shown(snapshot, fabric, "p0")[0]


def test_the_redundancy_of_a_disk() -> None:
    snapshot, fabric = wiring.two_links()
    text = " ".join(" ".join(shown(snapshot, wiring.switched(fabric, eth1="left", eth2="left"), "d1")).split())
    assert "Paths 2 of 2 work, 1 independent" in text
    assert "Shared switch left under 2 paths" in text


@pytest.mark.parametrize("key", ["link:eth1", "s1"])
def test_what_is_lost_with_a_link_and_with_the_portal_of_a_session(key: str) -> None:
    text = " ".join(shown(*wiring.two_links(), key))
    assert "If it is lost" in text
    assert "you lose no disk; d1 keeps 1 of 2 paths." in text


def test_nothing_is_said_where_nobody_judges() -> None:
    snapshot, _ = wiring.two_links()
    page = Page(World(snapshot), {}, UNICODE, 60, 0.0)
    assert with_health([TITLE], snapshot.paths[0], page) == [TITLE]
    assert with_health([], snapshot.paths[0], page) == []


@pytest.mark.parametrize("width", [30, 60, 200])
def test_the_last_hour_and_day_of_a_path(width: int) -> None:
    snapshot, fabric = wiring.two_links()
    history = History()
    for minute in range(300):
        measured = dataclasses.replace(snapshot.paths[0], latency_us=100.0 + minute, read_bytes=minute * 10**6)
        history.add(wiring.changed(snapshot, measured), minute * 60.0)
    lines = shown(snapshot, fabric, "p0", width, history)
    titles = [line[:13] for line in lines if line.startswith(("Latency", "Read", "Written", "Errors"))]
    assert titles == ["Latency   1 h", "Latency  24 h", "Read      1 h", "Read     24 h"]
    assert all(len(line) <= width for line in lines)
    assert not any("Latency" in line for line in shown(snapshot, fabric, "p1", width, history))


def test_values_for_a_chart_can_be_asked_for_by_anybody() -> None:
    snapshot, _ = wiring.two_links()
    history = History()
    for second in range(5):
        history.add(wiring.changed(snapshot, dataclasses.replace(snapshot.paths[0], latency_us=float(second))), second)
    assert history.values("p0", "latency_us", 6) == [None, None, 1.0, 2.0, 3.0, 4.0]
    assert history.values("p0", "nonsense", 2) == [None, None]
    assert history.values("gone", "latency_us", 2) == [None, None]


def test_many_values_become_few() -> None:
    assert condensed([1.0, 3.0, None, None, 5.0, None], 3) == [2.0, None, 5.0]
    assert condensed([1.0, None], 3) == [1.0, None]
