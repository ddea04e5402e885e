"""struct tcp_info of real sockets, read in two ways and compared with a third."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.host import tcp as tcp_
from initiator.host.sockets import SparingConnections
from initiator.host.tcp import Endpoint, list_tcp, parse_listed, parse_tcp_info, read_tcp
from initiator.model import TcpInfo


@pytest.fixture(params=["127.0.0.1", "::1"])
def connected(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """The client's end of a connection over which something has been said, and acknowledged."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this host has no {request.param}")
    with server, socket.create_connection(server.getsockname()[:2]) as client:
        other, _ = server.accept()
        with other:
            client.sendall(b"x" * 5000)
            received = 0
            while received < 5000:
                received += len(other.recv(5000))
            other.sendall(b"y")
            assert client.recv(1) == b"y"
            yield client


def test_what_costs_much_is_asked_seldom() -> None:
    clock, spent, asked = [100.0], [0.0], []

    def ask() -> dict[tuple[int, str, int], TcpInfo]:
        asked.append(clock[0])
        spent[0] += 0.17
        return {(40_000, "192.0.2.7", 3260): TcpInfo("established", len(asked))}

    tcp = SparingConnections(ask, lambda: clock[0], lambda: spent[0])
    for _ in range(20):
        assert tcp()[(40_000, "192.0.2.7", 3260)].rtt_us == len(asked)
        clock[0] += 1
    assert asked == [100.0, 109.0, 118.0]


def own_info(client: socket.socket) -> TcpInfo:
    return parse_tcp_info(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))


def test_an_own_socket(connected: socket.socket) -> None:
    info = own_info(connected)
    assert info.state == "established"
    assert info.rtt_us is not None
    assert 0 < info.rtt_us < 5_000_000
    assert info.rto_us is not None
    assert info.rto_us >= info.rtt_us
    assert (info.retransmits, info.unacked) == (0, 0)
    assert info.snd_cwnd is not None
    assert info.snd_cwnd >= 1


def test_any_socket_through_inet_diag(connected: socket.socket) -> None:
    local, peer = Endpoint(*connected.getsockname()[:2]), Endpoint(*connected.getpeername()[:2])
    (seen,) = read_tcp(peer_port=peer.port, local_port=local.port)
    assert (seen.local, seen.peer) == (local, peer)
    own = own_info(connected)
    assert (seen.info.state, seen.info.rtt_us, seen.info.rto_us) == (own.state, own.rtt_us, own.rto_us)
    assert (seen.info.snd_cwnd, seen.info.sent) == (own.snd_cwnd, own.sent)
    assert seen.info.delivery_rate_bytes_s == own.delivery_rate_bytes_s
    assert read_tcp(peer.port, local.port, wanted=lambda one, other: one == peer) == []


def test_the_plain_list_has_the_same_connections_in_the_same_states(connected: socket.socket) -> None:
    local, peer = Endpoint(*connected.getsockname()[:2]), Endpoint(*connected.getpeername()[:2])

    def states() -> dict[tuple[Endpoint, Endpoint], str]:
        return {(seen.local, seen.peer): seen.info.state for seen in list_tcp() if local in (seen.local, seen.peer)}

    both = read_tcp(peer_port=peer.port) + read_tcp(local_port=peer.port)
    assert states() == {(seen.local, seen.peer): seen.info.state for seen in both}
    assert set(states()) == {(local, peer), (peer, local)}
    connected.shutdown(socket.SHUT_WR)
    ends = states()
    assert ends[peer, local] == "close-wait"
    assert ends[local, peer] in ("fin-wait-1", "fin-wait-2")  # the other end need not acknowledge at once


