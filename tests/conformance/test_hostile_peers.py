"""Peers and surroundings that nobody wishes for: drips, deaf ones, no descriptors, no families, steps of the clock."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import os
import resource
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from initiator.engine.connect import connect
from initiator.engine.discovery import discover
from initiator.engine.session_config import SessionConfig
from initiator.model import Portal, SessionState
from initiator.protocol import text
from initiator.protocol.errors import ConnectionLost, RemoteProtocolError
from initiator.protocol.ffp_task import TaskError
from initiator.protocol.pdu import (
    R2T,
    AsyncMessage,
    DataIn,
    LoginRequest,
    NopIn,
    NopOut,
    Reject,
    Response,
    ScsiCommand,
    TextRequest,
    TextResponse,
)
from initiator.scsi.commands import write
from tests.conformance.ffp_rig import (
    INITIATOR,
    TARGET,
    Watched,
    answer,
    good,
    log_in,
    read_block,
    serve,
    session,
    until,
)
from tests.conformance.scripted import GoneError, Peer, Scripted
from tests.conformance.test_discovery_list import answer as answer_text
from tests.pace import Pace


async def drip(peer: Peer, data: bytes) -> None:
    """A byte now and then, for ever: it never ends, and never is silent."""
    with contextlib.suppress(GoneError, ConnectionError):
        for byte in data + bytes(1 << 20):
            await peer.send_raw(bytes([byte]))
            await asyncio.sleep(0.02)


# Peers


async def test_a_command_that_is_answered_byte_by_byte_without_end_is_given_up_in_time() -> None:
    """Something is heard all the time, so it is the deadline of the command and of each reset that counts (7.11)."""

    async def dripping(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        response = DataIn(initiator_task_tag=command.initiator_task_tag, data=bytes(4096))
        await drip(peer, response.encode()[:100])

    limits = {"lost_after": 0.3, "suspect_after": 0.1, "management_timeout": 0.15, "ping_interval": 0.1}
    async with session(dripping, serve, **limits) as (watched, _):
        async with Pace() as pace:
            with pytest.raises(TaskError) as caught:
                await read_block(watched, length=4096, patience=0.2)
            assert pace.took < 4
        assert caught.value.code == "timeout"
        await until(lambda: watched.state is SessionState.LOGGED_IN)
        assert await read_block(watched) == b"12345678"


async def test_a_list_of_targets_that_drips_is_given_up_in_time() -> None:
    async def dripping(peer: Peer) -> None:
        await peer.log_in()
        request = await peer.read(TextRequest)
        response = TextResponse(initiator_task_tag=request.initiator_task_tag, data=bytes(4096))
        await drip(peer, peer.numbered(response).encode()[:100])

    async with Scripted(dripping) as target:
        async with Pace() as pace:
            with pytest.raises(ConnectionLost) as caught:
                await discover(target.portal, INITIATOR, timeout=2.0)
            assert pace.took < 3
        assert caught.value.code == "discovery-timeout"


async def test_a_peer_that_reads_nothing_is_given_up_with_megabytes_waiting() -> None:
    async def deaf(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        await peer.read_pdu()
        for number in range(24):
            asked = R2T(
                lun=command.lun,
                initiator_task_tag=command.initiator_task_tag,
                target_transfer_tag=number,
                r2t_sn=number,
                buffer_offset=65536 + (number << 18),
                desired_data_transfer_length=1 << 18,
            )
            await peer.send_pdu(dataclasses.replace(peer.numbered(asked), stat_sn=peer.stat_sn))
            peer.stat_sn -= 1  # an R2T uses none up
        peer._writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    async def at_last(peer: Peer) -> None:
        await log_in(peer)
        await good(peer, await peer.read(ScsiCommand))
        await peer.gone()

    limits = {"lost_after": 0.4, "suspect_after": 0.2, "ping_interval": 0.1}
    async with session(deaf, at_last, **limits) as (watched, _):
        done = await watched.execute(1, write(0, 64), bytes(32 << 20), timeout=30)
        assert (done.status, watched.reconnects) == (0, 1)
        assert any("silent" in told for told, _ in watched.told)
        assert watched.counters.r2ts == 24


async def test_a_peer_that_accepts_and_says_nothing_holds_no_reconnect_up() -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.close()

    async with session(dropping, Peer.silent, serve, login_timeout=2.0) as (watched, target):
        await until(lambda: watched.reconnects == 1)
        assert len(target.peers) == 3
        assert await read_block(watched) == b"12345678"


async def slamming(peer: Peer) -> None:
    """A login that is granted, and a reset right behind the last word of it."""
    await log_in(peer)
    peer.reset()


async def test_a_reset_right_behind_the_login_does_not_end_the_reconnect() -> None:
    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        await peer.close()

    async with session(dropping, slamming, slamming, serve) as (watched, target):
        await until(lambda: watched.reconnects)
        assert await read_block(watched) == b"12345678"
        assert (watched.reconnects, len(target.peers)) == (1, 4)  # noticed before the session was said to be back


async def test_a_reset_right_behind_the_first_login_is_an_error_like_any_other() -> None:
    async with Scripted(slamming, serve) as target:
        watched = Watched(SessionConfig(TARGET, target.portal, INITIATOR))
        with pytest.raises(ConnectionLost, match="broke in") as caught:
            await watched.start()
        assert caught.value.code == "connection-broken"
        assert watched.state is SessionState.FREE
        await watched.start()
        assert watched.peer_address == (target.portal.host, target.portal.port)
        await watched.close()


@pytest.mark.parametrize("kind", ["reject", "async", "sense", "logout"])
async def test_a_peer_that_talks_without_end_is_not_quoted_without_end(kind: str) -> None:
    """What is told is kept in memory, by the log too; that something was left out is told."""
    words: dict[str, Response] = {
        "reject": Reject(reason=4, data=ScsiCommand(initiator_task_tag=4711).encode()[:48]),
        "async": AsyncMessage(async_event=255),
        "sense": AsyncMessage(async_event=0, data=b"\0\x02\x70\0"),
        "logout": AsyncMessage(async_event=1, parameter3=3600),
    }

    async def talking(peer: Peer) -> None:
        await log_in(peer)
        command = await peer.read(ScsiCommand)
        for _ in range(3000):
            await peer.send_pdu(peer.numbered(words[kind]))
        await answer(peer, command)
        await peer.gone()

    async with session(talking) as (watched, _):
        assert await read_block(watched) == b"12345678"
        await until(lambda: any("left out" in told for told, _ in watched.told))
        quoted = [told for told, _ in watched.told if "left out" not in told]
        assert 0 < len(quoted) < 30


async def test_a_peer_that_drops_each_login_at_once_is_tried_ever_more_rarely() -> None:
    """Time2Wait 0 would have both sides log in as fast as they can."""
    logins: list[float] = []

    async def dropping(peer: Peer) -> None:
        await log_in(peer)
        logins.append(asyncio.get_running_loop().time())
        await peer.close()

    async with session(dropping, backoff=0.05, backoff_limit=0.2) as (watched, _):
        await until(lambda: watched.reconnects > 5)
    gaps = [after - before for before, after in itertools.pairwise(logins[1:])]
    assert all(gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2, 0.2), strict=False))


# Surroundings


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor that this process may have is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_descriptors_an_error_says_so_and_what_is_connected_goes_on() -> None:
    async with session(serve) as (watched, target):
        with no_descriptors():
            # The name is looked up without a descriptor, since it is a number.
            with pytest.raises(ConnectionLost, match="Too many open files") as caught:
                await discover(target.portal, INITIATOR, timeout=2)
            assert caught.value.code == "connect-failed"
            assert await read_block(watched) == b"12345678"
        assert (watched.reconnects, len(target.peers)) == (0, 1)


async def test_an_address_family_that_does_not_exist_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an IPv6 and an IPv4 address, on a kernel without IPv6."""
    tried: list[int] = []

    def make(family: int, kind: int, protocol: int) -> socket.socket:
        tried.append(family)
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, kind, protocol)

    async with Scripted(serve) as target:
        port = target.portal.port
        loop = asyncio.get_running_loop()
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")

        async def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
            six = (socket.AF_INET6, *stream, ("::1", port, 0, 0))
            return [six] if host == "only.six" else [six, (socket.AF_INET, *stream, ("127.0.0.1", port))]

        monkeypatch.setattr(loop, "getaddrinfo", lookup)
        async with session(serve) as (watched, _):
            login = watched.config.login
            connected = await connect(Portal("both", port), login, 3.0, make=make)
            connected.sock.close()
            assert tried == [socket.AF_INET6, socket.AF_INET]
            with pytest.raises(ConnectionLost, match="family not supported"):
                await connect(Portal("only.six", port), login, 3.0, make=make)


