"""The target's full feature phase: numbering, ping, text, logout, task management, reinstatement."""

from __future__ import annotations

import pytest

from initiator.practice.numbers import WINDOW, after
from initiator.practice.target import Target
from initiator.protocol import pdu, text
from initiator.scsi import commands
from tests.practice.conftest import LOCKED, OPEN, Connect
from tests.practice.peer import Peer
from tests.until import until

POWER_ON, NEXUS_LOSS, RESET = 0x2901, 0x2907, 0x2903


def test_serial_numbers_wrap() -> None:
    assert after(0, 0xFFFFFFFF) == 1
    assert after(0xFFFFFFFF, 0) == -1
    assert after(5, 5) == 0


async def test_a_command_is_answered_and_counted(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    first = peer.stat_sn
    await peer.send(peer.command(commands.test_unit_ready()))
    answer = await peer.receive(pdu.ScsiResponse)
    assert (answer.status, answer.stat_sn) == (0, first + 1)
    assert answer.exp_cmd_sn == peer.cmd_sn
    assert answer.max_cmd_sn == peer.cmd_sn + WINDOW - 1


@pytest.mark.parametrize("start", [0xFFFFFFFE, 0xFFFFFFFF, 0])
async def test_command_numbers_wrap(connect: Connect, start: int) -> None:
    peer = await connect()
    peer.cmd_sn = start
    await peer.login(OPEN)
    await peer.settle()
    for _ in range(3):
        assert (await peer.read(commands.test_unit_ready(), 0)).status == 0


async def test_commands_wait_for_their_turn_and_strangers_are_ignored(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    now = peer.cmd_sn
    late = peer.command(commands.test_unit_ready(), cmd_sn=now + 1)
    outside = peer.command(commands.test_unit_ready(), cmd_sn=now + WINDOW)
    old = peer.command(commands.test_unit_ready(), cmd_sn=now - 1)
    for request in (late, outside, old):
        await peer.send(request)
    assert await peer.silent()
    first = peer.command(commands.test_unit_ready(), cmd_sn=now)
    await peer.send(first)
    tags = [(await peer.receive(pdu.ScsiResponse)).initiator_task_tag for _ in range(2)]
    assert tags == [first.initiator_task_tag, late.initiator_task_tag]
    assert await peer.silent()


async def test_a_command_that_comes_twice_is_carried_out_once(connect: Connect) -> None:
    """Nothing is said of the second one, whether the first is under way, waits for its turn, or has ended."""
    peer = await connect(login=OPEN)
    running = peer.command(commands.write(0, 8), write=True, expected_data_transfer_length=4096)
    await peer.send(running)
    asked = await peer.receive(pdu.R2T)
    held = peer.command(commands.test_unit_ready(), cmd_sn=peer.cmd_sn + 1)
    for request in (running, held, held, running):
        await peer.send(request)
    assert await peer.silent()
    await peer.burst(running.initiator_task_tag, asked.target_transfer_tag, bytes(4096), 0, 4096)
    assert (await peer.receive(pdu.ScsiResponse)).initiator_task_tag == running.initiator_task_tag
    await peer.send(running)
    assert await peer.silent()
    between = peer.command(commands.test_unit_ready(), cmd_sn=held.cmd_sn - 1)
    await peer.send(between)
    tags = [(await peer.receive(pdu.ScsiResponse)).initiator_task_tag for _ in range(2)]
    assert tags == [between.initiator_task_tag, held.initiator_task_tag]
    assert await peer.silent()


async def test_an_immediate_command_takes_no_number(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    await peer.send(peer.command(commands.test_unit_ready(), immediate=True))
    answer = await peer.receive(pdu.ScsiResponse)
    assert answer.exp_cmd_sn == peer.cmd_sn


async def test_a_ping_comes_back_with_its_data(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    data = bytes(range(200))
    await peer.send(pdu.NopOut(immediate=True, initiator_task_tag=77, cmd_sn=peer.cmd_sn, data=data))
    answer = await peer.receive(pdu.NopIn)
    assert (answer.initiator_task_tag, answer.target_transfer_tag, answer.data) == (77, pdu.NO_TAG, data)


async def test_the_target_pings_and_an_answer_is_enough(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    (session,) = target.server.sessions.values()
    session.ping()
    ping = await peer.receive(pdu.NopIn)
    assert ping.initiator_task_tag == pdu.NO_TAG
    assert ping.target_transfer_tag != pdu.NO_TAG
    assert ping.stat_sn == peer.stat_sn
    await peer.send(pdu.NopOut(immediate=True, target_transfer_tag=ping.target_transfer_tag, cmd_sn=peer.cmd_sn))
    await until(lambda: session.pinged_at is None, what="the answer to the ping")
    assert (await peer.read(commands.test_unit_ready(), 0)).status == 0


async def test_logout_ends_the_session_with_a_fin(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    await peer.send(pdu.LogoutRequest(reason=0, initiator_task_tag=5, cmd_sn=peer.cmd_sn))
    answer = await peer.receive(pdu.LogoutResponse)
    assert (answer.response, answer.initiator_task_tag) == (0, 5)
    assert await peer.ended()
    assert target.server.sessions == {}


@pytest.mark.parametrize(("reason", "cid", "response"), [(1, 9, 1), (2, 0, 2), (1, 0, 0)])
async def test_the_other_logouts(connect: Connect, reason: int, cid: int, response: int) -> None:
    peer = await connect(login=OPEN)
    await peer.send(pdu.LogoutRequest(reason=reason, cid=cid, initiator_task_tag=5, cmd_sn=peer.cmd_sn))
    assert (await peer.receive(pdu.LogoutResponse)).response == response


async def test_same_isid_takes_the_place_of_the_old_session(connect: Connect, target: Target) -> None:
    old = await connect(login=OPEN)
    new = await connect(login=OPEN, settle=False)
    assert await old.ended()
    assert len(target.server.sessions) == 1
    assert (await new.read(commands.test_unit_ready(), 0)).code == NEXUS_LOSS
    assert (await new.read(commands.test_unit_ready(), 0)).status == 0


async def test_another_isid_or_portal_is_another_session(connect: Connect, target: Target) -> None:
    first = await connect(login=OPEN)
    await connect(login=OPEN, isid=b"\x80\0\0\0\0\2")
    await connect(portal=1, login=OPEN)
    assert len(target.server.sessions) == 3
    assert (await first.read(commands.test_unit_ready(), 0)).status == 0


async def test_a_reinstated_connection_goes_on_in_its_session(connect: Connect, target: Target) -> None:
    old = await connect(login=OPEN, keys={"MaxBurstLength": "4096", "FirstBurstLength": "4096"})
    (session,) = target.server.sessions.values()
    new = await connect()
    new.cmd_sn = old.cmd_sn
    answer = await new.login(OPEN, tsih=session.outcome.tsih)
    assert (answer.status_class, answer.tsih) == (0, session.outcome.tsih)
    assert await old.ended()
    (now,) = target.server.sessions.values()
    assert now.params.max_burst_length == 4096
    await new.settle()


async def test_power_on_is_told_once_to_each_initiator(connect: Connect) -> None:
    for isid in (b"\x80\0\0\0\0\3", b"\x80\0\0\0\0\4"):
        peer = await connect(login=OPEN, settle=False, isid=isid)
        assert (await peer.read(commands.inquiry(), 255)).status == 0
        assert (await peer.read(commands.test_unit_ready(), 0)).code == POWER_ON
        assert (await peer.read(commands.test_unit_ready(), 0)).status == 0


# --- text -----------------------------------------------------------------------------------------------------------


async def ask(peer: Peer, pairs: dict[str, str], **fields: object) -> pdu.TextResponse:
    request: dict[str, object] = {"immediate": True, "initiator_task_tag": 9, "cmd_sn": peer.cmd_sn, **fields}
    await peer.send(pdu.TextRequest(data=text.encode(pairs.items()), **request))  # type: ignore[arg-type]
    return await peer.receive(pdu.TextResponse)


async def test_send_targets_names_every_portal(connect: Connect, target: Target) -> None:
    peer = await connect()
    await peer.login(None)
    answer = await ask(peer, {"SendTargets": "All"})
    assert answer.final
    assert answer.target_transfer_tag == pdu.NO_TAG
    addresses = [("TargetAddress", f"{p},{p.group_tag}") for p in target.config.portals]
    assert text.decode(answer.data) == [("TargetName", OPEN), *addresses, ("TargetName", LOCKED), *addresses]


async def test_a_long_list_comes_in_pieces(connect: Connect) -> None:
    whole = await connect()
    await whole.login(None)
    expected = (await ask(whole, {"SendTargets": "All"})).data
    peer = await connect()
    await peer.login(None, {"MaxRecvDataSegmentLength": "512"}, isid=b"\x80\0\0\0\0\7")
    (session,) = [one for one in peer.login_answers if one.transit]
    assert session.status_class == 0
    found, answer = b"", await ask(peer, {"SendTargets": "All"})
    pieces = 0
    while True:
        found, pieces = found + answer.data, pieces + 1
        assert len(answer.data) <= 512
        if answer.final:
            break
        assert answer.continued
        assert answer.target_transfer_tag != pdu.NO_TAG
        answer = await ask(peer, {}, target_transfer_tag=answer.target_transfer_tag)
    assert (found, pieces > 1) == (expected, len(expected) > 512)


async def test_a_discovery_session_does_nothing_else(connect: Connect) -> None:
    peer = await connect()
    await peer.login(None)
    await peer.send(peer.command(commands.test_unit_ready()))
    assert (await peer.receive(pdu.Reject)).reason == 0x04
    answer = await ask(peer, {"MaxBurstLength": "512", "X-what": "1"})
    assert text.decode(answer.data) == [("MaxBurstLength", "Reject"), ("X-what", "NotUnderstood")]


async def test_a_normal_session_sees_its_own_target_only(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    assert text.decode((await ask(peer, {"SendTargets": "All"})).data) == [("SendTargets", "Reject")]
    assert text.decode((await ask(peer, {"SendTargets": ""})).data)[0] == ("TargetName", OPEN)
    assert (await ask(peer, {"SendTargets": LOCKED})).data == b""


async def test_text_in_two_requests_is_joined(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    data = text.encode([("SendTargets", OPEN)])
    fields = {"immediate": True, "initiator_task_tag": 9, "cmd_sn": peer.cmd_sn}
    await peer.send(pdu.TextRequest(final=False, continued=True, data=data[:7], **fields))  # type: ignore[arg-type]
    middle = await peer.receive(pdu.TextResponse)
    assert (middle.final, middle.data) == (False, b"")
    tag = middle.target_transfer_tag
    await peer.send(pdu.TextRequest(data=data[7:], target_transfer_tag=tag, **fields))  # type: ignore[arg-type]
    assert text.decode((await peer.receive(pdu.TextResponse)).data)[0] == ("TargetName", OPEN)


async def test_wrong_text_is_rejected_and_the_session_lives(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    fields = {"immediate": True, "initiator_task_tag": 9, "cmd_sn": peer.cmd_sn}
    for data, tag in (
        (b"no end", pdu.NO_TAG),
        (b"a=1\0a=2\0", pdu.NO_TAG),
        (b"", 1234),
        (b"MaxBurstLength=9\0", pdu.NO_TAG),
    ):
        await peer.send(pdu.TextRequest(data=data, target_transfer_tag=tag, **fields))  # type: ignore[arg-type]
        assert (await peer.receive(pdu.Reject)).reason == 0x04
    assert (await peer.read(commands.test_unit_ready(), 0)).status == 0


# --- what is not allowed ---------------------------------------------------------------------------------------------


async def test_an_unknown_opcode_is_rejected_with_its_header(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    header = bytes([0x1D, 0x80]) + bytes(46)
    await peer.raw(header)
    answer = await peer.receive(pdu.Reject)
    assert (answer.reason, answer.data) == (0x05, header)


async def test_a_target_opcode_ends_the_session(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    await peer.send(pdu.NopIn())
    assert await peer.ended()


async def test_snack_is_rejected(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    await peer.send(pdu.SnackRequest(initiator_task_tag=1))
    assert (await peer.receive(pdu.Reject)).reason == 0x03


async def test_a_tag_in_use_is_rejected(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    cdb = commands.write(0, 8)
    await peer.send(peer.command(cdb, write=True, expected_data_transfer_length=4096, initiator_task_tag=500))
    await peer.receive(pdu.R2T)
    await peer.send(peer.command(commands.test_unit_ready(), initiator_task_tag=500))
    assert (await peer.receive(pdu.Reject)).reason == 0x07


# --- task management --------------------------------------------------------------------------------------------------


async def manage(peer: Peer, function: int, **fields: object) -> int:
    request: dict[str, object] = {"initiator_task_tag": 900, "cmd_sn": peer.cmd_sn, "lun": peer.lun, **fields}
    await peer.send(pdu.TaskManagement(function=function, **request))  # type: ignore[arg-type]
    return (await peer.receive(pdu.TaskManagementResponse)).response


async def begin_write(peer: Peer) -> tuple[pdu.ScsiCommand, pdu.R2T]:
    request = peer.command(commands.write(0, 8), write=True, expected_data_transfer_length=4096)
    await peer.send(request)
    return request, await peer.receive(pdu.R2T)


async def test_an_aborted_task_ends_without_a_word(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    request, asked = await begin_write(peer)
    assert await manage(peer, 1, referenced_task_tag=request.initiator_task_tag, ref_cmd_sn=request.cmd_sn) == 0
    await peer.burst(request.initiator_task_tag, asked.target_transfer_tag, b"x" * 4096, 0, 4096)
    assert (await peer.read(commands.read(0, 8), 4096)).data == bytes(4096)
    assert (await manage(peer, 1, referenced_task_tag=request.initiator_task_tag, ref_cmd_sn=request.cmd_sn)) == 1


async def test_abort_of_a_command_that_never_came_closes_the_gap(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    lost = peer.cmd_sn
    peer.cmd_sn += 1
    await peer.send(peer.command(commands.test_unit_ready()))
    assert await peer.silent(0.1)
    await peer.send(
        pdu.TaskManagement(
            function=1, initiator_task_tag=900, cmd_sn=peer.cmd_sn, referenced_task_tag=4711, ref_cmd_sn=lost
        )
    )
    assert (await peer.receive(pdu.ScsiResponse)).status == 0
    assert (await peer.receive(pdu.TaskManagementResponse)).response == 0


@pytest.mark.parametrize("function", [2, 4, 5, 6])
async def test_a_task_set_ends_after_its_data_have_come(connect: Connect, function: int) -> None:
    peer = await connect(login=OPEN)
    request, asked = await begin_write(peer)
    await peer.send(pdu.TaskManagement(function=function, initiator_task_tag=900, cmd_sn=peer.cmd_sn, lun=peer.lun))
    assert await peer.silent(0.1)
    await peer.burst(request.initiator_task_tag, asked.target_transfer_tag, b"x" * 4096, 0, 4096)
    assert (await peer.receive(pdu.TaskManagementResponse)).response == 0
    if function in (5, 6):
        assert (await peer.read(commands.test_unit_ready(), 0)).code == RESET
    assert (await peer.read(commands.read(0, 8), 4096)).data == bytes(4096)


async def test_a_reset_is_told_to_everybody(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    other = await connect(portal=1, login=OPEN)
    request, _ = await begin_write(other)
    assert await manage(peer, 5) == 0
    assert (await other.read(commands.test_unit_ready(), 0)).code == RESET
    assert await manage(other, 1, referenced_task_tag=request.initiator_task_tag, ref_cmd_sn=request.cmd_sn) == 1


async def test_a_cold_reset_ends_every_session_of_the_target(connect: Connect, target: Target) -> None:
    peer = await connect(login=OPEN)
    other = await connect(portal=1, login=OPEN)
    assert await manage(peer, 7) == 0
    assert await peer.ended()
    assert await other.ended()
    assert target.server.sessions == {}


@pytest.mark.parametrize(("function", "response"), [(3, 5), (8, 4), (99, 5)])
async def test_what_is_not_supported_says_so(connect: Connect, function: int, response: int) -> None:
    peer = await connect(login=OPEN)
    assert await manage(peer, function) == response


async def test_management_of_a_missing_unit(connect: Connect) -> None:
    peer = await connect(login=OPEN)
    assert await manage(peer, 5, lun=commands.encode_lun(7)) == 2
