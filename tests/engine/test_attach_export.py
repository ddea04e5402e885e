"""What is asked of a served disk, made safe for what SCSI promises; with a device that only remembers."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from typing import Any, cast

import pytest

from initiator.engine.attached import Unit
from initiator.engine.device import Device
from initiator.engine.export import DeviceExport, NotTheSame, must_be
from initiator.engine.stack import _reset
from initiator.model import Severity
from initiator.scsi.inquiry import BlockLimits
from initiator.scsi.parameters import Capacity
from initiator.scsi.sense import Key, Sense

Done = Callable[[int], None]
UNIT = Unit(0, "naa.6000", ("naa.6000",), 1 << 20, 512, serial="s")


@dataclasses.dataclass
class Info:
    capacity: Capacity
    limits: BlockLimits | None


class Recorder:
    """A device that remembers what it was asked and answers with `code`."""

    def __init__(self, zeros: bool = True, granularity: int = 8, alignment: int = 0) -> None:
        limits = BlockLimits(unmap_granularity=granularity, unmap_alignment=alignment)
        self.info = Info(Capacity(2048, 512, thin=True, reads_zero=zeros), limits)
        self.can_discard = True
        self.unflushed = False
        self.in_flight = 0
        self.on_resize: object = None
        self.code = 0
        self.calls: list[tuple[str, int, int]] = []

    def _note(self, name: str, offset: int, length: int, done: Done) -> None:
        self.calls.append((name, offset, length))
        done(self.code)

    def read(self, offset: int, into: memoryview, done: Done) -> None:
        self._note("read", offset, len(into), done)

    def write(self, offset: int, data: memoryview, done: Done) -> None:
        self._note("write", offset, len(data), done)

    def flush(self, done: Done) -> None:
        self._note("flush", 0, 0, done)

    def discard(self, offset: int, length: int, done: Done) -> None:
        self._note("unmap", offset, length, done)

    def write_zeroes(self, offset: int, length: int, done: Done) -> None:
        self._note("zero", offset, length, done)


def export(device: Recorder, unit: Unit = UNIT, unproven: bool = False) -> tuple[DeviceExport, list[str]]:
    told: list[str] = []

    def tell(text: str, severity: Severity) -> None:
        told.append(text)

    return DeviceExport(cast("Device", device), unit, unproven, tell), told


def outcome(begin: Callable[[Done], None]) -> int:
    found: list[int] = []
    begin(found.append)
    (code,) = found
    return code


@pytest.mark.parametrize(
    ("offset", "length", "calls"),
    [
        (0, 8192, [("unmap", 0, 8192)]),
        (512, 8192, [("unmap", 4096, 4096), ("zero", 512, 3584), ("zero", 8192, 512)]),
        (512, 1024, [("zero", 512, 1024)]),
        (4096, 4096, [("unmap", 4096, 4096)]),
        (4096, 4608, [("unmap", 4096, 4096), ("zero", 8192, 512)]),
    ],
)
def test_a_punched_range_reads_as_zeros_to_its_edges(
    offset: int, length: int, calls: list[tuple[str, int, int]]
) -> None:
    device = Recorder()
    served, _ = export(device)
    assert outcome(lambda done: served.discard(offset, length, done)) == 0
    assert device.calls == calls
    assert sum(length for _, _, length in device.calls) == length


def test_the_units_of_unmap_may_be_shifted() -> None:
    device = Recorder(alignment=3)
    served, _ = export(device)
    assert outcome(lambda done: served.discard(0, 16384, done)) == 0
    assert device.calls[0] == ("unmap", 1536, 12288)


def test_without_a_promise_of_zeros_nothing_is_unmapped() -> None:
    device = Recorder(zeros=False)
    served, _ = export(device)
    assert outcome(lambda done: served.discard(0, 8192, done)) == errno.EOPNOTSUPP
    assert device.calls == []


def test_a_failed_step_ends_the_others() -> None:
    device = Recorder()
    device.code = errno.EIO
    served, _ = export(device)
    assert outcome(lambda done: served.discard(512, 8192, done)) == errno.EIO
    assert len(device.calls) == 1


def test_a_read_only_disk_passes_nothing_that_writes() -> None:
    device = Recorder()
    served, _ = export(device, dataclasses.replace(UNIT, read_only=True))
    assert outcome(lambda done: served.write(0, memoryview(bytes(512)), done)) == errno.EROFS
    assert outcome(lambda done: served.discard(0, 4096, done)) == errno.EROFS
    assert outcome(lambda done: served.write_zeroes(0, 4096, done)) == errno.EROFS
    assert outcome(lambda done: served.read(0, memoryview(bytearray(512)), done)) == 0
    assert device.calls == [("read", 0, 512)]


def test_a_doubt_fails_one_flush_and_no_more() -> None:
    device = Recorder()
    served, told = export(device, unproven=True)
    assert served.unflushed
    device.code = errno.EIO
    assert outcome(served.flush) == errno.EIO
    assert told == [], "the target's own error comes first; the doubt stays"
    device.code = 0
    assert outcome(served.flush) == errno.EIO
    assert len(told) == 1
    assert outcome(served.flush) == 0
    assert not served.unflushed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wwid": "naa.6001"}, "identity"),
        ({"wwid": None}, "identity"),
        ({"block_bytes": 4096}, "block length"),
        ({"serial": "other"}, "serial number"),
        ({"size_bytes": 1 << 19}, "bytes now"),
    ],
)
def test_only_the_same_unit_is_served_again(change: dict[str, Any], named: str) -> None:
    with pytest.raises(NotTheSame, match=named):
        must_be(dataclasses.replace(UNIT, **change), UNIT)


def test_a_unit_may_have_grown_and_does_not_shrink_again() -> None:
    grown = dataclasses.replace(UNIT, size_bytes=1 << 21, write_cache=True)
    must_be(UNIT, UNIT)
    must_be(grown, UNIT)
    with pytest.raises(NotTheSame, match="bytes now"):
        must_be(UNIT, grown)


@pytest.mark.parametrize(
    ("codes", "reset"),
    [((), True), ((0x2907,), False), ((0x2900,), True), ((0x2901, 0x2907), True), ((0x3F0E, 0x2907), False)],
)
def test_only_a_nexus_loss_proves_that_nothing_was_reset(codes: tuple[int, ...], reset: bool) -> None:
    heard = [Sense(Key.UNIT_ATTENTION, code >> 8, code & 0xFF) for code in codes]
    assert _reset(heard) is reset
