"""The promise of a flush: after success everything that was acknowledged is safe; what may be lost is told once."""

from __future__ import annotations

import errno

import pytest

from initiator.engine.device import DeviceOptions
from initiator.model import PathState
from initiator.scsi.commands import Op
from initiator.scsi.sense import Key, Sense, build_sense
from tests.engine.disk_rig import Rig, look
from tests.engine.scsi_world import NEXUS_LOSS, POWER_ON, FakeSession, Unit, check

BLOCK = 512
DATA = b"d" * BLOCK


def written(rig: Rig) -> Rig:
    ends = rig.write(0, DATA)
    rig.answer()
    assert ends == [0]
    return rig


def flushed(rig: Rig) -> int:
    ends = rig.flush()
    rig.answer()
    assert len(ends) == 1
    return ends[0]


def test_a_reset_that_lost_writes_fails_the_next_flush_once() -> None:
    rig = written(Rig())
    rig.unit.reset()
    assert flushed(rig) == errno.EIO
    rig.answer()
    assert rig.told("the next flush fails")
    assert flushed(rig) == 0
    rig.clock.advance(6)
    rig.settle(6)
    assert flushed(rig) == 0


@pytest.mark.parametrize("ascq", [0, 1, 2, 3, 4])
def test_every_kind_of_reset_counts(ascq: int) -> None:
    rig = written(Rig(1))
    rig.unit.reset(Sense(Key.UNIT_ATTENTION, 0x29, ascq))
    assert flushed(rig) == errno.EIO


def test_a_reset_without_unflushed_writes_is_harmless() -> None:
    rig = written(Rig())
    assert flushed(rig) == 0
    rig.unit.reset()
    assert flushed(rig) == 0
    assert rig.told("nothing was unflushed")


def test_a_reset_of_a_target_without_cache_is_harmless() -> None:
    rig = written(Rig(2, Unit(write_cache=False)))
    rig.unit.reset()
    assert flushed(rig) == 0
    assert rig.unit.data[:BLOCK] == DATA


def test_two_flushes_at_once_both_fail() -> None:
    rig = written(Rig(1))
    one, two = rig.flush(), rig.flush()
    rig.unit.reset()
    rig.answer()
    assert (one, two) == ([errno.EIO], [errno.EIO])
    assert flushed(rig) == 0


def test_a_single_path_that_returns_after_a_nexus_loss_only_lost_nothing() -> None:
    rig = written(Rig(1))
    rig.sessions[0].lose()
    rig.sessions[0].come_back(NEXUS_LOSS)
    rig.answer()
    assert flushed(rig) == 0
    assert rig.unit.durable[:BLOCK] == DATA


@pytest.mark.parametrize("sense", [POWER_ON, None, Sense(Key.UNIT_ATTENTION, 0x3F, 0x0E)])
def test_a_single_path_that_cannot_prove_it_fails_the_flush(sense: Sense | None) -> None:
    rig = written(Rig(1))
    rig.sessions[0].lose()
    rig.sessions[0].come_back(sense)
    rig.answer()
    assert flushed(rig) == errno.EIO
    assert flushed(rig) == 0


def test_all_paths_lost_and_one_back_with_a_reset() -> None:
    rig = written(Rig())
    for session in rig.sessions:
        session.lose()
    waiting = rig.flush()
    rig.unit.data[:] = rig.unit.durable
    rig.sessions[0].come_back(POWER_ON)
    rig.answer()
    assert waiting == [errno.EIO]
    rig.sessions[1].come_back(POWER_ON)
    rig.settle()
    assert flushed(rig) == 0


def test_a_new_nexus_that_says_power_on_is_checked_against_one_that_was_never_gone() -> None:
    rig = written(Rig())
    rig.sessions[0].lose()
    rig.sessions[0].come_back(POWER_ON)
    rig.settle()
    assert rig.device.paths[0].state is PathState.ACTIVE
    assert flushed(rig) == 0


def test_a_witness_that_saw_the_reset_too_makes_it_real() -> None:
    rig = written(Rig())
    rig.sessions[0].lose()
    rig.unit.reset()
    rig.sessions[0].come_back(POWER_ON)
    rig.settle()
    assert flushed(rig) == errno.EIO
    assert flushed(rig) == 0


def test_a_witness_that_dies_proves_nothing() -> None:
    rig = written(Rig())
    rig.sessions[0].lose()
    rig.sessions[0].come_back(POWER_ON)
    rig.sessions[0].answer_all()
    assert len(rig.sessions[1].pending) == 1
    rig.sessions[1].lose()
    rig.settle()
    assert flushed(rig) == errno.EIO
    assert flushed(rig) == 0


