"""SendTargets against a scripted target (RFC 7143, 11.10, 11.11, appendix C)."""

from __future__ import annotations

import pytest

from initiator.engine.discovery import discover
from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.errors import ConnectionLost, IscsiError, RemoteProtocolError
from initiator.protocol.keys import CRC32C, Offer
from initiator.protocol.pdu import (
    NO_TAG,
    R2T,
    AsyncMessage,
    LoginResponse,
    LogoutRequest,
    NopIn,
    NopOut,
    TextRequest,
    TextResponse,
)
from initiator.protocol.sendtargets import MAX_EMPTY, DiscoveredTarget
from tests.conformance.scripted import Peer, Scripted

ME = "iqn.2026-11.io.mooring:tests"
LIST = [
    ("TargetName", "iqn.2026-11.example:one"),
    ("TargetAddress", "10.0.0.1:3260,1"),
    ("TargetAddress", "[2001:DB8::0:1]:3261,2"),
    ("TargetName", "iqn.2026-11.example:two"),
    ("TargetAddress", "storage.example.com,3"),
]
FOUND = [
    DiscoveredTarget("iqn.2026-11.example:one", (Portal("10.0.0.1", 3260, 1), Portal("2001:db8::1", 3261, 2))),
    DiscoveredTarget("iqn.2026-11.example:two", (Portal("storage.example.com", 3260, 3),)),
]
ONE = [("TargetName", "iqn.2026-11.example:one"), ("TargetAddress", "10.0.0.1:3260,1")]
TAG = 0x1234
LUN = bytes(range(8))


async def answer(peer: Peer, data: bytes, *, final: bool = True, continued: bool = False) -> TextRequest:
    """Reads a Text Request and answers it with one piece of text."""
    request = await peer.read(TextRequest)
    await peer.send_pdu(
        peer.numbered(
            TextResponse(
                final=final,
                continued=continued,
                lun=bytes(8) if final else LUN,
                initiator_task_tag=request.initiator_task_tag,
                target_transfer_tag=NO_TAG if final else TAG,
                data=data,
            )
        )
    )
    return request


@pytest.mark.check(138, 140)
async def test_list_in_one_answer_and_farewell() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in()
        request = await answer(peer, text.encode(LIST))
        assert text.decode(request.data) == [("SendTargets", "All")]
        assert request.final
        assert request.target_transfer_tag == NO_TAG
        logout = await peer.answer_logout()
        assert (logout.reason, logout.exp_stat_sn) == (0, request.exp_stat_sn + 1)
        assert [type(pdu) for pdu in peer.received[-2:]] == [TextRequest, LogoutRequest]

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


@pytest.mark.check(136)
@pytest.mark.parametrize("cut", [1, 11, 40, 61, 62, 100])
@pytest.mark.parametrize("continued", [True, False])
async def test_list_over_many_answers(cut: int, continued: bool) -> None:
    """F=0 hands out a tag, and the next request brings it back; C=1 may cut anywhere, F=0 only between pairs."""
    raw = text.encode(LIST)
    pieces = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    if not continued:
        pieces = [text.encode([pair]) for pair in LIST]

    async def script(peer: Peer) -> None:
        await peer.log_in()
        first = await answer(peer, pieces[0], final=False, continued=continued)
        for index, piece in enumerate(pieces[1:], 2):
            last = index == len(pieces)
            request = await answer(peer, piece, final=last, continued=continued and not last)
            assert request.data == b""
            assert request.target_transfer_tag == TAG
            assert request.lun == LUN
            assert request.initiator_task_tag == first.initiator_task_tag
            assert request.exp_stat_sn == peer.stat_sn - 1
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


@pytest.mark.check(136)
async def test_final_answer_may_carry_a_tag() -> None:
    """With F=1 the tag is ignored."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        await peer.send_pdu(
            peer.numbered(
                TextResponse(
                    initiator_task_tag=request.initiator_task_tag, target_transfer_tag=TAG, data=text.encode(LIST)
                )
            )
        )
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


async def test_empty_list_is_a_valid_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in()
        await answer(peer, b"")
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == []


@pytest.mark.check(137)
async def test_target_without_address_is_where_we_asked() -> None:
    """Appendix C."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        await answer(peer, text.encode([("TargetName", "iqn.2026-11.example:here")]))
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == [DiscoveredTarget("iqn.2026-11.example:here", (target.portal,))]


