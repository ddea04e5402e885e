"""What a target says of a disk on its own (RFC 7143, 11.9.1, event 0)."""

from __future__ import annotations

import errno

import pytest

from initiator.model import Severity
from initiator.scsi.commands import Op, encode_lun
from initiator.scsi.sense import Key, Sense
from tests.engine.disk_rig import Rig


def say(rig: Rig, asc: int, ascq: int, lun: int = 0) -> None:
    told = rig.sessions[0].on_sense
    assert told is not None
    told(rig.sessions[0], encode_lun(lun), Sense(Key.UNIT_ATTENTION, asc, ascq))


def test_a_new_size_is_read_without_waiting_for_a_command() -> None:
    rig = Rig()
    rig.unit.blocks *= 2
    say(rig, 0x2A, 0x09)
    rig.answer()
    assert rig.sizes == [128 * 512]
    assert rig.device.size_bytes == 128 * 512


def test_a_disk_that_shrank_in_silence_has_its_new_size_after_the_first_refusal() -> None:
    rig = Rig(paths=1)
    rig.unit.blocks //= 2
    ends = [rig.read(rig.device.size_bytes - 512 * (number + 1), 512)[0] for number in range(3)]
    rig.answer()
    assert ends == [[errno.EIO]] * 3
    assert len(rig.asked(Op.READ_CAPACITY_16)) == 1
    assert rig.sizes == [32 * 512]
    assert rig.told("the size changed from 32768 to 16384 bytes")
    rig.unit.blocks //= 2
    assert rig.read(16 * 512, 512)[0] == []
    rig.answer()
    assert rig.sizes == [32 * 512, 16 * 512], "and again"


@pytest.mark.parametrize("code", [(0x2A, 0x01), (0x2A, 0x09), (0x3F, 0x03)])
def test_a_unit_that_reports_one_change_after_the_other_is_not_asked_without_end(code: tuple[int, int]) -> None:
    rig = Rig(paths=1)
    for _ in range(1000):
        say(rig, *code)
    rig.answer()
    assert 1 < len(rig.unit.log) < 500
    rig.unit.blocks *= 2
    say(rig, 0x2A, 0x09)
    rig.answer()
    assert rig.sizes == [128 * 512], "and it is heard afterwards"


def test_a_thin_disk_that_runs_full_is_told_in_time() -> None:
    rig = Rig()
    say(rig, 0x38, 0x07)
    assert [severity for text, severity in rig.events if "running out of space" in text] == [Severity.BAD]


@pytest.mark.parametrize(("asc", "ascq"), [(0x38, 0x07), (0x3F, 0x0E)])
def test_a_unit_that_reports_without_end_is_not_quoted_without_end(asc: int, ascq: int) -> None:
    rig = Rig()
    for _ in range(1000):
        say(rig, asc, ascq)
    rig.clock.advance(0.5)
    assert 50 < len(rig.events) < 150
    assert rig.told("events were left out")


def test_new_access_states_are_read() -> None:
    rig = Rig()
    rig.unit.tpgs = 1
    say(rig, 0x3F, 0x03)  # the unit describes itself differently now
    rig.answer()
    assert rig.asked(Op.INQUIRY)


def test_write_protection_is_followed() -> None:
    rig = Rig()
    rig.unit.write_protected = True
    say(rig, 0x2A, 0x01)
    rig.answer()
    assert rig.device.read_only
    assert rig.told("read-only now")


def test_what_concerns_another_unit_or_a_reset_is_left_to_others() -> None:
    rig = Rig()
    before = len(rig.events)
    rig.write(0, bytes(512))
    rig.answer()
    say(rig, 0x29, 0x00)  # comes as a unit attention, too, and must not count twice
    rig.unit.blocks *= 2
    say(rig, 0x2A, 0x09, lun=1)
    rig.answer()
    assert (rig.sizes, rig.asked(Op.READ_CAPACITY_16)) == ([], [])
    assert len(rig.events) == before
    assert rig.device.unflushed
    ends = rig.flush()
    rig.answer()
    assert ends == [0]
