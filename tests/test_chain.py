"""The chain of a path: what its packets go through, and what it falls with."""

from __future__ import annotations

import dataclasses

from initiator.chain import Footing, Kind, chain_of, lane_of, lanes
from initiator.fabric import Fabric, Neighbour, Nic, Route, TargetPort
from initiator.model import LinkState, TcpInfo
from tests import wiring
from tests.wiring import link, session


def test_a_path_has_its_map_group_session_wire_link_route_and_network() -> None:
    snapshot, fabric = wiring.two_links()
    tcp = TcpInfo("established", rtt_us=200)
    snapshot = wiring.changed(
        snapshot,
        session(1, "eth1", "10.9.1.1", "10.9.1.2", tcp=tcp),
        dataclasses.replace(snapshot.paths[0], group=2, priority=50),
    )
    route = Route("eth1", None, "10.9.1.1")
    fabric = dataclasses.replace(fabric, routes={("10.9.1.1", "10.9.1.2"): route}, ports={"p0": TargetPort(1, 3)})
    chain = chain_of(snapshot.paths[0], snapshot, fabric)
    assert chain.disk is snapshot.disks[0]
    assert chain.map is snapshot.maps[0]
    assert chain.group is not None
    assert (chain.group.number, chain.group.priority, chain.group.selector, chain.group.paths) == (
        2, 50, "service-time 0", 1,
    )  # fmt: skip
    assert chain.port == TargetPort(1, 3)
    assert chain.lane is not None
    assert (chain.lane.session.id, chain.lane.tcp, chain.lane.route) == ("s1", tcp, route)
    assert [each.name for each in chain.lane.way] == ["eth1"]
    assert chain.lane.network == "10.9.1.0/24"


def test_a_path_of_nobody_has_no_lane() -> None:
    snapshot, fabric = wiring.two_links()
    stray = dataclasses.replace(snapshot.paths[0], session="gone")
    assert chain_of(stray, snapshot, fabric).lane is None


def test_the_cable_under_a_vlan_is_what_counts() -> None:
    links = {each.name: each for each in (link("eth0"), link("eth0.12", "eth0", kind="vlan"))}
    lane = lane_of(session(1, "eth0.12", "10.9.1.1", "10.9.1.2"), links)
    assert [each.name for each in lane.way] == ["eth0.12", "eth0"]
    assert [each.name for each in lane.cables] == ["eth0"]
    assert Footing(Kind.LINK, "eth0") in lane.footings
    assert lane.unknown == (Kind.NETWORK, Kind.SWITCH)


def test_a_bond_stands_on_both_cables_and_falls_with_neither() -> None:
    links = {each.name: each for each in (
        link("eth0"), link("eth1"), link("bond0", "eth0", "eth1", kind="bond"), link("bond0.12", "bond0", kind="vlan"),
    )}  # fmt: skip
    lane = lane_of(session(1, "bond0.12", "10.9.1.1", "10.9.1.2"), links)
    assert [each.name for each in lane.way] == ["bond0.12", "bond0", "eth0", "eth1"]
    assert [each.name for each in lane.cables] == ["eth0", "eth1"]
    assert Footing(Kind.LINK, "bond0.12") in lane.footings


def test_a_macvlan_and_the_outward_port_of_a_bridge() -> None:
    links = {each.name: each for each in (
        link("eth0"), link("tap0", kind="tun"), link("br0", "eth0", "tap0", kind="bridge"),
        link("mac0", "br0", kind="macvlan"),
    )}  # fmt: skip
    lane = lane_of(session(1, "mac0", "10.9.1.1", "10.9.1.2"), links)
    assert [each.name for each in lane.way] == ["mac0", "br0", "eth0"]
    assert Kind.LINK not in lane.unknown


def test_a_bridge_with_two_ways_out_does_not_tell_which_is_taken() -> None:
    links = {each.name: each for each in (link("eth0"), link("eth1"), link("br0", "eth0", "eth1", kind="bridge"))}
    assert Kind.LINK in lane_of(session(1, "br0", "10.9.1.1", "10.9.1.2"), links).unknown


def test_the_route_decides_which_link_it_is() -> None:
    """Two addresses in one network: the kernel sends both ways through the first link."""
    links = {each.name: each for each in (link("eth1"), link("eth2"))}
    nics = {name: Nic(("10.9.1.0/24",)) for name in links}
    fabric = Fabric(nics, {("10.9.1.3", "10.9.1.2"): Route("eth1")})
    lane = lane_of(session(2, "eth2", "10.9.1.3", "10.9.1.2"), links, fabric)
    assert lane.link is links["eth1"]
    assert Footing(Kind.LINK, "eth1") in lane.footings
    assert lane.network == "10.9.1.0/24"


