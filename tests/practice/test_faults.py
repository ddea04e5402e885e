"""Each fault's effect on the wire, and what a person may type."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.errors import BadInputError, MooringError
from initiator.model import Access, Portal
from initiator.practice import control, faults
from initiator.practice.control import NotRunningError, PracticeError
from initiator.practice.faults import FAULTS, Kind, Order, parse
from initiator.practice.target import Target
from initiator.protocol import pdu
from initiator.protocol.errors import DigestError
from initiator.scsi import alua, commands
from tests.practice.conftest import OPEN, Connect
from tests.practice.peer import Peer
from tests.until import until

PORTALS = (Portal("127.0.0.1", 3260, 1), Portal("127.0.0.2", 3260, 2))
DISKS = ("data", "logs", "vault")


async def order(target: Target, name: str, *args: str) -> str:
    """Give an order the way everybody does: over the control socket."""
    path = Path(target.config.control)
    return str(await asyncio.to_thread(control.ask, path, "fault", name=name, args=list(args)))


def at(target: Target, portal: int = 0) -> str:
    return str(target.config.portals[portal])


async def ready(peer: Peer) -> int:
    return (await peer.read(commands.test_unit_ready(), 0)).status


# --- the table ------------------------------------------------------------------------------------------------------


def test_every_fault_explains_itself() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert fault.text.endswith(".")
        assert fault.usage.split()[0] == fault.name


def test_orders() -> None:
    assert parse("cut", ["127.0.0.2"], PORTALS, DISKS) == Order("cut", portal=1)
    assert parse("cut", ["1"], PORTALS, DISKS).portal == 0
    assert parse("delay", ["127.0.0.1:3260", "250"], PORTALS, DISKS) == Order("delay", portal=0, number=250)
    assert parse("corrupt-digest", ["2"], PORTALS, DISKS).number == 1
    assert parse("refuse-login", ["2", "off"], PORTALS, DISKS).on is False
    assert parse("alua", ["2", "active/non-optimized"], PORTALS, DISKS).state is Access.NON_OPTIMIZED
    assert parse("grow", ["data", "+64M"], PORTALS, DISKS) == Order("grow", disk="data", number=64 << 20, relative=True)
    assert parse("grow", ["data", "1GiB"], PORTALS, DISKS).number == 1 << 30
    assert parse("clear", [], PORTALS, DISKS) == Order("clear")


WRONG = [
    ("cutt", ["1"], "did you mean 'cut'"),
    ("read-olny", ["data"], "did you mean 'read-only'"),
    ("cut", ["127.0.0.1:3262"], "did you mean '127.0.0.1:3260'"),
    ("cut", [], "cut PORTAL"),
    ("cut", ["1", "2"], "takes fewer arguments"),
    ("vanish", ["dta"], "did you mean 'data'"),
    ("vanish", ["data", "maybe"], "neither 'on' nor 'off'"),
    ("delay", ["1", "-5"], "0 to 60000"),
    ("delay", ["1", "1e3"], "0 to 60000"),
    ("delay", ["1", "٣"], "0 to 60000"),
    ("corrupt-digest", ["1", "0"], "1 to 1000000"),
    ("alua", ["1", "standbye"], "did you mean 'standby'"),
    ("grow", ["data", "big"], "not a size"),
    ("grow", ["data", "0"], "not a size"),
    ("grow", ["data", "1X"], "not a size"),
]


@pytest.mark.parametrize(("name", "args", "text"), WRONG)
def test_what_is_wrong_is_named_with_the_nearest_right_one(name: str, args: list[str], text: str) -> None:
    with pytest.raises(BadInputError) as raised:
        parse(name, args, PORTALS, DISKS)
    assert text in str(raised.value)


def test_a_host_with_two_portals_needs_the_port() -> None:
    portals = (Portal("127.0.0.1", 3260, 1), Portal("127.0.0.1", 3261, 2))
    with pytest.raises(BadInputError, match="give the port too"):
        parse("cut", ["127.0.0.1"], portals, DISKS)


@given(
    st.sampled_from([fault.name for fault in FAULTS]) | st.text(),
    st.lists(st.text() | st.sampled_from(DISKS), max_size=3),
)
def test_nothing_typed_breaks_the_parser(name: str, args: list[str]) -> None:
    try:
        found = parse(name, args, PORTALS, DISKS)
    except BadInputError:
        return
    kinds = {arg.kind for arg in faults.find(name).args}
    assert (found.portal is not None) is (Kind.PORTAL in kinds)
    assert (found.disk in DISKS) is (Kind.DISK in kinds)


# --- their effects --------------------------------------------------------------------------------------------------


async def test_a_cut_cable_is_silent_and_a_plugged_one_goes_on(connect: Connect, target: Target) -> None:
    peer, other = await connect(login=OPEN), await connect(portal=1, login=OPEN)
    assert "cable is cut" in await order(target, "cut", at(target))
    request = peer.command(commands.test_unit_ready())
    await peer.send(request)
    fresh = await Peer.connect(target.config.portals[0])
    await fresh.send(fresh.login_request({}))
    assert await peer.silent()
    assert await fresh.silent(0.05)
    assert await ready(other) == 0
    await order(target, "plug", at(target))
    assert (await peer.receive(pdu.ScsiResponse)).initiator_task_tag == request.initiator_task_tag
    assert (await fresh.receive(pdu.LoginResponse)).status_class == 2
    await fresh.close()


async def test_what_was_sent_into_a_cut_cable_and_given_up_is_not_done(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await order(target, "cut", at(target))
    await peer.send(
        peer.command(commands.write(0, 1), write=True, expected_data_transfer_length=512, data=b"old" + bytes(509))
    )
    await peer.close()
    other = await connect(portal=1, login=OPEN)
    assert (await other.write(commands.write(0, 1), b"new" + bytes(509), immediate=512)).status == 0
    await order(target, "plug", at(target))
    assert target.server.units["data"].store.read(0, 3) == b"new"
    assert [one.port.group for one in target.server.sessions.values()] == [2]


async def test_a_delay_keeps_the_order(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await order(target, "delay", at(target), "600")
    began = time.monotonic()
    first = peer.command(commands.read(0, 8), read=True, expected_data_transfer_length=4096)
    await peer.send(first)
    (link,) = target.server.portals[0].links
    await until(lambda: link._late, what="the postponed answer")
    await order(target, "delay", at(target), "0")
    second = peer.command(commands.test_unit_ready())
    await peer.send(second)
    assert (await peer.receive(pdu.DataIn)).initiator_task_tag == first.initiator_task_tag
    assert time.monotonic() - began >= 0.6
    assert (await peer.receive(pdu.ScsiResponse)).initiator_task_tag == second.initiator_task_tag
    assert await ready(peer) == 0


@pytest.mark.parametrize("key", ["DataDigest", "HeaderDigest"])
async def test_a_digest_is_wrong_as_often_as_asked(connect: Connect, target: Target, key: str) -> None:
    peer = await connect(login=OPEN, keys={key: "CRC32C"})
    await order(target, "corrupt-digest", at(target), "1")
    with pytest.raises(DigestError):
        await peer.read(commands.read(0, 1), 512)
    again = await connect(login=OPEN, keys={key: "CRC32C"})
    assert (await again.read(commands.read(0, 1), 512)).status == 0


async def test_corruption_without_digests_is_refused(connect: Connect, target: Target) -> None:
    await connect(login=OPEN)
    with pytest.raises(PracticeError) as raised:
        await order(target, "corrupt-digest", at(target))
    assert raised.value.code == "no-digest"


async def test_refused_logins(connect: Connect, target: Target) -> None:
    inside = await connect(login=OPEN)
    await order(target, "refuse-login", at(target))
    peer = await connect()
    answer = await peer.login(OPEN, isid=b"\x80\0\0\0\0\x09")
    assert (answer.status_class, answer.status_detail) == (3, 1)
    assert await ready(inside) == 0
    await order(target, "refuse-login", at(target), "off")
    assert (await (await connect()).login(OPEN, isid=b"\x80\0\0\0\0\x09")).status_class == 0


async def test_an_access_state_is_told_over_every_path(connect: Connect, target: Target) -> None:
    peer, other = await connect(login=OPEN), await connect(portal=1, login=OPEN)
    await order(target, "alua", at(target), "standby")
    for one in (peer, other):
        assert (await one.read(commands.test_unit_ready(), 0)).code == 0x2A06
    assert (await peer.read(commands.read(0, 1), 512)).code == 0x040B
    assert (await other.read(commands.read(0, 1), 512)).status == 0
    data = (await other.read(commands.report_target_port_groups(), 4096)).data
    assert [item.access for item in alua.parse_port_groups(data)] == [Access.STANDBY, Access.OPTIMIZED]


async def test_a_logout_is_asked_for_and_then_enforced(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    assert await order(target, "ask-logout", at(target)) == f"1 sessions at {at(target)} were asked to log out"
    message = await peer.receive(pdu.AsyncMessage)
    assert (message.async_event, message.parameter3) == (1, 10)
    assert await ready(peer) == 0
    (session,) = target.server.sessions.values()
    target.server._look_after(session, target.server.now() + 11)
    assert await peer.ended()


async def test_dropped_connections_are_reset(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    assert "1 connections" in await order(target, "drop", at(target))
    with pytest.raises(ConnectionResetError):
        await peer.reader.read(1)
    again = await connect(login=OPEN, settle=False)
    assert (await again.read(commands.test_unit_ready(), 0)).code == 0x2907


async def test_disk_faults(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    assert await order(target, "read-only", "data") == "disk data is write-protected"
    assert (await peer.write(commands.write(0, 1), bytes(512))).code == 0x2700
    await order(target, "read-only", "data", "off")
    await order(target, "out-of-space", "data")
    assert (await peer.write(commands.write(0, 1), bytes(512))).code == 0x2707
    await order(target, "clear")
    assert (await peer.write(commands.write(0, 1), bytes(512))).status == 0


async def test_a_disk_grows(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await order(target, "grow", "data", "+1M")
    assert (await peer.read(commands.test_unit_ready(), 0)).code == 0x2A09
    data = (await peer.read(commands.read_capacity16(), 32)).data
    assert int.from_bytes(data[:8], "big") + 1 == 9 * 2048
    assert (await peer.write(commands.write(9 * 2048 - 1, 1), bytes(512))).status == 0
    for wrong in ("1M", "9437185"):
        with pytest.raises(PracticeError):
            await order(target, "grow", "data", wrong)


async def test_a_unit_vanishes_and_comes_back(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await order(target, "vanish", "logs")
    assert (await peer.read(commands.test_unit_ready(), 0)).code == 0x3F0E
    assert commands.parse_report_luns((await peer.read(commands.report_luns(), 4096)).data) == (bytes(8),)
    peer.lun = commands.encode_lun(1)
    assert (await peer.read(commands.test_unit_ready(), 0)).code == 0x2500
    await order(target, "vanish", "logs", "off")
    await peer.settle()


async def test_clear_ends_what_lasts(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    orders = [("cut",), ("delay", "50"), ("refuse-login",), ("alua", "offline")]
    for name, *rest in orders:
        await order(target, name, at(target), *rest)
    for name in ("vanish", "read-only", "out-of-space"):
        await order(target, name, "data")
    assert await order(target, "clear") == "no fault is in force"
    await peer.settle()
    found = await asyncio.to_thread(control.ask, Path(target.config.control), "status")
    assert not any(portal["cut"] or portal["delay_ms"] or portal["refuse_login"] for portal in found["portals"])
    assert {portal["access"] for portal in found["portals"]} == {"active/optimized"}
    assert not any(disk["read_only"] or disk["out_of_space"] or disk["vanished"] for disk in found["disks"])


# --- the control socket ---------------------------------------------------------------------------------------------


async def test_status_names_what_there_is(connect: Connect, target: Target) -> None:
    await connect(login=OPEN)
    found = await asyncio.to_thread(control.ask, Path(target.config.control), "status")
    assert found["pid"] == os.getpid()
    assert [disk["name"] for disk in found["disks"]] == list(DISKS)
    assert [session["target"] for session in found["sessions"]] == [OPEN]
    rows = await asyncio.to_thread(control.ask, Path(target.config.control), "faults")
    assert [row["name"] for row in rows] == [fault.name for fault in FAULTS]


async def test_errors_keep_their_code_over_the_socket(target: Target) -> None:
    with pytest.raises(PracticeError) as raised:
        await order(target, "cutt", "1")
    assert raised.value.code == "bad-input"
    assert "did you mean 'cut'" in str(raised.value)
    with pytest.raises(PracticeError, match="no method"):
        await asyncio.to_thread(control.ask, Path(target.config.control), "explode")


async def test_the_socket_is_private_and_bears_garbage(target: Target) -> None:
    path = Path(target.config.control)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(path)
    for line in (b"nonsense\n", b"[]\n", b'{"id":1}\n', b"\xff\xfe\n"):
        writer.write(line)
        assert json.loads(await reader.readline())["error"]["code"] == "bad-message"
    writer.write(b'{"id":7,"method":"status"}\n')
    assert json.loads(await reader.readline())["id"] == 7
    writer.close()
    await writer.wait_closed()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError) as raised:
        control.ask(tmp_path / "practice.sock", "status")
    assert raised.value.code == "practice-not-running"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead.sock"))
    dead.close()
    with pytest.raises(NotRunningError):
        control.ask(tmp_path / "dead.sock", "status")


def test_a_silent_target_is_an_unknown_outcome(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        with pytest.raises(MooringError) as raised:
            control.ask(tmp_path / "mute.sock", "fault", timeout=0.1)
    assert raised.value.code == "outcome-unknown"
