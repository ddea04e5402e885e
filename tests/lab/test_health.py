"""Chains, verdicts and "you lose" answers beside what ip, ss, ethtool, multipath, sg3-utils and sysfs say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import wires
from tests.lab.machine import Machine
from tests.lab.wires import WIRES

LEFT, RIGHT = "10.19.1.2", "10.19.2.2"


@pytest.fixture(scope="module")
def name(guest: Machine) -> Iterator[str]:
    """The map; the ways to it are taken away in the end."""
    yield wires.make(guest)
    wires.clear(guest)


@pytest.fixture(scope="module")
def told(guest: Machine, name: str) -> dict[str, Any]:
    """The chains, while nothing happens."""
    return wires.chains(guest, name)


def said(guest: Machine, command: str) -> Any:
    return json.loads(guest.run(command).out)


def test_the_way_down_to_the_cables_is_what_ip_says(guest: Machine, told: dict[str, Any]) -> None:
    assert [link["name"] for link in told[LEFT]["lane"]["way"]] == ["wire1.12", "wire1"]
    assert [link["name"] for link in told[RIGHT]["lane"]["way"]] == ["bond9", "wire2", "wire3"]
    assert [link["name"] for link in told[RIGHT]["lane"]["cables"]] == ["wire2", "wire3"]
    links = {link["ifname"]: link for link in said(guest, "ip -d -s -j link")}
    addresses = {link["ifname"]: link for link in said(guest, "ip -j addr")}
    kinds = {"wire1.12": "vlan", "bond9": "bond", "wire1": "veth", "wire2": "veth", "wire3": "veth"}
    for each in (*told[LEFT]["lane"]["way"], *told[RIGHT]["lane"]["way"]):
        theirs = links[each["name"]]
        assert theirs["linkinfo"]["info_kind"] == kinds[each["name"]]
        # sysfs tells a veth only by the number of its other end, which may be its own in another namespace
        assert each["kind"] == kinds[each["name"]] or (kinds[each["name"]], each["kind"]) == ("veth", "virtual")
        assert (each["mtu"], each["mac"], each["master"]) == (theirs["mtu"], theirs["address"], theirs.get("master"))
        assert each["carrier"] is ("LOWER_UP" in theirs["flags"])
        errors = [theirs["stats64"][way]["errors"] for way in ("rx", "tx")]
        assert [each["rx_errors"], each["tx_errors"]] == errors
        own = [info["local"] for info in addresses[each["name"]]["addr_info"] if info["family"] == "inet"]
        assert [address for address in each["addresses"] if ":" not in address] == own
    for address, network in ((LEFT, "10.19.1.0/24"), (RIGHT, "10.19.2.0/24")):
        assert told[address]["lane"]["network"] == network
    bond = told[RIGHT]["lane"]["nics"][0]
    theirs = links["bond9"]["linkinfo"]["info_data"]
    assert (bond["mode"], bond["active"]) == (theirs["mode"], theirs["active_slave"])


def test_speed_and_duplex_are_what_ethtool_says(guest: Machine, told: dict[str, Any]) -> None:
    for each in (*told[LEFT]["lane"]["way"], *told[RIGHT]["lane"]["way"]):
        text = guest.run(f"ethtool {each['name']}").out
        speed, duplex = re.search(r"Speed: (\d+)Mb/s", text), re.search(r"Duplex: (\w+)", text)
        assert each["speed_mbps"] == (int(speed[1]) if speed else None), text
        assert each["duplex"] == (duplex[1].lower() if duplex and "Unknown" not in duplex[0] else None), text


@pytest.mark.parametrize("peer", [LEFT, RIGHT])
def test_route_and_connection_are_what_ip_and_ss_say(guest: Machine, told: dict[str, Any], peer: str) -> None:
    lane = told[peer]["lane"]
    wire = lane["connection"]
    (route,) = said(guest, f"ip -j route get {peer} from {wire['local_host']}")
    assert (lane["route"]["device"], lane["route"]["gateway"]) == (route["dev"], route.get("gateway"))
    assert lane["link"]["name"] == route["dev"]
    text = guest.run(f"ss -tinH dst {peer}:3269").out
    assert f"{wire['local_host']}:{wire['local_port']}" in text
    assert (lane["tcp"]["state"], "ESTAB" in text) == ("established", True)
    retrans = re.search(r"retrans:\d+/(\d+)", text)
    assert lane["tcp"]["retransmits"] == (int(retrans[1]) if retrans else 0)
    rtt = re.search(r" rtt:([\d.]+)/([\d.]+)", text)
    assert rtt is not None
    assert lane["tcp"]["rtt_us"] / 1000 == pytest.approx(float(rtt[1]), rel=0.9), "it goes on changing"


@pytest.mark.parametrize(("peer", "group", "port"), [(LEFT, 11, None), (RIGHT, 12, None)])
def test_group_priority_and_port_are_what_multipathd_and_sg_vpd_say(
    guest: Machine, name: str, told: dict[str, Any], peer: str, group: int, port: int | None
) -> None:
    chain = told[peer]
    kname = chain["path"]["device"].removeprefix("/dev/")
    (joined,) = [each for each in said(guest, "multipathd show maps json")["maps"] if each["name"] == name]
    of = {path["dev"]: (each, path) for each in joined["path_groups"] for path in each["paths"]}
    theirs, path = of[kname]
    assert (chain["group"]["number"], chain["group"]["priority"]) == (theirs["group"], path["pri"])
    assert chain["group"]["selector"] == theirs["selector"]
    assert chain["group"]["access"] == guest.run(f"cat /sys/block/{kname}/device/access_state").out.strip()
    page = guest.run(f"sg_vpd -p di /dev/{kname}").out
    number, relative = re.search(r"Target port group: 0x(\w+)", page), re.search(r"Relative target port: 0x(\w+)", page)
    assert number is not None
    assert relative is not None
    assert (chain["port"]["group"], chain["port"]["number"]) == (int(number[1], 16), int(relative[1], 16))
    assert chain["port"]["group"] == group


def test_all_is_well_and_what_would_be_lost_is_counted(guest: Machine, name: str, told: dict[str, Any]) -> None:
    assert {chain["health"]["verdict"] for chain in told.values()} == {"ok"}, told
    losses = {each["name"]: each for each in said(guest, "/opt/mooring/bin/mooring lose --json")["losses"]}
    for link, left in (("wire1", 1), ("wire1.12", 1), ("bond9", 1), (wires.PORTALS[0], 1), (wires.PORTALS[1], 1)):
        assert [(each["name"], each["left"]) for each in losses[link]["weakens"]] == [(name, left)], losses[link]
        assert losses[link]["ends"] == []
    for link in ("wire2", "wire3"):
        assert losses[link]["weakens"] == losses[link]["ends"] == []
        assert losses[link]["text"].endswith("takes over.")


def test_two_cables_to_one_switch_are_one_way(guest: Machine, name: str) -> None:
    """lldpd at both ends; the far end is the switch."""
    far = "/run/lldpd-far.sock"
    guest.run(f"nsenter --net=/run/netns/far lldpd -u {far} -p /run/lldpd-far.pid -I 'far*'; lldpd -I 'wire*'")
    try:
        heard = "[ $(lldpctl -f keyvalue | grep -c 'chassis.mac=') = 3 ]"
        guest.run(f"for n in $(seq 60); do {heard} && exit 0; sleep 1; done; lldpctl; exit 1", seconds=120)
        values = dict(line.split("=", 1) for line in guest.run("lldpctl -f keyvalue").out.splitlines() if "=" in line)
        told = json.loads(guest.mooring("path", name, "--json", "--interval", "0").out)
        (ways,) = told["ways"].values()
        for chain in told["paths"]:
            for cable, neighbour in zip(chain["lane"]["cables"], chain["lane"]["neighbours"], strict=True):
                assert neighbour["switch"] == values[f"lldp.{cable['name']}.chassis.mac"]
                assert neighbour["port"] == values[f"lldp.{cable['name']}.port.descr"]
        assert (ways["working"], ways["independent"]) == (2, 1)
        assert "switch" in {each["kind"] for each in ways["shared"]}
    finally:
        guest.run("pkill lldpd; rm -f /run/lldpd*.sock /run/lldpd*.pid", check=False)


def test_alua_states_that_change_while_io_runs(guest: Machine, name: str) -> None:
    guest.run(f"setsid sh -c 'while dd if=/dev/mapper/{name} of=/dev/null bs=64k count=64 iflag=direct; do :; done'"
              " >/dev/null 2>&1 </dev/null & echo $! >/tmp/io.pid")  # fmt: skip
    try:
        for state, word in (("2", "standby"), ("1", "active/non-optimized"), ("0", "active/optimized")):
            guest.run(f"{WIRES} alua left {state}")
            kname = wires.chains(guest, name)[LEFT]["path"]["device"].removeprefix("/dev/")
            access = f"cat /sys/block/{kname}/device/access_state"
            # the target tells on the next command of the path, and the map may send all of its own on the other one
            knock = f"dd if=/dev/{kname} of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null"
            until = f"{knock}; [ $({access}) = {word} ] && exit 0; sleep 0.5"
            guest.run(f"for n in $(seq 60); do {until}; done; {access}; exit 1")
            chain = wires.chains(guest, name)[LEFT]
            assert chain["path"]["access"] == chain["group"]["access"] == word
            assert chain["path"]["state"] in ("active", "standby"), chain["path"]
        guest.run("kill -0 $(cat /tmp/io.pid)")
    finally:
        guest.run(f"{WIRES} alua left 0; kill -- -$(cat /tmp/io.pid) $(cat /tmp/io.pid)", check=False)


def test_a_cable_of_the_bond_may_go_as_was_said(guest: Machine, name: str) -> None:
    active = guest.run("cat /sys/class/net/bond9/bonding/active_slave").out.strip()
    guest.run(f"{WIRES} pull {active[-1]}")
    try:
        other = f"[ $(cat /sys/class/net/bond9/bonding/active_slave) != {active} ]"
        guest.run(f"for n in $(seq 50); do {other} && exit 0; sleep 0.2; done; exit 1")
        chains = wires.chains(guest, name)
        assert chains[RIGHT]["path"]["state"] in ("active", "standby")
        assert chains[RIGHT]["health"]["verdict"] == "at-risk"
        assert chains[RIGHT]["health"]["reason"] == f"bond9 under it has lost {active}: 1 of 2 left"
        losses = {each["name"]: each for each in said(guest, "/opt/mooring/bin/mooring lose --json")["losses"]}
        left = next(cable for cable in ("wire2", "wire3") if cable != active)
        assert [(each["name"], each["left"]) for each in losses[left]["weakens"]] == [(name, 1)]
    finally:
        guest.run(f"{WIRES} plug {active[-1]}")


def test_a_pulled_cable_is_told_at_once_and_leaves_what_was_said(guest: Machine, name: str) -> None:
    guest.run(f"{WIRES} pull 1")
    try:
        chain = wires.chains(guest, name)[LEFT]
        assert chain["health"]["verdict"] in ("at-risk", "down")
        assert "carrier" in " ".join(chain["health"]["evidence"])
        failed = f"[ $(multipathd show paths raw format '%w %t' | grep {wires.WWID} | grep -c active) = 1 ]"
        guest.run(
            f"for n in $(seq 90); do {failed} && exit 0; sleep 1; done; multipathd show paths; exit 1", seconds=150
        )
        after = json.loads(guest.mooring("path", name, "--json", "--interval", "0").out)
        (ways,) = after["ways"].values()
        assert (ways["working"], ways["total"]) == (1, 2)
        losses = {each["name"]: each for each in said(guest, "/opt/mooring/bin/mooring lose --json")["losses"]}
        assert [each["name"] for each in losses["bond9"]["ends"]] == [name]
    finally:
        guest.run(f"{WIRES} plug 1")
        wires.settle(guest)


def test_a_probe_goes_the_same_way_and_measures(guest: Machine, name: str) -> None:
    ran = guest.mooring("probe", wires.TARGET, "--json", "--for", "20", seconds=120)
    found = [json.loads(line) for line in ran.out.splitlines()]
    best = {each["portal"]: each for each in found if each["state"] == "ok" and each["access"]}
    assert set(best) == set(wires.PORTALS), ran.out
    assert {each["access"] for each in best.values()} == {"active/optimized"}
    assert all(each["rtt_us"] and each["ready_us"] for each in best.values())
    assert "silent" not in {each["state"] for each in found[4:]}, ran.out
    sessions = guest.run("cat /sys/class/iscsi_session/*/state").out.split()
    assert set(sessions) == {"LOGGED_IN"}, "a probe took a session away"