@pytest.mark.check(137)
@pytest.mark.parametrize(
    "pairs",
    [
        [("TargetAddress", "10.0.0.1:3260,1"), *LIST],
        [*LIST, ("TargetAlias", "box")],
        [("TargetName", "iqn.2026-11.example:one"), ("TargetAddress", "10.0.0.999:3260,1")],
        [("TargetName", "iqn.2026-11.example:one"), ("TargetAddress", "10.0.0.1:99999,1")],
        [("TargetName", "")],
        [("TargetName", "iqn.2026-11.example:\x1b[31mred")],
        [("TargetName", "iqn.2026-11.example:" + "x" * 230)],
    ],
)
async def test_list_with_things_that_do_not_belong(pairs: list[tuple[str, str]]) -> None:
    """Other keys, an address before any name, addresses and names that cannot be."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        await answer(peer, text.encode(pairs))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await discover(target.portal, ME)
        assert "\x1b" not in str(caught.value)


@pytest.mark.check(136)
@pytest.mark.parametrize(
    ("final", "continued", "tag"),
    [(True, True, NO_TAG), (False, False, NO_TAG), (False, True, NO_TAG)],
)
async def test_answers_with_impossible_flags(final: bool, continued: bool, tag: int) -> None:
    """11.11.1 and 11.11.2: F and C exclude each other, and F=0 needs a tag."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        await peer.send_pdu(
            peer.numbered(
                TextResponse(
                    final=final,
                    continued=continued,
                    initiator_task_tag=request.initiator_task_tag,
                    target_transfer_tag=tag,
                    data=text.encode(ONE),
                )
            )
        )
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError):
            await discover(target.portal, ME)


@pytest.mark.check(138)
async def test_list_that_never_ends() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in()
        while True:
            await answer(peer, b"", final=False)

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await discover(target.portal, ME)
        assert caught.value.code == "discovery-endless"
        asked = [pdu for pdu in target.peers[0].received if isinstance(pdu, TextRequest)]
        assert len(asked) == MAX_EMPTY + 1


@pytest.mark.check(121)
async def test_ping_in_the_middle_is_answered() -> None:
    """Tag and LUN come back, immediate, without a task."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        await peer.send_pdu(NopIn(lun=LUN, target_transfer_tag=TAG, stat_sn=peer.stat_sn, exp_cmd_sn=1, max_cmd_sn=8))
        request = await peer.read(TextRequest)
        pong = await peer.read(NopOut)
        assert (pong.immediate, pong.initiator_task_tag) == (True, NO_TAG)
        assert (pong.target_transfer_tag, pong.lun) == (TAG, LUN)
        await peer.send_pdu(
            peer.numbered(TextResponse(initiator_task_tag=request.initiator_task_tag, data=text.encode(LIST)))
        )
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


@pytest.mark.check(5, 6)
async def test_wrong_task_tag_wrong_stat_sn_wrong_pdu() -> None:
    async def wrong_tag(peer: Peer) -> None:
        await peer.log_in()
        await peer.read(TextRequest)
        await peer.send_pdu(peer.numbered(TextResponse(initiator_task_tag=77)))
        assert await peer.gone() == []

    async def wrong_number(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        peer.stat_sn += 1
        await peer.send_pdu(peer.numbered(TextResponse(initiator_task_tag=request.initiator_task_tag)))
        assert await peer.gone() == []

    async def wrong_pdu(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        tag = request.initiator_task_tag
        r2t = R2T(initiator_task_tag=tag, target_transfer_tag=1, desired_data_transfer_length=4096)
        await peer.send_pdu(peer.numbered(r2t))
        assert await peer.gone() == []

    async def request_opcode(peer: Peer) -> None:
        await peer.log_in()
        await peer.read(TextRequest)
        await peer.send_pdu(TextRequest(initiator_task_tag=1))
        assert await peer.gone() == []

    for script in (wrong_tag, wrong_number, wrong_pdu, request_opcode):
        async with Scripted(script) as target:
            with pytest.raises(RemoteProtocolError):
                await discover(target.portal, ME)


async def test_reject_and_request_to_leave() -> None:
    async def rejecting(peer: Peer) -> None:
        await peer.log_in()
        await peer.reject(await peer.read(TextRequest), 0x05)
        assert await peer.gone() == []

    async def leaving(peer: Peer) -> None:
        await peer.log_in()
        await peer.read(TextRequest)
        await peer.send_pdu(peer.numbered(AsyncMessage(async_event=1, parameter3=5)))
        assert await peer.gone() == []

    for script, code in ((rejecting, "rejected"), (leaving, "closed-by-target")):
        async with Scripted(script) as target:
            with pytest.raises(IscsiError) as caught:
                await discover(target.portal, ME)
            assert caught.value.code == code


@pytest.mark.check(143)
async def test_digests_that_the_target_insists_on() -> None:
    """Digests from the first PDU after the login, none before."""

    async def script(peer: Peer) -> None:
        await peer.log_in(Offer(header_digest=(CRC32C,), data_digest=(CRC32C,)))
        assert peer.framer.header_digest
        assert peer.framer.data_digest
        await answer(peer, text.encode(LIST))
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


@pytest.mark.check(144, 146)
@pytest.mark.parametrize("part", ["header", "data"])
async def test_wrong_digest(part: str) -> None:
    """Nothing of such a PDU is believed."""

    async def script(peer: Peer) -> None:
        await peer.log_in(Offer(header_digest=(CRC32C,), data_digest=(CRC32C,)))
        request = await peer.read(TextRequest)
        response = TextResponse(initiator_task_tag=request.initiator_task_tag, data=text.encode(LIST))
        raw = bytearray(peer.numbered(response).encode(True, True))
        raw[48 if part == "header" else -1] ^= 1
        await peer.send_raw(bytes(raw))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await discover(target.portal, ME)
        assert caught.value.code == "digest"


@pytest.mark.check(9)
async def test_byte_by_byte_and_all_at_once() -> None:
    """Framing does not depend on how TCP cuts."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        ping = NopIn(stat_sn=peer.stat_sn, exp_cmd_sn=1, max_cmd_sn=9).encode()
        response = TextResponse(initiator_task_tag=request.initiator_task_tag, data=text.encode(LIST))
        await peer.send_bytewise(ping * 100 + peer.numbered(response).encode())
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND


