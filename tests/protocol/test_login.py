"""The login as a state machine, without a socket (RFC 7143, 6.3, 11.12, 11.13; engine check list 13 to 45)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.protocol import text
from initiator.protocol.chap import Chap, ChapTarget
from initiator.protocol.errors import (
    AuthError,
    IscsiError,
    LocalProtocolError,
    LoginError,
    NegotiationError,
    RedirectError,
    RemoteProtocolError,
)
from initiator.protocol.keys import Offer, Params, Side
from initiator.protocol.login import MAX_EXCHANGES, LoginConfig, LoginMachine, random_isid
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import (
    R2T,
    AsyncMessage,
    LoginRequest,
    LoginResponse,
    NopIn,
    Pdu,
    Reject,
    ScsiResponse,
    TextRequest,
)
from initiator.protocol.text import Pair

SECRET = "correct horse battery"
CONFIG = LoginConfig(
    initiator="iqn.2026-11.io.mooring:here",
    target="iqn.2026-11.example:there",
    isid=random_isid(b"abc", 7),
    cid=3,
    offer=Offer(header_digest=("CRC32C", "None"), data_digest=("CRC32C", "None")),
    cmd_sn=0xFFFFFFFF,
)


def begin(config: LoginConfig = CONFIG) -> tuple[LoginMachine, LoginRequest]:
    """A started machine and its first request."""
    machine = LoginMachine(config)
    machine.start()
    (request,) = machine.to_send()
    return machine, request


def reply(request: LoginRequest, pairs: list[Pair] | None = None, **changes: Any) -> LoginResponse:
    """An honest response, except for the changes. StatSN follows the request's ExpStatSN."""
    final = request.transit and request.nsg == 3
    honest = LoginResponse(
        transit=request.transit,
        csg=request.csg,
        nsg=request.nsg,
        isid=request.isid,
        tsih=5 if final else request.tsih,
        initiator_task_tag=request.initiator_task_tag,
        stat_sn=request.exp_stat_sn,
        exp_cmd_sn=request.cmd_sn,
        max_cmd_sn=(request.cmd_sn + 31) & 0xFFFFFFFF,
        data=text.encode(pairs or []),
    )
    return dataclasses.replace(honest, **changes)


def step(machine: LoginMachine, response: Pdu) -> LoginRequest:
    """Feeds a response and takes the one request that follows."""
    machine.receive(response)
    (request,) = machine.to_send()
    return request


def to_operational(config: LoginConfig = CONFIG) -> tuple[LoginMachine, LoginRequest]:
    """A machine that has sent its operational keys."""
    machine, request = begin(config)
    return machine, step(machine, reply(request, [("AuthMethod", "None"), ("TargetPortalGroupTag", "1")]))


def test_first_request() -> None:
    """14, 16 to 19."""
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


@pytest.mark.parametrize("stat_sn", [0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_whole_login(stat_sn: int) -> None:
    """15, 17, 19 to 21, 29."""
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


def test_alias_discovery_and_joining_a_session() -> None:
    """14: no target's name in discovery; 17: the TSIH of the session that is joined."""
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


@pytest.mark.parametrize(("config", "tsih"), [(CONFIG, 0), (dataclasses.replace(CONFIG, tsih=7), 8)])
def test_final_response_with_an_impossible_tsih(config: LoginConfig, tsih: int) -> None:
    """29."""
    machine, request = to_operational(config)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, tsih=tsih))
    assert not machine.done


@pytest.mark.parametrize(
    "changes",
    [
        {"version_active": 1},
        {"initiator_task_tag": 1},
        {"csg": 1},
        {"nsg": 2},
        {"nsg": 3},
        {"nsg": 0},
        {"continued": True},
    ],
)
def test_responses_that_break_a_rule(changes: dict[str, Any]) -> None:
    """26, 30, 31, 11.13.7."""
    machine, request = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("AuthMethod", "None")], **changes))


@pytest.mark.parametrize("changes", [{"version_active": 1}, {"csg": 0}, {"nsg": 1}, {"stat_sn": 9}])
def test_second_responses_that_break_a_rule(changes: dict[str, Any]) -> None:
    """26, 30."""
    machine, request = to_operational()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, **changes))


def test_stage_that_ends_before_we_are_ready() -> None:
    """25."""
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    assert not request.transit
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("AuthMethod", "CHAP")], transit=True, nsg=1))


