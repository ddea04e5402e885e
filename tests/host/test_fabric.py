"""What lies around the paths: networks, cards, bonds, routes, switches, target ports, and when it is asked again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from initiator.errors import MooringError
from initiator.fabric import Ends, Neighbour, Nic, Route, TargetPort
from initiator.host import fabric as fabrics
from initiator.host.fabric import FabricReader
from initiator.host.lldp import LldpError, parse_neighbours
from initiator.host.nics import network_of, own_networks, read_nics
from initiator.host.routes import read_routes
from initiator.host.sessionstats import parse_stats, read_stats
from initiator.model import Connection, Link, LinkState, PathState, Portal, Session, SessionState, Snapshot, Source
from initiator.model import Path as DiskPath
from tests.host.kerneltree import KernelTree, naa, page83
from tests.host.tree import Tree


def links(*names: str, kind: str = "ethernet") -> tuple[Link, ...]:
    return tuple(Link(f"link:{name}", name, LinkState.UP, kind) for name in names)


@pytest.mark.parametrize(
    ("address", "mask", "network"),
    [
        ("10.9.1.7", "255.255.255.0", "10.9.1.0/24"),
        ("fd09:1::1", "ffff:ffff:ffff:ffff::", "fd09:1::/64"),
        ("fe80::1%eth0", "ffff:ffff:ffff:ffff::", None),
        ("169.254.3.4", "255.255.0.0", None),
        ("10.9.1.7", None, None),
        ("nonsense", "255.255.255.0", None),
    ],
)
def test_the_network_of_an_address(address: str, mask: str | None, network: str | None) -> None:
    assert network_of(address, mask) == network


def test_a_card_and_a_bond(tree: Tree) -> None:
    tree.net("eth0", ifindex="7")
    tree.write(
        "run/udev/data/n7", "I:1234\nE:ID_VENDOR_FROM_DATABASE=Intel\nE:ID_MODEL_FROM_DATABASE=X550 \x1b[1m10G\n"
    )
    tree.net("bond0", ifindex="9")
    tree.write("sys/class/net/bond0/bonding/mode", "active-backup 1\n")
    tree.write("sys/class/net/bond0/bonding/active_slave", "eth0\n")
    found = read_nics((*links("eth0", "eth5"), *links("bond0", kind="bond")), tree.root, {"eth0": ("10.9.1.0/24",)})
    assert found["eth0"].networks == ("10.9.1.0/24",)
    assert found["eth0"].model is not None
    assert found["eth0"].model.startswith("X550")
    assert "\x1b" not in found["eth0"].model
    assert found["bond0"] == Nic(mode="active-backup", active="eth0")
    assert found["eth5"] == Nic()


@pytest.mark.skipif(not shutil.which("ip"), reason="iproute2 is not installed")
def test_the_same_networks_as_ip_says() -> None:
    told = json.loads(
        subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, check=True, timeout=10).stdout
    )
    for entry in told:
        expected = {
            f"{address['local']}/{address['prefixlen']}"
            for address in entry["addr_info"]
            if not address["local"].startswith(("fe80", "169.254"))
        }
        ours = own_networks().get(entry["ifname"], ())
        assert len(ours) == len({network_of_cidr(each) for each in expected})
        assert set(ours) == {network_of_cidr(each) for each in expected}


def network_of_cidr(text: str) -> str:
    import ipaddress

    return str(ipaddress.ip_interface(text).network)


# --- routes ---


@pytest.fixture
def cables() -> Iterator[str]:
    """A network namespace with two cards in one network, as nobody should build it."""
    name = f"moor-{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'one')}"
    orders = [f"ip netns add {name}"]
    for number in (1, 2):
        orders += [
            f"ip -n {name} link add veth{number} type veth peer name peer{number}",
            f"ip -n {name} link set peer{number} up",
            f"ip -n {name} addr add 10.9.1.{number}/24 dev veth{number}",
            f"ip -n {name} link set veth{number} up",
        ]
    orders.append(f"ip -n {name} route add 10.77.0.0/16 via 10.9.1.200 dev veth2")
    try:
        for order in orders:
            subprocess.run(order.split(), check=True, capture_output=True, timeout=10)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)


_ASK = """
import json, sys
from initiator.host.routes import read_routes
pairs = [tuple(pair) for pair in json.loads(sys.argv[1])]
print(json.dumps([[*pair, route.device, route.gateway] for pair, route in read_routes(pairs).items()]))
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2")
def test_the_kernel_says_where_packets_leave(cables: str) -> None:
    import sys

    pairs = [
        ("10.9.1.2", "10.9.1.9"), ("10.9.1.2%veth2", "10.9.1.9"), ("10.9.1.2", "10.77.1.1"),
        ("10.9.1.2", "192.0.2.1"), ("10.9.1.1", "fd00::1"), ("10.9.1.2%veth7", "10.9.1.9"),
    ]  # fmt: skip
    done = subprocess.run(
        ["ip", "netns", "exec", cables, sys.executable, "-c", _ASK, json.dumps(pairs)],
        capture_output=True, text=True, check=True, timeout=30, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found = {(local, peer): (device, gateway) for local, peer, device, gateway in json.loads(done.stdout)}
    for (local, peer), (device, gateway) in found.items():
        source, _, bound = local.partition("%")
        words = ["ip", "-j", "-n", cables, "route", "get", peer, "from", source, *(("oif", bound) if bound else ())]
        (told,) = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout)
        assert (told["dev"], told.get("gateway")) == (device, gateway)
    assert set(found) == {("10.9.1.2", "10.9.1.9"), ("10.9.1.2%veth2", "10.9.1.9"), ("10.9.1.2", "10.77.1.1")}
    assert found["10.9.1.2", "10.77.1.1"] == ("veth2", "10.9.1.200")
    assert [found[local, "10.9.1.9"][0] for local in ("10.9.1.2", "10.9.1.2%veth2")] == ["veth1", "veth2"]


