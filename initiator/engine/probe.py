"""What a session says of its logical units: identity, size, limits, cache, access state.

The questions are written once, as generators that yield `Ask` and receive `Answer`. `probe` drives them over a
session's awaitable `execute`; the multipath device drives the same scripts by callback (errand.py).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Generator
from typing import TypeVar

from initiator.engine.lower import Executor
from initiator.model import Access, holds_data
from initiator.scsi import alua, commands, designators, inquiry, parameters
from initiator.scsi.commands import Status
from initiator.scsi.errors import ScsiFormatError, UnitError
from initiator.scsi.sense import Key, Sense, explain, parse_sense

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """One command of a script."""

    cdb: bytes
    read_length: int = 0
    delay: float = 0.0
    """Seconds to wait before it is sent."""
    data: bytes = b""
    """What is written; then nothing is read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Its end."""

    status: int
    sense: bytes = b""
    data: bytes = b""


_HIDING = (Access.STANDBY, Access.UNAVAILABLE, Access.TRANSITIONING, Access.OFFLINE)

Script = Generator[Ask, Answer, T]
Listener = Callable[[Sense], None]
"""Hears of every unit attention that a script consumes, at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class LunInfo:
    """One logical unit as one session sees it."""

    lun: int
    standard: inquiry.StandardInquiry
    field: bytes
    """How the target is told that this unit is meant (SAM-5, 4.7)."""
    serial: str | None = None
    designators: tuple[designators.Designator, ...] = ()
    capacity: parameters.Capacity | None = None
    """None where nothing usable is behind the LUN."""
    limits: inquiry.BlockLimits | None = None
    provisioning: inquiry.Provisioning | None = None
    write_cache: bool | None = None
    """True: acknowledged writes may be in a volatile cache. None: the target did not say."""
    write_protected: bool | None = None
    fua: bool = False
    groups: tuple[alua.PortGroup, ...] = ()
    problems: tuple[str, ...] = ()
    """What the target did not want to tell, and why."""

    @property
    def wwid(self) -> str | None:
        """The identity of the logical unit, or None without one."""
        return designators.wwid(self.designators)

    @property
    def names(self) -> tuple[str, ...]:
        """All identities of the logical unit, best first."""
        return designators.unit_names(self.designators)

    @property
    def port_group(self) -> int | None:
        """The target port group through which the session came."""
        return designators.port_group(self.designators)

    @property
    def relative_port(self) -> int | None:
        """The target port through which the session came."""
        return designators.relative_port(self.designators)

    @property
    def alua(self) -> bool:
        """True if the target says that its ports differ."""
        return self.standard.tpgs != 0

    @property
    def explicit_alua(self) -> bool:
        """True if the target changes access states on order."""
        return bool(self.standard.tpgs & 2)

    @property
    def access(self) -> Access:
        """Access state of this path; UNKNOWN without ALUA."""
        return alua.access_of(self.groups, self.port_group, self.relative_port)[0]

    @property
    def kind(self) -> str:
        """What it is, by its peripheral device type: disk, tape, cd, changer, controller, enclosure, …"""
        return inquiry.kind(self.standard.device_type)

    @property
    def present(self) -> bool:
        """True if something that can hold data is behind the LUN, a disk or another device."""
        return self.usable or (self.standard.qualifier == 0 and self.kind != "disk" and holds_data(self.kind))

    @property
    def usable(self) -> bool:
        """True for a disk that has a size."""
        return self.standard.usable and self.capacity is not None

    @property
    def reachable(self) -> bool:
        """True for a disk whose size is known or is only hidden by a port group that does not serve now."""
        return self.usable or (self.standard.usable and self.access in _HIDING)

    @property
    def can_unmap(self) -> bool:
        """True if UNMAP is worth trying (SBC-3, 4.7.3)."""
        told = self.provisioning is not None and self.provisioning.unmap
        allowed = self.limits is None or self.limits.maximum_unmap_blocks > 0
        return self.capacity is not None and self.capacity.thin and told and allowed