def test_an_address_in_the_plain_list() -> None:
    """As it is where the tests are, in this processor's order of bytes."""

    def listed(raw: bytes) -> str:
        return "".join(f"{word:08X}" for word in struct.unpack(f"={len(raw) // 4}I", raw))

    four = listed(socket.inet_aton("192.0.2.7"))
    six = listed(socket.inet_pton(socket.AF_INET6, "2001:db8::7"))
    mapped = listed(socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7"))
    seen = parse_listed(f"   0: {four}:C350 {six}:0CBC 08 00000000:00000000 00:00000000 00000000 0")
    assert seen == (Endpoint("192.0.2.7", 50000), Endpoint("2001:db8::7", 3260), TcpInfo("close-wait"))
    assert parse_listed(f"0: {mapped}:0001 {four}:0002 7F 0").local == Endpoint("192.0.2.7", 1)
    assert parse_listed(f"0: {mapped}:0001 {four}:0002 7F 0").info.state == "unknown"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not enough values"),
        ("0: 0100007F:0CBC", "not enough values"),
        ("0: 0100007:0CBC 0100007F:0CBC 01 0", "0100007 is no address"),
        ("0: x100007F:0001 0100007F:0001 01 0", "invalid literal"),
        ("0: 0100007F:0001 0100007F:0001 open 0", "invalid literal"),
    ],
)
def test_a_line_in_another_form_is_an_error(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_listed(line)


def test_a_list_in_another_form_has_not_said_that_there_is_none(
    connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a kernel to come; the list of this one is real."""
    monkeypatch.setattr(tcp_, "parse_listed", lambda line: parse_listed(line.replace(":", "-")))
    with pytest.raises(OSError, match="/proc/self/net/tcp: "):
        list_tcp()


def test_the_same_as_ss_tells(connected: socket.socket) -> None:
    if shutil.which("ss") is None:
        pytest.skip("needs ss")
    command = ["ss", "-tinH", f"sport = :{connected.getsockname()[1]}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"rto:(\d+) rtt:([\d.]+)/([\d.]+) .*cwnd:(\d+) .*data_segs_out:(\d+)", text)
    assert found, text
    info = own_info(connected)
    assert info.rtt_us == pytest.approx(float(found[2]) * 1000, abs=1)
    assert info.rttvar_us == pytest.approx(float(found[3]) * 1000, abs=1)
    assert info.rto_us == pytest.approx(float(found[1]) * 1000, abs=1000)
    assert (info.snd_cwnd, info.sent) == (int(found[4]), int(found[5]))


def test_a_kernel_that_does_not_answer_has_not_said_that_there_is_none(
    connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without inet_diag, which cannot be taken out of a running kernel: pyroute2 gives an empty answer then."""
    from pyroute2.netlink.diag import DiagSocket

    port = connected.getpeername()[1]
    monkeypatch.setattr(DiagSocket, "get_sock_stats", lambda self, **asked: ())
    for asked in ({}, {"peer_port": port}, {"local_port": port}):
        with pytest.raises(OSError, match="/proc/net/tcp lists some"):
            read_tcp(**asked)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        assert read_tcp(peer_port=nobody.getsockname()[1]) == []


def test_sockets_that_listen_are_no_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert read_tcp(local_port=server.getsockname()[1]) == []


def sample() -> bytes:
    values = {8: 204_000, 24: 3, 52: 70, 68: 1500, 72: 250, 80: 10, 100: 7, 156: 41_000}
    data = bytearray(232)
    data[0] = 1
    for at, value in values.items():
        struct.pack_into("=I", data, at, value)
    struct.pack_into("=Q", data, 160, 125_000_000)
    return bytes(data)


def test_every_field_has_its_place() -> None:
    assert parse_tcp_info(sample()) == TcpInfo("established", 1500, 250, 204_000, 7, 3, 70, 125_000_000, 10, 0, 41_000)


def test_an_old_kernel_says_less_and_a_new_one_more() -> None:
    assert parse_tcp_info(sample()[:104]).delivery_rate_bytes_s is None
    assert parse_tcp_info(sample()[:104]).retransmits == 7
    assert parse_tcp_info(sample()[:102]).retransmits is None
    assert parse_tcp_info(sample()[:158]).sent is None
    assert parse_tcp_info(sample() + b"\xff" * 200) == parse_tcp_info(sample())
    assert parse_tcp_info(b"") == TcpInfo()


@given(st.binary(max_size=300))
@settings(max_examples=50)
def test_no_bytes_break_it(data: bytes) -> None:
    info = parse_tcp_info(data)
    assert info.rtt_us is None or info.rtt_us > 0


def test_the_expensive_import_waits_until_it_is_needed() -> None:
    code = "import sys, initiator.host.tcp; print('pyroute2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