def test_the_route_to_ourselves() -> None:
    assert read_routes([("127.0.0.1", "127.0.0.1")])["127.0.0.1", "127.0.0.1"].device == "lo"


# --- LLDP ---


def told(name: str, switch: str, port: str | None = "Gi0/1") -> dict[str, object]:
    """One neighbour as lldpd 1.0.16 writes it."""
    described = {"descr": [{"value": port}]} if port else {}
    return {
        "name": name,
        "via": "LLDP",
        "rid": "1",
        "age": "0 day, 00:00:08",
        "chassis": [{"id": [{"type": "mac", "value": switch}], "name": [{"value": "core-\x1b[31mleft"}]}],
        "port": [{"id": [{"type": "mac", "value": "76:26:3b:cc:f8:a6"}], **described, "ttl": [{"value": "120"}]}],
    }


def test_the_switches_that_lldpd_tells_of() -> None:
    both = [told("eth0", "76:26:3b:cc:f8:a6"), told("eth1", "02:00", None), told("eth0", "76:99:3b:cc:f8:a6")]
    found = parse_neighbours(json.dumps({"lldp": [{"interface": both}]}))
    assert found["eth0"].switch == "76:26:3b:cc:f8:a6"
    assert found["eth0"].port == "Gi0/1"
    assert found["eth1"].port == "76:26:3b:cc:f8:a6"
    assert "\x1b" not in (found["eth0"].name or "")


@pytest.mark.parametrize(
    "text", ['{"lldp": [{}]}', "{}", "[]", '{"lldp": 3}', '{"lldp": [{"interface": [{"name": 3}]}]}']
)
def test_no_neighbour(text: str) -> None:
    assert parse_neighbours(text) == {}


def test_no_json_is_an_error() -> None:
    with pytest.raises(LldpError, match="no JSON"):
        parse_neighbours("lldpctl: unable to connect")


# --- counters that only iscsiadm tells ---

STATS = """Stats for session [sid: 2, target: iqn.2026-11.io.mooring.lab:two, portal: 10.9.1.2,3260]

iSCSI SNMP:
\ttxdata_octets: 8404
\tnoptx_pdus: 0
\tscsicmd_pdus: 153
\ttmfcmd_pdus: 4
\trjt_pdus: 0
\tdigest_err: 1
\ttimeout_err: 0
iSCSI Extended:
\ttx_sendpage_failures: 0
\teh_abort_cnt: 2
"""


def test_aborts_as_iscsiadm_prints_them() -> None:
    assert parse_stats(STATS) == {"management": 4, "rejects": 0, "digest_errors": 1, "aborts": 2}


