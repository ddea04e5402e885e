"""The login as a state machine, without a socket (RFC 7143, 6.3, 11.12, 11.13)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.protocol import text
from initiator.protocol.chap import Chap
from initiator.protocol.errors import (
    IscsiError,
    LocalProtocolError,
    NegotiationError,
    RemoteProtocolError,
)
from initiator.protocol.keys import Offer, Params, Side
from initiator.protocol.login import MAX_EXCHANGES, LoginConfig, LoginMachine, random_isid
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import (
    R2T,
    AsyncMessage,
    LoginResponse,
    NopIn,
    Pdu,
    Reject,
    ScsiResponse,
    TextRequest,
)
from initiator.protocol.text import Pair
from tests.protocol.talk import CONFIG, MUTUAL, SECRET, WITH_CHAP, begin, reply, step, to_operational


@pytest.mark.check(14, 16, 17, 18, 19)
def test_first_request() -> None:
    machine, request = begin()
    assert text.decode(request.data) == [
        ("InitiatorName", CONFIG.initiator),
        ("SessionType", "Normal"),
        ("TargetName", CONFIG.target),
        ("AuthMethod", "None"),
    ]
    assert (request.immediate, request.version_max, request.version_min) == (True, 0, 0)
    assert (request.csg, request.transit, request.nsg) == (0, True, 1)
    assert (request.isid, request.tsih, request.cid, request.cmd_sn) == (CONFIG.isid, 0, 3, 0xFFFFFFFF)
    assert "security" in machine.stage
    assert machine.to_send() == []


@pytest.mark.check(15, 17, 19, 20, 21, 29)
@pytest.mark.parametrize("stat_sn", [0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_whole_login(stat_sn: int) -> None:
    machine, first = begin()
    second = step(machine, reply(first, [("AuthMethod", "None")], stat_sn=stat_sn))
    assert "operational" in machine.stage
    assert second.exp_stat_sn == (stat_sn + 1) & 0xFFFFFFFF
    assert (second.csg, second.transit, second.nsg) == (1, True, 3)
    names = {name for name, _ in text.decode(second.data)}
    assert not names & {"InitiatorName", "TargetName", "SessionType", "AuthMethod"}
    for field in ("isid", "tsih", "cid", "version_max", "version_min", "initiator_task_tag", "cmd_sn"):
        assert getattr(first, field) == getattr(second, field)
    target = Negotiation(Offer(), side=Side.TARGET)
    answers = target.receive(text.decode(second.data)) + target.propose()
    machine.receive(reply(second, answers))
    result = machine.result
    assert machine.done
    assert (result.tsih, result.isid, result.cid) == (5, CONFIG.isid, 3)
    assert result.cmd_sn == 0xFFFFFFFF
    assert result.exp_stat_sn == (stat_sn + 2) & 0xFFFFFFFF
    assert (result.exp_cmd_sn, result.max_cmd_sn) == (0xFFFFFFFF, 30)
    assert result.params.header_digest
    assert result.chap_algorithm is None
    assert machine.to_send() == []


@pytest.mark.check(14, 17)
def test_alias_discovery_and_joining_a_session() -> None:
    """No target's name in discovery; the TSIH of the session that is joined."""
    _, request = begin(dataclasses.replace(CONFIG, target=None, initiator_alias="Büro"))
    assert dict(text.decode(request.data)) == {
        "InitiatorName": CONFIG.initiator,
        "InitiatorAlias": "Büro",
        "SessionType": "Discovery",
        "AuthMethod": "None",
    }
    machine, request = to_operational(dataclasses.replace(CONFIG, tsih=77))
    assert request.tsih == 77
    machine.receive(reply(request, tsih=77))
    assert machine.result.tsih == 77


@pytest.mark.check(29)
@pytest.mark.parametrize(("config", "tsih"), [(CONFIG, 0), (dataclasses.replace(CONFIG, tsih=7), 8)])
def test_final_response_with_an_impossible_tsih(config: LoginConfig, tsih: int) -> None:
    machine, request = to_operational(config)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, tsih=tsih))
    assert not machine.done


