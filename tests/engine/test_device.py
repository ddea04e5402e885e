"""A disk on healthy paths: requests, splitting, limits, flush, discard, zeroes."""

from __future__ import annotations

import asyncio
import errno

import pytest

from initiator.engine.device import Device, DeviceOptions
from initiator.errors import RefusedError
from initiator.model import Access, PathState
from initiator.scsi.commands import Op, Status
from initiator.scsi.designators import Designator, Kind
from initiator.scsi.inquiry import BlockLimits
from initiator.scsi.sense import Key, Sense
from tests.engine.disk_rig import OPTIONS, Rig, look
from tests.engine.scsi_world import Clock, FakeSession, Unit, check

BLOCK = 512


def test_what_is_written_is_read_back_over_both_paths() -> None:
    rig = Rig()
    ends = [rig.write(BLOCK * number, bytes([number]) * BLOCK) for number in range(8)]
    assert [len(session.pending) for session in rig.sessions] == [4, 4]
    assert all(end == [] for end in ends)
    rig.answer()
    assert ends == [[0]] * 8
    reads = [rig.read(BLOCK * number, BLOCK) for number in range(8)]
    rig.answer()
    assert [(end, bytes(data)) for end, data in reads] == [([0], bytes([n]) * BLOCK) for n in range(8)]
    assert rig.device.in_flight == 0
    first = rig.device.paths[0]
    assert (first.reads, first.writes, first.read_bytes, first.write_bytes) == (4, 4, 4 * BLOCK, 4 * BLOCK)
    assert first.latency_us == pytest.approx(500)
    assert (first.state, first.in_use, first.in_flight) == (PathState.ACTIVE, True, 0)


def test_identity_and_geometry() -> None:
    device = Rig().device
    assert device.wwid == "naa.6001405a1b2c3d4e5f60718293a4b5c6"
    assert device.designators == (device.wwid,)
    assert (device.size_bytes, device.block_bytes) == (64 * BLOCK, BLOCK)
    assert (device.vendor, device.product, device.revision, device.serial) == ("MOORING", "World", "1", "mooring1")
    assert (device.write_cache, device.thin, device.can_discard, device.read_only) == (True, True, True, False)
    assert not device.degraded
    assert not device.queueing


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 0, 0),
        (1, BLOCK, errno.EINVAL),
        (0, BLOCK - 1, errno.EINVAL),
        (-BLOCK, BLOCK, errno.EINVAL),
        (64 * BLOCK, BLOCK, errno.EIO),
        (63 * BLOCK, 2 * BLOCK, errno.EIO),
    ],
)
def test_requests_that_are_not_sound_never_reach_the_target(offset: int, length: int, expected: int) -> None:
    rig = Rig()
    ends, _ = rig.read(offset, length)
    ends += rig.write(offset, bytes(length))
    rig.device.discard(offset, length, ends.append)
    rig.device.write_zeroes(offset, length, ends.append)
    assert ends == [expected] * 4
    assert rig.unit.log == []


def test_large_requests_are_split_at_the_targets_limit() -> None:
    unit = Unit()
    unit.limits = BlockLimits(maximum_transfer=4, maximum_unmap_blocks=8)
    rig = Rig(unit=unit, options=DeviceOptions(window=3))
    data = bytes(range(256)) * 28
    ends = rig.write(BLOCK, data)
    assert sum(len(session.pending) for session in rig.sessions) == 3
    rig.answer()
    assert ends == [0]
    assert sorted((command.lba, command.blocks) for command in rig.asked(Op.WRITE)) == [(1, 4), (5, 4), (9, 4), (13, 2)]
    read, buffer = rig.read(BLOCK, len(data))
    rig.answer()
    assert (read, bytes(buffer)) == ([0], data)


def test_requests_are_split_at_our_own_limit_when_the_target_has_none() -> None:
    rig = Rig(options=DeviceOptions(max_request_bytes=8 * BLOCK))
    ends, _ = rig.read(0, 20 * BLOCK)
    rig.answer()
    assert ends == [0]
    assert sorted(command.blocks for command in rig.asked(Op.READ)) == [4, 8, 8]