def test_deferred_errors_are_losses() -> None:
    rig = written(Rig(1))
    assert flushed(rig) == 0
    rig.unit.script.append((2, build_sense(Sense(Key.MEDIUM_ERROR, 0x0C, deferred=True)), b""))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    assert flushed(rig) == errno.EIO
    assert flushed(rig) == 0


def test_a_failed_flush_covers_nothing() -> None:
    rig = written(Rig(1, options=DeviceOptions()))
    rig.unit.script.append(check(Sense(Key.MEDIUM_ERROR, 0x0C)))
    assert flushed(rig) == errno.EIO
    assert rig.device.unflushed


def test_a_write_that_was_answered_after_a_reset_is_sent_again() -> None:
    rig = Rig()
    one = rig.write(0, DATA)
    writer = next(session for session in rig.sessions if session.pending)
    other = next(session for session in rig.sessions if session is not writer)
    writer.carry_out()
    rig.unit.reset()
    ends, _ = rig.read(BLOCK, BLOCK)
    assert other.pending
    other.answer_all()
    assert rig.told("reports a reset; nothing was unflushed")
    writer.answer()
    assert one == []
    rig.answer()
    assert (one, ends) == ([0], [0])
    assert len(rig.asked(Op.WRITE)) >= 2
    assert rig.unit.data[:BLOCK] == DATA
    assert flushed(rig) == 0
    assert rig.unit.durable[:BLOCK] == DATA


def test_a_loss_is_told_to_a_flush_that_came_after_the_write() -> None:
    rig = Rig()
    early = rig.flush()
    ends = rig.write(0, DATA)
    writer = next(session for session in rig.sessions if session.pending[-1].data_out is not None)
    writer.answer(len(writer.pending) - 1)
    assert (early, ends) == ([], [0])
    rig.unit.reset()
    rig.answer()
    assert early == [errno.EIO]
    assert flushed(rig) == errno.EIO
    assert flushed(rig) == 0


def test_a_path_that_says_nexus_loss_waits_for_one_that_may_say_more() -> None:
    rig = written(Rig())
    for session in rig.sessions:
        session.lose()
    rig.sessions[0].come_back(NEXUS_LOSS)
    rig.sessions[1].come_back(POWER_ON)
    rig.sessions[0].answer_all()
    assert rig.device.paths[0].state is PathState.FAILED
    waiting = rig.flush()
    rig.answer()
    assert waiting == [errno.EIO]
    assert flushed(rig) == 0


def test_a_path_that_waits_for_another_goes_on_when_that_is_lost() -> None:
    rig = written(Rig())
    for session in rig.sessions:
        session.lose()
    for session in rig.sessions:
        session.come_back(NEXUS_LOSS)
    rig.sessions[0].answer_all()
    assert flushed_later(rig) == []
    rig.sessions[1].lose()
    assert rig.device.paths[0].state is PathState.ACTIVE
    assert flushed(rig) == 0


def flushed_later(rig: Rig) -> list[int]:
    ends = rig.flush()
    rig.sessions[0].answer_all()
    return ends


def test_proof_does_not_outlive_the_connection() -> None:
    rig = written(Rig(1))
    rig.sessions[0].lose()
    rig.sessions[0].come_back(NEXUS_LOSS)
    rig.sessions[0].answer()
    rig.sessions[0].lose()
    rig.sessions[0].come_back(None)
    rig.answer()
    assert flushed(rig) == errno.EIO


def test_a_reset_seen_by_an_examination_that_broke_off_is_not_forgotten() -> None:
    rig = written(Rig(1))
    rig.sessions[0].lose()
    rig.sessions[0].come_back(POWER_ON)
    rig.sessions[0].answer()
    rig.sessions[0].lose()
    rig.sessions[0].come_back(NEXUS_LOSS)
    rig.answer()
    assert flushed(rig) == errno.EIO


def test_a_path_that_is_added_while_writes_are_unflushed_is_examined_first() -> None:
    rig = written(Rig(1))
    rig.unit.reset()
    second = FakeSession(rig.unit, "late")
    rig.device.add_path(second, look(second), "late")
    assert rig.device.paths[1].state is PathState.FAILED
    rig.sessions.append(second)
    rig.answer()
    rig.clock.advance(3)
    rig.answer()
    assert flushed(rig) == errno.EIO


def test_a_path_that_had_nothing_to_report_still_reports_the_next_reset() -> None:
    rig = Rig()
    rig.sessions[0].attentions.append(POWER_ON)
    read, _ = rig.read(0, BLOCK)
    again, _ = rig.read(0, BLOCK)
    rig.answer()
    assert (read, again) == ([0], [0])
    assert rig.told("reports a reset")
    written(rig)
    rig.unit.reset()
    rig.sessions[0].attentions.clear()
    assert [flushed(rig), flushed(rig)].count(errno.EIO) == 1
