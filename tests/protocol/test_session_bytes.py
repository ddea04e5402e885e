"""Bytes in any portion and of any kind: digests, lengths, fuzzing (RFC 7143, 7.8, 11.2, 13.1, 13.12)."""

from __future__ import annotations

import dataclasses
import struct

import crcmod.predefined
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.protocol.errors import ConnectionLost, DigestError, RemoteProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import AsyncMessage, NopIn, Pdu
from initiator.protocol.session import Event, Pong, Task
from tests.protocol.session_rig import LUN, Rig

PLAIN = Params(max_recv_data_segment_length=65536)
DIGESTS = dataclasses.replace(PLAIN, header_digest=True, data_digest=True)
crc32c = crcmod.predefined.mkPredefinedCrcFun("crc-32c")


def play(params: Params, piece: int | None) -> tuple[list[tuple[int, int | None, bytes, bytes]], list[Event]]:
    """A fixed conversation, delivered in pieces; what came of it."""
    rig = Rig(params)
    first, second, third = rig.read(7), rig.read(40000), rig.write(b"z" * 100)
    rig.core.ping(rig.now)
    blob = bytes(range(256)) * 157
    pdus: list[Pdu] = [
        rig.data_in(first, b"abc"),
        rig.number(NopIn(target_transfer_tag=3), counted=False),
        rig.data_in(second, blob[:30001]),
        rig.last_data(first, b"defg", data_sn=1, buffer_offset=3),
        rig.number(AsyncMessage(async_event=0, lun=LUN, data=b"\0\3sen")),
        rig.response(third, status=2, data=b"\0\3\x70\0\1"),
        rig.last_data(second, blob[30001:40000], data_sn=1, buffer_offset=30001),
    ]
    rig.feed(*pdus, piece=piece)
    ended = [(task.itt, task.status, task.sense, bytes(task.data_in or b"")) for task in rig.done]
    return ended, list(rig.core.events)


@pytest.mark.check(9)
@pytest.mark.parametrize("params", [PLAIN, DIGESTS], ids=["plain", "digests"])
def test_portions_make_no_difference(params: Params) -> None:
    expected = play(params, None)
    assert len(expected[0]) == 3
    assert expected[0][2][3] == bytes(range(256)) * 156 + bytes(range(64))
    for piece in (1, 2, 3, 5, 47, 48, 49, 52, 53, 1000, 4099, 16384, 30000):
        assert play(params, piece) == expected


@pytest.mark.check(9)
@settings(max_examples=40)
@given(st.lists(st.integers(1, 70000), min_size=1, max_size=30), st.booleans())
def test_arbitrary_portions_of_big_reads(portions: list[int], digests: bool) -> None:
    rig = Rig(DIGESTS if digests else PLAIN)
    blob = bytes(range(253)) * 400
    tasks = [rig.read(len(blob)), rig.read(3)]
    raw = b""
    for number, at in enumerate(range(0, len(blob), 60001)):
        part = blob[at : at + 60001]
        last = at + len(part) == len(blob)
        pdu = rig.data_in(tasks[0], part, data_sn=number, buffer_offset=at, final=last, status_present=last)
        raw += rig.encode(pdu)
    raw += rig.encode(rig.last_data(tasks[1], b"end"))
    view = memoryview(raw)
    turn = 0
    while view:
        view = view[rig.put(view[: portions[turn % len(portions)]]) :]
        turn += 1
    assert rig.done == tasks
    assert bytes(tasks[0].data_in or b"") == blob


@pytest.mark.check(9)
@pytest.mark.parametrize("data", [65000, 66000, 66560, 66561, 66562, 66563, 66564, 66565, 67001, 90000])
@pytest.mark.parametrize("piece", [33000, 65536, 66000, 66615])
def test_a_segment_about_as_long_as_the_staging_buffer(data: int, piece: int) -> None:
    """Wherever it is cut (data, padding, digest), nothing is lost."""
    rig = Rig(dataclasses.replace(DIGESTS, max_recv_data_segment_length=1 << 20))
    task = rig.read(data)
    blob = (bytes(range(251)) * 400)[:data]
    rig.feed(rig.last_data(task, blob), piece=piece)
    assert rig.done == [task]
    assert task.good
    assert bytes(task.data_in or b"") == blob