def test_garbage_in_nsg_does_not_matter_without_t() -> None:
    """tgt sends flags 0x05: no T, but something in NSG."""
    machine, request = to_operational()
    request = step(machine, reply(request, [("MaxRecvDataSegmentLength", "8192")], transit=False, nsg=1))
    assert (request.transit, request.nsg, request.data) == (True, 3, b"")


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
    """32."""
    machine, _ = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(pdu)


def test_reject_in_a_login() -> None:
    """33."""
    machine, _ = begin()
    with pytest.raises(NegotiationError):
        machine.receive(Reject(reason=0x0B))


def test_empty_answer_asks_for_an_empty_request() -> None:
    """23: T again, and no key twice."""
    for machine, request in (begin(), to_operational()):
        again = step(machine, reply(request, transit=False))
        assert (again.transit, again.nsg, again.data) == (True, request.nsg, b"")


def test_answers_without_an_end() -> None:
    """24."""
    machine, request = to_operational()
    count = 0
    with pytest.raises(RemoteProtocolError) as caught:  # noqa: PT012 - the round in which it ends does not matter
        while count < 1000:
            count += 1
            request = step(machine, reply(request, transit=False))
    assert caught.value.code == "login-endless"
    assert count < MAX_EXCHANGES


def test_keys_that_the_target_brings_up() -> None:
    """48, 52, tgt's quirk: proposals with T=0 are answered, T is set again."""
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


def test_straight_to_full_feature_or_by_the_other_stage() -> None:
    """27, 28: when 3 is asked for in the security stage, both answers are fine."""
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


def test_demanded_digests_cannot_be_skipped() -> None:
    """28 with 55."""
    config = dataclasses.replace(CONFIG, operational=False, require_digests=True)
    machine, request = begin(config)
    with pytest.raises(NegotiationError) as caught:
        machine.receive(reply(request, [("AuthMethod", "None")]))
    assert caught.value.code == "digest-required"
    machine, request = to_operational(dataclasses.replace(CONFIG, require_digests=True))
    assert ("DataDigest", "CRC32C") in text.decode(request.data)
    with pytest.raises(NegotiationError):
        machine.receive(reply(request, [("HeaderDigest", "None")]))


@pytest.mark.parametrize(("tag", "noted"), [("1", False), ("0", True), ("2", True), (None, True)])
def test_portal_group_that_is_not_the_expected_one(tag: str | None, noted: bool) -> None:
    """40."""
    machine, request = begin(dataclasses.replace(CONFIG, portal_group_tag=1))
    pairs = [("AuthMethod", "None")] + ([("TargetPortalGroupTag", tag)] if tag else [])
    machine.receive(reply(step(machine, reply(request, pairs))))
    assert machine.result.target_portal_group_tag == (int(tag) if tag else None)
    assert any("portal group" in note for note in machine.result.notes) is noted


@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_text_in_pieces_from_the_target(cut: int) -> None:
    """41: each piece with C=1 gets an empty request without T; joined even in the middle of a character."""
    machine, request = begin()
    raw = text.encode([("AuthMethod", "None"), ("TargetAlias", "Büro für Öl")])
    pieces = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    for piece in pieces[:-1]:
        request = step(machine, reply(request, continued=True, transit=False, data=piece))
        assert (request.transit, request.nsg, request.data, request.csg) == (False, 0, b"", 0)
    request = step(machine, reply(request, data=pieces[-1], transit=False))
    assert request.transit
    machine.receive(reply(step(machine, reply(request))))
    assert machine.result.params.target_alias == "Büro für Öl"


def test_more_text_than_anyone_needs() -> None:
    """43: 64 KiB are accepted, not more."""
    machine, request = begin()
    piece = b"X" * 8192
    with pytest.raises(RemoteProtocolError):  # noqa: PT012 - the piece at which it ends does not matter
        for _ in range(9):
            request = step(machine, reply(request, continued=True, transit=False, data=piece))
    machine, request = begin()
    long = [(f"X-{number}", "v" * 200) for number in range(200)]
    raw = text.encode([("AuthMethod", "None"), *long])
    for at in range(0, len(raw) - 8192, 8192):
        request = step(machine, reply(request, continued=True, transit=False, data=raw[at : at + 8192]))
    request = step(machine, reply(request, data=raw[at + 8192 :], transit=False))
    assert request.data.startswith(b"X-0=NotUnderstood\0")
    assert request.data.count(b"=NotUnderstood\0") == 200