def test_no_iscsiadm_no_counters() -> None:
    def absent(argv: object, deadline: float) -> object:
        raise MooringError("no such program")

    assert read_stats(2, absent) == {}  # type: ignore[arg-type]


# --- all of it ---


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """Answers about routes and switches, and how often they were asked for."""

    def __init__(self) -> None:
        self.routes = self.switches = 0
        self.failure: Exception | None = None

    def ask_routes(self, pairs: set[Ends]) -> Mapping[Ends, Route]:
        self.routes += 1
        return {pair: Route("eth0") for pair in pairs}

    def ask_switches(self) -> Mapping[str, Neighbour]:
        self.switches += 1
        if self.failure is not None:
            raise self.failure
        return {"eth0": Neighbour("02:00")}


def snapshot(*hctls: str, state: LinkState = LinkState.UP) -> Snapshot:
    wire = Connection("c1", "c1", "up", 0, "10.9.1.1", 40_000, "10.9.1.2", 3260)
    session = Session(
        "kernel:s:1", "s", SessionState.LOGGED_IN, Source.KERNEL, "iqn.x:y", Portal("10.9.1.2"), connections=(wire,)
    )
    paths = tuple(DiskPath(f"kernel:p:{hctl}", hctl, PathState.ACTIVE, "d", session.id) for hctl in hctls)
    return Snapshot("h", 0.0, (session,), paths=paths, links=(Link("link:eth0", "eth0", state),))


def test_everything_is_asked_once_and_again_when_it_may_have_changed(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.net("eth0", ifindex="2")
    tree.session(1)
    tree.lun(1, 0, kname="sda", dev="8:0")
    group = page83(naa(0)) + struct.pack(">BBBBxxH", 0x51, 0x95, 0, 4, 7)
    tree.attribute("scsi_device/1:0:0:0/device/vpd_pg83", struct.pack(">BBH", 0, 0x83, len(group) - 4) + group[4:])
    clock, asked = Clock(), Asked()
    reader = FabricReader(tree.root, {"eth0": ("10.9.1.0/24",)}, asked.ask_routes, asked.ask_switches, clock)
    first = reader.read(snapshot("1:0:0:0"))
    assert first.routes == {("10.9.1.1", "10.9.1.2"): Route("eth0")}
    assert first.nics["eth0"].networks == ("10.9.1.0/24",)
    assert first.neighbours == {"eth0": Neighbour("02:00")}
    assert first.ports == {"kernel:p:1:0:0:0": TargetPort(7, 1)}
    assert reader.read(snapshot("1:0:0:0")) is first
    assert (asked.routes, asked.switches) == (1, 1)
    reader.read(snapshot("1:0:0:0", state=LinkState.DOWN))
    assert (asked.routes, asked.switches) == (2, 2)
    clock.now += fabrics.SECONDS
    reader.read(snapshot(state=LinkState.DOWN))
    assert (asked.routes, asked.switches) == (3, 3)


def test_of_a_bound_session_the_route_over_its_interface_is_asked(tree: Tree) -> None:
    plain = snapshot()
    details = {"transport": "tcp", "net_device": "eth0"}
    bound = dataclasses.replace(plain, sessions=(dataclasses.replace(plain.sessions[0], details=details),))
    reader = FabricReader(tree.root, {}, Asked().ask_routes, None, Clock())
    assert reader.read(plain).routes == {("10.9.1.1", "10.9.1.2"): Route("eth0")}
    assert reader.read(bound).routes == {("10.9.1.1%eth0", "10.9.1.2"): Route("eth0")}


def test_who_does_not_answer_is_a_problem_until_he_does(tree: Tree) -> None:
    clock, asked = Clock(), Asked()
    asked.failure = LldpError("lldpctl: unable to connect")
    reader = FabricReader(tree.root, {}, None, asked.ask_switches, clock)
    silent = reader.read(snapshot("1:0:0:0"))
    assert silent.neighbours == {}
    assert [(each.source, each.reason) for each in silent.problems] == [("lldp", "lldpctl: unable to connect")]
    assert silent.ports == {"kernel:p:1:0:0:0": TargetPort()}
    asked.failure = None
    clock.now += fabrics.SECONDS
    assert reader.read(snapshot("1:0:0:0")).problems == ()
