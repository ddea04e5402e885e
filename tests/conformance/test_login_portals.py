"""Portals that are no portals: each gives a clear named error, quickly, and the connection is closed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from initiator.engine.connect import connect
from initiator.engine.discovery import discover
from initiator.model import Portal
from initiator.protocol.chap import ENTROPY_BYTES, Chap
from initiator.protocol.errors import ConnectionLost, IscsiError, RemoteProtocolError
from initiator.protocol.login import LoginConfig, random_isid
from initiator.protocol.pdu import LoginRequest, LoginResponse
from tests.conformance.scripted import Peer, Scripted

ME = "iqn.2026-11.io.mooring:tests"
IT = "iqn.2026-11.example:one"


def config(chap: Chap | None = None) -> LoginConfig:
    return LoginConfig(ME, IT, random_isid(b"abc"), chap=chap, entropy=os.urandom(ENTROPY_BYTES))


async def log_in(portal: Portal, seconds: float) -> object:
    connected = await connect(portal, config, seconds)
    connected.sock.close()
    return connected.result


async def ask(portal: Portal, seconds: float) -> object:
    return await discover(portal, ME, timeout=seconds)


BROKEN = "connection-broken"
WAYS: list[Callable[[Portal, float], Awaitable[object]]] = [log_in, ask]


async def http(peer: Peer) -> None:
    await peer.read(LoginRequest)
    await peer.send_raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
    assert await peer.gone() == []


async def short_http(peer: Peer) -> None:
    await peer.read(LoginRequest)
    await peer.send_raw(b"HTTP/1.0 400\r\n\r\n")


async def ssh(peer: Peer) -> None:
    await peer.read(LoginRequest)
    await peer.send_raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")


async def garbage(peer: Peer) -> None:
    await peer.read(LoginRequest)
    await peer.send_raw(bytes(range(0x80, 0x100)))
    assert await peer.gone() == []


async def echo(peer: Peer) -> None:
    """Sends our own request back: an opcode of the initiator."""
    request = await peer.read(LoginRequest)
    await peer.send_pdu(request)
    assert await peer.gone() == []


async def sixteen_mebibytes(peer: Peer) -> None:
    request = await peer.read(LoginRequest)
    raw = bytearray(peer.login_response(request).encode())
    raw[5:8] = b"\xff\xff\xff"
    await peer.send_raw(bytes(raw))
    assert await peer.gone() == []


async def closes_inside_the_header(peer: Peer) -> None:
    request = await peer.read(LoginRequest)
    await peer.send_raw(peer.login_response(request).encode()[:20])


async def closes_inside_the_data(peer: Peer) -> None:
    request = await peer.read(LoginRequest)
    await peer.send_raw(peer.login_response(request, [("AuthMethod", "None")]).encode()[:-3])


async def silent_ssh(peer: Peer) -> None:
    """Speaks first, and then waits for an answer."""
    await peer.send_raw(b"SSH-2.0-x\r\n")
    await peer.silent()


async def silent_mail(peer: Peer) -> None:
    await peer.send_raw(b"+OK POP3\r\n")
    await peer.silent()


async def closes_after_the_request(peer: Peer) -> None:
    await peer.read(LoginRequest)


async def closes_at_once(peer: Peer) -> None:
    await peer.close()


async def resets(peer: Peer) -> None:
    await peer.read(LoginRequest)
    peer.reset()


@pytest.mark.check(4, 5, 10)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        (http, RemoteProtocolError, "not-iscsi"),
        (short_http, RemoteProtocolError, "not-iscsi"),
        (ssh, RemoteProtocolError, "not-iscsi"),
        (garbage, RemoteProtocolError, "remote-protocol"),
        (echo, RemoteProtocolError, "remote-protocol"),
        (sixteen_mebibytes, RemoteProtocolError, "segment-too-long"),
        (silent_ssh, RemoteProtocolError, "not-iscsi"),
        (silent_mail, RemoteProtocolError, "remote-protocol"),
        (closes_inside_the_header, ConnectionLost, "closed-mid-pdu"),
        (closes_inside_the_data, ConnectionLost, "closed-mid-pdu"),
        (closes_after_the_request, ConnectionLost, "closed-by-target"),
        (closes_at_once, ConnectionLost, None),
        (resets, ConnectionLost, BROKEN),
    ],
)
async def test_strange_portals(
    script: Callable[[Peer], Awaitable[None]],
    kind: type[IscsiError],
    code: str | None,  # None where FIN and RST race each other
    way: Callable[[Portal, float], Awaitable[object]],
) -> None:
    async with Scripted(script) as target:
        with pytest.raises(kind) as caught:
            await way(target.portal, 10.0)
        assert str(target.portal) in str(caught.value)
        assert str(caught.value).isprintable()
        assert caught.value.code == code or (code is None and caught.value.code in ("closed-by-target", BROKEN))


@pytest.mark.check(45)
@pytest.mark.parametrize("way", WAYS)
async def test_silent_portal(way: Callable[[Portal, float], Awaitable[object]]) -> None:
    """The text says in which stage the silence began, and the connection is closed."""

    async def silent(peer: Peer) -> None:
        await peer.read(LoginRequest)
        assert await peer.gone() == []

    async with Scripted(silent) as target:
        with pytest.raises(ConnectionLost) as caught:
            await way(target.portal, 2.0)
        assert caught.value.code == "login-timeout"
        assert "the security stage" in str(caught.value)
        await target.settled()


@pytest.mark.check(45)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("script", [silent_ssh, silent_mail])
async def test_banner_is_recognized_without_waiting_for_more(
    script: Callable[[Peer], Awaitable[None]], way: Callable[[Portal, float], Awaitable[object]]
) -> None:
    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError):
            async with asyncio.timeout(5.0):
                await way(target.portal, 1000.0)


@pytest.mark.check(45)
@pytest.mark.parametrize("way", WAYS)
async def test_target_that_sends_a_byte_now_and_then(way: Callable[[Portal, float], Awaitable[object]]) -> None:
    """The time is for the whole login: a peer cannot stretch it by saying a little."""

    async def trickling(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        for value in peer.login_response(request, [("AuthMethod", "None")]).encode():
            await peer.send_raw(bytes([value]))
            await asyncio.sleep(0.05)

    async with Scripted(trickling) as target:
        with pytest.raises(ConnectionLost) as caught:
            await way(target.portal, 0.3)
        assert caught.value.code == "login-timeout"


@pytest.mark.check(45)
async def test_single_byte_that_no_target_sends() -> None:
    async def one_byte(peer: Peer) -> None:
        await peer.send_raw(b"S")
        await peer.silent()

    async with Scripted(one_byte) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await log_in(target.portal, 2.0)
        assert "opcode" in str(caught.value)


@pytest.mark.check(45)
async def test_silence_in_the_second_stage() -> None:

    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "None")]))
        await peer.read(LoginRequest)
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(ConnectionLost) as caught:
            await log_in(target.portal, 2.0)
        assert "the operational stage" in str(caught.value)
        await target.settled()


@pytest.mark.parametrize("way", WAYS)
async def test_closed_portal(way: Callable[[Portal, float], Awaitable[object]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        portal = Portal("127.0.0.1", server.getsockname()[1])
    with pytest.raises(ConnectionLost) as caught:
        await way(portal, 5.0)
    assert caught.value.code == "connect-failed"
    assert str(portal) in str(caught.value)


@pytest.mark.check(22)
async def test_slow_target_gets_no_second_request() -> None:
    """Only one request is outstanding, however long the answer takes."""

    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await peer.read_pdu()
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "None")]))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        assert await log_in(target.portal, 5.0)
        await target.settled()


@pytest.mark.check(9, 13)
async def test_byte_by_byte() -> None:
    """The first thing on the wire is a login request."""

    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_bytewise(peer.login_response(request, [("AuthMethod", "None")]).encode())
        request = await peer.read(LoginRequest)
        await peer.send_bytewise(peer.login_response(request, [("MaxBurstLength", "65536")]).encode())
        assert await peer.gone() == []

    async with Scripted(script) as target:
        connected = await connect(target.portal, config, 5.0)
        connected.sock.close()
        assert connected.result.params.max_burst_length == 65536
        await target.settled()


@pytest.mark.check(34)
@pytest.mark.parametrize("status", [(2, 3), (3, 1)])
async def test_refusal_closes_the_connection(status: tuple[int, int]) -> None:

    async def script(peer: Peer) -> None:
        await peer.refuse_login(*status)
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(IscsiError):
            await log_in(target.portal, 5.0)
        await target.settled()


@pytest.mark.check(36)
@pytest.mark.parametrize("permanent", [False, True])
async def test_redirect_is_followed_on_a_new_connection(permanent: bool) -> None:
    """The old connection is closed; only a permanent move replaces the stored portal."""

    async def welcome(peer: Peer) -> None:
        await peer.log_in()
        assert await peer.gone() == []

    async with Scripted(welcome) as there:

        async def moved(peer: Peer) -> None:
            await peer.refuse_login(1, 2 if permanent else 1, [("TargetAddress", str(there.portal))])
            assert await peer.gone() == []

        async with Scripted(moved) as here:
            connected = await connect(here.portal, config, 5.0)
            connected.sock.close()
            assert (connected.portal.host, connected.portal.port) == (there.portal.host, there.portal.port)
            assert connected.stored.port == (there.portal.port if permanent else here.portal.port)
            await here.settled()
        await there.settled()


@pytest.mark.check(38)
async def test_redirects_in_a_circle() -> None:

    async def round_and_round(peer: Peer) -> None:
        await peer.refuse_login(1, 1, [("TargetAddress", str(target.portal))])

    async with Scripted(round_and_round) as target:
        with pytest.raises(IscsiError) as caught:
            await log_in(target.portal, 5.0)
        assert caught.value.code == "redirect-loop"
        assert len(target.peers) < 20


@pytest.mark.check(24)
async def test_endless_negotiation() -> None:

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.read(LoginRequest)
            await peer.send_pdu(peer.login_response(request, transit=False))

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await log_in(target.portal, 10.0)
        assert caught.value.code == "login-endless"


@pytest.mark.check(22)
async def test_two_answers_to_one_request() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        first = peer.login_response(request, [("AuthMethod", "None")])
        assert isinstance(first, LoginResponse)
        await peer.send_raw(first.encode() + peer.login_response(request).encode())
        await peer.gone()

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError):
            await log_in(target.portal, 5.0)