def test_a_split_request_ends_once_with_the_first_error_and_after_its_last_piece() -> None:
    unit = Unit()
    unit.limits = BlockLimits(maximum_transfer=4)
    rig = Rig(1, unit, DeviceOptions(window=3))
    ends, _ = rig.read(0, 40 * BLOCK)
    unit.script.append(check(Sense(Key.MEDIUM_ERROR, 0x11)))
    rig.sessions[0].answer()
    assert ends == []
    assert len(rig.sessions[0].pending) == 2
    rig.answer()
    assert ends == [errno.EIO]
    assert len(rig.asked(Op.READ)) == 3


def test_the_least_busy_path_is_taken() -> None:
    rig = Rig()
    for _ in range(6):
        rig.read(0, BLOCK)
    rig.sessions[0].answer_all()
    rig.read(0, BLOCK)
    rig.read(0, BLOCK)
    assert [len(session.pending) for session in rig.sessions] == [2, 3]


def test_a_flush_covers_what_was_acknowledged() -> None:
    rig = Rig()
    ends = rig.write(0, b"a" * BLOCK)
    rig.answer()
    assert rig.device.unflushed
    flushed = rig.flush()
    later = rig.write(BLOCK, b"b" * BLOCK)
    rig.answer()
    assert (ends, flushed, later) == ([0], [0], [0])
    assert rig.unit.durable[:BLOCK] == b"a" * BLOCK
    assert rig.device.unflushed
    rig.flush()
    rig.answer()
    assert not rig.device.unflushed


def test_flush_falls_back_to_the_short_command_and_remembers() -> None:
    rig = Rig(1)
    rig.unit.unsupported = {"SYNC16"}
    rig.write(0, b"a" * BLOCK)
    rig.answer()
    ends = rig.flush()
    rig.answer()
    ends += rig.flush()
    rig.answer()
    assert ends[:1] == [0]
    assert len(rig.asked(Op.SYNCHRONIZE_CACHE)) == 3
    assert rig.unit.durable[:BLOCK] == b"a" * BLOCK


@pytest.mark.parametrize(("write_cache", "expected"), [(True, errno.EOPNOTSUPP), (False, 0)])
def test_a_target_without_a_flush_is_only_trusted_without_a_cache(write_cache: bool, expected: int) -> None:
    rig = Rig(1, Unit(write_cache=write_cache))
    rig.unit.unsupported = {"SYNC16", "SYNC10"}
    first = rig.flush()
    rig.answer()
    second = rig.flush()
    rig.answer()
    assert (first, second) == ([expected], [expected])
    assert len(rig.asked(Op.SYNCHRONIZE_CACHE)) == 2
    assert rig.told("knows no SYNCHRONIZE CACHE")


async def test_a_flush_can_report_in_the_targets_words() -> None:
    rig = Rig(1)
    rig.auto()
    report = await rig.device.synchronize()
    assert (report.errno, report.status, report.sense, report.text, report.path) == (0, 0, b"", "GOOD", "s0")
    rig.unit.script.append(check(Sense(Key.MEDIUM_ERROR, 0x0C, 2)))
    report = await rig.device.synchronize()
    assert (report.errno, report.status) == (errno.EIO, 2)
    assert report.text == "CHECK CONDITION, MEDIUM ERROR: write error, reallocation failed (03/0C/02)"


def test_discard_is_cut_to_the_targets_limit() -> None:
    rig = Rig()
    rig.write(0, b"x" * 20 * BLOCK)
    rig.answer()
    ends: list[int] = []
    rig.device.discard(0, 20 * BLOCK, ends.append)
    rig.answer()
    assert ends == [0]
    assert len(rig.asked(Op.UNMAP)) == 3
    assert rig.unit.data[: 20 * BLOCK] == bytes(20 * BLOCK)


