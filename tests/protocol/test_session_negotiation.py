"""Negotiation in the full feature phase: all of it takes effect, or nothing (RFC 7143, 6.4, 7.12)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol import text
from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import NO_TAG, Reject, ScsiCommand, TextRequest, TextResponse
from initiator.protocol.session import Negotiated, Rejected
from initiator.protocol.text import Pair
from tests.protocol.session_rig import LUN, Rig

BEFORE = Params(max_recv_data_segment_length=65536, max_xmit_data_segment_length=4096)


def asked(rig: Rig) -> TextRequest:
    """The initiator has asked what the target wants."""
    rig.core.negotiate(rig.now)
    request = rig.one(TextRequest)
    assert (request.data, request.final, request.continued) == (b"", True, False)
    assert request.target_transfer_tag == NO_TAG
    return request


def say(rig: Rig, request: TextRequest, pairs: list[Pair], *, final: bool = True) -> None:
    answer = TextResponse(
        initiator_task_tag=request.initiator_task_tag,
        final=final,
        lun=LUN,
        target_transfer_tag=NO_TAG if final else 7,
        data=text.encode(pairs),
    )
    rig.feed(rig.number(answer))


def outcome(rig: Rig) -> Negotiated:
    *others, event = rig.core.events
    assert all(isinstance(other, Rejected) for other in others)
    assert isinstance(event, Negotiated)
    assert event.params == rig.core.params
    return event


@pytest.mark.check(70, 128)
def test_target_declares_another_segment_length() -> None:
    rig = Rig(BEFORE)
    say(rig, asked(rig), [("MaxRecvDataSegmentLength", "1024"), ("TargetAlias", "box")])
    assert outcome(rig).error is None
    assert (rig.core.params.max_xmit_data_segment_length, rig.core.params.target_alias) == (1024, "box")
    assert rig.core.params.max_recv_data_segment_length == 65536
    rig.write(bytes(4000))
    command = rig.one(ScsiCommand)
    assert len(command.data) == 1024


@pytest.mark.check(70)
def test_what_needs_an_answer_gets_it_before_anything_takes_effect() -> None:
    rig = Rig(BEFORE)
    first = asked(rig)
    say(rig, first, [("X-org.test.key", "1"), ("MaxRecvDataSegmentLength", "2048")], final=False)
    second = rig.one(TextRequest)
    assert text.decode(second.data) == [("X-org.test.key", "NotUnderstood")]
    assert (second.initiator_task_tag, second.target_transfer_tag, second.lun) == (first.initiator_task_tag, 7, LUN)
    assert rig.core.params == BEFORE
    rig.write(bytes(4000))
    assert len(rig.one(ScsiCommand).data) == 4000
    say(rig, second, [])
    assert outcome(rig).params.max_xmit_data_segment_length == 2048


@pytest.mark.check(70)
@pytest.mark.parametrize(
    "bad",
    [
        ("MaxBurstLength", "65536"),
        ("HeaderDigest", "CRC32C"),
        ("ErrorRecoveryLevel", "0"),
        ("TargetPortalGroupTag", "2"),
        ("InitiatorName", "iqn.2026-11.example:me"),
        ("MaxRecvDataSegmentLength", "511"),
        ("TargetAlias", "a"),
        ("MaxRecvDataSegmentLength", "Reject"),
    ],
)
@pytest.mark.parametrize("late", [True, False])
def test_one_bad_key_leaves_everything_as_it_was(bad: Pair, late: bool) -> None:
    rig = Rig(BEFORE)
    request = asked(rig)
    good = [("TargetAlias", "b")] + [("MaxRecvDataSegmentLength", "1024")] * (bad[0] != "MaxRecvDataSegmentLength")
    if late:
        say(rig, request, good, final=False)
        say(rig, rig.one(TextRequest), [bad])
    else:
        say(rig, request, [*good, bad])
    if bad[0] == "TargetAlias":
        assert "twice" in str(outcome(rig).error)
    assert outcome(rig).error
    assert rig.core.params == BEFORE
    task = rig.read(4)
    rig.sent()
    rig.feed(rig.last_data(task, b"abcd"))  # the session goes on
    assert task.good


@pytest.mark.check(70)
def test_other_ways_to_fail_leave_everything_as_it_was() -> None:
    rig = Rig(BEFORE)
    rig.feed(rig.number(Reject(reason=5, data=asked(rig).encode()[:48])))
    assert "0x05" in str(outcome(rig).error)
    rig.core.events.clear()
    request = asked(rig)
    rig.feed(rig.number(TextResponse(initiator_task_tag=request.initiator_task_tag, data=b"no text")))
    assert outcome(rig).error
    rig.core.events.clear()
    say(rig, asked(rig), [(f"X-{number}", "v") for number in range(400)], final=False)
    assert "answers" in str(outcome(rig).error)
    rig.core.events.clear()
    say(rig, asked(rig), [("MaxRecvDataSegmentLength", "512")])
    assert outcome(rig).params.max_xmit_data_segment_length == 512


@pytest.mark.check(70)
def test_text_in_pieces_is_read_as_a_whole() -> None:
    rig = Rig(BEFORE)
    tag = asked(rig).initiator_task_tag
    raw = text.encode([("TargetAlias", "Büro"), ("MaxRecvDataSegmentLength", "1024")])
    for at in range(0, len(raw) - 5, 5):
        piece = TextResponse(
            initiator_task_tag=tag, final=False, continued=True, target_transfer_tag=7, data=raw[at : at + 5]
        )
        rig.feed(rig.number(piece))
        assert rig.one(TextRequest).data == b""
        last = at + 5
    rig.feed(rig.number(TextResponse(initiator_task_tag=tag, data=raw[last:])))
    assert outcome(rig).params.target_alias == "Büro"


@pytest.mark.check(138)
def test_one_exchange_at_a_time_and_none_without_an_end() -> None:
    rig = Rig(BEFORE)
    request = asked(rig)
    with pytest.raises(LocalProtocolError):
        rig.core.negotiate(rig.now)
    with pytest.raises(LocalProtocolError):
        rig.core.text(b"", rig.now)
    answered = 0
    with pytest.raises(RemoteProtocolError, match="does not end"):  # noqa: PT012 - the round does not matter
        while answered < 5000:
            say(rig, request, [], final=False)
            rig.sent()
            answered += 1
    assert answered > 100


@settings(max_examples=80)
@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=4))
def test_whatever_a_target_says_the_parameters_stay_sound(answers: list[tuple[bytes, bool]]) -> None:
    rig = Rig(BEFORE)
    request = asked(rig)
    for data, final in answers:
        if rig.core.events:
            break
        rig.feed(
            rig.number(
                TextResponse(
                    initiator_task_tag=request.initiator_task_tag,
                    final=final,
                    target_transfer_tag=NO_TAG if final else 7,
                    data=data,
                )
            )
        )
    rig.sent()
    assert rig.core.params.max_recv_data_segment_length == BEFORE.max_recv_data_segment_length
    assert all(isinstance(event, Negotiated) for event in rig.core.events)
