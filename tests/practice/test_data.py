"""Data in both directions: segments, bursts, immediate and unsolicited data, residuals, digests, memory."""

from __future__ import annotations

import os
import random

import pytest

from initiator.practice.target import Target
from initiator.practice.tasks import CRC_ERROR, MAX_BUFFERED, UNEXPECTED_DATA, WRONG_AMOUNT
from initiator.protocol import pdu
from initiator.scsi import commands
from initiator.scsi.commands import Status
from tests.practice.conftest import OPEN, Connect
from tests.practice.peer import Peer

DIGESTS = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}


@pytest.mark.parametrize("keys", [{}, DIGESTS], ids=["plain", "digests"])
async def test_a_read_obeys_segment_and_burst(connect: Connect, target: Target, keys: dict[str, str]) -> None:
    content = os.urandom(40 * 512)
    target.server.units["data"].store.write(0, content)
    limits = {"MaxRecvDataSegmentLength": "1536", "MaxBurstLength": "4096", "FirstBurstLength": "4096"}
    peer = await connect(login=OPEN, keys={**limits, **keys})
    await peer.send(peer.command(commands.read(0, 40), read=True, expected_data_transfer_length=len(content)))
    found, burst = b"", 0
    while len(found) < len(content):
        answer = await peer.receive(pdu.DataIn)
        assert len(answer.data) <= 1536
        assert answer.buffer_offset == len(found)
        found, burst = found + answer.data, burst + len(answer.data)
        assert burst <= 4096
        assert answer.final is (burst == 4096 or len(found) == len(content))
        burst = 0 if answer.final else burst
        assert answer.status_present is (len(found) == len(content))
    assert found == content


WAYS = [
    ({}, 0, 0),
    ({}, 4096, 0),
    ({"InitialR2T": "No"}, 0, 16384),
    ({"InitialR2T": "No"}, 4096, 8192),
    ({"MaxOutstandingR2T": "4", "MaxBurstLength": "8192", "FirstBurstLength": "8192"}, 0, 0),
    (DIGESTS, 512, 0),
]


@pytest.mark.parametrize(("keys", "immediate", "unsolicited"), WAYS)
async def test_what_is_written_is_there(
    connect: Connect, target: Target, keys: dict[str, str], immediate: int, unsolicited: int
) -> None:
    peer = await connect(login=OPEN, keys=keys)
    data = os.urandom(100 * 512)
    assert (await peer.write(commands.write(7, 100), data, immediate, unsolicited)).status == Status.GOOD
    assert target.server.units["data"].store.read(7 * 512, len(data)) == data
    assert (await peer.read(commands.read(7, 100), len(data))).data == data


async def test_random_writes_and_reads_agree(connect: Connect) -> None:
    dice = random.Random(7)
    model = bytearray(256 * 512)
    peer = await connect(login=OPEN, keys={"InitialR2T": "No", "MaxBurstLength": "16384", "FirstBurstLength": "8192"})
    for _ in range(60):
        lba = dice.randrange(256)
        blocks = dice.randint(1, 256 - lba)
        span = slice(lba * 512, (lba + blocks) * 512)
        if dice.random() < 0.6:
            data = dice.randbytes(blocks * 512)
            immediate = min(dice.choice((0, 512, 4096)), len(data), 8192)
            unsolicited = min(len(data), 8192) - immediate if dice.random() < 0.5 else 0
            assert (await peer.write(commands.write(lba, blocks), data, immediate, unsolicited)).status == 0
            model[span] = data
        else:
            assert (await peer.read(commands.read(lba, blocks), blocks * 512)).data == model[span]