def test_discard_is_refused_where_it_cannot_work() -> None:
    unit = Unit()
    unit.thin = False
    rig = Rig(1, unit)
    ends: list[int] = []
    rig.device.discard(0, BLOCK, ends.append)
    assert ends == [errno.EOPNOTSUPP]
    assert not rig.device.can_discard
    assert rig.unit.log == []


def test_a_refused_discard_is_remembered() -> None:
    rig = Rig(1)
    rig.unit.unsupported = {Op.UNMAP.value}
    ends: list[int] = []
    rig.device.discard(0, BLOCK, ends.append)
    rig.answer()
    rig.device.discard(0, BLOCK, ends.append)
    assert ends == [errno.EOPNOTSUPP] * 2
    assert len(rig.asked(Op.UNMAP)) == 1
    assert not rig.device.can_discard


@pytest.mark.parametrize("supported", [True, False])
def test_zeroes_are_written_either_way(supported: bool) -> None:
    rig = Rig(1)
    if not supported:
        rig.unit.unsupported = {Op.WRITE_SAME.value}
    rig.write(0, b"x" * 20 * BLOCK)
    rig.answer()
    ends: list[int] = []
    for _ in range(2):
        rig.device.write_zeroes(BLOCK, 18 * BLOCK, ends.append)
        rig.answer()
    assert ends == [0, 0]
    expected = b"x" * BLOCK + bytes(18 * BLOCK) + b"x" * BLOCK
    assert rig.unit.data[: 20 * BLOCK] == expected
    assert len(rig.asked(Op.WRITE_SAME)) == (6 if supported else 3)
    assert rig.device.unflushed
    assert rig.device.in_flight == 0


def test_a_closed_gate_takes_nothing_new_and_finishes_the_rest() -> None:
    rig = Rig()
    ends = rig.write(0, b"a" * BLOCK)
    rig.device.gate(True)
    assert rig.device.gate_closed
    refused, _ = rig.read(0, BLOCK)
    refused += rig.write(0, bytes(BLOCK)) + rig.flush()
    rig.device.discard(0, BLOCK, refused.append)
    rig.device.write_zeroes(0, BLOCK, refused.append)
    assert refused == [errno.ESHUTDOWN] * 5
    rig.answer()
    assert ends == [0]
    assert [command.op for _, command in rig.unit.log] == [Op.WRITE]
    rig.device.gate(False)
    again = rig.flush()
    rig.answer()
    assert again == [0]


async def test_the_awaitable_twins() -> None:
    rig = Rig()
    rig.auto()
    await rig.device.awrite(0, memoryview(b"a" * BLOCK))
    await rig.device.aflush()
    buffer = bytearray(2 * BLOCK)
    await rig.device.awrite_zeroes(BLOCK, BLOCK)
    await rig.device.aread(0, memoryview(buffer))
    assert buffer == b"a" * BLOCK + bytes(BLOCK)
    await rig.device.adiscard(0, BLOCK)
    with pytest.raises(OSError, match="EINVAL") as failure:
        await rig.device.aread(1, memoryview(buffer))
    assert failure.value.errno == errno.EINVAL


async def test_a_cancelled_read_still_ends_in_good_order() -> None:
    rig = Rig(1)
    waiting = asyncio.create_task(rig.device.aread(0, memoryview(bytearray(BLOCK))))
    flushing = asyncio.create_task(rig.device.synchronize())
    await asyncio.sleep(0)
    for task in (waiting, flushing):
        task.cancel()
    await asyncio.gather(waiting, flushing, return_exceptions=True)
    assert rig.device.in_flight == 2
    rig.answer()
    assert rig.device.in_flight == 0


async def test_the_default_timers_are_those_of_the_loop() -> None:
    session = FakeSession(Unit(), "s")
    device = Device(look(session), DeviceOptions(tick=0.001, queue_timeout=0.005))
    failed = asyncio.get_running_loop().create_future()
    device.read(0, memoryview(bytearray(BLOCK)), failed.set_result)
    assert await failed == errno.EIO
    device.close()


