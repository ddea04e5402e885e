"""The wire format of iSNS: what is built is read again, and nothing that arrives does harm."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.model import Portal
from initiator.protocol import isns, isns_nodes
from initiator.protocol.errors import LocalProtocolError, RemoteProtocolError
from initiator.protocol.isns import Attribute, Flag, Function, IsnsError, Message, Reader, Status, Tag
from initiator.protocol.isns_nodes import Change, Event, Node, NodeType, Registration

US = "iqn.2026-11.com.example:host7"
MAIL = "iqn.2026-11.com.example:mail"
values = st.binary(max_size=40).map(lambda raw: raw + b"\0" * (-len(raw) % 4))
attributes = st.lists(st.builds(Attribute, st.integers(0, 3000), values), max_size=12)
payloads = st.binary(max_size=400).map(lambda raw: raw[: len(raw) // 4 * 4])


def header(
    function: int = 0x8002,
    length: int = 0,
    flags: int = 0x4C00,
    transaction: int = 1,
    sequence: int = 0,
    version: int = 1,
) -> bytes:
    return struct.pack(">HHHHHH", version, function, length, flags, transaction, sequence)


# --- attributes and messages ---


@given(attributes)
def test_attributes_are_read_as_they_were_written(given_: list[Attribute]) -> None:
    assert list(isns.decode_attributes(isns.encode_attributes(given_))) == given_


@given(st.binary(max_size=300))
def test_any_bytes_are_attributes_or_a_named_error(data: bytes) -> None:
    try:
        found = isns.decode_attributes(data)
    except RemoteProtocolError:
        return
    assert isns.encode_attributes(found) == data


@given(st.text("abcdäöü-.:0123456789 ", max_size=60))
def test_a_text_is_padded_and_read_again(value: str) -> None:
    made = isns.text(Tag.ALIAS, value)
    assert len(made.value) % 4 == 0
    assert made.value.endswith(b"\0")
    assert made.text == value


def test_an_address_of_either_family() -> None:
    assert isns.address(Tag.PORTAL_ADDRESS, "10.9.1.2").value == bytes(10) + b"\xff\xff\x0a\x09\x01\x02"
    assert isns.address(Tag.PORTAL_ADDRESS, "10.9.1.2").address == "10.9.1.2"
    assert isns.address(Tag.PORTAL_ADDRESS, "fd09:1::2").address == "fd09:1::2"
    assert isns.address(Tag.PORTAL_ADDRESS, "fe80::1%eth0").address == "fe80::1"
    with pytest.raises(LocalProtocolError):
        isns.address(Tag.PORTAL_ADDRESS, "storage.example")


@pytest.mark.parametrize("value", [bytes(16), b"\xff" * 16, bytes(4), bytes(10) + b"\xff\xff\0\0\0\0"])
def test_what_is_no_address_of_a_host(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        _ = Attribute(16, value).address


@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\u202eb", "a\u200bb"])
def test_a_text_that_would_change_the_screen_is_refused(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        _ = isns.text(Tag.ALIAS, value).text


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), payloads, st.booleans(), st.data())
def test_a_message_arrives_whole_however_it_is_cut(
    function: int, transaction: int, payload: bytes, replace: bool, data: st.DataObject
) -> None:
    message = Message(function, transaction, payload, replace)
    stream = message.encode() + message.encode(Flag.SERVER)
    cut = data.draw(st.integers(0, len(stream)))
    reader = Reader()
    assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == [message, message]
    assert not reader.inside


def test_a_long_message_goes_in_several_pdus() -> None:
    message = Message(Function.QUERY, 7, bytes(4 * 40000))
    stream = message.encode()
    flags = [struct.unpack_from(">H", stream, at + 6)[0] for at in (0, 65544, 131088)]
    assert [flag & 0x0C00 for flag in flags] == [0x0400, 0, 0x0800]
    reader = Reader()
    assert reader.feed(stream[:100000]) == []
    assert reader.inside
    assert reader.feed(stream[100000:]) == [message]
    with pytest.raises(LocalProtocolError):
        Message(1, 1, bytes(isns.MAX_MESSAGE + 4)).encode()


messages = st.builds(Message, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), payloads, st.booleans())


@given(st.lists(st.binary(max_size=80) | messages.map(Message.encode), max_size=6))
def test_any_bytes_are_messages_or_a_named_error(pieces: list[bytes]) -> None:
    reader = Reader()
    found: list[Message] = []
    with contextlib.suppress(RemoteProtocolError):
        for piece in pieces:
            found += reader.feed(piece)
    assert Reader().feed(b"".join(message.encode() for message in found)) == found


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no iSNS server"),
        (header(length=3), "payload of 3 bytes"),
        (header(flags=0x4800), "out of order"),
        (header(flags=0x4400, length=4) + bytes(4) + header(sequence=2), "out of order"),
        (header(flags=0x4400, length=4) + bytes(4) + header(flags=0x4800, sequence=1, transaction=2), "out of order"),
        (header(flags=0x4400, length=4) + bytes(4) + header(), "out of order"),
        (header(flags=0x4400), "not come to an end"),
        (header(flags=0x6C00), "signs its messages"),
    ],
    ids=["http", "odd", "no first", "gap", "another one", "first again", "empty and more", "signed"],
)
def test_a_stream_that_breaks_a_rule(stream: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        Reader().feed(stream)


def test_a_message_without_an_end_is_given_up() -> None:
    reader = Reader()
    first = header(flags=0x4400, length=isns.MAX_PDU) + bytes(isns.MAX_PDU)
    assert reader.feed(first) == []
    pieces = isns.MAX_MESSAGE // isns.MAX_PDU
    for sequence in range(1, pieces):
        assert reader.feed(header(flags=0x4000, length=isns.MAX_PDU, sequence=sequence) + bytes(isns.MAX_PDU)) == []
    last = header(flags=0x4000, length=isns.MAX_PDU, sequence=pieces) + bytes(isns.MAX_PDU)
    with pytest.raises(RemoteProtocolError, match="not come to an end"):
        reader.feed(last)


# --- answers ---


def answered(function: Function, status: int, *given_: Attribute) -> Message:
    return Message(function | isns.RESPONSE, 1, status.to_bytes(4, "big") + isns.encode_attributes(given_))


def test_a_refusal_says_what_and_the_way_out() -> None:
    with pytest.raises(IsnsError, match=r"the query was refused: source unknown \(6\)") as caught:
        isns.parse_answer(answered(Function.QUERY, 6), Function.QUERY, "the query was refused")
    assert (caught.value.status, caught.value.code) == (Status.SOURCE_UNKNOWN, "isns-refused")
    assert "mooring isns register" in caught.value.fix
    with pytest.raises(IsnsError, match=r"unknown status \(4711\)"):
        isns.parse_answer(answered(Function.QUERY, 4711), Function.QUERY, "x")


@pytest.mark.parametrize("message", [answered(Function.REGISTER, 0), Message(0x8002, 1, b""), Message(2, 1, bytes(4))])
def test_what_is_no_answer_to_the_question(message: Message) -> None:
    with pytest.raises(RemoteProtocolError):
        isns.parse_answer(message, Function.QUERY, "x")


# --- nodes ---


def node(name: str = MAIL, kind: int = 1, alias: str | None = "Mail") -> list[Attribute]:
    own = [isns.text(Tag.NAME, name), isns.number(Tag.NODE_TYPE, kind)]
    return own if alias is None else [*own, isns.text(Tag.ALIAS, alias)]


def portal(host: str, port: int = 3260) -> list[Attribute]:
    return [isns.address(Tag.PORTAL_ADDRESS, host), isns.number(Tag.PORTAL_PORT, port)]


def group(name: str, host: str, tag: int | None, port: int = 3260) -> list[Attribute]:
    value = Attribute(Tag.GROUP_TAG) if tag is None else isns.number(Tag.GROUP_TAG, tag)
    place = [isns.address(Tag.GROUP_ADDRESS, host), isns.number(Tag.GROUP_PORT, port)]
    return [isns.text(Tag.GROUP_NAME, name), *place, value]


def test_a_node_has_the_portals_that_follow_it() -> None:
    found = isns_nodes.parse_nodes(
        [*node(), *portal("10.9.1.2"), *portal("10.9.2.2", 3261), *node(US, 2, None), *portal("10.9.1.1", 4000)]
    )
    assert found.nodes == (
        Node(MAIL, NodeType.TARGET, "Mail", (Portal("10.9.1.2"), Portal("10.9.2.2", 3261))),
        Node(US, NodeType.INITIATOR, None, (Portal("10.9.1.1", 4000),)),
    )
    assert [(each.name, each.portals) for each in found.targets()] == [(MAIL, found.nodes[0].portals)]


def test_a_portal_group_gives_its_tag_and_a_null_one_takes_the_portal_away() -> None:
    told = [
        *node(),
        *portal("10.9.1.2"),
        *portal("10.9.2.2"),
        *group(MAIL, "10.9.1.2", 7),
        *group(MAIL, "10.9.2.2", None),
    ]
    (found,) = isns_nodes.parse_nodes(told).nodes
    assert found.portals == (Portal("10.9.1.2", 3260, 7),)


def test_a_udp_portal_is_none_that_one_can_log_in_to() -> None:
    (found,) = isns_nodes.parse_nodes([*node(), *portal("10.9.1.2", 0x10000 | 3260)]).nodes
    assert found.portals == ()


def test_one_hostile_entry_hides_no_other() -> None:
    bad_name = [
        isns.text(Tag.NAME, "iqn.2026-11.com.example:\x1b[31m"),
        isns.number(Tag.NODE_TYPE, 1),
        *portal("10.9.9.9"),
    ]
    odd = [
        Attribute(Tag.PORTAL_ADDRESS, bytes(4)),
        isns.number(Tag.PORTAL_PORT, 3260),
        isns.number(Tag.PORTAL_PORT, 70),
    ]
    found = isns_nodes.parse_nodes([*bad_name, *node(), *odd, *portal("10.9.1.2"), *portal("10.9.1.3", 0)])
    assert [(each.name, each.portals) for each in found.nodes] == [(MAIL, (Portal("10.9.1.2"),))]
    assert found.skipped == 3


@given(attributes)
def test_any_attributes_make_a_directory(given_: list[Attribute]) -> None:
    found = isns_nodes.parse_nodes(given_)
    assert len(found.nodes) <= len(given_)
    assert all(each.name == each.name.strip() for each in found.nodes)


def test_a_query_asks_for_each_attribute_once_and_says_who_asks() -> None:
    found = isns.decode_attributes(isns_nodes.query(US, NodeType.TARGET))
    assert (found[0].text, found[1].number, found[2]) == (US, 1, isns.DELIMITER)
    asked = [each.tag for each in found[3:]]
    assert len(set(asked)) == len(asked) == 9
    assert all(each.value == b"" for each in found[3:])
    assert isns.decode_attributes(isns_nodes.query(US))[1] == Attribute(Tag.NAME)


# --- registration ---


def test_a_registration_has_the_entity_before_the_portal_before_the_node() -> None:
    wanted = Registration(US, "host seven", "", "10.9.1.1", 4000, 30)
    found = isns.decode_attributes(isns_nodes.register(wanted))
    assert [each.tag for each in found] == [32, 0, 1, 2, 16, 17, 19, 20, 23, 32, 33, 34]
    again = isns.decode_attributes(isns_nodes.register(Registration(US, entity="host7")))
    assert [each.tag for each in again] == [32, 1, 0, 1, 2, 32, 33]
    assert again[1].text == again[3].text == "host7"


def test_what_a_server_says_of_a_registration() -> None:
    entity, period = isns.text(Tag.ENTITY, "e1"), isns.number(Tag.PERIOD, 600)
    answer = isns.parse_answer(
        answered(Function.REGISTER, 0, entity, isns.DELIMITER, entity, period), Function.REGISTER, ""
    )
    assert isns_nodes.parse_registered(answer) == ("e1", 600)
    assert isns_nodes.parse_registered(isns.Answer((entity,), ())) == ("e1", None)
    with pytest.raises(RemoteProtocolError):
        isns_nodes.parse_registered(isns.Answer((), (period,)))
    assert isns_nodes.parse_entity(isns.Answer((), ())) is None


def test_taking_back_an_entity_or_a_portal() -> None:
    whole = isns.decode_attributes(isns_nodes.deregister_entity(US, "e1"))
    assert [each.tag for each in whole] == [32, 0, 1]
    one = isns.decode_attributes(isns_nodes.deregister_portal(US, "10.9.1.1", 4000))
    assert [each.tag for each in one] == [32, 0, 16, 17]


# --- what the server asks of us ---


def notice(*given_: Attribute) -> Message:
    head = (isns.text(Tag.NAME, US), Attribute(Tag.TIMESTAMP, bytes(8)))
    return Message(Function.SCN, 9, isns.encode_attributes((*head, *given_)))


def test_a_notification_names_events_and_nodes() -> None:
    told = notice(
        isns.number(Tag.SCN_BITMAP, 0x0C), isns.text(Tag.NAME, MAIL),
        isns.number(Tag.SCN_BITMAP, 0x10), isns.text(Tag.NAME, MAIL + "2"), Attribute(2065, bytes(4)),
    )  # fmt: skip
    changes = isns_nodes.parse_notice(told)
    assert changes == (Change(Event.ADDED | Event.UPDATED, MAIL), Change(Event.REMOVED, MAIL + "2"))
    assert [change.event.words for change in changes] == ["added, updated", "removed"]
    assert Event(0).words == "changed"
    with pytest.raises(RemoteProtocolError):
        isns_nodes.parse_notice(notice(isns.text(Tag.NAME, MAIL)))


@given(payloads | attributes.map(isns.encode_attributes))
def test_any_notification_is_read_or_a_named_error(payload: bytes) -> None:
    message = Message(Function.SCN, 1, payload)
    try:
        changes, answer = isns_nodes.parse_notice(message), isns_nodes.answer_to(message)
    except RemoteProtocolError:
        return
    assert len(changes) <= len(payload) // 8
    assert answer is not None
    assert (answer.function, answer.transaction, answer.payload[:4]) == (0x8008, 1, bytes(4))


def test_a_notification_is_answered_with_its_destination_and_an_inquiry_with_all_of_it() -> None:
    answer = isns_nodes.answer_to(notice(isns.number(Tag.SCN_BITMAP, 8), isns.text(Tag.NAME, MAIL)))
    assert answer is not None
    assert (answer.function, answer.transaction) == (0x8008, 9)
    assert answer.payload == bytes(4) + isns.encode_attributes([isns.text(Tag.NAME, US)])
    inquiry = Message(Function.ESI, 5, isns.encode_attributes([isns.text(Tag.ENTITY, "e1")]))
    assert isns_nodes.answer_to(inquiry) == Message(0x800D, 5, bytes(4) + inquiry.payload)


def test_a_request_that_no_server_makes_is_refused_and_an_answer_gets_none() -> None:
    refused = isns_nodes.answer_to(Message(Function.REGISTER, 3, b""))
    assert refused == Message(0x8001, 3, (15).to_bytes(4, "big"))
    assert isns_nodes.answer_to(Message(0x8008, 3, bytes(4))) is None