def test_our_text_in_pieces() -> None:
    """42: more than 8192 bytes go with C=1 and T=0; the target answers each piece with nothing."""
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    many = [(f"X-{number}", "v") for number in range(600)]
    raw = text.encode([("AuthMethod", "CHAP"), *many])
    first = step(machine, reply(request, data=raw))
    pieces = [first]
    while pieces[-1].continued:
        assert not pieces[-1].transit
        assert len(pieces[-1].data) == 8192
        pieces.append(step(machine, reply(pieces[-1])))
    joined = text.decode(b"".join(piece.data for piece in pieces))
    assert joined == [(key, "NotUnderstood") for key, _ in many] + [("CHAP_A", "8,5,7")]
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    first = step(machine, reply(request, data=raw))
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(first, [("CHAP_A", "5")]))


@pytest.mark.parametrize(
    "data", [b"AuthMethod=None", b"=x\0", b"AuthMethod\0", b"K" * 64 + b"=\0", b"A=" + b"v" * 256 + b"\0"]
)
def test_malformed_text(data: bytes) -> None:
    """44."""
    machine, request = begin()
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, data=data))


@pytest.mark.parametrize(
    ("status", "detail", "kind", "retry"),
    [
        (2, 0, LoginError, False),
        (2, 1, AuthError, False),
        (2, 2, LoginError, False),
        (2, 3, LoginError, False),
        (2, 11, LoginError, False),
        (2, 99, LoginError, False),
        (3, 0, LoginError, True),
        (3, 1, LoginError, True),
        (3, 2, LoginError, True),
        (3, 99, LoginError, True),
        (9, 9, LoginError, False),
    ],
)
def test_refusals(status: int, detail: int, kind: type[LoginError], retry: bool) -> None:
    """34, 35: numbers of such a response mean nothing, and unknown details go by their class."""
    machine, request = to_operational()
    refusal = reply(request, transit=False, status_class=status, status_detail=detail, stat_sn=4711, csg=0)
    with pytest.raises(LoginError) as caught:
        machine.receive(refusal)
    assert type(caught.value) is kind
    assert (caught.value.status_class, caught.value.status_detail) == (status, detail)
    assert caught.value.retry is retry
    assert f"0x{status:02x}{detail:02x}" in str(caught.value)


def test_refusal_names_the_target_without_its_tricks() -> None:
    machine, request = begin(dataclasses.replace(CONFIG, target="iqn.\x1b[31m[bold]"))
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=3))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("where", "portal"),
    [
        ("10.0.0.9", "10.0.0.9:3260"),
        ("[2001:db8::9]:3261", "[2001:db8::9]:3261"),
        ("San-2.example:860", "san-2.example:860"),
    ],
)
@pytest.mark.parametrize("detail", [1, 2])
def test_redirects(where: str, portal: str, detail: int) -> None:
    """36, 37, 39: also before any authentication."""
    machine, request = begin(dataclasses.replace(CONFIG, chap=Chap("me", SECRET)))
    moved = reply(request, [("TargetAddress", where)], status_class=1, status_detail=detail)
    with pytest.raises(RedirectError) as caught:
        machine.receive(moved)
    assert str(caught.value.portal) == portal
    assert caught.value.permanent is (detail == 2)
    assert not caught.value.retry


@pytest.mark.parametrize("data", [b"", b"TargetAddress=?\0", b"TargetAddress=10.0.0.9", b"TargetName=x\0", b"\xff\0"])
def test_redirects_to_nowhere(data: bytes) -> None:
    """38."""
    machine, request = begin()
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=1, status_detail=1, data=data))
    assert not isinstance(caught.value, RedirectError)
    assert caught.value.code == "redirect-useless"


# Authentication ------------------------------------------------------------------------------------------------------


def chap_to_proof(config: LoginConfig, target: ChapTarget) -> tuple[LoginMachine, LoginRequest]:
    """Brings a login with CHAP to the request that carries our proof."""
    machine, request = begin(config)
    assert dict(text.decode(request.data))["AuthMethod"] == "CHAP"
    request = step(machine, reply(request, [("AuthMethod", "CHAP"), ("TargetPortalGroupTag", "1")]))
    assert (request.csg, request.transit) == (0, False)
    request = step(machine, reply(request, target.challenge(text.decode(request.data))))
    assert (request.transit, request.nsg) == (True, 1)
    return machine, request


WITH_CHAP = dataclasses.replace(CONFIG, chap=Chap("me", SECRET))
MUTUAL = dataclasses.replace(CONFIG, chap=Chap("me", SECRET, "box", "another one altogether"), entropy=bytes(range(33)))