def test_another_logical_unit_never_joins() -> None:
    rig = Rig(1)
    other = Unit()
    other.designators = (Designator(Kind.NAA, bytes.fromhex("6001405a1b2c3d4e5f60718293a4b5c7")),)
    stranger = FakeSession(other, "stranger")
    with pytest.raises(RefusedError, match=r"is naa\.6001405a1b2c3d4e5f60718293a4b5c7, not naa") as refused:
        rig.device.add_path(stranger, look(stranger))
    assert refused.value.code == "other-unit"
    larger_blocks = Unit(block_bytes=4096)
    stranger = FakeSession(larger_blocks, "stranger")
    with pytest.raises(RefusedError):
        rig.device.add_path(stranger, look(stranger))
    assert len(rig.device.paths) == 1
    assert stranger.on_lost is None


def test_a_unit_without_identity_has_one_path_only() -> None:
    unit = Unit()
    unit.designators = ()
    rig = Rig(1, unit)
    second = FakeSession(unit, "second")
    with pytest.raises(RefusedError, match="no identity") as refused:
        rig.device.add_path(second, look(second))
    assert refused.value.code == "no-identity"


def test_a_unit_without_a_size_is_no_disk() -> None:
    unit = Unit()
    unit.tpgs = 1
    unit.groups = {1: Access.STANDBY}
    session = FakeSession(unit, "s")
    with pytest.raises(RefusedError, match="no disk with a size"):
        Device(look(session), OPTIONS, clock=Clock(), schedule=Clock().schedule)


def test_a_path_that_is_removed_finishes_and_is_forgotten() -> None:
    rig = Rig()
    ends = [rig.read(0, BLOCK)[0] for _ in range(4)]
    rig.device.remove_path(rig.sessions[0])
    assert rig.device.paths[0].state is PathState.OFFLINE
    ends += [rig.read(0, BLOCK)[0] for _ in range(2)]
    assert [len(session.pending) for session in rig.sessions] == [2, 4]
    rig.answer()
    rig.clock.advance(0.3)
    assert ends == [[0]] * 6
    assert [path.name for path in rig.device.paths] == ["s1"]


def test_after_the_end_nothing_is_sent_and_nothing_is_left_waiting() -> None:
    rig = Rig(1)
    under_way = rig.write(0, b"a" * BLOCK)
    rig.unit.script.append((Status.BUSY, b"", b""))
    delayed = rig.write(0, b"b" * BLOCK)
    rig.sessions[0].answer()
    rig.device.close()
    assert (under_way, delayed) == ([errno.ESHUTDOWN], [])
    rig.answer()
    assert delayed == [0]
    assert rig.device.in_flight == 0
    assert rig.flush() == [errno.ESHUTDOWN]
    sent = rig.sessions[0].submitted
    rig.clock.advance(60)
    assert rig.sessions[0].submitted == sent


def test_what_was_under_way_at_the_end_comes_back_when_its_session_ends() -> None:
    rig = Rig(1)
    ends = rig.write(0, b"a" * BLOCK)
    rig.device.close()
    told = len(rig.events)
    rig.sessions[0].lose()
    assert ends == [errno.ESHUTDOWN]
    assert rig.device.in_flight == 0
    assert len(rig.events) == told


def test_a_second_disk_on_the_same_session_takes_over_from_a_closed_one() -> None:
    rig = Rig(1)
    rig.device.close()
    again = Device(look(rig.sessions[0]), OPTIONS, clock=rig.clock, schedule=rig.clock.schedule)
    again.add_path(rig.sessions[0], look(rig.sessions[0]))
    ends: list[int] = []
    again.read(0, memoryview(bytearray(BLOCK)), ends.append)
    rig.sessions[0].lose()
    rig.sessions[0].come_back()
    rig.answer()
    assert ends == [0]
