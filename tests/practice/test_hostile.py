"""Strangers at a portal: whatever they send, the target lives, forgets them, and serves the others."""

from __future__ import annotations

import asyncio
import os
import random
import struct

import pytest

from initiator.practice.link import HIGH_WATER, LOW_WATER, STAGING_BYTES
from initiator.practice.server import LOGIN_SECONDS, MAX_CONNECTIONS, PING_AFTER
from initiator.practice.target import Target
from initiator.protocol import pdu, text
from initiator.scsi import commands
from tests.practice.conftest import OPEN, Connect
from tests.practice.peer import NAME, Peer
from tests.until import until


async def quiet(target: Target) -> None:
    """Every connection is gone."""
    await until(lambda: not any(portal.links for portal in target.server.portals), what="the end of the connections")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: portal\r\n\r\n" + b"x" * 100,
        b"\0" * 4096,
        b"\xff" * 4096,
        bytes([0x43, 0x87, 0, 0]) + b"\xff\xff\xff\xff" + bytes(40),
        bytes([0x43, 0x87, 0, 0]) + struct.pack(">I", 16 << 20) + bytes(40),
    ],
    ids=["http", "zeroes", "ones", "all-ahs", "16MiB"],
)
async def test_garbage_instead_of_a_login(connect: Connect, target: Target, data: bytes) -> None:
    peer = await connect()
    await peer.raw(data)
    peer.writer.write_eof()
    assert await peer.ended()
    await quiet(target)
    assert (await (await connect(login=OPEN)).read(commands.test_unit_ready(), 0)).status == 0


async def test_random_bytes(connect: Connect, target: Target) -> None:
    dice = random.Random(11)
    for login in (None, OPEN) * 8:
        peer = await connect(login=login, settle=False)
        await peer.raw(dice.randbytes(dice.randint(1, 3000)))
        await peer.close()
    await quiet(target)


async def test_random_headers_after_a_login(connect: Connect, target: Target) -> None:
    """Well-framed nonsense: every opcode, random fields, right lengths."""
    dice = random.Random(12)
    for _ in range(60):
        peer = await connect(login=OPEN, settle=False)
        for _ in range(12):
            data = dice.randbytes(dice.choice((0, 0, 4, 40)))
            header = bytearray(dice.randbytes(48))
            header[0] = dice.choice((0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x41, 0x42, 0x3F, 0x17))
            header[4:8] = len(data).to_bytes(4, "big")
            if dice.random() < 0.5:
                header[8:16] = bytes(8)
            if dice.random() < 0.5:
                header[24:28] = peer.cmd_sn.to_bytes(4, "big")
            try:
                await peer.raw(bytes(header) + data)
            except ConnectionError:
                break
        await peer.close()
    await quiet(target)
    assert (await (await connect(login=OPEN)).read(commands.test_unit_ready(), 0)).status == 0


async def test_one_byte_at_a_time(connect: Connect) -> None:
    peer = await connect()
    request = peer.login_request({"InitiatorName": NAME, "SessionType": "Normal", "TargetName": OPEN}).encode()
    for byte in request:
        await peer.raw(bytes([byte]))
        await asyncio.sleep(0)
    assert (await peer.receive(pdu.LoginResponse)).status_class == 0


async def test_a_half_pdu_and_then_the_end(connect: Connect, target: Target) -> None:
    for cut in (1, 47, 48, 60):
        peer = await connect(login=OPEN)
        request = peer.command(
            commands.write(0, 1), write=True, expected_data_transfer_length=512, data=b"x" * 512
        ).encode()
        await peer.raw(request[:cut])
        await peer.close()
    await quiet(target)
    assert target.server.units["data"].store.read(0, 512) == bytes(512)


