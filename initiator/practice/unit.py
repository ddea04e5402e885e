"""One logical unit of the practice target: what each SCSI command does to a backing file (SPC-4, SBC-3).

`Unit.start` either answers at once, or says how many bytes it wants from the initiator first, or leaves something
slow to a thread. It knows nothing of iSCSI.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import struct
from collections.abc import Callable

from initiator.model import Access
from initiator.practice.config import DiskConfig
from initiator.practice.nexus import Nexus
from initiator.practice.registrations import ConflictError, IllegalError, Registrations
from initiator.practice.store import Buffer, Store
from initiator.scsi import alua, commands, designators, inquiry, parameters
from initiator.scsi.commands import Command, Op, Status
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import Key, Sense, build_sense

VENDOR, PRODUCT, REVISION = "MOORING", "PRACTICE DISK", "1"
MAX_TRANSFER_BYTES = 2 << 20
MAX_SAME_BYTES = 16 << 20
MAX_UNMAP_RANGES = 64
MAX_COMPARE_BLOCKS = 128
PAGES = (0x80, 0x83, 0xB0, 0xB1, 0xB2)

INVALID_COMMAND = 0x2000
LBA_OUT_OF_RANGE = 0x2100
INVALID_FIELD = 0x2400
NO_SUCH_UNIT = 0x2500
INVALID_PARAMETER = 0x2600
PARAMETER_LENGTH = 0x1A00
SAVING_NOT_SUPPORTED = 0x3900
WRITE_PROTECTED = 0x2700
NO_SPACE = 0x2707
WRITE_ERROR = 0x0C00
READ_ERROR = 0x1100
MISCOMPARE = 0x1D00


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended. With `later` set it has not ended: call that in a thread and take its answer.

    Only waiting for stable storage is left for later, never a change of data: a change that outlived its session would
    land on top of what a new session has written (RFC 7143, 6.3.5).
    """

    data: Buffer = b""
    status: int = Status.GOOD
    sense: bytes = b""
    later: Callable[[], Answer] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Want:
    """The command is right so far and needs `length` bytes; `finish` takes them, or fewer where none came.

    With `exact` an initiator that brings more has meant another command, and is told so.
    """

    length: int
    finish: Callable[[memoryview], Answer]
    exact: bool = False


@dataclasses.dataclass(slots=True)
class UnitFaults:
    """The switches of one disk."""

    read_only: bool = False
    out_of_space: bool = False
    vanished: bool = False


GOOD = Answer()


def check(key: Key, code: int, descriptor: bool = False) -> Answer:
    """CHECK CONDITION; `code` is ASC and ASCQ as one number."""
    sense = Sense(key, code >> 8, code & 0xFF, descriptor=descriptor)
    return Answer(b"", Status.CHECK_CONDITION, build_sense(sense))


def illegal(code: int = INVALID_FIELD) -> Answer:
    """CHECK CONDITION with ILLEGAL REQUEST."""
    return check(Key.ILLEGAL_REQUEST, code)


_BLOCKED = {
    Access.STANDBY: 0x040B,
    Access.UNAVAILABLE: 0x040C,
    Access.TRANSITIONING: 0x040A,
    Access.OFFLINE: 0x0412,
}
"""Sense codes of port groups that take no media access (SPC-4, 5.15.2.4)."""
_ALWAYS = frozenset({Op.INQUIRY, Op.REPORT_LUNS, Op.REQUEST_SENSE, Op.REPORT_TARGET_PORT_GROUPS})
_RESERVATIONS = frozenset({Op.PERSISTENT_RESERVE_IN, Op.PERSISTENT_RESERVE_OUT})
_STANDBY = _ALWAYS | _RESERVATIONS | {Op.MODE_SENSE_6, Op.MODE_SENSE_10, Op.READ_CAPACITY_10, Op.READ_CAPACITY_16}
_CHANGES = frozenset({Op.WRITE, Op.WRITE_SAME, Op.UNMAP, Op.COMPARE_AND_WRITE})
_WRITE_SAME_10 = 0x41
_PROTECTED = frozenset({Op.READ, Op.WRITE, Op.VERIFY, Op.WRITE_SAME, Op.COMPARE_AND_WRITE})