@pytest.mark.check(140)
async def test_farewell_without_an_answer_does_not_spoil_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time of silence the connection is closed all the same."""
    monkeypatch.setattr("initiator.engine.discovery._LOGOUT_SECONDS", 0.05)

    async def script(peer: Peer) -> None:
        await peer.log_in()
        await answer(peer, text.encode(LIST))
        await peer.read(LogoutRequest)
        assert await peer.gone() == []

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == FOUND
        await target.settled()


@pytest.mark.check(10)
async def test_silence_and_closing_after_the_login() -> None:
    async def silent(peer: Peer) -> None:
        await peer.log_in()
        await peer.silent()

    async def closing(peer: Peer) -> None:
        await peer.log_in()
        await peer.read(TextRequest)

    async def inside_a_pdu(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        response = TextResponse(initiator_task_tag=request.initiator_task_tag, data=text.encode(LIST))
        await peer.send_raw(peer.numbered(response).encode()[:-3])

    for script, code in (
        (silent, "discovery-timeout"),
        (closing, "closed-by-target"),
        (inside_a_pdu, "closed-mid-pdu"),
    ):
        async with Scripted(script) as target:
            with pytest.raises(ConnectionLost) as caught:
                await discover(target.portal, ME, timeout=2.0 if script is silent else 10.0)
            assert caught.value.code == code


@pytest.mark.check(4)
async def test_target_announces_more_than_we_take() -> None:
    """A data segment of 16 MiB is refused at its header."""

    async def script(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        raw = bytearray(peer.numbered(TextResponse(initiator_task_tag=request.initiator_task_tag)).encode())
        raw[5:8] = b"\xff\xff\xff"
        await peer.send_raw(bytes(raw))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError) as caught:
            await discover(target.portal, ME)
        assert caught.value.code == "segment-too-long"


@pytest.mark.check(14, 68)
async def test_discovery_session_says_what_it_is() -> None:
    """No target's name, and no keys that mean nothing here."""

    async def script(peer: Peer) -> None:
        first = dict(text.decode((await peer.log_in()).data))
        assert first == {"InitiatorName": ME, "SessionType": "Discovery", "AuthMethod": "None"}
        operational = {key for pdu in peer.received[1:] for key, _ in text.decode(pdu.data)}
        allowed = {"HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "DefaultTime2Wait", "DefaultTime2Retain"}
        assert operational <= allowed
        await answer(peer, b"")
        await peer.answer_logout()

    async with Scripted(script) as target:
        assert await discover(target.portal, ME) == []


@pytest.mark.check(36)
async def test_redirect_is_followed() -> None:
    """Another portal may answer for this one."""

    async def listing(peer: Peer) -> None:
        await peer.log_in()
        await answer(peer, text.encode(LIST))
        await peer.answer_logout()

    async with Scripted(listing) as there:

        async def moved(peer: Peer) -> None:
            await peer.refuse_login(1, 1, [("TargetAddress", str(there.portal))])
            assert await peer.gone() == []

        async with Scripted(moved) as here:
            assert await discover(here.portal, ME) == FOUND


@pytest.mark.check(6)
async def test_login_response_out_of_place() -> None:
    async def script(peer: Peer) -> None:
        await peer.log_in()
        await peer.read(TextRequest)
        await peer.send_pdu(peer.numbered(LoginResponse(initiator_task_tag=1)))
        assert await peer.gone() == []

    async with Scripted(script) as target:
        with pytest.raises(RemoteProtocolError):
            await discover(target.portal, ME)
