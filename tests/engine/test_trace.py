"""A trace of the wire: the file, what is kept of a login, and that a session does not suffer from it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator.engine.pcapng import Flow, Writer
from initiator.engine.session import EngineSession
from initiator.engine.session_config import SessionConfig
from initiator.engine.tap import Outlet, Trace
from initiator.practice.target import Target
from initiator.protocol.chap import Chap
from initiator.protocol.errors import LoginError
from initiator.protocol.keys import Offer
from initiator.scsi import commands
from tests.practice.conftest import LOCKED, OPEN, SECRET, target
from tests.until import until

__all__ = ["target"]

ME = "iqn.2026-11.io.mooring.test:me"
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed (apt-get install tshark)")
LIMIT = 64 << 20


def config(target: Target, name: str = LOCKED, secret: str = SECRET) -> SessionConfig:
    chap = Chap("keeper", secret) if name == LOCKED else None
    digests = ("CRC32C", "None")
    offer = Offer(header_digest=digests, data_digest=digests)
    return SessionConfig(target=name, portal=target.config.portals[0], initiator=ME, chap=chap, offer=offer)


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of a pcapng file."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert data[at + length - 4 : at + length] == struct.pack("<I", length)
        yield kind, data[at + 8 : at + length - 4]
        at += length


def streams(data: bytes, port: int) -> tuple[bytes, bytes]:
    """What we sent and what we received, put together by sequence number."""
    parts: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
    for kind, body in blocks(data):
        if kind != 6:
            continue
        (length,) = struct.unpack_from("<I", body, 12)
        packet = body[20 : 20 + length]
        header = 40 if packet[0] >> 4 == 6 else 20
        _, there, sequence = struct.unpack_from(">HHI", packet, header)
        payload = packet[header + 20 :]
        if payload:
            parts[there != port][sequence] = payload
    for part in parts:
        expected = min(part, default=1)
        for sequence in sorted(part):
            assert sequence == expected
            expected += len(part[sequence])
    sent, received = (b"".join(part[key] for key in sorted(part)) for part in parts)
    return sent, received


async def worked(session: EngineSession) -> None:
    """Something of everything."""
    for _ in range(4):
        if (await session.execute(0, commands.test_unit_ready())).status == 0:
            break
    data = os.urandom(1 << 20)
    assert (await session.execute(0, commands.write(0, 2048), data_out=memoryview(data))).status == 0
    assert bytes((await session.execute(0, commands.read(0, 2048), read_length=1 << 20)).data) == data


async def recorded(target: Target) -> bytes:
    """A whole session from the connect to the logout."""
    file = io.BytesIO()
    trace = Trace(Writer(file, LIMIT), wall=lambda: 1_800_000_000.25)
    session = EngineSession(config(target))
    session.record(trace)
    await session.start()
    await worked(session)
    await session.logout()
    trace.close()
    assert trace.writer.size == len(file.getvalue())
    return file.getvalue()


async def test_every_byte_is_there_and_no_proof(target: Target) -> None:
    data = await recorded(target)
    sent, received = streams(data, target.config.portals[0].port)
    assert sent.startswith(b"\x43")
    assert b"CHAP_R=XX" in sent
    assert b"CHAP_C=XX" in received
    assert b"CHAP_R=0x" not in data
    assert b"CHAP_C=0x" not in data
    assert len(sent) > 1 << 20 < len(received)
    assert [kind for kind, _ in blocks(data)][:2] == [0x0A0D0D0A, 1]


@needs_tshark
async def test_tshark_decodes_every_pdu(target: Target, own_folders: Path) -> None:
    file = own_folders / "trace.pcapng"
    file.write_bytes(await recorded(target))
    fields = ("frame.time_epoch", "iscsi.opcode", "iscsi.keyvalue", "iscsi.datadigest32", "_ws.malformed", "_ws.expert")
    port = f"tcp.port=={target.config.portals[0].port},iscsi"  # as Wireshark does by itself for 3260
    done = await asyncio.to_thread(
        subprocess.run,
        ["tshark", "-r", str(file), "-d", port, "-T", "json", "-Y", "iscsi", *(f"-e{field}" for field in fields)],
        capture_output=True,
        check=True,
        timeout=50,
        env={**os.environ, "HOME": str(own_folders)},
    )
    frames = [each["_source"]["layers"] for each in json.loads(done.stdout)]
    opcodes = {int(code, 0) for frame in frames for code in frame.get("iscsi.opcode", [])}
    # Login, command, Data-Out, logout; their answers and R2T.
    assert {0x03, 0x01, 0x05, 0x06, 0x23, 0x21, 0x25, 0x26, 0x31} <= opcodes
    assert not any("_ws.malformed" in frame or "_ws.expert" in frame for frame in frames)  # wrong digests, too
    assert any("iscsi.datadigest32" in frame for frame in frames)
    keys = [key for frame in frames for key in frame.get("iscsi.keyvalue", [])]
    assert f"TargetName={LOCKED}" in keys
    assert "HeaderDigest=CRC32C" in keys
    assert {key[:9] for key in keys if key.startswith("CHAP_R")} == {"CHAP_R=XX"}
    assert frames[0]["frame.time_epoch"][0].startswith("1800000000.25")


async def test_a_session_in_use_is_recorded_from_its_next_pdu_on(target: Target) -> None:
    session = EngineSession(config(target))
    await session.start()
    await worked(session)
    file = io.BytesIO()
    trace = Trace(Writer(file, LIMIT))
    session.record(trace)
    assert session.traced
    await session.execute(0, commands.test_unit_ready())  # until here the recording may still wait for a boundary
    await worked(session)
    session.record(None)
    before = len(file.getvalue())
    await worked(session)
    assert (session.traced, len(file.getvalue()), session.reconnects) == (False, before, 0)
    await session.logout()
    sent, received = streams(file.getvalue(), target.config.portals[0].port)
    assert sent[0] & 0x3F in (0x00, 0x01)
    assert received[0] & 0x3F in (0x20, 0x21)
    assert len(sent) > 1 << 20 < len(received)


async def test_the_file_stops_at_its_limit_and_the_session_goes_on(target: Target) -> None:
    file = io.BytesIO()
    trace = Trace(Writer(file, 100_000))
    session = EngineSession(config(target))
    session.record(trace)
    await session.start()
    await worked(session)
    await session.logout()
    assert (trace.over, trace.broken) == (True, None)
    assert len(file.getvalue()) < 170_000


async def test_a_full_disk_ends_the_trace_and_not_the_session(target: Target) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        Writer(full, LIMIT)
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    trace = Trace(Writer(outlet, LIMIT))
    os.close(reader)
    session = EngineSession(config(target))
    session.record(trace)
    await session.start()
    await worked(session)
    assert trace.broken == "Broken pipe"
    await session.logout()
    outlet.close()


def test_a_reader_that_does_not_read_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    outlet.write(bytes(8 << 20))
    with pytest.raises(OSError, match="too slow"):
        outlet.write(bytes(1 << 20))
    assert not outlet.empty
    outlet.close()
    os.close(reader)


async def test_a_login_that_fails_is_in_the_log_and_in_the_file(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.BytesIO()
    session = EngineSession(config(target, secret="a secret of no use"))
    session.record(Trace(Writer(file, LIMIT)))
    with caplog.at_level("INFO", logger="initiator.engine.recorded"):
        for _ in range(2):
            with contextlib.suppress(LoginError):
                await session.start()
    assert session.dialogue[-2].startswith("<- status 0x0201")
    assert session.dialogue[-1].startswith("failed: ")
    assert any("AuthMethod=CHAP" in line for line in session.dialogue)
    assert sum(line.count("=(hidden)") for line in session.dialogue) == 3
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"{LOCKED}: {line}" for line in session.dialogue]  # said twice, logged once
    assert b"CHAP_R=XX" in file.getvalue()
    await session.close()


async def test_counters_tell_the_session_from_its_connection(target: Target) -> None:
    session = EngineSession(config(target, OPEN))
    await session.start()
    await worked(session)
    assert session.connection_counters == session.counters
    before = session.counters.commands
    target.server.portals[0].links.copy().pop().abort()
    await until(lambda: session.reconnects == 1, 10, what="the new login")
    await worked(session)
    assert session.counters.commands == before + session.connection_counters.commands
    await session.logout()


def test_packets_of_ipv6_and_of_more_than_one_segment() -> None:
    file = io.BytesIO()
    writer = Writer(file, LIMIT)
    flow = Flow(("fe80::1%eth0", 40000), ("2001:db8::2", 3260))
    writer.opened(flow, 1.0)
    writer.data(flow, True, b"a" * 130_000, 1.0)
    writer.data(flow, False, b"b", 1.0)
    writer.closed(flow, 2.0)
    assert writer.packets == 3 + 3 + 1 + 1
    assert streams(file.getvalue(), 3260) == (b"a" * 130_000, b"b")