def same_unit(one: LunInfo, other: LunInfo) -> bool:
    """True only if both certainly are the same logical unit: identities agree and so does the block length.

    A port in standby tells who the unit is but not its size; then the identity has to do.
    """
    sizes = {info.capacity.block_bytes for info in (one, other) if info.capacity is not None}
    return designators.same_unit(one.designators, other.designators) and len(sizes) == 1


_ATTENTIONS = 16
_BUSY = 6
_ABORTED = 3
_NOT_YET = (0x0401, 0x0407, 0x0409, 0x040A)


def ask(cdb: bytes, length: int = 0, hear: Listener | None = None, data: bytes = b"") -> Script[Answer]:
    """Ask once, with bounded retries for what passes by itself: in each of these cases the command was not executed."""
    attentions = busy = aborted = 0
    delay = 0.0
    while True:
        answer = yield Ask(cdb, length, delay, data)
        delay = 0.0
        if answer.status in (Status.BUSY, Status.TASK_SET_FULL) and busy < _BUSY:
            delay = 0.05 * 2**busy
            busy += 1
            continue
        if answer.status != Status.CHECK_CONDITION:
            return answer
        try:
            sense = parse_sense(answer.sense)
        except ScsiFormatError:
            return answer
        if (sense.key == Key.UNIT_ATTENTION or sense.deferred) and attentions < _ATTENTIONS:
            attentions += 1
            if hear is not None:
                hear(sense)
        elif sense.key == Key.ABORTED_COMMAND and aborted < _ABORTED:
            aborted += 1
        elif sense.key == Key.NOT_READY and sense.code in _NOT_YET and busy < _BUSY:
            delay = 0.05 * 2**busy
            busy += 1
        else:
            return answer


def wanted(what: str, cdb: bytes, length: int, hear: Listener | None) -> Script[bytes]:
    """The data of an answer that has to be GOOD; `what` names the command.

    Raises:
        UnitError: it is not.
    """
    answer = yield from ask(cdb, length, hear)
    if answer.status != Status.GOOD:
        raise UnitError(f"{what}: {explain(answer.status, answer.sense)}")
    return answer.data


def _unknown(answer: Answer) -> bool:
    """True if the target does not know the command, so that an older form of it is worth a try."""
    if answer.status != Status.CHECK_CONDITION:
        return False
    try:
        return parse_sense(answer.sense).key == Key.ILLEGAL_REQUEST
    except ScsiFormatError:
        return False


def read_page(page: int, hear: Listener | None = None) -> Script[bytes]:
    """INQUIRY of one page of vital product data, all of it.

    Raises:
        UnitError: refused.
    """
    what = f"INQUIRY of VPD page {page:02X}h"
    data = yield from wanted(what, commands.inquiry(True, page, 255), 255, hear)
    needed = inquiry.page_needs(data)
    if needed > 255:
        data = yield from wanted(what, commands.inquiry(True, page, needed), needed, hear)
    return data


def still_there(hear: Listener | None = None) -> Script[None]:
    """TEST UNIT READY; unit attentions are consumed.

    Raises:
        UnitError: the unit does not answer GOOD.
    """
    yield from wanted("TEST UNIT READY", commands.test_unit_ready(), 0, hear)


def read_groups(hear: Listener | None = None) -> Script[tuple[alua.PortGroup, ...]]:
    """REPORT TARGET PORT GROUPS.

    Raises:
        UnitError: refused. ScsiFormatError: malformed.
    """
    length = 4096
    what = "REPORT TARGET PORT GROUPS"
    data = yield from wanted(what, commands.report_target_port_groups(length), length, hear)
    needed = alua.port_groups_need(data)
    if needed > length:
        data = yield from wanted(what, commands.report_target_port_groups(needed), needed, hear)
    return alua.parse_port_groups(data)


