"""Reads: Data-In, residuals, sense, and every way in which a target can get them wrong (RFC 7143, 11.4, 11.7)."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import NO_TAG, DataIn
from initiator.protocol.session import TaskError
from tests.protocol.session_rig import LUN, Rig

SEGMENTS = Params(max_recv_data_segment_length=65536)
ANY_ORDER = dataclasses.replace(SEGMENTS, data_pdu_in_order=False, data_sequence_in_order=False)
FIXED_SENSE = bytes.fromhex("700005000000000a00000000240000000000")


def with_length(sense: bytes) -> bytes:
    return len(sense).to_bytes(2, "big") + sense


@pytest.mark.check(94)
def test_read_with_status_in_the_last_data_pdu() -> None:
    rig = Rig()
    task = rig.read(8)
    command = rig.command()
    assert (command.read, command.write, command.final) == (True, False, True)
    assert (command.expected_data_transfer_length, command.lun, command.cdb[0]) == (8, LUN, 0x28)
    rig.feed(rig.data_in(task, b"abcd", data_sn=0), rig.last_data(task, b"efgh", data_sn=1, buffer_offset=4))
    assert rig.done == [task]
    assert task.good
    assert (bytes(task.data_in or b""), task.received, task.residual) == (b"abcdefgh", 8, 0)


@pytest.mark.check(94)
def test_read_with_a_response_of_its_own() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.data_in(task, b"abcd", final=True))
    assert not rig.done
    rig.feed(rig.response(task, exp_data_sn=1))
    assert task.good


def test_a_command_without_data() -> None:
    rig = Rig()
    task = rig.submit(rig.task(cdb=bytes(6)))
    command = rig.command()
    assert (command.read, command.write, command.final, command.expected_data_transfer_length) == (
        False,
        False,
        True,
        0,
    )
    rig.feed(rig.response(task))
    assert task.good


@pytest.mark.check(11)
def test_data_in_without_data_counts() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.data_in(task, b""), rig.last_data(task, b"abcd", data_sn=1))
    assert task.good


@pytest.mark.check(3)
def test_additional_headers_are_skipped() -> None:
    rig = Rig()
    task = rig.read(4)
    raw = bytearray(rig.last_data(task, b"abcd").encode())
    raw[4] = 2
    rig.feed(bytes(raw[:48]) + b"\0\5\7\0ahs!" + bytes(raw[48:]))
    assert bytes(task.data_in or b"") == b"abcd"


@pytest.mark.check(103)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"underflow": True, "residual_count": 3}, 3),
        ({"overflow": True, "residual_count": 9}, -9),
        ({"residual_count": 5}, 0),  # without a flag the count means nothing (11.4.5.1)
    ],
)
@pytest.mark.parametrize("own_response", [False, True])
def test_residual_is_reported_as_sent(flags: dict[str, int], expected: int, own_response: bool) -> None:
    rig = Rig()
    length = 4 + max(0, expected)
    task = rig.read(length)
    if own_response:
        rig.feed(rig.data_in(task, b"abcd", final=True), rig.response(task, exp_data_sn=1, **flags))
    else:
        rig.feed(rig.last_data(task, b"abcd", **flags))
    assert (task.status, task.residual, task.received) == (0, expected, 4)
    assert task.good == (expected <= 0)


@pytest.mark.check(104)
def test_missing_data_without_a_flag_is_a_residual() -> None:
    rig = Rig()
    task = rig.read(10)
    rig.feed(rig.last_data(task, b"abcd"))
    assert (task.status, task.residual, task.good) == (0, 6, False)


@pytest.mark.check(103)
def test_overflow_and_underflow_together() -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match="same time"):
        rig.feed(rig.last_data(task, b"abcd", underflow=True, overflow=True))
    assert not rig.done


@pytest.mark.check(8, 93, 94, 97, 98, 99)
@pytest.mark.parametrize(
    ("pdu", "message"),
    [
        (DataIn(data=b"abcd", data_sn=1), "DataSN 1 where 0"),
        (DataIn(data=b"abcd", buffer_offset=4), "offset 4, 0 was due"),
        (DataIn(data=b"x" * 12), "beyond the expected"),
        (DataIn(data=b"abcd", buffer_offset=0xFFFFFFF0), "beyond the expected"),
        (DataIn(data=b"abcd", status_present=True, stat_sn=1000), "without the F bit"),
        (DataIn(data=b"abcd", acknowledge=True, target_transfer_tag=7, lun=bytes(8)), "LUN"),
        (DataIn(data=b"abcd", final=True, status_present=True, stat_sn=1001), "StatSN 1001 came where 1000 was due"),
    ],
)
def test_broken_data_in_drops_the_connection(pdu: DataIn, message: str) -> None:
    rig = Rig()
    task = rig.read(8)
    pdu = dataclasses.replace(pdu, initiator_task_tag=task.itt, max_cmd_sn=32, exp_cmd_sn=1)
    with pytest.raises(RemoteProtocolError, match=message):
        rig.feed(pdu)
    assert not rig.done
    assert rig.core.abandon() == [task]


@pytest.mark.check(99)
def test_nothing_is_written_beyond_the_buffer() -> None:
    rig = Rig()
    memory = bytearray(b"\xff" * 64)
    task = rig.submit(rig.task(data_in=memoryview(memory)[16:32]))
    with pytest.raises(RemoteProtocolError):
        rig.feed(rig.data_in(task, b"x" * 17))
    assert memory == b"\xff" * 64


@pytest.mark.check(6)
def test_data_for_a_tag_that_was_never_used() -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match="not in use"):
        rig.feed(dataclasses.replace(rig.data_in(task, b"abcd"), initiator_task_tag=77))


@pytest.mark.check(6)
def test_data_for_a_task_that_has_ended() -> None:
    rig = Rig()
    task = rig.read(4)
    late = rig.data_in(task, b"late", data_sn=1)
    with pytest.raises(RemoteProtocolError, match="not in use"):
        rig.feed(rig.last_data(task, b"abcd"), late)
    assert bytes(task.data_in or b"") == b"abcd"


def test_data_for_a_write() -> None:
    rig = Rig()
    task = rig.write(b"abcd")
    with pytest.raises(RemoteProtocolError, match="reads nothing"):
        rig.feed(rig.data_in(task, b"abcd"))


@pytest.mark.check(98)
def test_repeated_data_sn() -> None:
    rig = Rig()
    task = rig.read(8)
    with pytest.raises(RemoteProtocolError, match="DataSN 0 where 1"):
        rig.feed(rig.data_in(task, b"abcd"), rig.data_in(task, b"efgh", buffer_offset=4))


@pytest.mark.check(105)
def test_response_that_counts_more_data_than_arrived() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.data_in(task, b"abcd", final=True))
    with pytest.raises(RemoteProtocolError, match="more data PDUs than arrived"):
        rig.feed(rig.response(task, exp_data_sn=2))
    assert not rig.done


@pytest.mark.check(102)
def test_the_acknowledge_bit_means_nothing_at_level_0() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.command()
    rig.feed(rig.data_in(task, b"ab", acknowledge=True, target_transfer_tag=5, lun=LUN))
    assert rig.sent() == []
    rig.feed(rig.last_data(task, b"cd", data_sn=1, buffer_offset=2))
    assert task.good


@pytest.mark.check(1)
def test_reserved_lun_of_data_in_is_not_looked_at() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.last_data(task, b"abcd", lun=b"\1" * 8, target_transfer_tag=NO_TAG))
    assert task.good


@pytest.mark.check(97)
def test_any_order_where_it_was_agreed() -> None:
    rig = Rig(ANY_ORDER)
    task = rig.read(12)
    rig.feed(rig.data_in(task, b"ijkl", data_sn=0, buffer_offset=8), rig.data_in(task, b"abcd", data_sn=1))
    rig.feed(rig.last_data(task, b"efgh", data_sn=2, buffer_offset=4))
    assert task.good
    assert bytes(task.data_in or b"") == b"abcdefghijkl"


@pytest.mark.check(100)
@pytest.mark.parametrize("offset", [2, 4, 6, 5])
def test_overlap_is_refused_in_any_order(offset: int) -> None:
    rig = Rig(ANY_ORDER)
    task = rig.read(12)
    rig.feed(rig.data_in(task, b"efgh", buffer_offset=4))
    with pytest.raises(RemoteProtocolError, match="repeats data"):
        rig.feed(rig.data_in(task, b"1234", data_sn=1, buffer_offset=offset))


@pytest.mark.check(107)
def test_sense_is_cut_to_its_length() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.response(task, status=2, data=with_length(FIXED_SENSE) + b"response data"))
    assert (task.status, task.sense, task.error) == (2, FIXED_SENSE, None)
    assert not task.good


@pytest.mark.check(12, 107)
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\x12" + FIXED_SENSE[:-1]])
def test_check_condition_without_whole_sense(data: bytes) -> None:
    rig = Rig()
    task = rig.read(4)
    with pytest.raises(RemoteProtocolError, match=r"11\.4\.7"):
        rig.feed(rig.response(task, status=2, data=data))


@pytest.mark.check(106)
@pytest.mark.parametrize("response", [0x01, 0x80, 0xFF])
def test_response_other_than_completed(response: int) -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.response(task, response=response, status=0, underflow=True, overflow=True))
    assert (task.status, task.response) == (None, response)
    assert isinstance(task.error, TaskError)
    assert task.error.code == "service-delivery"


def test_busy_is_only_a_status() -> None:
    rig = Rig()
    task = rig.read(4)
    rig.feed(rig.response(task, status=8, underflow=True, residual_count=4))
    assert (task.status, task.error, task.sense, task.residual) == (8, None, b"", 4)


@pytest.mark.check(9, 147)
@pytest.mark.parametrize("piece", [1, 7, 48, 49, 4096, 20000, None])
@pytest.mark.parametrize("digests", [False, True])
def test_big_data_goes_where_it_belongs_however_it_is_cut(piece: int | None, digests: bool) -> None:
    rig = Rig(dataclasses.replace(SEGMENTS, header_digest=digests, data_digest=digests))
    blob = bytes(range(251)) * 800
    tasks = [rig.read(len(blob)), rig.read(5), rig.read(len(blob))]
    for task in tasks:
        data = blob[: len(task.data_in or b"")]
        parts = [(at, data[at : at + 65535]) for at in range(0, len(data), 65535)]
        pdus = [
            rig.data_in(task, part, data_sn=number, buffer_offset=at) for number, (at, part) in enumerate(parts[:-1])
        ]
        pdus.append(rig.last_data(task, parts[-1][1], data_sn=len(parts) - 1, buffer_offset=parts[-1][0]))
        rig.feed(*pdus, piece=piece if len(data) < 10 or piece != 1 else 50)
    assert rig.done == tasks
    assert all(task.good and bytes(task.data_in or b"") == blob[: task.received] for task in tasks)