@pytest.mark.check(26, 30, 31)
@pytest.mark.parametrize(
    "changes",
    [
        {"version_active": 1},
        {"initiator_task_tag": 1},
        {"csg": 1},
        {"nsg": 2},
        {"nsg": 3, "tsih": 5},
        {"nsg": 0},
        {"continued": True},
    ],
)
def test_responses_that_break_a_rule(changes: dict[str, Any]) -> None:
    """Also C with T, 11.13.7."""
    machine, request = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("AuthMethod", "None")], **changes))


@pytest.mark.check(26, 30)
@pytest.mark.parametrize("changes", [{"version_active": 1}, {"csg": 0}, {"nsg": 1}, {"stat_sn": 9}])
def test_second_responses_that_break_a_rule(changes: dict[str, Any]) -> None:
    machine, request = to_operational()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, **changes))


@pytest.mark.check(25)
def test_stage_that_ends_before_we_are_ready() -> None:
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    assert not request.transit
    with pytest.raises(RemoteProtocolError, match=r"11\.13\.6"):
        machine.receive(reply(request, [("AuthMethod", "CHAP")], transit=True, nsg=1))


@pytest.mark.check(23)
def test_garbage_in_nsg_does_not_matter_without_t() -> None:
    """tgt sends flags 0x05: no T, but something in NSG."""
    machine, request = to_operational()
    request = step(machine, reply(request, [("MaxRecvDataSegmentLength", "8192")], transit=False, nsg=1))
    assert (request.transit, request.nsg, request.data) == (True, 3, b"")


@pytest.mark.check(32)
@pytest.mark.parametrize(
    "pdu",
    [
        NopIn(),
        AsyncMessage(async_event=1),
        R2T(target_transfer_tag=1, desired_data_transfer_length=512),
        ScsiResponse(),
        TextRequest(),
    ],
)
def test_other_pdus_in_a_login(pdu: Pdu) -> None:
    machine, _ = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(pdu)


@pytest.mark.check(33)
def test_reject_in_a_login() -> None:
    machine, _ = begin()
    with pytest.raises(NegotiationError):
        machine.receive(Reject(reason=0x0B))


@pytest.mark.check(23)
def test_empty_answer_asks_for_an_empty_request() -> None:
    """T again, and no key twice."""
    for machine, request in (begin(), to_operational()):
        again = step(machine, reply(request, transit=False))
        assert (again.transit, again.nsg, again.data) == (True, request.nsg, b"")


@pytest.mark.check(24)
def test_answers_without_an_end() -> None:
    machine, request = to_operational()
    count = 0
    with pytest.raises(RemoteProtocolError) as caught:  # noqa: PT012 - the round in which it ends does not matter
        while count < 1000:
            count += 1
            request = step(machine, reply(request, transit=False))
    assert caught.value.code == "login-endless"
    assert count < MAX_EXCHANGES


@pytest.mark.check(48, 52)
def test_keys_that_the_target_brings_up() -> None:
    """A quirk of tgt: proposals with T=0 are answered, T is set again."""
    config = dataclasses.replace(CONFIG, offer=dataclasses.replace(CONFIG.offer, task_reporting=()))
    machine, request = to_operational(config)
    proposals = [("X-org.test.key", "1"), ("IFMarker", "No"), ("TaskReporting", "FastAbort,RFC3720")]
    request = step(machine, reply(request, proposals, transit=False, nsg=1))
    assert request.transit
    assert text.decode(request.data) == [
        ("X-org.test.key", "NotUnderstood"),
        ("IFMarker", "No"),
        ("TaskReporting", "RFC3720"),
    ]
    machine.receive(reply(request))
    assert machine.done
    assert any("X-org.test.key" in note for note in machine.result.notes)


@pytest.mark.check(27, 28)
def test_straight_to_full_feature_or_by_the_other_stage() -> None:
    """When 3 is asked for in the security stage, both answers are fine."""
    config = dataclasses.replace(CONFIG, operational=False)
    machine, request = begin(config)
    assert (request.transit, request.nsg) == (True, 3)
    machine.receive(reply(request, [("AuthMethod", "None"), ("TargetPortalGroupTag", "1")]))
    assert machine.result.params == Params(target_portal_group_tag=1)
    machine, request = begin(config)
    request = step(machine, reply(request, [("AuthMethod", "None")], nsg=1))
    assert (request.csg, request.nsg) == (1, 3)
    assert request.data
    machine.receive(reply(request))
    assert machine.done


