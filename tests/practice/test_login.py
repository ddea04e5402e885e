"""The target's half of the login: stages, statuses, CHAP, what may not come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.practice.config import TargetConfig
from initiator.practice.login import LoginTarget, Status
from initiator.practice.target import Target
from initiator.protocol import pdu, text
from initiator.protocol.chap import Chap, ChapInitiator
from tests.practice.conftest import LOCKED, OPEN, SECRET, Connect
from tests.practice.peer import NAME, Peer

WHO = {"InitiatorName": NAME, "SessionType": "Normal"}


def status(answer: pdu.LoginResponse) -> int:
    return answer.status_class << 8 | answer.status_detail


async def test_the_first_answer_names_the_portal_group(connect: Connect) -> None:
    for portal in (0, 1):
        peer = await connect(portal=portal)
        answer = await peer.login(OPEN)
        assert peer.keys["TargetPortalGroupTag"] == str(portal + 1)
        assert peer.keys["TargetAlias"] == "an open door"
        assert peer.keys["MaxRecvDataSegmentLength"] == "262144"
        assert answer.tsih != 0


async def test_every_operational_key_is_answered(connect: Connect) -> None:
    keys = {
        "HeaderDigest": "CRC32C,None",
        "DataDigest": "None",
        "MaxConnections": "8",
        "InitialR2T": "No",
        "ImmediateData": "Yes",
        "MaxRecvDataSegmentLength": "65536",
        "MaxBurstLength": "16776192",
        "FirstBurstLength": "131072",
        "DefaultTime2Wait": "2",
        "DefaultTime2Retain": "0",
        "MaxOutstandingR2T": "16",
        "ErrorRecoveryLevel": "2",
        "DataPDUInOrder": "No",
        "DataSequenceInOrder": "Yes",
        "IFMarker": "No",
        "X-org.test": "1",
    }
    peer = await connect()
    await peer.login(OPEN, keys)
    expected = {"MaxConnections": "1", "InitialR2T": "No", "MaxBurstLength": "1048576", "FirstBurstLength": "131072"}
    expected |= {"ErrorRecoveryLevel": "0", "DataPDUInOrder": "Yes", "HeaderDigest": "CRC32C", "DataDigest": "None"}
    expected |= {"DefaultTime2Retain": "0", "X-org.test": "NotUnderstood", "IFMarker": "No"}
    assert expected.items() <= peer.keys.items()


async def test_two_stages_and_an_empty_first_request(connect: Connect) -> None:
    peer = await connect()
    answer = await peer.exchange({**WHO, "TargetName": OPEN, "AuthMethod": "CHAP,None"}, csg=0, nsg=1)
    assert (status(answer), answer.transit, answer.nsg, answer.tsih) == (0, True, 1, 0)
    assert ("AuthMethod", "None") in text.decode(answer.data)
    answer = await peer.exchange({}, csg=1, transit=False, nsg=0)
    assert (status(answer), answer.transit) == (0, False)
    answer = await peer.exchange({"MaxBurstLength": "262144"})
    assert (status(answer), answer.transit, answer.nsg) == (0, True, 3)
    assert answer.tsih != 0


async def test_security_stage_may_lead_to_the_end(connect: Connect) -> None:
    peer = await connect()
    answer = await peer.exchange({**WHO, "TargetName": OPEN, "AuthMethod": "None"}, csg=0, nsg=3)
    assert (status(answer), answer.transit, answer.nsg) == (0, True, 3)


REFUSALS = [
    ({"SessionType": "Normal", "TargetName": OPEN}, {}, Status.MISSING_PARAMETER),
    (WHO, {}, Status.MISSING_PARAMETER),
    ({**WHO, "TargetName": "iqn.2026-11.io.mooring.test:nowhere"}, {}, Status.NOT_FOUND),
    ({**WHO, "SessionType": "Odd", "TargetName": OPEN}, {}, Status.SESSION_TYPE_NOT_SUPPORTED),
    ({**WHO, "TargetName": OPEN}, {"version_min": 1, "version_max": 1}, Status.UNSUPPORTED_VERSION),
    ({**WHO, "TargetName": OPEN}, {"tsih": 77}, Status.NO_SUCH_SESSION),
    ({**WHO, "TargetName": OPEN}, {"nsg": 2}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": OPEN}, {"nsg": 1}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": OPEN}, {"csg": 3}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": OPEN}, {"continued": True}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": OPEN, "MaxBurstLength": "1"}, {}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": OPEN, "TargetPortalGroupTag": "1"}, {}, Status.INITIATOR_ERROR),
    ({**WHO, "TargetName": LOCKED}, {}, Status.AUTHENTICATION_FAILED),
    ({**WHO, "TargetName": LOCKED, "AuthMethod": "None"}, {"csg": 0, "nsg": 1}, Status.AUTHENTICATION_FAILED),
    ({**WHO, "TargetName": OPEN, "AuthMethod": "CHAP"}, {"csg": 0, "nsg": 1}, Status.AUTHENTICATION_FAILED),
    ({**WHO, "TargetName": OPEN, "CHAP_A": "5"}, {"csg": 0, "nsg": 1}, Status.INITIATOR_ERROR),
]


@pytest.mark.parametrize(("pairs", "fields", "expected"), REFUSALS)
async def test_refusals(connect: Connect, pairs: dict[str, str], fields: dict[str, object], expected: Status) -> None:
    peer = await connect()
    answer = await peer.exchange(pairs, **fields)
    assert Status(status(answer)) is expected
    assert await peer.ended()


async def test_a_changed_header_in_the_middle(connect: Connect) -> None:
    for change in ({"cid": 9}, {"isid": b"\x80\0\0\0\0\x63"}, {"tsih": 1}, {"csg": 0, "nsg": 1}):
        peer = await connect()
        await peer.exchange({**WHO, "TargetName": OPEN}, transit=False, nsg=0)
        assert status(await peer.exchange({}, **change)) == Status.INITIATOR_ERROR


async def test_a_key_twice(connect: Connect) -> None:
    peer = await connect()
    await peer.exchange({**WHO, "TargetName": OPEN, "MaxBurstLength": "4096"}, transit=False, nsg=0)
    assert status(await peer.exchange({"MaxBurstLength": "8192"})) == Status.INITIATOR_ERROR


async def test_text_in_pieces(connect: Connect) -> None:
    peer = await connect()
    data = text.encode({**WHO, "TargetName": OPEN, "MaxBurstLength": "4096", "FirstBurstLength": "512"}.items())
    request = peer.login_request({})
    fields = {"isid": request.isid, "initiator_task_tag": 0, "csg": 1, "cmd_sn": 1}
    for piece in (data[:11], data[11:40]):
        await peer.send(pdu.LoginRequest(continued=True, data=piece, **fields))  # type: ignore[arg-type]
        answer = await peer.receive(pdu.LoginResponse)
        assert (status(answer), answer.transit, answer.data) == (0, False, b"")
    await peer.send(pdu.LoginRequest(transit=True, nsg=3, data=data[40:], **fields))  # type: ignore[arg-type]
    answer = await peer.receive(pdu.LoginResponse)
    assert ("MaxBurstLength", "4096") in text.decode(answer.data)
    assert answer.transit


async def test_a_long_answer_comes_in_pieces(connect: Connect) -> None:
    peer = await connect()
    pairs = {**WHO, "TargetName": OPEN, **{f"X-{number:03d}.{'k' * 50}": "1" for number in range(125)}}
    data = text.encode(pairs.items())
    assert len(data) > 7000
    answer = await peer.exchange(pairs)
    found = answer.data
    assert (answer.continued, answer.transit) == (True, False)
    while answer.continued:
        answer = await peer.exchange({})
        found += answer.data
    assert answer.transit
    replies = dict(text.decode(found))
    assert sum(value == "NotUnderstood" for value in replies.values()) == 125


async def test_as_much_text_as_a_target_has_to_take(connect: Connect) -> None:
    """8192 bytes in one negotiation (6.1), and a name of 223 bytes (4.2.7.1)."""
    peer = await connect()
    name = "iqn.2026-11.io.mooring.test:".ljust(223, "n")
    pairs = {**WHO, "InitiatorName": name, "TargetName": OPEN}
    data = text.encode([*pairs.items(), *((f"X-{number:03d}.{'k' * 50}", "1") for number in range(132))])
    data += text.encode([("X-end", "z" * (8192 - len(data) - len("X-end=") - 1))])
    assert len(data) == 8192
    fields = {"isid": b"\x80\0\0\0\0\1", "initiator_task_tag": 0, "csg": 1, "cmd_sn": 1}
    await peer.send(pdu.LoginRequest(continued=True, data=data[:5000], **fields))  # type: ignore[arg-type]
    assert status(await peer.receive(pdu.LoginResponse)) == 0
    await peer.send(pdu.LoginRequest(transit=True, nsg=3, data=data[5000:], **fields))  # type: ignore[arg-type]
    answer = await peer.receive(pdu.LoginResponse)
    found = answer.data
    while answer.continued:
        answer = await peer.exchange({})
        found += answer.data
    assert (status(answer), answer.transit) == (0, True)
    assert dict(text.decode(found))["X-end"] == "NotUnderstood"


async def test_the_first_pdu_has_to_be_a_login(connect: Connect, target: Target) -> None:
    peer = await connect()
    await peer.send(pdu.NopOut(immediate=True, initiator_task_tag=1))
    assert await peer.ended()


async def test_something_else_during_the_login(connect: Connect) -> None:
    peer = await connect()
    await peer.exchange({**WHO, "TargetName": OPEN}, transit=False, nsg=0)
    await peer.send(pdu.NopOut(immediate=True, initiator_task_tag=1))
    assert status(await peer.receive(pdu.LoginResponse)) == Status.INVALID_DURING_LOGIN
    assert await peer.ended()


async def test_a_second_connection_is_one_too_many(connect: Connect, target: Target) -> None:
    await connect(login=OPEN)
    (session,) = target.server.sessions.values()
    peer = await connect()
    answer = await peer.login(OPEN, tsih=session.outcome.tsih, cid=1)
    assert status(answer) == Status.TOO_MANY_CONNECTIONS


# --- CHAP -----------------------------------------------------------------------------------------------------------


async def chap(peer: Peer, algorithms: tuple[int, ...], secret: str, user: str = "keeper") -> pdu.LoginResponse:
    machine = ChapInitiator(Chap(user, secret), algorithms)
    first = await peer.exchange({**WHO, "TargetName": LOCKED, "AuthMethod": "CHAP,None"}, csg=0, nsg=1)
    assert ("AuthMethod", "CHAP") in text.decode(first.data)
    assert not first.transit
    second = await peer.exchange(dict(machine.offer()), csg=0, transit=False, nsg=0)
    return await peer.exchange(dict(machine.respond(text.decode(second.data))), csg=0, nsg=1)


@pytest.mark.parametrize("algorithms", [(5,), (7, 5), (8, 5), (6, 7, 5)])
async def test_chap_lets_in_who_knows_the_secret(connect: Connect, algorithms: tuple[int, ...]) -> None:
    peer = await connect()
    answer = await chap(peer, algorithms, SECRET)
    assert (status(answer), answer.transit, answer.nsg) == (0, True, 1)
    answer = await peer.exchange({})
    assert (status(answer), answer.nsg) == (0, 3)
    await peer.settle()


@pytest.mark.parametrize(("secret", "user"), [("not the secret!", "keeper"), (SECRET, "somebody")])
async def test_chap_keeps_others_out(connect: Connect, target: Target, secret: str, user: str) -> None:
    peer = await connect()
    assert status(await chap(peer, (5,), secret, user)) == Status.AUTHENTICATION_FAILED
    assert await peer.ended()
    assert target.server.sessions == {}


async def test_chap_cannot_be_skipped(connect: Connect) -> None:
    for pairs, fields in (({}, {"csg": 0, "nsg": 1}), ({"CHAP_N": "keeper", "CHAP_R": "0x00"}, {"csg": 0, "nsg": 1})):
        peer = await connect()
        await peer.exchange({**WHO, "TargetName": LOCKED, "AuthMethod": "CHAP"}, csg=0, nsg=1)
        answer = await peer.exchange(pairs, **fields)
        assert not answer.transit
    peer = await connect()
    await peer.exchange({**WHO, "TargetName": LOCKED, "AuthMethod": "CHAP"}, csg=0, nsg=1)
    assert status(await peer.exchange({})) == Status.INITIATOR_ERROR


async def test_no_algorithm_in_common_and_reflected_challenges(connect: Connect) -> None:
    peer = await connect()
    await peer.exchange({**WHO, "TargetName": LOCKED, "AuthMethod": "CHAP"}, csg=0, nsg=1)
    answer = await peer.exchange({"CHAP_A": "99"}, csg=0, transit=False, nsg=0)
    assert status(answer) == Status.AUTHENTICATION_FAILED


# --- anything at all --------------------------------------------------------------------------------------------------


class World:
    """Just enough of a target."""

    def refuses(self) -> Status | None:
        return None

    def target(self, name: str) -> TargetConfig | None:
        return TargetConfig(OPEN, {0: "data"}) if name == OPEN else None

    def new_tsih(self) -> int:
        return 1

    def session_cid(self, initiator: str, isid: bytes, target: str, tsih: int) -> int | None:
        return None


_words = st.sampled_from(
    [*WHO, OPEN, "TargetName", "AuthMethod", "CHAP", "CHAP_A", "5", "None", "MaxBurstLength", "HeaderDigest", "=", "\0"]
)
_texts = st.one_of(st.binary(max_size=80), st.lists(_words, max_size=12).map(lambda words: "".join(words).encode()))
_requests = st.builds(
    pdu.LoginRequest,
    transit=st.booleans(),
    continued=st.booleans(),
    csg=st.integers(0, 3),
    nsg=st.integers(0, 3),
    tsih=st.integers(0, 1),
    data=st.one_of(_texts, st.just(text.encode({**WHO, "TargetName": OPEN}.items()))),
)


@settings(max_examples=150)
@given(st.lists(_requests, max_size=6))
def test_no_request_breaks_the_login(requests: list[pdu.LoginRequest]) -> None:
    machine = LoginTarget(World(), 1, bytes)
    for request in requests:
        answer = machine.receive(request)
        assert answer is not None
        assert len(answer.data) <= 8192
        assert not (answer.transit and answer.continued)
        assert answer.transit <= request.transit
        if machine.failed is not None:
            assert answer.status_class != 0
            break
        if machine.outcome is not None:
            assert answer.nsg == 3
            break
