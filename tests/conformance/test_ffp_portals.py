"""Portals that refuse, redirect, stay silent or are something else: how a session starts."""

from __future__ import annotations

import pytest

from initiator.engine.connect import MAX_REDIRECTS
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import SessionState
from initiator.protocol.errors import ConnectionLost, IscsiError, LoginError, RemoteProtocolError
from initiator.protocol.pdu import (
    LoginRequest,
    NopIn,
)
from tests.conformance.ffp_rig import (
    AT_ONCE,
    INITIATOR,
    TARGET,
    read_block,
    serve,
    session,
    until,
)
from tests.conformance.scripted import Peer, Scripted


async def refused(*scripts: object, **options: float) -> IscsiError:
    async with Scripted(*scripts) as target:  # type: ignore[arg-type]
        watched = EngineSession(SessionConfig(TARGET, target.portal, INITIATOR, offer=AT_ONCE, **options))  # type: ignore[arg-type]
        with pytest.raises(IscsiError) as caught:
            await watched.start()
        assert watched.state is SessionState.FREE
        assert str(caught.value) == watched.reason
        await watched.close()
        return caught.value


@pytest.mark.check(45)
async def test_silent_portal() -> None:
    error = await refused(Peer.silent, login_timeout=0.3)
    assert error.code == "login-timeout"
    assert "login" in str(error)


async def test_portal_that_speaks_http() -> None:
    async def script(peer: Peer) -> None:
        await peer.send_raw(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n400 Bad Request"
        )
        await peer.gone()

    assert (await refused(script)).code == "not-iscsi"


async def test_portal_that_closes_at_once() -> None:
    assert (await refused(Peer.close)).code in ("closed-by-target", "connection-broken")


@pytest.mark.check(4)
async def test_portal_that_announces_16_mib() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        raw = bytearray(peer.login_response(request).encode())
        raw[5:8] = b"\xff\xff\xff"
        await peer.send_raw(bytes(raw))
        assert await peer.gone() == []

    assert (await refused(script)).code == "segment-too-long"


async def test_closed_portal() -> None:
    async with Scripted(Peer.silent) as target:
        portal = target.portal
    watched = EngineSession(SessionConfig(TARGET, portal, INITIATOR))
    with pytest.raises(ConnectionLost) as caught:
        await watched.start()
    assert caught.value.code == "connect-failed"
    assert str(portal) in str(caught.value)


@pytest.mark.check(32)
async def test_other_pdu_in_the_login() -> None:
    async def script(peer: Peer) -> None:
        await peer.read(LoginRequest)
        await peer.send_pdu(peer.numbered(NopIn()))
        assert await peer.gone() == []

    assert isinstance(await refused(script), RemoteProtocolError)


@pytest.mark.check(36)
@pytest.mark.parametrize(("detail", "kept"), [(1, False), (2, True)])
async def test_redirects_are_followed_and_only_permanent_ones_kept(detail: int, kept: bool) -> None:
    async with Scripted(serve) as second:

        async def redirecting(peer: Peer) -> None:
            await peer.refuse_login(1, detail, [("TargetAddress", f"127.0.0.1:{second.portal.port}")])

        async with session(redirecting) as (watched, first):
            assert await read_block(watched) == b"12345678"
            assert watched.portal.port == second.portal.port
            second.peers[0].reset()
            await until(lambda: watched.reconnects)
            assert (len(first.peers), len(second.peers)) == ((1, 2) if kept else (2, 2))


@pytest.mark.check(38)
async def test_redirects_in_a_circle_end() -> None:
    async with Scripted(Peer.silent) as target:

        async def redirecting(peer: Peer) -> None:
            await peer.refuse_login(1, 1, [("TargetAddress", f"127.0.0.1:{target.portal.port}")])

        target._scripts = (redirecting,)
        watched = EngineSession(SessionConfig(TARGET, target.portal, INITIATOR))
        with pytest.raises(RemoteProtocolError) as caught:
            await watched.start()
        assert caught.value.code == "redirect-loop"
        assert len(target.peers) == MAX_REDIRECTS


@pytest.mark.check(35)
async def test_start_works_again_after_a_failure() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.refuse_login(3, 1)

    async with Scripted(refusing, serve) as target:
        watched = EngineSession(SessionConfig(TARGET, target.portal, INITIATOR, offer=AT_ONCE))
        with pytest.raises(LoginError):
            await watched.start()
        await watched.start()
        assert await read_block(watched) == b"12345678"
        await watched.close()
