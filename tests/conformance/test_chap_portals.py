"""CHAP at portals that are honest, false, or in between (RFC 7143, 9.2.1, 11.13.5, 12.1.3)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence

import pytest

from initiator.engine.challenges import MOST_REMEMBERED, Challenges
from initiator.engine.discovery import discover
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.chap import ENTROPY_BYTES, Chap, ChapTarget, response
from initiator.protocol.errors import AuthError, IscsiError, RemoteProtocolError
from initiator.protocol.keys import Offer
from initiator.protocol.pdu import LoginRequest, ScsiCommand, TextRequest
from tests.conformance.ffp_rig import AT_ONCE, INITIATOR, TARGET, answer, read_block, session
from tests.conformance.scripted import Peer, Scripted

SECRET = "correct horse battery"
OTHER = "staple of another kind"
ONE_WAY = Chap("me", SECRET)
MUTUAL = Chap("me", SECRET, "box", OTHER)
HASHES = {5: 16, 6: 20, 7: 32, 8: 32}


def target_chap(algorithms: Sequence[int] = (5, 6, 7, 8), secret: str = SECRET) -> ChapTarget:
    return ChapTarget({"me": secret}.get, os.urandom(ENTROPY_BYTES), ("box", OTHER), algorithms)


def order(first: int) -> tuple[int, ...]:
    return (first, *(number for number in (5, 6, 7, 8) if number != first))


async def refused(portal: Portal, chap: Chap, **options: object) -> IscsiError:
    """A session that cannot log in there."""
    watched = EngineSession(SessionConfig(TARGET, portal, INITIATOR, chap=chap, offer=AT_ONCE, **options))  # type: ignore[arg-type]
    with pytest.raises(IscsiError) as caught:
        await watched.start()
    await watched.close()
    return caught.value


def said(peer: Peer, name: str) -> list[str]:
    """The values of a key in what the initiator has said on a connection."""
    requests = (pdu for pdu in peer.received if isinstance(pdu, LoginRequest))
    return [value for pdu in requests for key, value in text.decode(pdu.data) if key == name]


@pytest.mark.check(72, 76, 77, 80)
@pytest.mark.parametrize("chap", [ONE_WAY, MUTUAL], ids=["one-way", "mutual"])
@pytest.mark.parametrize("algorithm", [5, 6, 7, 8])
async def test_login_with_each_hash(algorithm: int, chap: Chap) -> None:
    async def honest(peer: Peer) -> None:
        await peer.log_in(Offer(default_time2wait=0), chap=target_chap((algorithm,)))
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(honest, chap=chap, chap_algorithms=order(algorithm)) as (watched, target):
        assert await read_block(watched) == b"12345678"
        (peer,) = target.peers
        assert said(peer, "CHAP_A") == [",".join(map(str, order(algorithm)))]
        (proof,) = said(peer, "CHAP_R")
        assert proof.startswith("0x")
        assert len(proof) == 2 + 2 * HASHES[algorithm]
        challenges = said(peer, "CHAP_C")
        assert [len(challenge) - 2 >= 2 * HASHES[algorithm] for challenge in challenges] == [True] * chap.mutual


@pytest.mark.check(77)
async def test_each_login_has_a_challenge_of_its_own() -> None:
    async def resetting(peer: Peer) -> None:
        await peer.log_in(Offer(default_time2wait=0), chap=target_chap())
        await peer.read(ScsiCommand)
        peer.reset()

    async def staying(peer: Peer) -> None:
        await peer.log_in(Offer(default_time2wait=0), chap=target_chap())
        await answer(peer, await peer.read(ScsiCommand))
        await peer.gone()

    async with session(resetting, resetting, resetting, staying, chap=MUTUAL) as (watched, target):
        assert await read_block(watched) == b"12345678"
        challenges = [challenge for peer in target.peers for challenge in said(peer, "CHAP_C")]
        assert len(challenges) == 4
        assert len(set(challenges)) == 4


def reflecting(challenge: Callable[[], str]) -> Callable[[Peer], Awaitable[None]]:
    """A target that has us answer a challenge of our own."""

    async def script(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "CHAP")]))
        request = await peer.read(LoginRequest)
        reflected = [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", challenge())]
        await peer.send_pdu(peer.login_response(request, reflected))
        assert await peer.gone() == []

    return script


@pytest.mark.check(78)
@pytest.mark.parametrize("chap", [ONE_WAY, MUTUAL], ids=["one-way", "mutual"])
async def test_challenge_of_an_earlier_connection_comes_back(chap: Chap) -> None:
    async def honest(peer: Peer) -> None:
        await peer.log_in(chap=target_chap())
        await peer.gone()

    async with session(honest, chap=MUTUAL) as (_, first):
        (challenge,) = said(first.peers[0], "CHAP_C")
    async with Scripted(reflecting(lambda: challenge)) as false:
        error = await refused(false.portal, chap)
        assert isinstance(error, AuthError)
        assert "challenges back" in str(error)
        await false.settled()


@pytest.mark.check(78)
async def test_challenge_of_a_connection_that_began_later_comes_back() -> None:
    """The false target waits for our challenge on a second connection, and sends it on over the first."""
    stolen: list[str] = []
    begun, had = asyncio.Event(), asyncio.Event()

    async def waits(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "CHAP")]))
        request = await peer.read(LoginRequest)
        begun.set()
        await had.wait()
        await peer.send_pdu(
            peer.login_response(request, [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", stolen[0])], transit=False)
        )
        assert await peer.gone() == []

    async def steals(peer: Peer) -> None:
        chap = target_chap()
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "CHAP")]))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, chap.challenge(text.decode(request.data))))
        stolen.append(dict(text.decode((await peer.read(LoginRequest)).data))["CHAP_C"])
        had.set()
        await peer.gone()

    async with Scripted(waits, steals) as false:
        first = asyncio.create_task(refused(false.portal, ONE_WAY))
        await begun.wait()
        second = asyncio.create_task(discover(false.portal, INITIATOR, MUTUAL))
        assert "challenges back" in str(await first)
        second.cancel()
        assert isinstance((await asyncio.gather(second, return_exceptions=True))[0], asyncio.CancelledError)


@pytest.mark.check(77, 78)
def test_memory_of_challenges_is_bounded_and_forgets_the_oldest() -> None:
    count = iter(range(1 << 20))
    challenges = Challenges(lambda size: next(count).to_bytes(size, "big"))
    assert challenges.draw(None) == bytes(33)
    assert challenges.draw(ONE_WAY) == bytes(32) + b"\1"
    assert set(challenges.issued) == set()  # nothing of these is sent
    drawn = [challenges.draw(MUTUAL)[1:] for _ in range(MOST_REMEMBERED + 2)]
    assert set(challenges.issued) == set(drawn[2:])


@pytest.mark.check(39)
async def test_redirect_before_authentication_does_not_lead_around_it() -> None:
    """The portal that somebody names in between gets our proof for this target or nothing, never a login without."""

    async def without(peer: Peer) -> None:
        request = await peer.read(LoginRequest)
        assert dict(text.decode(request.data))["AuthMethod"] == "CHAP"
        assert dict(text.decode(request.data))["TargetName"] == TARGET
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "None")]))
        assert await peer.gone() == []

    async def false(peer: Peer) -> None:
        await peer.log_in(chap=ChapTarget({"me": SECRET}.get, os.urandom(33), ("box", "what somebody guesses")))

    async def honest(peer: Peer) -> None:
        await peer.log_in(chap=target_chap())
        await peer.gone()

    for script, code in ((without, "authentication-refused"), (false, "target-authentication"), (honest, None)):
        async with Scripted(script) as there:

            async def moved(peer: Peer, where: Portal = there.portal) -> None:
                await peer.refuse_login(1, 1, [("TargetAddress", f"{where.host}:{where.port}")])
                assert await peer.gone() == []

            async with Scripted(moved) as here:
                if code is not None:
                    assert (await refused(here.portal, MUTUAL)).code == code
                else:
                    watched = EngineSession(SessionConfig(TARGET, here.portal, INITIATOR, chap=MUTUAL))
                    await watched.start()
                    await watched.close()
                assert said(here.peers[0], "CHAP_R") == []
                assert [pdu for pdu in there.peers[0].received if not isinstance(pdu, LoginRequest)] == []
                raw = b"".join(pdu.data for peer in (*here.peers, *there.peers) for pdu in peer.received)
                assert SECRET.encode() not in raw


@pytest.mark.check(79, 81, 82)
@pytest.mark.parametrize("way", ["our own secret", "another name", "too short", "too long", "not binary"])
async def test_target_that_proves_nothing_gets_no_further_pdu(way: str) -> None:
    async def script(peer: Peer) -> None:
        chap = target_chap((5,))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "CHAP")]))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, chap.challenge(text.decode(request.data))))
        request = await peer.read(LoginRequest)
        asked = dict(text.decode(request.data))
        challenge, identifier = bytes.fromhex(asked["CHAP_C"][2:]), int(asked["CHAP_I"])
        right = response(5, identifier, OTHER, challenge).hex()
        proof = {
            "our own secret": "0x" + response(5, identifier, SECRET, challenge).hex(),
            "another name": "0x" + right,
            "too short": "0x" + right[:-2],
            "too long": "0x" + right + "00",
            "not binary": right,
        }[way]
        name = "bux" if way == "another name" else "box"
        await peer.send_pdu(peer.login_response(request, [("CHAP_N", name), ("CHAP_R", proof)]))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        error = await refused(target.portal, MUTUAL)
        assert isinstance(error, AuthError | RemoteProtocolError)
        assert ("our own secret" in str(error)) is (way == "our own secret")
        await target.settled()


@pytest.mark.check(80)
@pytest.mark.parametrize("transit", [True, False])
async def test_target_that_leaves_its_proof_out_gets_no_further_pdu(transit: bool) -> None:
    async def script(peer: Peer) -> None:
        chap = target_chap()
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, [("AuthMethod", "CHAP")]))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, chap.challenge(text.decode(request.data))))
        request = await peer.read(LoginRequest)
        await peer.send_pdu(peer.login_response(request, transit=transit, nsg=1))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        assert isinstance(await refused(target.portal, MUTUAL), AuthError)
        await target.settled()


@pytest.mark.check(86)
async def test_no_secret_is_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def doubting(peer: Peer) -> None:
        with pytest.raises(AuthError):
            await peer.log_in(chap=target_chap(secret="something else altogether"))
        request = peer.received[-1]
        assert isinstance(request, LoginRequest)
        await peer.send_pdu(peer.login_response(request, status_class=2, status_detail=1, transit=False))

    async with Scripted(doubting) as target:
        error = await refused(target.portal, MUTUAL)
    (proof,) = said(target.peers[0], "CHAP_R")
    shown = "\n".join([str(error), error.fix, repr(error), repr(target.peers[0].received), caplog.text])
    for secret in (SECRET, OTHER, proof[2:], SECRET.encode().hex()):
        assert secret not in shown


@pytest.mark.check(138)
async def test_discovery_with_mutual_chap_asks_for_targets_only() -> None:
    async def listing(peer: Peer) -> None:
        await peer.log_in(chap=target_chap())
        request = await peer.read(TextRequest)
        assert text.decode(request.data) == [("SendTargets", "All")]

    async with Scripted(listing) as target:
        with pytest.raises(IscsiError):
            await discover(target.portal, INITIATOR, MUTUAL)
        assert len(said(target.peers[0], "CHAP_C")) == 1