@pytest.mark.check(4)
def test_segment_longer_than_agreed_is_refused_before_it_comes() -> None:
    rig = Rig(PLAIN)
    task = rig.read(1 << 20)
    pdu = rig.data_in(task, bytes(65537)).encode()
    with pytest.raises(RemoteProtocolError, match="65537 bytes, 65536 were agreed"):
        rig.feed(pdu[:48])
    assert bytes(task.data_in or b"") == b"\xff" * (1 << 20)


@pytest.mark.check(142)
def test_digests_are_those_of_the_rfc() -> None:
    rig = Rig(DIGESTS)
    rig.write(b"abcde")
    raw = b"".join(rig.core.take_out())
    assert struct.unpack("<I", raw[48:52])[0] == crc32c(raw[:48])
    assert raw[52:60] == b"abcde\0\0\0"
    assert struct.unpack("<I", raw[60:64])[0] == crc32c(raw[52:60])
    assert len(raw) == 64


@pytest.mark.check(142)
def test_padding_is_digested_as_received() -> None:
    rig = Rig(DIGESTS)
    task = rig.read(5)
    raw = bytearray(rig.encode(rig.last_data(task, b"abcde")))
    raw[57:60] = b"pad"
    raw[60:64] = struct.pack("<I", crc32c(bytes(raw[52:60])))
    rig.feed(bytes(raw))
    assert bytes(task.data_in or b"") == b"abcde"


@pytest.mark.check(142)
@pytest.mark.parametrize("length", [5, 40000])
def test_padding_is_digested_as_received_when_data_goes_directly(length: int) -> None:
    rig = Rig(DIGESTS)
    task = rig.read(length + 1)
    raw = bytearray(rig.encode(rig.data_in(task, b"x" * length)))
    pad = -length % 4
    if pad:
        raw[-4 - pad : -4] = b"p" * pad
    raw[-4:] = struct.pack("<I", crc32c(bytes(raw[52:-4])))
    rig.feed(bytes(raw[:70]), bytes(raw[70:]), piece=9999)
    rig.feed(rig.last_data(task, b"y", data_sn=1, buffer_offset=length))
    assert bytes(task.data_in or b"") == b"x" * length + b"y"


@pytest.mark.check(144)
@pytest.mark.parametrize("byte", [0, 1, 5, 7, 16, 24, 40, 47, 48, 51])
def test_bad_header_digest(byte: int) -> None:
    """No field is believed: not even a length of 16 MiB is complained about as such."""
    rig = Rig(DIGESTS)
    task = rig.read(4)
    raw = bytearray(rig.encode(rig.last_data(task, b"abcd")))
    raw[byte] ^= 0x80
    with pytest.raises(DigestError) as caught:
        rig.feed(bytes(raw))
    assert caught.value.header
    assert not rig.done
    assert bytes(task.data_in or b"") == b"\xff" * 4


@pytest.mark.check(3, 144)
def test_bad_header_digest_with_additional_headers() -> None:
    rig = Rig(DIGESTS)
    task = rig.read(4)
    header = bytearray(rig.last_data(task, b"abcd").encode()[:48])
    header[4] = 1
    good = bytes(header) + b"\0\1\7\0"
    digest = struct.pack("<I", crc32c(good))
    data = b"abcd" + struct.pack("<I", crc32c(b"abcd"))
    with pytest.raises(DigestError):
        Rig(DIGESTS).feed(good[:-1] + b"\1" + digest + data)
    rig.feed(good + digest + data)
    assert task.good


@pytest.mark.check(145)
@pytest.mark.parametrize("length", [4, 50000])
@pytest.mark.parametrize("piece", [None, 20000])
def test_bad_data_digest_never_counts_as_data(length: int, piece: int | None) -> None:
    rig = Rig(DIGESTS)
    task = rig.read(length)
    raw = bytearray(rig.encode(rig.last_data(task, b"x" * length)))
    raw[53] ^= 1
    with pytest.raises(DigestError) as caught:
        rig.feed(bytes(raw), piece=piece)
    assert not caught.value.header
    assert not rig.done
    assert rig.core.abandon() == [task]


@pytest.mark.check(146)
def test_bad_data_digest_of_a_response() -> None:
    rig = Rig(DIGESTS)
    task = rig.read(4)
    raw = bytearray(rig.encode(rig.response(task, status=2, data=b"\0\2\x70\0")))
    raw[-1] ^= 1
    with pytest.raises(DigestError):
        rig.feed(bytes(raw))
    assert not rig.done


