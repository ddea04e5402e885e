"""A SCSI target device: finds the logical unit of a command and what concerns all units (SAM-5, SPC-4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initiator.practice import unit as units
from initiator.practice.nexus import (
    ACCESS_CHANGED,
    DEVICE_RESET,
    LUNS_CHANGED,
    NEXUS_LOSS,
    POWER_ON,
    Nexus,
    Nexuses,
    Port,
)
from initiator.practice.unit import GOOD, Answer, Unit, Want, check, illegal
from initiator.scsi import alua, inquiry
from initiator.scsi.commands import Buffer, Command, Op, build_report_luns, decode_lun, parse_cdb
from initiator.scsi.errors import ScsiFormatError, UnsupportedCommandError
from initiator.scsi.sense import Key, Sense, build_sense

_NOTHING_THERE = inquiry.StandardInquiry(units.VENDOR, units.PRODUCT, units.REVISION, device_type=0x1F, qualifier=3)
_NO_ATTENTION = frozenset({Op.INQUIRY, Op.REPORT_LUNS})
"""These are served although a unit attention waits, and leave it waiting (SAM-5, 5.14.1)."""


class Device:
    """The logical units of one target and the nexuses to it."""

    def __init__(self, luns: Mapping[int, Unit], ports: Sequence[Port], again: bool = False) -> None:
        self.luns = dict(luns)
        self.nexuses = Nexuses(ports, [unit.config.name for unit in luns.values()], NEXUS_LOSS if again else POWER_ON)

    def unit(self, lun: bytes) -> Unit | None:
        """The unit behind an 8-byte LUN field, if there is one now."""
        try:
            unit = self.luns.get(decode_lun(lun))
        except ScsiFormatError:
            return None
        return None if unit is None or unit.faults.vanished else unit

    def start(self, nexus: Nexus, lun: bytes, cdb: Buffer) -> Answer | Want:
        """Begin a command. Never raises for anything that an initiator can send."""
        unit = self.unit(lun)
        try:
            command = parse_cdb(cdb)
        except UnsupportedCommandError:
            return illegal(units.INVALID_COMMAND if unit else units.NO_SUCH_UNIT)
        except ScsiFormatError:
            return illegal()
        if command.op is Op.REPORT_LUNS:
            return self._report_luns(command)
        if command.op is Op.REQUEST_SENSE:
            return self._request_sense(nexus, unit, command)
        if unit is None:
            if command.op is Op.INQUIRY and not command.evpd and not command.page:
                return Answer(inquiry.build_standard(_NOTHING_THERE)[: command.length])
            return illegal(units.NO_SUCH_UNIT)
        if command.op not in _NO_ATTENTION:
            code = nexus.next_attention(unit.config.name)
            if code is not None:
                return check(Key.UNIT_ATTENTION, code)
        if command.op is Op.SET_TARGET_PORT_GROUPS and unit.config.explicit_alua:
            return Want(command.length, lambda data: self._set_port_groups(nexus, data)) if command.length else GOOD
        return unit.start(nexus, command, cdb)

    def reset(self, unit: Unit) -> None:
        """After a LOGICAL UNIT RESET: every nexus is told (SAM-5, 6.3.3)."""
        self.nexuses.attend(unit.config.name, DEVICE_RESET)

    def luns_changed(self) -> None:
        """A unit came or went: the others tell."""
        for unit in self.luns.values():
            self.nexuses.attend(unit.config.name, LUNS_CHANGED)

    def _set_port_groups(self, nexus: Nexus, data: memoryview) -> Answer:
        """The access states of ports as an initiator wants them; every other nexus is told (SPC-4, 5.15.2.6)."""
        try:
            wanted = dict(alua.parse_set_port_groups(data))
        except ScsiFormatError:
            return illegal(units.INVALID_PARAMETER)
        ports = {port.group: port for port in nexus.ports}
        if not wanted.keys() <= ports.keys():
            return illegal(units.INVALID_PARAMETER)
        for group, access in wanted.items():
            ports[group].access = access
        for unit in self.luns.values():
            self.nexuses.attend(unit.config.name, ACCESS_CHANGED, but=nexus)
        return GOOD

    def _report_luns(self, command: Command) -> Answer:
        if command.select > 2 or command.length < 16:
            return illegal()
        present = sorted(number for number, unit in self.luns.items() if not unit.faults.vanished)
        return Answer(build_report_luns([] if command.select == 1 else present)[: command.length])

    def _request_sense(self, nexus: Nexus, unit: Unit | None, command: Command) -> Answer:
        descriptor = bool(command.select)
        if unit is None:
            sense = Sense(Key.ILLEGAL_REQUEST, units.NO_SUCH_UNIT >> 8, 0, descriptor=descriptor)
        else:
            code = nexus.next_attention(unit.config.name)
            key = Key.NO_SENSE if code is None else Key.UNIT_ATTENTION
            sense = Sense(key, (code or 0) >> 8, (code or 0) & 0xFF, descriptor=descriptor)
        return Answer(build_sense(sense)[: command.length])