async def test_steps_of_the_clock_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the clock that cannot be set: a year forth or back ends no session and delays no deadline."""

    async def deaf(peer: Peer) -> None:
        await log_in(peer)
        while True:
            pdu = await peer.read_pdu()
            if isinstance(pdu, NopOut):
                await peer.send_pdu(peer.numbered(NopIn(initiator_task_tag=pdu.initiator_task_tag, data=pdu.data)))
            elif isinstance(pdu, ScsiCommand) and len(peer.received) % 2:
                await answer(peer, pdu)

    real = time.time

    def stepped(step: float) -> float:
        return real() + step

    limits = {"ping_interval": 0.05, "suspect_after": 5.0, "lost_after": 20.0}
    async with session(deaf, serve, **limits) as (watched, _):
        for step in (365 * 86400, -365 * 86400, -2e9):
            monkeypatch.setattr(time, "time", partial(stepped, step))
            wanted = watched.counters.pings + 3
            await until(partial(pinged, watched, wanted))
        assert (watched.state, watched.suspect, watched.reconnects) == (SessionState.LOGGED_IN, False, 0)


def pinged(watched: Watched, wanted: int) -> bool:
    return watched.counters.pings >= wanted


# Sizes


NAMES = 10_000


async def test_ten_thousand_targets_in_one_discovery() -> None:
    pairs: list[tuple[str, str]] = []
    for number in range(NAMES):
        pairs.append(("TargetName", f"iqn.2026-11.io.mooring.test:{number:0195d}"))
        pairs += [("TargetAddress", f"192.0.2.{path}:3260,{path}") for path in (1, 2)]
    raw = text.encode(pairs)

    async def script(peer: Peer) -> None:
        await peer.log_in()
        for at in range(0, len(raw), 60000):
            last = at + 60000 >= len(raw)
            await answer_text(peer, raw[at : at + 60000], final=last, continued=not last)
        await peer.answer_logout()

    async with Scripted(script) as target:
        began = time.process_time()
        found = await discover(target.portal, INITIATOR, timeout=40)
        assert len(found) == NAMES
        assert found[-1].portals == (Portal("192.0.2.1", 3260, 1), Portal("192.0.2.2", 3260, 2))
        assert time.process_time() - began < 30


async def test_many_addresses_of_one_target_cost_no_more_than_their_number() -> None:
    """Compared with each other they would cost minutes; the list is as long as one may be."""
    addresses = [("TargetAddress", f"10.{a}.{b}.{c}:3260,1") for a in range(8) for b in range(100) for c in range(100)]
    raw = text.encode([("TargetName", TARGET), *addresses, *addresses[:1000]])

    async def script(peer: Peer) -> None:
        await peer.log_in()
        for at in range(0, len(raw), 65000):
            last = at + 65000 >= len(raw)
            await answer_text(peer, raw[at : at + 65000], final=last, continued=not last)
        await peer.answer_logout()

    async with Scripted(script) as target:
        (found,) = await discover(target.portal, INITIATOR, timeout=50)
        assert len(found.portals) == 80_000


async def test_a_name_of_223_bytes_in_utf_8_goes_both_ways() -> None:
    longest = "iqn.2026-11.io.mooring:" + "ü" * 100
    assert len(longest.encode()) == 223
    seen: list[LoginRequest] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.log_in())
        await answer_text(peer, text.encode([("TargetName", longest)]))
        await peer.answer_logout()

    async with Scripted(script) as target:
        found = await discover(target.portal, longest)
        assert [one.name for one in found] == [longest]
    assert ("InitiatorName", longest) in text.decode(seen[0].data)

    async def longer(peer: Peer) -> None:
        await peer.log_in()
        await answer_text(peer, text.encode([("TargetName", longest + "x")]))
        await peer.gone()

    async with Scripted(longer) as target:
        with pytest.raises(RemoteProtocolError):
            await discover(target.portal, longest)