async def test_blocks_of_4096_bytes(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    peer.lun = commands.encode_lun(1)
    await peer.settle()
    data = os.urandom(3 * 4096)
    assert (await peer.write(commands.write(5, 3), data)).status == Status.GOOD
    assert (await peer.read(commands.read(5, 3), len(data))).data == data


async def test_residuals_are_told_exactly(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    more = await peer.read(commands.read(0, 2), 2048)
    assert (len(more.data), more.underflow, more.overflow, more.residual) == (1024, True, False, 1024)
    less = await peer.read(commands.read(0, 4), 1024)
    assert (len(less.data), less.underflow, less.overflow, less.residual) == (1024, False, True, 1024)
    same = await peer.read(commands.read(0, 2), 1024)
    assert (same.underflow, same.overflow, same.residual) == (False, False, 0)
    wide = await peer.write(commands.write(0, 1), bytes(1024), immediate=1024)
    assert (wide.status, wide.underflow, wide.residual) == (0, True, 512)
    failed = await peer.read(commands.read(1 << 31, 1), 512)
    assert (failed.code, failed.underflow, failed.residual) == (0x2100, True, 512)


async def test_a_short_write_changes_whole_blocks_only(connect: Connect, target: Target) -> None:
    store = target.server.units["data"].store
    store.write(0, b"o" * 2048)
    peer = await connect(login=OPEN)
    result = await peer.write(commands.write(0, 4), b"n" * 700, immediate=700)
    assert (result.status, result.overflow, result.residual) == (0, True, 2048 - 700)
    assert store.read(0, 2048) == b"n" * 512 + b"o" * 1536


async def test_data_that_nobody_allowed(connect: Connect) -> None:
    peer = await connect(login=OPEN, keys={"ImmediateData": "No"})
    assert (await peer.write(commands.write(0, 1), bytes(512), immediate=512)).code == UNEXPECTED_DATA
    assert (await peer.write(commands.write(0, 1), bytes(512))).status == Status.GOOD


async def test_too_much_unasked_data(connect: Connect) -> None:
    keys = {"InitialR2T": "No", "FirstBurstLength": "1024", "MaxBurstLength": "4096"}
    peer = await connect(login=OPEN, keys=keys)
    assert (await peer.write(commands.write(0, 4), bytes(2048), unsolicited=2048)).code == WRONG_AMOUNT


async def test_an_error_waits_for_the_rest_of_the_data(connect: Connect) -> None:
    peer = await connect(login=OPEN, keys={"InitialR2T": "No"})
    request = peer.command(commands.write(1 << 31, 2), write=True, final=False, expected_data_transfer_length=1024)
    await peer.send(request)
    assert await peer.silent(0.1)
    await peer.burst(request.initiator_task_tag, pdu.NO_TAG, bytes(1024), 0, 1024)
    assert (await peer.result()).code == 0x2100


async def _begin(peer: Peer, length: int = 16384) -> tuple[int, pdu.R2T]:
    request = peer.command(commands.write(0, length // 512), write=True, expected_data_transfer_length=length)
    await peer.send(request)
    return request.initiator_task_tag, await peer.receive(pdu.R2T)


async def test_a_missing_piece_is_told_after_the_burst(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    tag, asked = await _begin(peer)
    end = {"initiator_task_tag": tag, "target_transfer_tag": asked.target_transfer_tag, "lun": peer.lun}
    await peer.send(pdu.DataOut(final=True, data=bytes(8192), **end))  # type: ignore[arg-type]
    assert (await peer.result()).code == WRONG_AMOUNT


async def test_a_wrong_data_sn_is_a_lost_pdu(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    tag, asked = await _begin(peer)
    end = {"initiator_task_tag": tag, "target_transfer_tag": asked.target_transfer_tag, "lun": peer.lun}
    await peer.send(pdu.DataOut(final=True, data_sn=3, data=bytes(16384), **end))  # type: ignore[arg-type]
    assert (await peer.result()).code == CRC_ERROR


@pytest.mark.parametrize("fields", [{"buffer_offset": 512}, {"target_transfer_tag": 999}, {"lun": b"\0\1" + bytes(6)}])
async def test_data_for_nobody_end_the_session(connect: Connect, fields: dict[str, object]) -> None:
    peer = await connect(login=OPEN)
    tag, asked = await _begin(peer)
    right: dict[str, object] = {"target_transfer_tag": asked.target_transfer_tag, "lun": peer.lun}
    wrong = pdu.DataOut(final=True, initiator_task_tag=tag, data=bytes(16384), **{**right, **fields})  # type: ignore[arg-type]
    await peer.send(wrong)
    assert await peer.ended()


async def test_data_segments_without_data_count(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    tag, asked = await _begin(peer, 1024)
    fields = {"initiator_task_tag": tag, "target_transfer_tag": asked.target_transfer_tag, "lun": peer.lun}
    for number, (offset, data) in enumerate(((0, b""), (0, b"a" * 512), (512, b""), (512, b"b" * 512), (1024, b""))):
        part = pdu.DataOut(final=number == 4, data_sn=number, buffer_offset=offset, data=data, **fields)  # type: ignore[arg-type]
        await peer.send(part)
    assert (await peer.result()).status == Status.GOOD
    assert (await peer.read(commands.read(0, 2), 1024)).data == b"a" * 512 + b"b" * 512


async def test_data_digest_errors(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN, keys=DIGESTS)
    tag, asked = await _begin(peer, 4096)
    fields = {"initiator_task_tag": tag, "target_transfer_tag": asked.target_transfer_tag, "lun": peer.lun}
    wrong = bytearray(pdu.DataOut(final=True, data=b"x" * 4096, **fields).encode(True, True))  # type: ignore[arg-type]
    wrong[-1] ^= 1
    await peer.raw(bytes(wrong))
    assert (await peer.receive(pdu.Reject)).reason == 0x02
    assert (await peer.result()).code == CRC_ERROR
    assert target.server.units["data"].store.read(0, 4096) == bytes(4096)
    ping = bytearray(pdu.NopOut(immediate=True, initiator_task_tag=9, data=b"ping").encode(True, True))
    ping[-1] ^= 1
    await peer.raw(bytes(ping))
    assert (await peer.receive(pdu.Reject)).reason == 0x02
    assert (await peer.read(commands.test_unit_ready(), 0)).status == 0


async def test_a_command_whose_data_digest_is_wrong_was_never_there(connect: Connect) -> None:
    peer = await connect(login=OPEN, keys=DIGESTS)
    number = peer.cmd_sn
    request = peer.command(commands.write(0, 1), write=True, expected_data_transfer_length=512, data=b"x" * 512)
    wrong = bytearray(request.encode(True, True))
    wrong[-1] ^= 1
    await peer.raw(bytes(wrong))
    answer = await peer.receive(pdu.Reject)
    assert (answer.reason, answer.exp_cmd_sn) == (0x02, number)
    await peer.send(request)
    assert (await peer.receive(pdu.ScsiResponse)).status == 0


async def test_a_wrong_header_digest_ends_the_connection(connect: Connect) -> None:
    peer = await connect(login=OPEN, keys=DIGESTS)
    wrong = bytearray(peer.command(commands.test_unit_ready()).encode(True, True))
    wrong[48] ^= 1
    await peer.raw(bytes(wrong))
    assert await peer.ended()


async def test_write_data_in_memory_are_bounded(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    size = 2 << 20
    refused = 0
    for _ in range(MAX_BUFFERED // size + 3):
        await peer.send(peer.command(commands.write(0, size // 512), write=True, expected_data_transfer_length=size))
        answer = await peer.receive(pdu.Response)  # type: ignore[type-abstract,unused-ignore]
        refused += isinstance(answer, pdu.ScsiResponse) and answer.status == Status.TASK_SET_FULL
    assert refused == 3
    (session,) = target.server.sessions.values()
    assert sum(len(task.buffer) for task in session.tasks.active.values()) <= MAX_BUFFERED


async def test_an_absurd_length_costs_nothing(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    request = peer.command(commands.write(0, 1), write=True, expected_data_transfer_length=0xFFFFFFFF)
    await peer.send(request)
    asked = await peer.receive(pdu.R2T)
    assert asked.desired_data_transfer_length == 512
    (session,) = target.server.sessions.values()
    assert len(session.tasks.active[request.initiator_task_tag].buffer) <= 2 << 20