@pytest.mark.check(28, 55)
def test_demanded_digests_cannot_be_skipped() -> None:
    config = dataclasses.replace(CONFIG, operational=False, require_digests=True)
    machine, request = begin(config)
    with pytest.raises(NegotiationError) as caught:
        machine.receive(reply(request, [("AuthMethod", "None")]))
    assert caught.value.code == "digest-required"
    machine, request = to_operational(dataclasses.replace(CONFIG, require_digests=True))
    assert ("DataDigest", "CRC32C") in text.decode(request.data)
    with pytest.raises(NegotiationError):
        machine.receive(reply(request, [("HeaderDigest", "None")]))


@pytest.mark.check(40)
@pytest.mark.parametrize(("tag", "noted"), [("1", False), ("0", True), ("2", True), (None, True)])
def test_portal_group_that_is_not_the_expected_one(tag: str | None, noted: bool) -> None:
    machine, request = begin(dataclasses.replace(CONFIG, portal_group_tag=1))
    pairs = [("AuthMethod", "None")] + ([("TargetPortalGroupTag", tag)] if tag else [])
    machine.receive(reply(step(machine, reply(request, pairs))))
    assert machine.result.target_portal_group_tag == (int(tag) if tag else None)
    assert any("portal group" in note for note in machine.result.notes) is noted


@pytest.mark.check(18)
def test_impossible_configurations() -> None:
    """An ISID never begins with 11."""
    for change in ({"initiator": ""}, {"target": ""}, {"target": "x" * 224}, {"initiator": "a\0"}, {"isid": b"12345"},
                   {"isid": b"\xc0" + bytes(5)}):  # fmt: skip
        with pytest.raises(LocalProtocolError):
            dataclasses.replace(CONFIG, **change)
    with pytest.raises(BadInputError):
        LoginMachine(dataclasses.replace(WITH_CHAP, chap_algorithms=(7,)))
    assert random_isid(b"\xff\xff\xff", 0xFFFF) == b"\x80\xff\xff\xff\xff\xff"
    for entropy, qualifier in ((b"ab", 0), (b"abc", 65536), (b"abc", -1)):
        with pytest.raises(LocalProtocolError):
            random_isid(entropy, qualifier)


def test_machine_is_used_in_order() -> None:
    machine = LoginMachine(CONFIG)
    with pytest.raises(LocalProtocolError):
        machine.receive(LoginResponse())
    with pytest.raises(LocalProtocolError):
        machine.result  # noqa: B018
    machine.start()
    with pytest.raises(LocalProtocolError):
        machine.start()
    with pytest.raises(RemoteProtocolError):
        machine.receive(LoginResponse(initiator_task_tag=0))


SOME_PAIRS = st.lists(
    st.tuples(
        st.sampled_from(
            ["AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R", "HeaderDigest", "MaxBurstLength",
             "InitialR2T", "TargetPortalGroupTag", "X-strange", "TargetAddress", "MaxRecvDataSegmentLength"]
        ),
        st.sampled_from(["None", "CHAP", "5", "0x01", "CRC32C", "Yes", "No", "65536", "Reject", "", "0"]),
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.check(16, 17)
@given(
    st.sampled_from([CONFIG, WITH_CHAP, MUTUAL]),
    st.lists(st.tuples(SOME_PAIRS, st.booleans(), st.integers(0, 3), st.booleans()), max_size=6),
)
@settings(max_examples=200)
def test_no_target_leads_the_machine_astray(
    config: LoginConfig, script: list[tuple[list[Pair], bool, int, bool]]
) -> None:
    """Whatever comes, each answer brings one request, the end, or a named error; and CHAP is never skipped."""
    machine, request = begin(config)
    outstanding = True
    for pairs, transit, nsg, continued in script:
        if not outstanding:
            break
        try:
            machine.receive(reply(request, pairs, transit=transit, nsg=nsg, continued=continued))
        except IscsiError:
            return
        following = machine.to_send()
        outstanding = not machine.done
        assert len(following) == outstanding
        if following:
            (request,) = following
            assert not (request.continued and request.transit)
            assert request.nsg == 0 or request.transit
            assert (request.csg, request.isid, request.cmd_sn) in (
                (0, CONFIG.isid, CONFIG.cmd_sn),
                (1, CONFIG.isid, CONFIG.cmd_sn),
            )
    assert not machine.done or config.chap is None