def activate_group(group: int, hear: Listener | None = None) -> Script[None]:
    """SET TARGET PORT GROUPS: have a port group serve, and its ports carry I/O (explicit ALUA; SPC-4, 5.15.2.6).

    Raises:
        UnitError: refused.
    """
    cdb, data = alua.set_port_groups([(group, Access.OPTIMIZED)])
    answer = yield from ask(cdb, 0, hear, data)
    if answer.status != Status.GOOD:
        raise UnitError(f"SET TARGET PORT GROUPS: {explain(answer.status, answer.sense)}")


def read_capacity(hear: Listener | None = None) -> Script[parameters.Capacity]:
    """READ CAPACITY(16), or (10) where the target does not know it.

    Raises:
        UnitError: refused. ScsiFormatError: malformed.
    """
    answer = yield from ask(commands.read_capacity16(), 32, hear)
    if answer.status == Status.GOOD:
        return parameters.parse_capacity16(answer.data)
    if not _unknown(answer):
        raise UnitError(f"READ CAPACITY(16): {explain(answer.status, answer.sense)}")
    small = yield from wanted("READ CAPACITY", commands.read_capacity10(), 8, hear)
    found = parameters.parse_capacity10(small)
    if found is None:
        raise UnitError(f"READ CAPACITY(16): {explain(answer.status, answer.sense)}")
    return found


def read_mode(hear: Listener | None = None) -> Script[parameters.Mode]:
    """MODE SENSE of the caching page, (6) or (10).

    Raises:
        UnitError: refused. ScsiFormatError: malformed.
    """
    answer = yield from ask(commands.mode_sense_caching(), 252, hear)
    if answer.status == Status.GOOD:
        return parameters.parse_mode(answer.data)
    if not _unknown(answer):
        raise UnitError(f"MODE SENSE: {explain(answer.status, answer.sense)}")
    ten = yield from wanted("MODE SENSE", commands.mode_sense10(parameters.PAGE_CACHING), 512, hear)
    return parameters.parse_mode(ten, ten=True)


_LISTED_BYTES = 16384
_MOST_LISTED_BYTES = 1 << 20


def list_luns(select: int = 0) -> Script[dict[int, bytes]]:
    """REPORT LUNS: the logical units, with `select` 1 the well known ones, by their numbers, with their LUN fields.

    Raises:
        UnitError: refused. ScsiFormatError: malformed.
    """
    data = yield from wanted("REPORT LUNS", commands.report_luns(_LISTED_BYTES, select), _LISTED_BYTES, None)
    needed = min(commands.report_luns_needs(data), _MOST_LISTED_BYTES)
    if needed > _LISTED_BYTES:
        data = yield from wanted("REPORT LUNS", commands.report_luns(needed, select), needed, None)
    return commands.decode_luns(commands.parse_report_luns(data))