def target_of_chap() -> ChapTarget:
    return ChapTarget({"me": SECRET}.get, bytes(range(50, 83)), ("box", "another one altogether"))


@pytest.mark.parametrize("config", [WITH_CHAP, MUTUAL])
@pytest.mark.parametrize("in_two_steps", [True, False])
def test_login_with_chap(config: LoginConfig, in_two_steps: bool) -> None:
    target = target_of_chap()
    machine, request = chap_to_proof(config, target)
    last = target.check(text.decode(request.data))
    if in_two_steps:
        request = step(machine, reply(request, last, transit=False))
        assert (request.transit, request.data) == (True, b"")
        last = []
    request = step(machine, reply(request, last))
    machine.receive(reply(request))
    assert machine.result.chap_algorithm == 8


def test_method_that_was_not_offered() -> None:
    """85."""
    machine, request = begin()
    with pytest.raises(AuthError) as caught:
        machine.receive(reply(request, [("AuthMethod", "CHAP")], transit=False))
    assert caught.value.code == "authentication-required"
    for method, kind in (
        ("None", AuthError),
        ("Reject", AuthError),
        ("SRP", NegotiationError),
        ("CHAP,None", IscsiError),
    ):
        machine, request = begin(WITH_CHAP)
        with pytest.raises(kind):
            machine.receive(reply(request, [("AuthMethod", method)]))


def test_authentication_that_may_be_left_out() -> None:
    config = dataclasses.replace(WITH_CHAP, require_auth=False)
    machine, request = begin(config)
    assert dict(text.decode(request.data))["AuthMethod"] == "CHAP,None"
    request = step(machine, reply(request, [("AuthMethod", "None")]))
    assert request.transit
    request = step(machine, reply(request))
    machine.receive(reply(request))
    assert machine.result.chap_algorithm is None


@pytest.mark.parametrize("transit", [True, False])
@pytest.mark.parametrize("pairs", [[], [("CHAP_N", "box")], [("CHAP_R", "0x00")]])
def test_target_that_does_not_prove_itself(transit: bool, pairs: list[Pair]) -> None:
    """80: no request follows, so nothing of the full feature phase either."""
    machine, request = chap_to_proof(MUTUAL, target_of_chap())
    with pytest.raises((AuthError, RemoteProtocolError)):
        machine.receive(reply(request, pairs, transit=transit))
    assert machine.to_send() == []
    assert not machine.done


def test_keys_of_chap_out_of_place() -> None:
    """73: before they were asked for, or when nothing is left to say."""
    machine, request = begin(WITH_CHAP)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("AuthMethod", "CHAP"), ("CHAP_A", "5")]))
    machine, request = begin(WITH_CHAP)
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x01")]))
    machine, request = chap_to_proof(WITH_CHAP, target_of_chap())
    with pytest.raises(RemoteProtocolError):
        machine.receive(reply(request, [("CHAP_N", "box"), ("CHAP_R", "0x00")]))
    machine, request = to_operational()
    assert step(machine, reply(request, [("CHAP_A", "5")], transit=False)).data == b"CHAP_A=NotUnderstood\0"


@pytest.mark.parametrize(("detail", "kind"), [(0, AuthError), (1, AuthError), (2, LoginError)])
def test_refused_proof(detail: int, kind: type[LoginError]) -> None:
    """A target may answer a wrong proof with 0x0200, as tgt does for algorithm 7; the way out is named."""
    config = dataclasses.replace(WITH_CHAP, chap_algorithms=(7, 5))
    machine, request = chap_to_proof(config, target_of_chap())
    with pytest.raises(LoginError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=detail))
    assert type(caught.value) is kind
    assert ("algorithm 7" in caught.value.fix) is (kind is AuthError)
    assert SECRET not in str(caught.value)


def test_target_that_wants_authentication_says_so() -> None:
    machine, request = begin()
    with pytest.raises(AuthError) as caught:
        machine.receive(reply(request, status_class=2, status_detail=1))
    assert caught.value.code == "authentication-required"


def test_no_secret_in_the_repr_of_a_configuration() -> None:
    """86."""
    assert SECRET not in repr(MUTUAL)
    assert repr(MUTUAL.entropy) not in repr(MUTUAL)


# What cannot be asked for --------------------------------------------------------------------------------------------


def test_impossible_configurations() -> None:
    """18: an ISID never begins with 11."""
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


# Anything at all -----------------------------------------------------------------------------------------------------

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
