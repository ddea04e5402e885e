"""The kernel's answers about routes and packet sizes, beside ip(8) and getsockopt."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess

import pytest

from initiator.host.routes import read_default_links, read_ways, way_to
from initiator.host.segments import read_segments
from initiator.model import Connection

_MSS = 16
"""Offset of tcpi_snd_mss in struct tcp_info."""
_PMTU = 60


def ip(*words: str) -> list[dict[str, str]]:
    if shutil.which("ip") is None:
        pytest.skip("no ip(8): Debian package iproute2")
    ran = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=False)
    return json.loads(ran.stdout or "[]") if ran.returncode == 0 else []


def test_ways_and_default_routes_are_as_ip_prints_them() -> None:
    hosts = ["127.0.0.1", "192.0.2.7", "::1", "2001:db8::7", "storage.example", "fe80::1%nowhere"]
    found = read_ways(hosts)
    for host in hosts[:4]:
        told = ip("route", "get", host)
        assert found.get(host) == (told[0]["dev"] if told else None), host
    assert not {"storage.example", "fe80::1%nowhere"} & found.keys()
    assert read_default_links() == {
        each["dev"] for version in "46" for each in ip(f"-{version}", "route", "show", "default")
    }


def test_a_way_through_a_gateway_is_no_link_of_a_portal() -> None:
    """Where the storage's own link is down, the default route leads to its portals: over the card for all else."""
    for host in ("127.0.0.1", "192.0.2.7", "198.51.100.7"):
        told = ip("route", "get", host)
        near = told and "gateway" not in told[0]
        assert way_to(host) == (told[0]["dev"] if near else None), host
    assert way_to("storage.example") is None


def test_packet_sizes_are_as_the_socket_itself_has_them() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        local, peer = client.getsockname(), client.getpeername()
        mine = Connection("c", "c", "up", 0, *local[:2], *peer[:2])
        other = Connection("x", "x", "up", 0, local[0], 1, peer[0], peer[1])
        found = read_segments((mine, other))
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert found.keys() == {"c"}
    assert found["c"].sent_bytes == struct.unpack_from("=I", info, _MSS)[0]
    assert found["c"].path_mtu == struct.unpack_from("=I", info, _PMTU)[0]