class Unit:
    """A disk of the target.

    Attributes:
        faults: The switches; read with every command.
    """

    def __init__(self, config: DiskConfig, store: Store) -> None:
        self.config = config
        self.store = store
        self.faults = UnitFaults()
        self.registrations = Registrations(config.name)
        self._table: dict[Op, Callable[[Nexus, Command, Buffer], Answer | Want]] = {
            Op.TEST_UNIT_READY: lambda nexus, command, cdb: GOOD,
            Op.INQUIRY: self._inquiry,
            Op.MODE_SENSE_6: self._mode_sense,
            Op.MODE_SENSE_10: self._mode_sense,
            Op.READ_CAPACITY_10: self._capacity,
            Op.READ_CAPACITY_16: self._capacity,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.VERIFY: self._verify,
            Op.SYNCHRONIZE_CACHE: self._synchronize,
            Op.WRITE_SAME: self._write_same,
            Op.UNMAP: self._unmap,
            Op.START_STOP_UNIT: self._start_stop,
            Op.REPORT_TARGET_PORT_GROUPS: self._port_groups,
            Op.COMPARE_AND_WRITE: self._compare_and_write,
            Op.PERSISTENT_RESERVE_IN: self._reserve_in,
            Op.PERSISTENT_RESERVE_OUT: self._reserve_out,
        }

    @property
    def blocks(self) -> int:
        """Size in logical blocks."""
        return self.store.size // self.config.block_bytes

    def start(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        """Begin a command of which unit attentions have been dealt with."""
        blocked = _BLOCKED.get(nexus.port.access)
        if blocked and command.op not in (_STANDBY if nexus.port.access is Access.STANDBY else _ALWAYS):
            return check(Key.NOT_READY, blocked)
        if self.registrations.refuses(nexus, command.op):
            return Answer(status=Status.RESERVATION_CONFLICT)
        # Protection information is not kept, so the protect fields must be zero (SBC-3, 4.22).
        if command.op in _PROTECTED and cdb[0] >= 0x20 and cdb[1] & 0xE0:
            return illegal()
        if command.op in _CHANGES and self.faults.read_only:
            return check(Key.DATA_PROTECT, WRITE_PROTECTED)
        run = self._table.get(command.op)
        return illegal(INVALID_COMMAND) if run is None else run(nexus, command, cdb)

    # --- what it is ---------------------------------------------------------------------------------------------

    def _inquiry(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        if not command.evpd:
            if command.page:
                return illegal()
            return Answer(_standard(self.config.explicit_alua)[: command.length])
        pages: dict[int, Callable[[], bytes]] = {
            inquiry.VPD_SUPPORTED: lambda: inquiry.build_supported_pages(PAGES),
            inquiry.VPD_SERIAL: lambda: inquiry.build_serial(self.config.serial),
            inquiry.VPD_DESIGNATORS: lambda: self._designators(nexus),
            inquiry.VPD_LIMITS: self._limits,
            # Not rotating, form factor not said (SBC-3, 6.6.2).
            inquiry.VPD_CHARACTERISTICS: lambda: inquiry.build_page(0xB1, struct.pack(">H58x", 1)),
            inquiry.VPD_PROVISIONING: lambda: inquiry.build_provisioning(_THIN),
        }
        build = pages.get(command.page)
        return illegal() if build is None else Answer(build()[: command.length])

    def _designators(self, nexus: Nexus) -> bytes:
        port = struct.pack(">xxH", nexus.port.group)
        kind, where = designators.Kind, designators.Association.PORT
        vendor = VENDOR.ljust(8).encode() + self.config.serial.encode()
        return designators.build_designators(
            (
                designators.Designator(kind.NAA, self.config.naa),
                designators.Designator(kind.T10, vendor, code_set=2),
                designators.Designator(kind.RELATIVE_PORT, port, where, protocol=5),
                designators.Designator(kind.PORT_GROUP, port, where, protocol=5),
            )
        )

    def _limits(self) -> bytes:
        size = self.config.block_bytes
        return inquiry.build_block_limits(
            inquiry.BlockLimits(
                maximum_transfer=MAX_TRANSFER_BYTES // size,
                optimal_transfer=(256 << 10) // size,
                optimal_granularity=4096 // size,
                maximum_unmap_blocks=0xFFFFFFFF,
                maximum_unmap_ranges=MAX_UNMAP_RANGES,
                unmap_granularity=4096 // size,
                unmap_alignment=0,
                maximum_write_same=MAX_SAME_BYTES // size,
                write_same_non_zero=True,
                maximum_compare=MAX_COMPARE_BLOCKS,
            )
        )

    def _mode_sense(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        if command.select == 3:
            return illegal(SAVING_NOT_SUPPORTED)
        known = {
            parameters.PAGE_CACHING: parameters.caching_page(write_cache=True),
            parameters.PAGE_CONTROL: parameters.control_page(),
        }
        wanted = known if command.page == parameters.PAGE_ALL else {command.page: known.get(command.page)}
        pages = [page for page in wanted.values() if page is not None]
        if not pages or command.subpage not in (0, 0xFF):
            return illegal()
        if command.select == 1:  # changeable values: none
            pages = [page[:2] + bytes(len(page) - 2) for page in pages]
        ten = command.op is Op.MODE_SENSE_10
        built = parameters.build_mode(pages, ten=ten, write_protected=self.faults.read_only)
        return Answer(built[: command.length])

    def _capacity(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        size = self.config.block_bytes
        exponent = 3 if size == 512 else 0
        found = parameters.Capacity(self.blocks, size, exponent, thin=True, reads_zero=True)
        if command.op is Op.READ_CAPACITY_10:
            return illegal() if any(cdb[2:6]) else Answer(parameters.build_capacity10(found))
        return Answer(parameters.build_capacity16(found)[: command.length])

    def _port_groups(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        groups = [alua.PortGroup(port.group, port.access, ports=(port.group,), status=2) for port in nexus.ports]
        built = alua.build_port_groups(groups)
        if command.select == 1:  # the extended header (SPC-4, table 298)
            built = struct.pack(">IB3x", len(built), 0x10) + built[4:]
        return illegal() if command.select > 1 else Answer(built[: command.length])

    def _reserve_in(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        try:
            return Answer(self.registrations.tell(command)[: command.length])
        except IllegalError as error:
            return illegal(error.code)

    def _reserve_out(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        def finish(data: memoryview) -> Answer:
            try:
                self.registrations.obey(nexus, cdb, data)
            except ConflictError:
                return Answer(status=Status.RESERVATION_CONFLICT)
            except IllegalError as error:
                return illegal(error.code)
            return GOOD

        return Want(command.length, finish) if command.length else illegal(PARAMETER_LENGTH)

    def _start_stop(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        return illegal() if command.select & 0xF2 else GOOD

    # --- its blocks ---------------------------------------------------------------------------------------------

    def _span(self, command: Command, limit: int = MAX_TRANSFER_BYTES) -> tuple[int, int] | Answer:
        """Offset and length in bytes, or why not."""
        if command.lba + command.blocks > self.blocks:
            return illegal(LBA_OUT_OF_RANGE)
        size = self.config.block_bytes
        return illegal() if command.blocks * size > limit else (command.lba * size, command.blocks * size)

    def _read(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        span = self._span(command)
        if isinstance(span, Answer):
            return span
        if command.fua:  # what is read must be on the medium (SBC-3, 5.10)
            return Answer(later=lambda: self._guard(READ_ERROR, self.store.sync, lambda: self.store.read(*span)))
        return self._guard(READ_ERROR, lambda: self.store.read(*span))

    def _write(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        span = self._span(command)
        if isinstance(span, Answer):
            return span
        offset, length = span
        if no_space := self._needs_space(offset, length):
            return no_space

        def finish(data: memoryview) -> Answer:
            whole = len(data) - len(data) % self.config.block_bytes
            return self._put(offset, data[:whole], command.fua)

        return Want(length, finish)

    def _put(self, offset: int, data: memoryview, fua: bool) -> Answer:
        write = self._guard(WRITE_ERROR, lambda: self.store.write(offset, data))
        if write.status or not fua:
            return write
        return Answer(later=lambda: self._guard(WRITE_ERROR, self.store.sync))

    def _verify(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        span = self._span(command, MAX_TRANSFER_BYTES if command.byte_check else self.store.size)
        if isinstance(span, Answer):
            return span
        if command.byte_check == 0:
            return GOOD
        if command.byte_check != 1:
            return illegal()

        def finish(data: memoryview) -> Answer:
            same = self._guard(READ_ERROR, lambda: self.store.read(span[0], len(data)))
            if same.status or bytes(same.data) != data:
                return same if same.status else check(Key.MISCOMPARE, MISCOMPARE)
            return GOOD

        return Want(span[1], finish)

    def _compare_and_write(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        if command.blocks > MAX_COMPARE_BLOCKS:
            return illegal()
        span = self._span(command)
        if isinstance(span, Answer):
            return span
        offset, length = span

        def finish(data: memoryview) -> Answer:
            if len(data) < 2 * length:
                return illegal(PARAMETER_LENGTH)
            found = self._guard(READ_ERROR, lambda: self.store.read(offset, length))
            if found.status:
                return found
            there = bytes(found.data)
            wrong = next((at for at in range(length) if there[at] != data[at]), None)
            if wrong is not None:  # INFORMATION is the offset of the first difference (SBC-3, 5.2)
                sense = Sense(Key.MISCOMPARE, MISCOMPARE >> 8, MISCOMPARE & 0xFF, information=wrong)
                return Answer(b"", Status.CHECK_CONDITION, build_sense(sense))
            return self._put(offset, data[length : 2 * length], command.fua)

        return Want(2 * length, finish if length else lambda data: GOOD, exact=True)

    def _synchronize(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer:
        if command.lba + command.blocks > self.blocks:
            return illegal(LBA_OUT_OF_RANGE)
        return Answer(later=lambda: self._guard(WRITE_ERROR, self.store.sync))

    def _write_same(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        # ANCHOR, PBDATA and LBDATA are not served, nor "to the end" (WSNZ is set in page B0h).
        # Page B2h grants deallocation to WRITE SAME(16) only.
        if cdb[1] & 0x16 or not command.blocks or (command.unmap and cdb[0] == _WRITE_SAME_10):
            return illegal()
        span = self._span(command, MAX_SAME_BYTES)
        if isinstance(span, Answer):
            return span
        offset, length = span
        if not command.unmap and (no_space := self._needs_space(offset, length)):
            return no_space

        def finish(data: memoryview) -> Answer:
            if not command.no_data and len(data) < self.config.block_bytes:
                return illegal()
            if any(data):
                return self._guard(WRITE_ERROR, lambda: self.store.fill(offset, length, data))
            zero = self.store.deallocate if command.unmap else self.store.zero
            return self._guard(WRITE_ERROR, lambda: zero(offset, length))

        return finish(memoryview(b"")) if command.no_data else Want(self.config.block_bytes, finish)

    def _unmap(self, nexus: Nexus, command: Command, cdb: Buffer) -> Answer | Want:
        if cdb[1] & 1:  # ANCHOR
            return illegal()
        return Want(command.length, self._unmap_list) if command.length else GOOD

    def _unmap_list(self, data: memoryview) -> Answer:
        try:
            ranges = commands.parse_unmap(data)
        except ScsiFormatError:
            return illegal(PARAMETER_LENGTH)
        if len(ranges) > MAX_UNMAP_RANGES:
            return illegal(INVALID_PARAMETER)
        if any(lba + count > self.blocks for lba, count in ranges):
            return illegal(LBA_OUT_OF_RANGE)
        size = self.config.block_bytes

        def punch() -> None:
            for lba, count in ranges:
                if count:
                    self.store.deallocate(lba * size, count * size)

        return self._guard(WRITE_ERROR, punch)

    def _needs_space(self, offset: int, length: int) -> Answer | None:
        if not (self.faults.out_of_space and length):
            return None
        try:
            return check(Key.DATA_PROTECT, NO_SPACE) if self.store.has_hole(offset, length) else None
        except OSError:
            return check(Key.MEDIUM_ERROR, WRITE_ERROR)

    @staticmethod
    def _guard(code: int, *actions: Callable[[], bytes | None]) -> Answer:
        """Run actions on the store; an error of the file below becomes sense data, never an exception."""
        data: bytes | None = None
        try:
            for action in actions:
                data = action()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return check(Key.DATA_PROTECT, NO_SPACE)
            return check(Key.MEDIUM_ERROR, code)
        return GOOD if data is None else Answer(data)


@functools.cache
def _standard(explicit: bool) -> bytes:
    """Standard INQUIRY data with version descriptors: SAM-5, SPC-4, SBC-3, iSCSI (SPC-4, 6.6.2 and table 143)."""
    data = bytearray(
        inquiry.build_standard(inquiry.StandardInquiry(VENDOR, PRODUCT, REVISION, tpgs=3 if explicit else 1)).ljust(
            96, b"\0"
        )
    )
    data[4] = len(data) - 5
    struct.pack_into(">4H", data, 58, 0x00A0, 0x0460, 0x04C0, 0x0960)
    return bytes(data)


_THIN = inquiry.Provisioning(unmap=True, write_same_unmap=True, reads_zero=True, kind=2)
