"""Writes: immediate and unsolicited data, R2T and Data-Out (RFC 7143, 11.7, 11.8, 13.10, 13.11)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.protocol.errors import RemoteProtocolError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import NO_TAG, R2T, DataOut, Pdu, ScsiCommand
from tests.protocol.session_rig import LUN, Rig

BASE = Params(
    max_recv_data_segment_length=65536,
    max_xmit_data_segment_length=1000,
    max_burst_length=4096,
    first_burst_length=2500,
)


def params(immediate: bool = True, initial_r2t: bool = True, **changes: Any) -> Params:
    return dataclasses.replace(BASE, immediate_data=immediate, initial_r2t=initial_r2t, **changes)


def ready(rig: Rig, offset: int, length: int, r2t_sn: int = 0, tag: int = 5, lun: bytes = LUN, itt: int = 0) -> R2T:
    pdu: R2T = rig.number(
        R2T(
            initiator_task_tag=itt,
            target_transfer_tag=tag,
            lun=lun,
            r2t_sn=r2t_sn,
            buffer_offset=offset,
            desired_data_transfer_length=length,
        ),
        counted=False,
    )
    return pdu


def shape(pdus: list[Pdu]) -> list[tuple[int, int, int, bool]]:
    """DataSN, offset, length and F bit of Data-Out PDUs."""
    return [(p.data_sn, p.buffer_offset, len(p.data), p.final) for p in pdus if isinstance(p, DataOut)]


@pytest.mark.check(108, 109, 110, 112)
@pytest.mark.parametrize(
    ("immediate", "initial_r2t", "in_command", "unsolicited"),
    [
        (True, True, 1000, []),
        (False, True, 0, []),
        (True, False, 1000, [(0, 1000, 1000, False), (1, 2000, 500, True)]),
        (False, False, 0, [(0, 0, 1000, False), (1, 1000, 1000, False), (2, 2000, 500, True)]),
    ],
)
def test_data_that_goes_unasked(
    immediate: bool, initial_r2t: bool, in_command: int, unsolicited: list[tuple[int, int, int, bool]]
) -> None:
    rig = Rig(params(immediate, initial_r2t))
    data = bytes(range(256)) * 20
    rig.write(data)
    command, *rest = rig.sent()
    assert isinstance(command, ScsiCommand)
    assert (command.write, command.read, command.expected_data_transfer_length) == (True, False, 5120)
    assert command.data == data[:in_command]
    assert command.final == (not unsolicited)
    assert shape(rest) == unsolicited
    for pdu in rest:
        assert isinstance(pdu, DataOut)
        assert (pdu.target_transfer_tag, pdu.lun, pdu.initiator_task_tag) == (NO_TAG, LUN, command.initiator_task_tag)
        assert pdu.data == data[pdu.buffer_offset : pdu.buffer_offset + len(pdu.data)]


@pytest.mark.check(110)
@pytest.mark.parametrize("length", [1, 3, 999, 1000])
def test_a_short_write_is_one_pdu(length: int) -> None:
    rig = Rig(params(True, False))
    task = rig.write(b"x" * length)
    command = rig.command()
    assert (command.final, len(command.data)) == (True, length)
    rig.feed(rig.response(task))
    assert task.good
    assert task.sent == length


@pytest.mark.check(111, 112, 113)
def test_r2t_is_answered_in_full() -> None:
    rig = Rig(params())
    data = bytes(range(256)) * 20
    task = rig.write(data)
    rig.command()
    rig.feed(ready(rig, 1000, 2500, 0, tag=9))
    first = rig.sent()
    assert shape(first) == [(0, 1000, 1000, False), (1, 2000, 1000, False), (2, 3000, 500, True)]
    assert all(isinstance(p, DataOut) and (p.target_transfer_tag, p.lun) == (9, LUN) for p in first)
    rig.feed(ready(rig, 3500, 1620, 1, tag=10))
    second = rig.sent()
    assert shape(second) == [(0, 3500, 1000, False), (1, 4500, 620, True)]
    whole = data[:1000] + b"".join(p.data for p in first + second)
    assert whole == data
    rig.feed(rig.response(task, exp_data_sn=2))
    assert task.good
    assert rig.core.counters.r2ts == 2


@pytest.mark.check(8, 114, 115, 116)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, "R2T for 0 bytes"),
        ({"length": 4097}, "R2T for 4097 bytes"),
        ({"offset": 5000, "length": 200}, "R2T for 200 bytes at 5000"),
        ({"tag": NO_TAG}, "11.8.5"),
        ({"lun": bytes(8)}, "LUN"),
        ({"r2t_sn": 1}, "R2TSN 1 where 0 was due"),
        ({"offset": 2000}, "offset 2000 where 1000 was due"),
        ({"itt": 12}, "no write in progress"),
    ],
)
def test_broken_r2t_drops_the_connection(changes: dict[str, Any], message: str) -> None:
    rig = Rig(params())
    task = rig.write(bytes(5120))
    rig.command()
    with pytest.raises(RemoteProtocolError, match=message):
        rig.feed(ready(rig, **{"offset": 1000, "length": 1000, **changes}))
    assert rig.sent() == []
    assert rig.core.abandon() == [task]


@pytest.mark.check(114)
def test_r2t_for_a_read() -> None:
    rig = Rig(params())
    rig.read(100)
    with pytest.raises(RemoteProtocolError, match="no write in progress"):
        rig.feed(ready(rig, 0, 100))


@pytest.mark.check(115)
def test_repeated_r2t_is_discarded() -> None:
    rig = Rig(params())
    rig.write(bytes(5120))
    rig.command()
    rig.feed(ready(rig, 1000, 1000))
    assert len(rig.sent()) == 1
    rig.feed(ready(rig, 1000, 1000))
    assert rig.sent() == []


@pytest.mark.check(116)
def test_r2ts_in_reverse_where_it_was_agreed() -> None:
    rig = Rig(params(data_sequence_in_order=False))
    data = bytes(range(256)) * 12
    task = rig.write(data)
    rig.command()
    rig.feed(ready(rig, 2000, 1072, 0), ready(rig, 1000, 1000, 1))
    pdus = rig.sent()
    assert shape(pdus) == [(0, 2000, 1000, False), (1, 3000, 72, True), (0, 1000, 1000, True)]
    rig.feed(rig.response(task))
    assert task.good


@pytest.mark.check(116)
def test_r2ts_without_end_where_any_order_was_agreed() -> None:
    """Each of them would queue the same data once more."""
    rig = Rig(params(data_sequence_in_order=False))
    rig.write(bytes(3000))
    rig.command()
    rig.feed(ready(rig, 2000, 1000, 0), ready(rig, 2000, 1000, 1))
    with pytest.raises(RemoteProtocolError, match="more data"):
        rig.feed(ready(rig, 2000, 1000, 2))


@pytest.mark.check(117)
def test_r2t_that_comes_before_the_command_has_left() -> None:
    rig = Rig(params())
    rig.write(bytes(3000))
    rig.feed(ready(rig, 1000, 1000))
    command, data = rig.sent()
    assert isinstance(command, ScsiCommand)
    assert isinstance(data, DataOut)


@pytest.mark.check(119)
def test_commands_keep_their_order_among_unsolicited_data() -> None:
    rig = Rig(params(True, False))
    rig.write(bytes(2500))
    rig.write(bytes(2500))
    kinds = [type(pdu).__name__ for pdu in rig.sent()]
    assert kinds == ["ScsiCommand", "DataOut", "DataOut"] * 2


@pytest.mark.check(118)
def test_early_answer_leaves_the_queued_data_as_it_was() -> None:
    rig = Rig(params())
    memory = bytearray(b"a" * 5000)
    task = rig.submit(rig.task(data_out=memoryview(memory)))
    rig.command()
    rig.feed(ready(rig, 1000, 4000), rig.response(task, status=2, data=b"\0\2\x70\0"))
    assert rig.done == [task]
    memory[:] = b"b" * 5000  # the owner has its buffer back
    data = rig.sent()
    assert shape(data)[-1] == (3, 4000, 1000, True)
    assert b"".join(pdu.data for pdu in data) == b"a" * 4000


def test_good_without_having_asked_for_all_data_is_no_success() -> None:
    rig = Rig(params())
    task = rig.write(bytes(3000))
    rig.feed(rig.response(task))
    assert (task.status, task.residual, task.good) == (0, 2000, False)


def test_more_vectors_than_the_kernel_takes() -> None:
    rig = Rig(params(max_burst_length=1 << 24, max_xmit_data_segment_length=512))
    data = bytes(range(256)) * 4096
    task = rig.write(data)
    rig.command()
    rig.feed(ready(rig, 512, len(data) - 512))
    assert len(rig.core.take_out()) == 1024
    assert b"".join(pdu.data for pdu in rig.sent()) == data[512:]
    rig.feed(rig.response(task))
    assert task.good


@pytest.mark.parametrize("step", [1, 47, 48, 1003])
def test_partial_sends_lose_nothing(step: int) -> None:
    rig = Rig(dataclasses.replace(params(), header_digest=True, data_digest=True))
    data = bytes(range(256)) * 10
    rig.write(data[:997])
    rig.write(data)
    raw = b""
    while rig.core.out:
        piece = b"".join(rig.core.take_out())[:step]
        raw += piece
        rig.core.sent(len(piece))
    other = Rig(dataclasses.replace(params(), header_digest=True, data_digest=True))
    other.write(data[:997])
    other.write(data)
    assert raw == b"".join(other.core.take_out())