def test_what_a_session_is_bound_to_decides_before_the_route_of_others() -> None:
    snapshot, fabric = wiring.one_network()
    assert [lane.link and lane.link.name for lane in lanes(snapshot, fabric).values()] == ["eth1", "eth2"]
    assert [lane.route for lane in lanes(snapshot, fabric).values()] == [Route("eth1"), Route("eth2")]
    without = dataclasses.replace(fabric, routes={("10.9.1.2", "10.9.1.9"): Route("eth1")})
    assert lanes(snapshot, without)["s2"].link == snapshot.links[1], "bound is bound, whatever was asked"


def test_a_device_of_a_session_that_is_not_bound_to_it_decides_nothing() -> None:
    """iSER has the name from the interface record in sysfs too, and goes where the route leads."""
    snapshot, fabric = wiring.one_network()
    for details in ({"transport": "iser", "net_device": "eth2"}, {"net_device": "default"}, {}):
        free = wiring.changed(snapshot, wiring.bound(session(2, "eth2", "10.9.1.2", "10.9.1.9"), **details))
        assert lanes(free, fabric)["s2"].link == snapshot.links[0], details


def test_a_hardware_address_binds_before_a_name() -> None:
    snapshot, fabric = wiring.one_network()
    over = session(2, "eth2", "10.9.1.2", "10.9.1.9")
    by_mac = wiring.bound(over, hardware_address="02:00:00:00:00:02", net_device="eth1")
    assert lanes(wiring.changed(snapshot, by_mac), fabric)["s2"].link == snapshot.links[1]
    card = {"transport": "cxgb4i", "hardware_address": "02:00:00:00:00:01", "net_device": "eth2"}
    assert lanes(wiring.changed(snapshot, wiring.bound(over, **card)), fabric)["s2"].link == snapshot.links[1]


def test_of_links_with_one_hardware_address_the_local_address_tells() -> None:
    snapshot, fabric = wiring.one_network()
    twins = tuple(dataclasses.replace(each, mac="02:00:00:00:00:01") for each in snapshot.links)
    over = wiring.bound(session(2, "eth2", "10.9.1.2", "10.9.1.9"), hardware_address="02:00:00:00:00:01")
    assert lanes(wiring.changed(snapshot, over, *twins), fabric)["s2"].link == twins[1]
    bare = tuple(dataclasses.replace(each, addresses=()) for each in twins)
    lane = lanes(wiring.changed(snapshot, over, *bare), fabric)["s2"]
    assert (lane.link, lane.route, Kind.LINK in lane.unknown) == (None, None, True)


def test_where_the_link_that_a_session_is_bound_to_has_gone_nobody_knows_its_way() -> None:
    snapshot, fabric = wiring.one_network()
    for details in ({"net_device": "eth7"}, {"hardware_address": "02:00:00:00:00:07"}):
        over = wiring.bound(session(2, "eth2", "10.9.1.2", "10.9.1.9"), **details)
        assert Kind.LINK in lanes(wiring.changed(snapshot, over), fabric)["s2"].unknown


def test_loopback_has_no_cable_and_no_network_to_share() -> None:
    links = {"lo": link("lo", kind="loopback")}
    lane = lane_of(session(1, "lo", "127.0.0.1", "127.0.0.2"), links)
    assert lane.footings == (Footing(Kind.PORTAL, "127.0.0.2:3260"),)
    assert lane.unknown == ()


def test_links_that_stand_on_each_other_end() -> None:
    """The kernel forbids it; two readings of a host that changes in between may show it."""
    links = {each.name: each for each in (link("a", "b"), link("b", "a"))}
    assert [each.name for each in lane_of(session(1, "a", "10.9.1.1", "10.9.1.2"), links).way] == ["a", "b"]


def test_a_switch_counts_only_where_every_cable_tells_one() -> None:
    links = {each.name: each for each in (link("eth0"), link("eth1"), link("bond0", "eth0", "eth1", kind="bond"))}
    one = {"eth0": Neighbour("02:01", "left")}
    over = session(1, "bond0", "10.9.1.1", "10.9.1.2")
    half = lane_of(over, links, Fabric(neighbours=one))
    assert Kind.SWITCH in half.unknown
    same = lane_of(over, links, Fabric(neighbours=one | {"eth1": Neighbour("02:01", "left")}))
    assert Footing(Kind.SWITCH, "left (02:01)") in same.footings
    both = lane_of(over, links, Fabric(neighbours=one | {"eth1": Neighbour("02:02", "right")}))
    assert not [each for each in both.footings if each.kind is Kind.SWITCH]
    assert Kind.SWITCH not in both.unknown


def test_a_session_without_connection_or_link_is_a_lane_of_which_little_is_known() -> None:
    bare = dataclasses.replace(session(1, None, "", ""), connections=())
    lane = lane_of(bare, {})
    assert (lane.connection, lane.link, lane.way, lane.cables) == (None, None, (), ())
    assert set(lane.unknown) == {Kind.LINK, Kind.NETWORK, Kind.SWITCH}


def test_a_link_that_went_down_is_still_the_one() -> None:
    snapshot, fabric = wiring.two_links()
    down = wiring.changed(snapshot, link("eth1", state=LinkState.DOWN))
    assert lanes(down, fabric)["s1"].cables[0].state is LinkState.DOWN
