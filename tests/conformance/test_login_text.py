"""Long texts in a login, cut into pieces with the C bit, in both directions (RFC 7143, 6.1, 6.2)."""

from __future__ import annotations

import pytest

from initiator.engine.connect import connect
from initiator.protocol import text
from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.keys import Offer
from initiator.protocol.login import LoginConfig, random_isid
from initiator.protocol.pdu import LoginRequest
from tests.conformance.ffp_rig import INITIATOR, TARGET
from tests.conformance.scripted import Peer, Scripted

CONFIG = LoginConfig(INITIATOR, TARGET, random_isid(b"abc"), offer=Offer(header_digest=("None",)))
MANY = [(f"X-org.test.{number:04}", "v") for number in range(700)]


async def tell(peer: Peer, pairs: list[text.Pair], size: int) -> LoginRequest:
    """Answer the next request with a text in pieces; each is acknowledged by an empty request without T."""
    request = await peer.read(LoginRequest)
    raw = text.encode(pairs)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    for piece in pieces[:-1]:
        await peer.send_pdu(peer.login_response(request, continued=True, transit=False, nsg=0, data=piece))
        request = await peer.read(LoginRequest)
        assert (request.transit, request.continued, request.nsg, request.data) == (False, False, 0, b"")
        assert request.exp_stat_sn == peer.stat_sn
    await peer.send_pdu(peer.login_response(request, transit=False, nsg=0, data=pieces[-1]))
    return request


async def hear(peer: Peer) -> tuple[list[text.Pair], LoginRequest]:
    """A text of the initiator, with an empty answer to each of its pieces but the last."""
    raw = b""
    while (request := await peer.read(LoginRequest)).continued:
        assert not request.transit
        assert request.exp_stat_sn == peer.stat_sn
        assert len(request.data) == 8192
        raw += request.data
        await peer.send_pdu(peer.login_response(request))
    return text.decode(raw + request.data), request


@pytest.mark.check(20, 41, 42, 43)
@pytest.mark.parametrize("size", [1000, 8192])
async def test_long_texts_both_ways(size: int) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "None")]))
        await tell(peer, [("TargetAlias", "Büro" * 50), *MANY], size)
        answers, request = await hear(peer)
        assert answers == [(name, "NotUnderstood") for name, _ in MANY]
        assert (request.transit, request.nsg) == (True, 3)
        await peer.send_pdu(peer.login_response(request))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        connected = await connect(target.portal, lambda: CONFIG, 10.0)
        connected.sock.close()
        assert connected.result.params.target_alias == "Büro" * 50
        await target.settled()


@pytest.mark.check(41)
async def test_single_bytes_with_the_c_bit() -> None:
    """Cut in the middle of keys, of characters, and before the NUL."""

    async def script(peer: Peer) -> None:
        await tell(peer, [("AuthMethod", "None"), ("TargetAlias", "Öl")], 1)
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request))  # the security stage ends
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request))

    async with Scripted(script) as target:
        connected = await connect(target.portal, lambda: CONFIG, 10.0)
        connected.sock.close()
        assert connected.result.params.target_alias == "Öl"


@pytest.mark.check(42)
async def test_target_that_speaks_before_it_has_heard_all() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "None")]))
        await tell(peer, MANY, 8192)
        request = await peer.read(LoginRequest)
        assert request.continued
        await peer.send_pdu(peer.login_response(request, [("MaxBurstLength", "65536")]))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError, match="whole text"):
            await connect(target.portal, lambda: CONFIG, 10.0)
        await target.settled()
