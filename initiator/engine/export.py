"""A multipath device as something that can be served as a file: what FUSE asks, made safe for what SCSI promises."""

from __future__ import annotations

import errno
from collections.abc import Callable

from initiator.engine.attached import Unit
from initiator.engine.device import Device
from initiator.errors import MooringError
from initiator.model import Severity

Done = Callable[[int], None]


class DeviceExport:
    """One opened disk.

    Args:
        device: the multipath device; reads and writes go to it directly.
        unit: who it is; `unit.read_only` forbids writing whatever the target would allow.
        unproven: True after a takeover when nobody can say that the target kept what it had acknowledged: the next
            flush fails then, once.
        tell: takes an event.
    """

    def __init__(self, device: Device, unit: Unit, unproven: bool, tell: Callable[[str, Severity], None]) -> None:
        self.device = device
        self.unit = unit
        self.size_bytes = unit.size_bytes
        self.block_bytes = unit.block_bytes
        self.read = device.read
        self.write = device.write if not unit.read_only else _refuse_write
        self._unproven = unproven
        self._tell = tell
        device.on_resize = self._resized

    @property
    def read_only(self) -> bool:
        """Whether it was opened for reading only; a target that refuses writes later fails them one by one."""
        return self.unit.read_only

    @property
    def in_flight(self) -> int:
        """Commands that are not answered yet."""
        return self.device.in_flight

    @property
    def unflushed(self) -> bool:
        """Whether acknowledged writes wait for a flush."""
        return self.device.unflushed or self._unproven

    def gate(self, closed: bool) -> None:
        """Refuse new commands, or take them again."""
        self.device.gate(closed)

    def flush(self, done: Done) -> None:
        """SYNCHRONIZE CACHE; fails once if writes that a former process had acknowledged may be lost."""

        def flushed(number: int) -> None:
            if not number and self.forget_doubt():
                number = errno.EIO
            done(number)

        self.device.flush(flushed)

    def forget_doubt(self) -> bool:
        """True, once, if the next successful flush must not be reported as one."""
        doubt, self._unproven = self._unproven, False
        if doubt:
            self._tell(
                "a flush fails: while the serving process was replaced, the target may have lost writes that it had "
                "acknowledged, and it did not prove that it kept them",
                Severity.BAD,
            )
        return doubt

    def discard(self, offset: int, length: int, done: Done) -> None:
        """Free a range that has to read as zeros afterwards: the kernel sends discards and zeroing in one form.

        UNMAP is used only where the target promises that unmapped blocks read as zeros (LBPRZ), and for whole units of
        its granularity; the edges are written. Elsewhere the answer is EOPNOTSUPP and the kernel writes zeros itself.
        """
        info = self.device.info
        zeros = info.capacity is not None and info.capacity.reads_zero
        if not self.device.can_discard or not zeros or self.unit.read_only:
            done(errno.EROFS if self.unit.read_only else errno.EOPNOTSUPP)
            return
        start, end = self._whole_units(offset, length)
        steps: list[Callable[[Done], None]] = []
        if start < end:
            steps.append(lambda then: self.device.discard(start, end - start, then))
        else:
            start = end = offset
        for at, stop in ((offset, start), (end, offset + length)):
            if at < stop:
                steps.append(lambda then, at=at, stop=stop: self.device.write_zeroes(at, stop - at, then))  # type: ignore[misc]
        _in_turn(steps, done)

    def write_zeroes(self, offset: int, length: int, done: Done) -> None:
        """Write zeros."""
        if self.unit.read_only:
            done(errno.EROFS)
        else:
            self.device.write_zeroes(offset, length, done)

    def _whole_units(self, offset: int, length: int) -> tuple[int, int]:
        """The part of a range that consists of whole unmap units (SBC-3, 6.6.4: granularity and alignment)."""
        limits = self.device.info.limits
        granularity = max(1, limits.unmap_granularity if limits is not None else 1) * self.block_bytes
        shift = (limits.unmap_alignment or 0) * self.block_bytes if limits is not None else 0
        start = offset + (shift - offset) % granularity
        end = offset + length - (offset + length - shift) % granularity
        return start, end

    def _resized(self, size: int) -> None:
        """The block device keeps its size until it is attached again; what it cannot be is larger than the unit."""
        if size < self.size_bytes:
            self._tell(f"the unit shrank to {size} bytes under an attached disk: what is beyond fails", Severity.BAD)


def _refuse_write(offset: int, data: memoryview, done: Done) -> None:
    done(errno.EROFS)


def _in_turn(steps: list[Callable[[Done], None]], done: Done) -> None:
    """One step after the other, until one fails."""

    def proceed(number: int) -> None:
        if number or not steps:
            done(number)
        else:
            steps.pop(0)(proceed)

    proceed(0)


class NotTheSame(MooringError):  # noqa: N818 - says what happened
    """Another logical unit is where an attached one was."""

    code = "identity"


def must_be(found: Unit, expected: Unit) -> None:
    """Refuse to serve another unit under the name of an attached one.

    Raises:
        NotTheSame: identity, block length or size differ.
    """
    for what, one, other in (
        ("identity", found.wwid, expected.wwid),
        ("block length", found.block_bytes, expected.block_bytes),
        ("serial number", found.serial, expected.serial if expected.serial is not None else found.serial),
    ):
        if one != other:
            raise NotTheSame(f"LUN {found.lun} is another disk now: its {what} is {one} and was {other}")
    if found.size_bytes < expected.size_bytes:
        raise NotTheSame(f"LUN {found.lun} has {found.size_bytes} bytes now and had {expected.size_bytes}")
