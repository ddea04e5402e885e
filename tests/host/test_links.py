"""Network interfaces, and which of them carries a connection."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from initiator.host.links import link_for, own_addresses, read_links
from initiator.model import Link, LinkState
from tests.host.tree import Tree


def read(tree: Tree, addresses: dict[str, tuple[str, ...]] | None = None) -> dict[str, Link]:
    links, problems = read_links(tree.root, addresses or {})
    assert problems == ()
    return {link.name: link for link in links}


def test_a_card_with_all_it_tells(tree: Tree) -> None:
    tree.net("eth0", speed="10000", duplex="full", address="02:00:00:00:00:01", mtu="9000")
    tree.write("sys/class/net/eth0/statistics/rx_errors", "3\n")
    tree.link("sys/class/net/eth0/device/driver", "../../../../bus/pci/drivers/ixgbe")
    link = read(tree, {"eth0": ("192.0.2.1",)})["eth0"]
    assert link.id == "link:eth0"
    assert (link.state, link.carrier, link.carrier_changes) == (LinkState.UP, True, 2)
    assert (link.speed_mbps, link.duplex, link.mtu) == (10000, "full", 9000)
    assert (link.kind, link.driver, link.mac) == ("ethernet", "ixgbe", "02:00:00:00:00:01")
    assert (link.addresses, link.rx_errors, link.tx_errors, link.rx_dropped) == (("192.0.2.1",), 3, 0, None)


@pytest.mark.parametrize(
    ("flags", "carrier", "state"),
    [
        (0x1003, "1", LinkState.UP),
        (0x1003, "0", LinkState.DOWN),
        (0x1002, "", LinkState.DOWN),
        (0x1003, "", LinkState.UNKNOWN),
    ],
)
def test_up_means_switched_on_and_with_a_carrier(tree: Tree, flags: int, carrier: str, state: LinkState) -> None:
    tree.net("eth0", flags=flags, carrier=carrier)
    assert read(tree)["eth0"].state is state


@pytest.mark.parametrize("speed", ["-1", "4294967295", "", "0"])
def test_a_speed_that_nobody_knows(tree: Tree, speed: str) -> None:
    tree.net("eth0", speed=speed, duplex="unknown")
    assert (read(tree)["eth0"].speed_mbps, read(tree)["eth0"].duplex) == (None, None)


def test_a_vlan_on_a_bond_of_two_cards(tree: Tree) -> None:
    for name in ("eth0", "eth1"):
        tree.net(name)
        tree.link(f"sys/class/net/{name}/device", "../../../pci")
        tree.link(f"sys/class/net/{name}/master", "../bond0")
    tree.net("bond0", uevent="DEVTYPE=bond\nINTERFACE=bond0")
    for name in ("eth0", "eth1"):
        tree.link(f"sys/class/net/bond0/lower_{name}", f"../{name}")
    tree.net("bond0.12", uevent="DEVTYPE=vlan\nINTERFACE=bond0.12")
    tree.link("sys/class/net/bond0.12/lower_bond0", "../bond0")
    tree.write("sys/class/net/bonding_masters", "bond0\n")
    links = read(tree)
    assert set(links) == {"eth0", "eth1", "bond0", "bond0.12"}
    assert links["eth0"].master == "bond0"
    assert (links["bond0"].kind, links["bond0"].lower) == ("bond", ("eth0", "eth1"))
    assert (links["bond0.12"].kind, links["bond0.12"].lower) == ("vlan", ("bond0",))


def test_kinds_that_the_kernel_has_no_word_for(tree: Tree) -> None:
    tree.net("lo", kind=772)
    tree.net("tap0", tun_flags="0x1002")
    tree.net("veth12", iflink="9")
    tree.net("cable1", iflink="10")
    tree.net("tunnel0", kind=768, iflink="9")
    tree.net("upper0", iflink="9", lower_eth0="")
    tree.net("dummy0")
    assert {name: link.kind for name, link in read(tree).items()} == {
        "lo": "loopback",
        "tap0": "tun",
        "veth12": "veth",
        "cable1": "veth",
        "tunnel0": "virtual",
        "upper0": "virtual",
        "dummy0": "virtual",
    }


def test_a_driver_knows_a_pair_whose_ends_have_the_same_number(tree: Tree) -> None:
    tree.net("cable1", ifindex="2", iflink="2")
    tree.net("dummy0", ifindex="3", iflink="3")
    drivers = {"cable1": "veth", "dummy0": "dummy"}
    kinds = {link.name: link.kind for link in read_links(tree.root, {}, drivers.get)[0]}
    assert kinds == {"cable1": "veth", "dummy0": "virtual"}


@pytest.mark.root
def test_a_real_pair_whose_ends_have_the_same_number() -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    near, far = f"moor-{os.getpid()}-a", f"moor-{os.getpid()}-b"
    name = f"moor{os.getpid()}"
    read = "from initiator.host.links import read_links; print(*[(each.name, each.kind) for each in read_links()[0]])"
    for space in (near, far):
        ip("netns", "add", space)
    try:
        ip("-n", near, "link", "add", name, "type", "veth", "peer", "name", name, "netns", far)
        (end,) = json.loads(ip("-j", "-n", far, "link", "show", name))
        told = ip("netns", "exec", far, sys.executable, "-c", read)
    finally:
        for space in (near, far):
            ip("netns", "delete", space)
    assert end["ifindex"] == end["link_index"]
    assert f"({name!r}, 'veth')" in told


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True, timeout=60).stdout


def test_no_sysfs_is_a_problem(tmp_path: Path) -> None:
    assert [problem.source for problem in read_links(tmp_path, {})[1]] == ["links"]


@pytest.mark.parametrize(
    ("local", "link"),
    [
        ("192.0.2.1", "link:eth0"),
        ("::ffff:192.0.2.1", "link:eth0"),
        ("2001:db8:0::1", "link:eth0"),
        ("fe80::1%eth1", "link:eth1"),
        ("fe80::1", None),
        ("fe80::2", "link:eth1"),
        ("127.0.0.1", "link:lo"),
        ("127.0.0.2", "link:lo"),
        ("::1", "link:lo"),
        ("198.51.100.1", None),
        ("no address", None),
        ("", None),
        (None, None),
    ],
)
def test_the_link_of_a_local_address(tree: Tree, local: str | None, link: str | None) -> None:
    for name, kind in (("lo", 772), ("eth0", 1), ("eth1", 1)):
        tree.net(name, kind=kind)
    addresses = {
        "lo": ("127.0.0.1", "::1"),
        "eth0": ("192.0.2.1", "2001:db8::1", "fe80::1%eth0"),
        "eth1": ("192.0.2.2", "fe80::1%eth1", "fe80::2%eth1"),
    }
    assert link_for(local, read(tree, addresses).values()) == link


def test_this_host_as_ip_sees_it() -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    rows = json.loads(subprocess.run(["ip", "-j", "address"], capture_output=True, text=True, check=True).stdout)
    ours = {link.name: link for link in read_links()[0]}
    assert {row["ifname"] for row in rows} <= set(ours)
    for row in rows:
        link = ours[row["ifname"]]
        assert link.mtu == row["mtu"]
        assert ("UP" in row["flags"] and "LOWER_UP" in row["flags"]) == (link.state is LinkState.UP)
        assert (link.kind == "loopback") == (row["link_type"] == "loopback")
        theirs = {entry["local"] for entry in row["addr_info"]}
        assert {address.partition("%")[0] for address in link.addresses} == theirs
    assert "127.0.0.1" in own_addresses()["lo"]