@pytest.mark.check(147)
def test_digest_in_a_portion_of_its_own() -> None:
    rig = Rig(DIGESTS)
    task = rig.read(4)
    raw = rig.encode(rig.last_data(task, b"abcd"))
    for cut in (48, 50, 52, 56, 58):
        assert 0 < cut < len(raw)
    for start, end in ((0, 48), (48, 50), (50, 52), (52, 56), (56, 58), (58, 60)):
        assert not rig.done
        rig.feed(raw[start:end])
    assert task.good


def test_a_callback_that_abandons_stops_the_parsing() -> None:
    rig = Rig(PLAIN)
    left: list[Task] = []
    first = Task(LUN, bytes(6), lambda _: left.extend(rig.core.abandon()), data_in=memoryview(bytearray(1)))
    rig.submit(first)
    second = rig.read(1)
    rig.feed(rig.last_data(first, b"x"), rig.last_data(second, b"y"))
    assert left == [second]
    assert not rig.done


def test_ping_of_the_target_between_data() -> None:
    rig = Rig(DIGESTS)
    task = rig.read(40000)
    rig.core.ping(rig.now)
    rig.sent()
    pong = rig.number(NopIn(initiator_task_tag=0x80000000, data=b"\x80\0\0\0Mooring?"))
    rig.feed(rig.data_in(task, b"x" * 39999), pong, piece=10001)
    assert list(rig.core.events) == [Pong(0.0)]


HEADERS = st.builds(
    lambda opcode, flags, two, ahs, length, lun, itt, words: struct.pack(
        ">BBBBBBH8sI7I", opcode, flags, two >> 8, two & 255, ahs, 0, length, lun, itt, *words
    ),
    st.sampled_from([0x20, 0x21, 0x22, 0x24, 0x25, 0x25, 0x26, 0x31, 0x32, 0x3F, 0x05, 0x3B]),
    st.sampled_from([0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x87, 0xC0, 0xFF]),
    st.integers(0, 0xFFFF),
    st.sampled_from([0, 0, 0, 0, 1, 3]),
    st.integers(0, 300),
    st.sampled_from([LUN, bytes(8)]),
    st.sampled_from([0, 1, 2, 0x80000000, 0xFFFFFFFF]),
    st.tuples(
        st.sampled_from([0xFFFFFFFF, 0, 5]),
        st.integers(998, 1003),
        st.integers(0, 3),
        st.integers(0, 40),
        st.integers(0, 2),
        st.integers(0, 300),
        st.integers(0, 300),
    ),
)


@pytest.mark.check(99)
@settings(max_examples=300)
@given(st.lists(st.tuples(HEADERS, st.binary(max_size=310)), max_size=8), st.integers(1, 400))
def test_whatever_a_target_sends(pdus: list[tuple[bytes, bytes]], piece: int) -> None:
    """Either it is understood or the connection is dropped by the right error; no byte lands outside a buffer."""
    rig = Rig(PLAIN)
    memory = bytearray(b"\xee" * 900)
    read = rig.submit(rig.task(data_in=memoryview(memory)[300:556]))
    write = rig.write(b"w" * 200)
    small = rig.submit(rig.task(cdb=bytes(6)))
    rig.core.ping(rig.now)
    try:
        for header, data in pdus:
            length = int.from_bytes(header[5:8], "big") + 4 * header[4]
            rig.feed(header + (data + bytes(320))[: (length + 3) & ~3], piece=piece)
            rig.sent()
    except (RemoteProtocolError, ConnectionLost):
        pass
    assert memory[:300] == b"\xee" * 300
    assert memory[556:] == b"\xee" * 344
    ended = list(rig.done)
    left = rig.core.abandon()
    assert sorted(map(id, rig.done + left)) == sorted(map(id, (read, write, small)))
    assert rig.done[: len(ended)] == ended


@settings(max_examples=150)
@given(st.binary(max_size=400), st.integers(1, 400), st.booleans())
def test_noise(noise: bytes, piece: int, digests: bool) -> None:
    rig = Rig(DIGESTS if digests else PLAIN)
    task = rig.read(64)
    refused = False
    try:
        rig.feed(noise, piece=piece)
    except RemoteProtocolError:
        refused = True
    assert refused or not digests or len(noise) < 5 or len(noise) < 52 + 4 * noise[4]
    assert len(rig.done) + len(rig.core.abandon()) == 1
    assert len(task.data_in or b"") == 64
