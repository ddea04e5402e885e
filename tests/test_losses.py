"""What is lost with each thing, before it is."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from initiator.chain import Kind
from initiator.fabric import EMPTY, Fabric, TargetPort
from initiator.losses import Loss, losses, unplaced
from initiator.model import PathState, Snapshot
from tests import wiring
from tests.wiring import link, path, session


def found(snapshot: Snapshot, fabric: Fabric = EMPTY) -> dict[tuple[str, str], Loss]:
    return {(each.kind.value, each.name): each for each in losses(snapshot, fabric)}


def test_with_two_links_one_may_go() -> None:
    snapshot, fabric = wiring.two_links()
    every = found(snapshot, fabric)
    assert set(every) == {
        ("link", "eth1"), ("link", "eth2"), ("portal", "10.9.1.2:3260"), ("portal", "10.9.2.2:3260"),
    }  # fmt: skip
    loss = every["link", "eth1"]
    assert (loss.ends, loss.sessions) == ((), ("two@10.9.1.2",))
    assert [(each.name, each.left, each.of) for each in loss.weakens] == [("d1", 1, 2)]
    assert loss.text == "If link eth1 is lost, you lose no disk; d1 keeps 1 of 2 paths."


def test_nothing_takes_over_where_no_map_joins_the_paths() -> None:
    """Whichever of the two devices is mounted, it fails with its own link."""
    snapshot, fabric = wiring.unjoined()
    every = found(snapshot, fabric)
    assert [each.name for each in every["link", "eth1"].ends] == ["d1"]
    assert [each.name for each in every["link", "eth2"].ends] == ["d1"]


def test_when_the_other_path_has_failed_it_is_the_end() -> None:
    snapshot, fabric = wiring.two_links()
    snapshot = wiring.changed(snapshot, dataclasses.replace(snapshot.paths[1], state=PathState.FAILED))
    every = found(snapshot, fabric)
    assert every["link", "eth1"].text == "If link eth1 is lost, you lose disk d1 with /srv."
    assert every["link", "eth2"].text == "If link eth2 is lost, you lose no disk: no working path needs it."


def test_both_portals_behind_one_cable_go_with_it() -> None:
    sessions = (session(1, "eth0.1", "10.9.1.1", "10.9.1.2"), session(2, "eth0.2", "10.9.2.1", "10.9.2.2"))
    links = (link("eth0"), link("eth0.1", "eth0", kind="vlan"), link("eth0.2", "eth0", kind="vlan"))
    every = found(wiring.host(links, sessions, tuple(path(n, each) for n, each in enumerate(sessions))))
    assert [each.name for each in every["link", "eth0"].ends] == ["d1"]
    assert [each.left for each in every["link", "eth0.1"].weakens] == [1]


def test_of_a_bond_a_cable_may_go_and_all_of_it_not() -> None:
    sessions = (session(1, "bond0", "10.9.1.1", "10.9.1.2"),)
    links = (link("bond0", "eth0", "eth1", kind="bond"), link("eth0"), link("eth1"))
    every = found(wiring.host(links, sessions, (path(0, sessions[0]),)))
    assert every["link", "eth0"].text == "If link eth0 is lost, you lose no disk: eth1 takes over."
    assert [each.name for each in every["link", "bond0"].ends] == ["d1"]


def test_the_last_cable_of_a_bond_is_the_end() -> None:
    from initiator.model import LinkState

    sessions = (session(1, "bond0", "10.9.1.1", "10.9.1.2"),)
    links = (link("bond0", "eth0", "eth1", kind="bond"), link("eth0"), link("eth1", state=LinkState.DOWN))
    every = found(wiring.host(links, sessions, (path(0, sessions[0]),)))
    assert [each.name for each in every["link", "eth0"].ends] == ["d1"]
    assert every["link", "eth1"].ends == ()


def test_a_switch_and_a_controller_are_answered_for() -> None:
    snapshot, fabric = wiring.two_links()
    fabric = wiring.switched(fabric, eth1="left", eth2="left")
    fabric = dataclasses.replace(fabric, ports={"p0": TargetPort(1, 1), "p1": TargetPort(2, 2)})
    every = found(snapshot, fabric)
    assert [each.name for each in every["switch", "left"].ends] == ["d1"]
    assert [each.left for each in every["controller", f"{wiring.TARGET}, target port group 1"].weakens] == [1]


def test_each_bound_session_falls_with_its_own_link() -> None:
    snapshot, fabric = wiring.one_network()
    every = found(snapshot, fabric)
    for name in ("eth1", "eth2"):
        assert every["link", name].text == f"If link {name} is lost, you lose no disk; d1 keeps 1 of 2 paths."


def test_no_link_is_said_to_be_free_of_a_session_whose_link_nobody_knows() -> None:
    snapshot, fabric = wiring.one_network()
    lost = wiring.bound(session(2, "eth2", "10.9.1.2", "10.9.1.9"), net_device="eth7")
    snapshot = wiring.changed(snapshot, lost, dataclasses.replace(snapshot.paths[0], state=PathState.FAILED))
    assert unplaced(snapshot, fabric) == ("two@10.9.1.9",)
    text = found(snapshot, fabric)["link", "eth1"].text
    assert text == "If link eth1 is lost, you lose no disk; nobody knows whether it carries two@10.9.1.9."
    assert found(snapshot, fabric)["portal", "10.9.1.9:3260"].unsure == ()


def test_of_two_ways_out_of_a_bridge_none_is_said_to_take_over() -> None:
    over = session(1, "br0", "10.9.1.1", "10.9.1.2")
    links = (link("br0", "eth0", "eth1", kind="bridge"), link("eth0"), link("eth1"))
    every = found(wiring.host(links, (over,), (path(0, over),)))
    assert every["link", "eth0"].text == (
        "If link eth0 is lost, you lose no disk; nobody knows whether it carries two@10.9.1.2."
    )
    assert every["link", "br0"].unsure == ()
    assert unplaced(wiring.host(links, (over,), (path(0, over),))) == ()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(PathState)), min_size=1, max_size=6))
def test_what_is_left_is_what_does_not_stand_on_it(ways: list[tuple[int, int, PathState]]) -> None:
    """Against counting by hand: the working paths of a disk whose session has neither the link nor the portal."""
    sessions = tuple(
        session(n, f"eth{at}", f"10.9.{at}.1", f"10.9.{at}.{portal + 2}") for n, (at, portal, _) in enumerate(ways)
    )
    paths = tuple(path(n, each, ways[n][2]) for n, each in enumerate(sessions))
    snapshot = wiring.host(tuple(link(f"eth{n}") for n in range(3)), sessions, paths)
    working = [n for n, (_, _, state) in enumerate(ways) if state in (PathState.ACTIVE, PathState.STANDBY)]
    for loss in losses(snapshot):
        with_it = [
            n for n in working
            if loss.name in ((sessions[n].link or "").removeprefix("link:"), str(sessions[n].portal))
        ]  # fmt: skip
        told = {each.name: (each.left, each.of) for each in (*loss.ends, *loss.weakens)}
        assert told == ({"d1": (len(working) - len(with_it), len(working))} if with_it else {})
        assert all((each.left == 0) == (each in loss.ends) for each in (*loss.ends, *loss.weakens))
    assert {each.kind for each in losses(snapshot)} == {Kind.LINK, Kind.PORTAL}