class _Optional:
    """Runs the questions whose refusal is only worth a note."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def get(self, script: Script[T]) -> Script[T | None]:
        try:
            return (yield from script)
        except (UnitError, ScsiFormatError) as error:
            self.problems.append(str(error))
            return None

    def page(self, page: int, parse: Callable[[bytes], T], hear: Listener | None) -> Script[T | None]:
        def script() -> Script[T]:
            return parse((yield from read_page(page, hear)))

        return (yield from self.get(script()))


def examine(lun: int, field: bytes, hear: Listener | None = None) -> Script[LunInfo]:
    """Everything about one logical unit, asked at its LUN field.

    Raises:
        UnitError: it does not answer INQUIRY, or is a disk without a size.
        ScsiFormatError: its INQUIRY data or its size are malformed.
    """
    optional = _Optional()
    yield from optional.get(still_there(hear))
    standard = inquiry.parse_standard((yield from wanted("INQUIRY", commands.inquiry(length=255), 255, hear)))
    if standard.qualifier:
        return LunInfo(lun, standard, field, problems=tuple(optional.problems))
    pages = yield from optional.page(inquiry.VPD_SUPPORTED, inquiry.parse_supported_pages, hear)
    # A target that cannot list its pages is still asked who it is.
    has = pages if pages is not None else frozenset((inquiry.VPD_DESIGNATORS,))
    serial = limits = provisioning = mode = groups = names = None
    if inquiry.VPD_SERIAL in has:
        serial = yield from optional.page(inquiry.VPD_SERIAL, inquiry.parse_serial, hear)
    if inquiry.VPD_DESIGNATORS in has:
        names = yield from optional.page(inquiry.VPD_DESIGNATORS, designators.parse_designators, hear)
    if not standard.usable:
        return LunInfo(lun, standard, field, serial, names or (), problems=tuple(optional.problems))
    if standard.tpgs:
        groups = yield from optional.get(read_groups(hear))
    access = alua.access_of(groups or (), designators.port_group(names or ()), designators.relative_port(names or ()))[
        0
    ]
    # Ports that do not serve refuse READ CAPACITY (SPC-4, 5.15.2.4); that is no reason to doubt the path.
    sized = optional.get(read_capacity(hear)) if access in _HIDING else read_capacity(hear)
    capacity = yield from sized
    if inquiry.VPD_LIMITS in has:
        limits = yield from optional.page(inquiry.VPD_LIMITS, inquiry.parse_block_limits, hear)
    if inquiry.VPD_PROVISIONING in has:
        provisioning = yield from optional.page(inquiry.VPD_PROVISIONING, inquiry.parse_provisioning, hear)
    mode = yield from optional.get(read_mode(hear))
    return LunInfo(
        lun=lun,
        standard=standard,
        field=field,
        serial=serial,
        designators=names or (),
        capacity=capacity,
        limits=limits,
        provisioning=provisioning,
        write_cache=mode.write_cache if mode is not None else None,
        write_protected=mode.write_protected if mode is not None else None,
        fua=mode is not None and mode.fua,
        groups=groups or (),
        problems=tuple(optional.problems),
    )


async def run(session: Executor, lun: int | bytes, script: Script[T], patience: float = 10.0) -> T:
    """Drive a script over a session, at a LUN number or field; `patience` in seconds for each command.

    Raises:
        IscsiError: the session gave no SCSI status. And what the script raises.
    """
    try:
        step = next(script)
        while True:
            if step.delay:
                await asyncio.sleep(step.delay)
            out = memoryview(step.data) if step.data else None
            done = await session.execute(lun, step.cdb, out, step.read_length, patience)
            step = script.send(Answer(done.status, bytes(done.sense), bytes(done.data)))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        script.close()


async def field_of(session: Executor, lun: int, patience: float = 10.0) -> bytes:
    """The LUN field of a number: as the target lists it, where that cannot be known without asking.

    Raises:
        IscsiError: the session gave no SCSI status.
    """
    if not 256 <= lun < commands.FLAT_LUNS:
        return commands.encode_lun(lun)
    try:
        listed = await run(session, 0, list_luns(), patience)
    except (UnitError, ScsiFormatError):
        listed = {}
    return listed.get(lun) or commands.encode_lun(lun)


async def probe_lun(session: Executor, lun: int, patience: float = 10.0) -> LunInfo:
    """Examine one logical unit. Raises as `run` and `examine`."""
    field = await field_of(session, lun, patience)
    return await run(session, field, examine(lun, field), patience)


async def probe(session: Executor, patience: float = 10.0) -> tuple[tuple[LunInfo, ...], tuple[str, ...]]:
    """Examine every logical unit that the session reports: those that answered, and what was wrong with the others.

    Raises:
        IscsiError: the session gave no SCSI status.
        UnitError, ScsiFormatError: the list itself could not be read.
    """
    found: list[LunInfo] = []
    problems: list[str] = []
    for lun, field in (await run(session, 0, list_luns(), patience)).items():
        try:
            found.append(await run(session, field, examine(lun, field), patience))
        except (UnitError, ScsiFormatError) as error:
            problems.append(f"LUN {lun}: {error}")
    return tuple(found), tuple(problems)
