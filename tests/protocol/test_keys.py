"""The keys of section 13 and their negotiation (RFC 7143, 6.2 and 13)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol.errors import LocalProtocolError, NegotiationError
from initiator.protocol.keys import KEYS, Answer, Offer, Params, Rule, Side, answer, resolve, to_text
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.text import Pair

PLAIN = Offer(header_digest=("CRC32C", "None"), data_digest=("CRC32C", "None"))
ALWAYS_NEGOTIABLE = sorted(
    name for name, key in KEYS.items() if key.rule not in (Rule.DECLARE, Rule.OBSOLETE) and not key.newer
)


def honest(offer: Offer, pairs: list[Pair]) -> list[Pair]:
    """What an honest target with this offer answers."""
    return Negotiation(offer, side=Side.TARGET).receive(pairs)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    digests = st.sampled_from([("CRC32C", "None"), ("None", "CRC32C"), ("None",)])
    burst = draw(st.integers(512, 2**24 - 1))
    return Offer(
        header_digest=draw(digests),
        data_digest=draw(digests),
        max_recv_data_segment_length=draw(st.integers(512, 2**24 - 1)),
        initial_r2t=draw(st.booleans()),
        immediate_data=draw(st.booleans()),
        max_burst_length=burst,
        first_burst_length=draw(st.integers(512, burst)),
        default_time2wait=draw(st.integers(0, 3600)),
        default_time2retain=draw(st.integers(0, 3600)),
        max_outstanding_r2t=draw(st.integers(1, 65535)),
        data_pdu_in_order=draw(st.booleans()),
        data_sequence_in_order=draw(st.booleans()),
        error_recovery_level=draw(st.integers(0, 2)),
        task_reporting=draw(st.sampled_from([(), ("ResponseFence", "RFC3720")])),
        protocol_level=draw(st.none() | st.integers(0, 2)),
    )


@pytest.mark.check(54, 56, 57, 58, 59, 65)
@given(offers(), offers())
@settings(max_examples=150)
def test_both_sides_come_to_the_same_result(ours: Offer, theirs: Offer) -> None:
    """The two halves agree on every key, and each segment length limits the other side."""
    initiator, target = Negotiation(ours), Negotiation(theirs, side=Side.TARGET)
    assert initiator.receive(target.receive(initiator.propose()) + target.propose()) == []
    here, there = initiator.params(), target.params()
    swapped = dataclasses.replace(
        there,
        max_recv_data_segment_length=there.max_xmit_data_segment_length,
        max_xmit_data_segment_length=there.max_recv_data_segment_length,
    )
    assert here == swapped
    assert here.max_xmit_data_segment_length == theirs.max_recv_data_segment_length
    assert here.max_burst_length == min(ours.max_burst_length, theirs.max_burst_length)
    assert here.default_time2wait == max(ours.default_time2wait, theirs.default_time2wait)
    assert here.initial_r2t is (ours.initial_r2t or theirs.initial_r2t)
    assert here.immediate_data is (ours.immediate_data and theirs.immediate_data)


@pytest.mark.check(49, 71)
def test_default_offer() -> None:
    """Markers, alias and architecture are never offered (49, 71); the newer keys only on demand."""
    names = [name for name, _ in Negotiation(PLAIN).propose()]
    assert len(names) == len(set(names))
    assert not {"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt", "X#NodeArchitecture"} & set(names)
    assert not {"TaskReporting", "iSCSIProtocolLevel"} & set(names)
    assert ("InitialR2T", "No") in Negotiation(PLAIN).propose()


@pytest.mark.check(66, 67)
def test_newer_keys_may_be_unknown() -> None:
    """NotUnderstood leaves the default; a known one counts."""
    offer = dataclasses.replace(PLAIN, task_reporting=("ResponseFence", "RFC3720"), protocol_level=2)
    negotiation = Negotiation(offer)
    proposals = negotiation.propose()
    assert ("TaskReporting", "ResponseFence,RFC3720") in proposals
    assert ("iSCSIProtocolLevel", "2") in proposals
    negotiation.receive([("TaskReporting", "NotUnderstood"), ("iSCSIProtocolLevel", "NotUnderstood")])
    assert (negotiation.params().task_reporting, negotiation.params().protocol_level) == ("RFC3720", 1)
    assert len(negotiation.notes) == 2
    negotiation = Negotiation(offer)
    negotiation.propose()
    negotiation.receive([("TaskReporting", "ResponseFence"), ("iSCSIProtocolLevel", "1")])
    assert (negotiation.params().task_reporting, negotiation.params().protocol_level) == ("ResponseFence", 1)


@pytest.mark.check(46, 48, 49, 52)
@pytest.mark.parametrize(
    ("pair", "reply"),
    [
        (("X-org.test.key", "1"), "NotUnderstood"),
        (("Foo", "1"), "NotUnderstood"),
        (("maxburstlength", "65536"), "NotUnderstood"),
        (("IFMarker", "Yes"), "No"),
        (("OFMarker", "No"), "No"),
        (("IFMarkInt", "2048~8192"), "Reject"),
        (("OFMarkInt", "2048"), "Reject"),
        (("HeaderDigest", "None,CRC32C"), "None"),
        (("HeaderDigest", "Y-own,CRC32C"), "CRC32C"),
        (("HeaderDigest", "Y-own"), "Reject"),
        (("MaxBurstLength", "0x20000"), "131072"),
        (("MaxBurstLength", "16777215"), "1048576"),
        (("DefaultTime2Wait", "0"), "2"),
        (("InitialR2T", "No"), "No"),
        (("ImmediateData", "Yes"), "Yes"),
        (("ErrorRecoveryLevel", "2"), "0"),
        (("TaskReporting", "FastAbort,RFC3720"), "RFC3720"),
        (("iSCSIProtocolLevel", "2"), "1"),
        (("TargetAlias", "box"), None),
        (("MaxRecvDataSegmentLength", "512"), None),
        (("X#NodeArchitecture", "x"), None),
    ],
)
def test_answers_to_what_the_peer_proposes(pair: Pair, reply: str | None) -> None:
    """By the rule of the key, and never NotUnderstood for a key of the RFC."""
    assert answer(*pair, PLAIN).reply == reply
    assert Negotiation(PLAIN).receive([pair]) == ([] if reply is None else [(pair[0], reply)])


@pytest.mark.check(62, 68)
def test_in_a_discovery_session_most_keys_are_irrelevant() -> None:
    assert answer("MaxBurstLength", "65536", PLAIN, discovery=True) == Answer("Irrelevant", None)
    assert answer("ErrorRecoveryLevel", "2", PLAIN, discovery=True).reply == "0"
    assert answer("HeaderDigest", "CRC32C", PLAIN, discovery=True).reply == "CRC32C"
    names = {name for name, _ in Negotiation(PLAIN, discovery=True).propose()}
    assert names == {"HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "DefaultTime2Wait", "DefaultTime2Retain"}


@pytest.mark.check(50)
@pytest.mark.parametrize("name", ALWAYS_NEGOTIABLE)
@pytest.mark.parametrize("value", ["Reject", "Irrelevant", "NotUnderstood"])
def test_constants_are_never_a_proposal(name: str, value: str) -> None:
    with pytest.raises(NegotiationError):
        Negotiation(PLAIN).receive([(name, value)])


@pytest.mark.check(47, 50, 60)
@pytest.mark.parametrize(
    "pair",
    [
        ("MaxBurstLength", "None"),
        ("MaxBurstLength", "0"),
        ("MaxBurstLength", "511"),
        ("MaxBurstLength", "16777216"),
        ("MaxRecvDataSegmentLength", "511"),
        ("MaxRecvDataSegmentLength", "16777216"),
        ("DefaultTime2Wait", "3601"),
        ("MaxConnections", "0"),
        ("MaxConnections", "65536"),
        ("ErrorRecoveryLevel", "3"),
        ("TargetPortalGroupTag", "65536"),
        ("InitialR2T", "yes"),
        ("ImmediateData", "None"),
        ("HeaderDigest", ""),
        ("iSCSIProtocolLevel", "32"),
        ("MaxBurstLength", "-1"),
        ("MaxBurstLength", "64k"),
        ("MaxBurstLength", "18446744073709551616"),
    ],
)
def test_values_out_of_range(pair: Pair) -> None:
    """As a proposal, and as an answer."""
    with pytest.raises(NegotiationError):
        Negotiation(PLAIN).receive([pair])
    proposing = Negotiation(PLAIN)
    proposing.propose()
    with pytest.raises(NegotiationError):
        proposing.receive([pair])


@pytest.mark.check(53, 56, 57, 58, 59, 61)
@pytest.mark.parametrize(
    ("change", "pair"),
    [
        ({"max_burst_length": 65536}, ("MaxBurstLength", "65537")),
        ({"first_burst_length": 1024}, ("FirstBurstLength", "2048")),
        ({}, ("MaxConnections", "2")),
        ({}, ("MaxOutstandingR2T", "9")),
        ({}, ("DefaultTime2Retain", "21")),
        ({}, ("ErrorRecoveryLevel", "1")),
        ({}, ("DefaultTime2Wait", "1")),
        ({"initial_r2t": True}, ("InitialR2T", "No")),
        ({}, ("DataPDUInOrder", "No")),
        ({}, ("DataSequenceInOrder", "No")),
        ({"immediate_data": False}, ("ImmediateData", "Yes")),
        ({"header_digest": ("CRC32C",)}, ("HeaderDigest", "None")),
        ({"data_digest": ("None",)}, ("DataDigest", "CRC32C")),
        ({}, ("HeaderDigest", "CRC32C,None")),
        ({}, ("HeaderDigest", "Reject")),
        ({}, ("MaxBurstLength", "Reject")),
        ({}, ("InitialR2T", "NotUnderstood")),
    ],
)
def test_answers_against_the_rule(change: dict[str, object], pair: Pair) -> None:
    negotiation = Negotiation(dataclasses.replace(PLAIN, **change))  # type: ignore[arg-type]
    negotiation.propose()
    with pytest.raises(NegotiationError):
        negotiation.receive([pair])


@pytest.mark.check(54, 58, 59, 64, 65)
@pytest.mark.parametrize(
    ("change", "pairs", "field", "value"),
    [
        ({}, [("InitialR2T", "Yes")], "initial_r2t", True),
        ({}, [("InitialR2T", "No")], "initial_r2t", False),
        ({}, [], "initial_r2t", True),
        ({"initial_r2t": True}, [], "initial_r2t", True),
        ({}, [("ImmediateData", "No")], "immediate_data", False),
        ({"immediate_data": False}, [], "immediate_data", False),
        ({}, [], "immediate_data", True),
        ({}, [("HeaderDigest", "None")], "header_digest", False),
        ({}, [("HeaderDigest", "CRC32C")], "header_digest", True),
        ({}, [], "header_digest", False),
        ({}, [], "max_burst_length", 262144),
        ({}, [], "max_outstanding_r2t", 1),
        ({}, [("MaxRecvDataSegmentLength", "65536")], "max_xmit_data_segment_length", 65536),
        ({}, [], "max_xmit_data_segment_length", 8192),
        ({}, [], "max_recv_data_segment_length", 262144),
        ({}, [("DefaultTime2Wait", "0x10")], "default_time2wait", 16),
        ({}, [("TargetAlias", "Büro <b>")], "target_alias", "Büro <b>"),
        ({}, [("TargetPortalGroupTag", "0")], "target_portal_group_tag", 0),
    ],
)
def test_results(change: dict[str, object], pairs: list[Pair], field: str, value: object) -> None:
    """What is not answered keeps its default; a boolean that decides alone needs no answer."""
    negotiation = Negotiation(dataclasses.replace(PLAIN, **change))  # type: ignore[arg-type]
    negotiation.propose()
    assert negotiation.receive(pairs) == []
    assert getattr(negotiation.params(), field) == value


@pytest.mark.check(28, 65)
def test_without_an_operational_stage_everything_is_default() -> None:
    """Our own segment length was never declared, so it does not count."""
    assert Negotiation(PLAIN).params() == Params()


@pytest.mark.check(53, 55)
@pytest.mark.parametrize(("header", "data"), [(("CRC32C",), ("None",)), (("None",), ("CRC32C",))])
def test_demanded_digest(header: tuple[str, ...], data: tuple[str, ...]) -> None:
    """None is not offered, and a login without the digest fails, however it came about."""
    negotiation = Negotiation(Offer(header_digest=header, data_digest=data))
    assert {("HeaderDigest", header[0]), ("DataDigest", data[0])} <= set(negotiation.propose())
    with pytest.raises(NegotiationError) as caught:
        negotiation.params()
    assert caught.value.code == "digest-required"


@pytest.mark.check(51)
def test_key_sent_twice() -> None:
    """Also as answer and proposal, also over several exchanges; TargetAddress may come again."""
    for pairs in (
        [("MaxBurstLength", "65536"), ("MaxBurstLength", "65536")],
        [("HeaderDigest", "None"), ("HeaderDigest", "CRC32C")],
        [("TargetAlias", "a"), ("TargetAlias", "b")],
        [("Foo", "1"), ("Foo", "1")],
    ):
        negotiation = Negotiation(PLAIN)
        negotiation.receive(pairs[:1])
        with pytest.raises(NegotiationError):
            negotiation.receive(pairs[1:])
    negotiation = Negotiation(PLAIN)
    assert negotiation.receive([("TargetAddress", "a"), ("TargetAddress", "b")]) == []


@pytest.mark.parametrize("name", ["InitiatorName", "TargetName", "SessionType", "InitiatorAlias"])
def test_keys_that_only_we_may_send(name: str) -> None:
    with pytest.raises(NegotiationError):
        Negotiation(PLAIN).receive([(name, "x")])
    with pytest.raises(NegotiationError):
        Negotiation(PLAIN, side=Side.TARGET).receive([("TargetPortalGroupTag", "1")])


def test_operational_keys_in_the_security_stage() -> None:
    """12 in the RFC: other keys must not be used there."""
    with pytest.raises(NegotiationError):
        Negotiation(PLAIN).receive([("MaxBurstLength", "65536")], security=True)
    assert Negotiation(PLAIN).receive([("TargetPortalGroupTag", "1"), ("TargetAlias", "x")], security=True) == []


@pytest.mark.check(52)
def test_proposals_that_come_with_the_end_of_the_stage() -> None:
    """11.13.6: what needs an answer may not; what is decided, declared or unknown may."""
    for pair in (("MaxBurstLength", "65536"), ("HeaderDigest", "CRC32C"), ("InitialR2T", "No")):
        with pytest.raises(NegotiationError):
            Negotiation(PLAIN).receive([pair], final=True)
    decided = [("InitialR2T", "Yes"), ("ImmediateData", "No"), ("MaxRecvDataSegmentLength", "8192"), ("X-a", "1")]
    negotiation = Negotiation(PLAIN)
    assert negotiation.receive(decided, final=True) == []
    assert not negotiation.params().immediate_data


@pytest.mark.check(62)
def test_irrelevant_where_the_rfc_has_it() -> None:
    """FirstBurstLength without any unsolicited data; nowhere else in a normal session."""
    offer = dataclasses.replace(PLAIN, initial_r2t=True, immediate_data=False)
    negotiation = Negotiation(offer)
    negotiation.propose()
    negotiation.receive([("FirstBurstLength", "Irrelevant")])
    assert negotiation.params().first_burst_length == 65536
    for name in ("FirstBurstLength", "MaxBurstLength"):
        negotiation = Negotiation(PLAIN)
        negotiation.propose()
        negotiation.receive([(name, "Irrelevant")])
        with pytest.raises(NegotiationError):
            negotiation.params()


@pytest.mark.check(63)
def test_first_burst_beyond_max_burst() -> None:
    """An error, unless there is no unsolicited data at all."""
    pairs = [("MaxBurstLength", "4096"), ("FirstBurstLength", "65536")]
    negotiation = Negotiation(PLAIN)
    negotiation.propose()
    negotiation.receive(pairs)
    with pytest.raises(NegotiationError):
        negotiation.params()
    negotiation = Negotiation(dataclasses.replace(PLAIN, initial_r2t=True, immediate_data=False))
    negotiation.propose()
    negotiation.receive(pairs)
    assert negotiation.params().max_burst_length == 4096


@pytest.mark.check(69)
def test_recovery_level_limits_outstanding_r2t() -> None:
    assert ("MaxOutstandingR2T", "1") in Negotiation(dataclasses.replace(PLAIN, error_recovery_level=1)).propose()
    assert ("MaxOutstandingR2T", "8") in Negotiation(PLAIN).propose()


@pytest.mark.parametrize(
    "change",
    [
        {"max_burst_length": 511},
        {"max_recv_data_segment_length": 2**24},
        {"first_burst_length": 2**21},
        {"error_recovery_level": 3},
        {"header_digest": ()},
        {"data_digest": ("CRC32",)},
        {"task_reporting": ("FastAbort",)},
        {"task_reporting": ("FastAbort", "ResponseFence", "RFC3720")},
        {"default_time2wait": 3601},
        {"protocol_level": 32},
    ],
)
@pytest.mark.check(66, 129)
def test_offers_that_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        dataclasses.replace(PLAIN, **change)  # type: ignore[arg-type]


def test_defaults_agree_with_the_table() -> None:
    """The defaults are written down twice, in the table and in Params: they must not drift apart."""
    params = Params()
    for key in KEYS.values():
        if key.field and key.rule is not Rule.DECLARE and not key.field.endswith("digest"):
            assert getattr(params, key.field) == key.default, key.name
    shown = params.as_text()
    assert shown["HeaderDigest"] == "None"
    assert shown["MaxRecvDataSegmentLength"] == shown["MaxXmitDataSegmentLength"] == "8192"
    assert "TargetAlias" not in shown


@given(st.sampled_from(ALWAYS_NEGOTIABLE), offers(), st.text(max_size=12))
@settings(max_examples=150)
def test_whatever_comes_back_gives_a_result_or_a_named_error(name: str, offer: Offer, value: str) -> None:
    offered = getattr(offer, KEYS[name].field)
    problem = ""
    result: object = None
    try:
        result = resolve(name, offered, value)
    except NegotiationError as error:
        problem = str(error)
    assert problem.isprintable()
    if not problem and value != "Irrelevant":
        said = to_text(result)  # type: ignore[arg-type]
        assert said == value or said == str(int(value, 0))


def test_honest_target_never_answers_what_it_was_not_asked() -> None:
    proposals = Negotiation(PLAIN).propose()
    answered = {name for name, _ in honest(PLAIN, proposals)}
    assert answered == {name for name, _ in proposals} - {"MaxRecvDataSegmentLength"}