async def test_a_segment_that_is_too_long_ends_the_session_before_its_payload(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    await peer.raw(bytes([0x40, 0x80, 0, 0]) + struct.pack(">I", 262145) + bytes(40))
    assert await peer.ended()


async def test_who_does_not_read_is_not_read(connect: Connect, target: Target) -> None:
    """Thousands of reads without taking the data: what waits to be sent stays bounded, and others are served."""
    peer = await connect(login=OPEN)
    link = next(iter(target.server.portals[0].links))
    flood = b"".join(
        peer.command(commands.read(0, 2048), read=True, expected_data_transfer_length=1 << 20, immediate=True).encode()
        for _ in range(400)
    )
    peer.writer.write(flood)
    await until(lambda: link._stalled and link._out_bytes > LOW_WATER, what="the full queue")
    other = await connect(portal=1, login=OPEN)
    assert (await other.read(commands.read(0, 8), 4096)).status == 0
    assert link._out_bytes <= HIGH_WATER + (2 << 20)
    assert len(link._staging) == STAGING_BYTES
    for _ in range(4):
        got = await peer.receive(pdu.DataIn)
        assert got.status == 0


async def test_everything_arrives_after_a_stall(connect: Connect, target: Target) -> None:
    content = os.urandom(1 << 20)
    target.server.units["data"].store.write(0, content)
    peer = await connect(login=OPEN, keys={"MaxRecvDataSegmentLength": "262144"})
    count = 24
    for _ in range(count):
        await peer.send(peer.command(commands.read(0, 2048), read=True, expected_data_transfer_length=1 << 20))
    await until(lambda: next(iter(target.server.portals[0].links))._out_bytes > 0, what="a queue")
    for _ in range(count):
        assert (await peer.result(1 << 20)).data == content


async def test_too_many_connections(connect: Connect, target: Target) -> None:
    peers = [await Peer.connect(target.config.portals[0]) for _ in range(MAX_CONNECTIONS)]
    await until(lambda: len(target.server.portals[0].links) == MAX_CONNECTIONS, what="the connections")
    extra = await connect()
    assert await extra.ended()
    for peer in peers:
        await peer.close()
    await quiet(target)
    await connect(login=OPEN)


async def test_a_login_that_never_ends(connect: Connect, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = await connect()
    await until(lambda: target.server.portals[0].logins, what="the login")
    (link,) = target.server.portals[0].logins
    target.server.portals[0].logins[link] -= LOGIN_SECONDS + 1
    target.server._tick()
    assert await peer.ended()


async def test_an_endless_negotiation(connect: Connect) -> None:
    peer = await connect()
    pairs = {"InitiatorName": NAME, "SessionType": "Normal", "TargetName": OPEN}
    answer = await peer.exchange(pairs, transit=False, nsg=0)
    for _ in range(100):
        if answer.status_class:
            break
        answer = await peer.exchange({}, transit=False, nsg=0)
    assert (answer.status_class, answer.status_detail) == (2, 0)


async def test_text_without_end_is_not_collected(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    chunk = text.encode([("X-filler", "x" * 200)]) * 40
    tag = pdu.NO_TAG
    for _ in range(20):
        await peer.send(
            pdu.TextRequest(
                immediate=True,
                final=False,
                continued=True,
                initiator_task_tag=3,
                target_transfer_tag=tag,
                cmd_sn=peer.cmd_sn,
                data=chunk,
            )
        )
        answer = await peer.receive(pdu.Response)  # type: ignore[type-abstract,unused-ignore]
        if isinstance(answer, pdu.Reject):
            break
        assert isinstance(answer, pdu.TextResponse)
        tag = answer.target_transfer_tag
    assert isinstance(answer, pdu.Reject)


async def test_a_silent_initiator_is_pinged_and_then_let_go(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    (session,) = target.server.sessions.values()
    now = target.server.now()
    target.server._look_after(session, now + PING_AFTER + 1)
    assert (await peer.receive(pdu.NopIn)).initiator_task_tag == pdu.NO_TAG
    target.server._look_after(session, now + 2 * PING_AFTER + 2)
    await quiet(target)
    assert target.server.sessions == {}


async def test_who_never_closes_after_a_logout_is_closed(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await peer.send(pdu.LogoutRequest(initiator_task_tag=5, cmd_sn=peer.cmd_sn))
    assert (await peer.receive(pdu.LogoutResponse)).response == 0
    (link,) = target.server.portals[0].links
    link.heard_at -= 60
    target.server._tick()
    await quiet(target)
