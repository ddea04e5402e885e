"""What a session says of its logical units."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.engine.probe import Answer, LunInfo, examine, field_of, probe, probe_lun, run, same_unit, still_there
from initiator.model import Access
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_task import Task
from initiator.scsi import inquiry
from initiator.scsi.commands import Op, encode_lun, parse_cdb, straight_lun
from initiator.scsi.designators import Designator, Kind
from initiator.scsi.errors import UnitError
from initiator.scsi.sense import Key, Sense, build_sense
from tests.engine.scsi_world import NAA, NEXUS_LOSS, POWER_ON, FakeSession, Unit


@dataclasses.dataclass
class Done:
    status: int
    sense: bytes
    data: bytes


class Executing(FakeSession):
    """The awaitable side of a session."""

    async def execute(
        self, lun: int | bytes, cdb: bytes, data_out: memoryview | None, read_length: int, patience: float, /
    ) -> Done:
        task = Task(lun if isinstance(lun, bytes) else encode_lun(lun), cdb, lambda _: None)
        status, sense, data = self.unit.run(self, task)
        return Done(status, sense, data[:read_length])


@pytest.fixture
def unit() -> Unit:
    return Unit()


async def test_everything_about_a_unit(unit: Unit) -> None:
    info = await probe_lun(Executing(unit, "a"), 0)
    assert info.usable
    assert info.wwid == "naa.6001405a1b2c3d4e5f60718293a4b5c6"
    assert info.names == (info.wwid,)
    assert info.serial == "mooring1"
    assert info.capacity is not None
    assert (info.capacity.blocks, info.capacity.block_bytes, info.capacity.thin) == (64, 512, True)
    assert info.limits == unit.limits
    assert info.can_unmap
    assert (info.write_cache, info.write_protected, info.fua) == (True, False, True)
    assert info.standard.vendor == "MOORING"
    assert (info.access, info.alua, info.problems) == (Access.UNKNOWN, False, ())


@pytest.mark.parametrize(
    ("device_type", "kind", "present"),
    [(1, "tape", True), (5, "cd", True), (8, "changer", True), (0x0C, "controller", False), (0x0D, "enclosure", False)],
)
async def test_other_devices_are_told_by_their_type(unit: Unit, device_type: int, kind: str, present: bool) -> None:
    unit.device_type = device_type
    info = await probe_lun(Executing(unit, "a"), 0)
    assert (info.kind, info.present, info.usable, info.capacity) == (kind, present, False, None)
    assert (info.serial, info.wwid) == ("mooring1", "naa.6001405a1b2c3d4e5f60718293a4b5c6")
    assert not unit.asked(Op.READ_CAPACITY_16)


async def test_access_states_are_read_where_there_are_some(unit: Unit) -> None:
    unit.tpgs = 1
    unit.groups = {1: Access.OPTIMIZED, 2: Access.NON_OPTIMIZED}
    info = await probe_lun(Executing(unit, "a", group=2), 0)
    assert (info.port_group, info.relative_port, info.access) == (2, 2, Access.NON_OPTIMIZED)


async def test_a_port_in_standby_hides_the_size_but_not_the_identity(unit: Unit) -> None:
    unit.tpgs = 1
    unit.groups = {1: Access.OPTIMIZED, 2: Access.STANDBY}
    hidden = await probe_lun(Executing(unit, "b", group=2), 0)
    assert hidden.capacity is None
    assert hidden.reachable
    assert not hidden.usable
    assert any("target port in standby state" in problem for problem in hidden.problems)
    shown = await probe_lun(Executing(unit, "a"), 0)
    assert same_unit(hidden, shown)


async def test_unit_attentions_are_consumed_and_heard(unit: Unit) -> None:
    session = Executing(unit, "a")
    session.attentions.extend([POWER_ON, NEXUS_LOSS])
    heard: list[Sense] = []
    await run(session, 0, still_there(heard.append))
    assert heard == [POWER_ON, NEXUS_LOSS]


async def test_what_the_target_does_not_know_is_noted(unit: Unit) -> None:
    unit.unsupported = {Op.READ_CAPACITY_16.value, Op.MODE_SENSE_6.value, Op.MODE_SENSE_10.value}
    info = await probe_lun(Executing(unit, "a"), 0)
    assert info.capacity is not None
    assert info.capacity.blocks == 64
    assert info.write_cache is None
    assert info.problems == ("MODE SENSE: CHECK CONDITION, ILLEGAL REQUEST: invalid command operation code (05/20/00)",)


async def test_mode_sense_10_stands_in_for_6(unit: Unit) -> None:
    unit.unsupported = {Op.MODE_SENSE_6.value}
    info = await probe_lun(Executing(unit, "a"), 0)
    assert (info.write_cache, info.problems) == (True, ())


async def test_a_unit_without_pages_has_no_identity(unit: Unit) -> None:
    unit.designators = ()
    unit.provisioning = None
    info = await probe_lun(Executing(unit, "a"), 0)
    assert info.wwid is None
    assert not info.can_unmap
    assert not same_unit(info, info)


async def test_a_disk_without_a_size_is_an_error(unit: Unit) -> None:
    unit.unsupported = {Op.READ_CAPACITY_16.value, Op.READ_CAPACITY_10.value}
    session = Executing(unit, "a")
    with pytest.raises(UnitError, match="READ CAPACITY"):
        await probe_lun(session, 0)
    found, problems = await probe(session)
    assert found == ()
    assert len(problems) == 1
    assert problems[0].startswith("LUN 0: READ CAPACITY")


async def test_the_list_of_units_is_probed(unit: Unit) -> None:
    found, problems = await probe(Executing(unit, "a"))
    assert [info.lun for info in found] == [0]
    assert problems == ()


async def test_designators_longer_than_the_first_answer_are_read_again(unit: Unit) -> None:
    many = tuple(Designator(Kind.VENDOR, bytes([number]) * 30, code_set=1) for number in range(12))
    unit.designators = (*many, NAA)
    info = await probe_lun(Executing(unit, "a"), 0)
    assert info.wwid == "naa.6001405a1b2c3d4e5f60718293a4b5c6"


async def test_something_else_than_a_disk_is_not_asked_for_its_size(unit: Unit) -> None:
    class Enclosure(Executing):
        async def execute(
            self, lun: int | bytes, cdb: bytes, data_out: memoryview | None, read_length: int, patience: float, /
        ) -> Done:
            if cdb[0] == 0x12:
                return Done(0, b"", inquiry.build_standard(inquiry.StandardInquiry("V", "P", "1", device_type=0x0D)))
            assert cdb[0] == 0x00
            return Done(0, b"", b"")

    info = await probe_lun(Enclosure(unit, "a"), 0)
    assert not info.usable
    assert info.capacity is None


async def test_a_lost_session_ends_the_probe(unit: Unit) -> None:
    class Broken(Executing):
        async def execute(
            self, lun: int | bytes, cdb: bytes, data_out: memoryview | None, read_length: int, patience: float, /
        ) -> Done:
            raise ConnectionLost("gone")

    with pytest.raises(ConnectionLost):
        await probe_lun(Broken(unit, "a"), 0)


def scripted(*answers: tuple[int, bytes]) -> tuple[list[float], Exception | LunInfo | None]:
    """Drive `still_there` with these answers; the delays it asked for and how it ended."""
    script = still_there()
    ask = next(script)
    delays = [ask.delay]
    for status, sense in answers:
        try:
            ask = script.send(Answer(status, sense))
        except StopIteration:
            return delays, None
        except UnitError as error:
            return delays, error
        delays.append(ask.delay)
    script.close()
    return delays, UnitError("still asking")


def test_busy_is_waited_for_but_not_for_ever() -> None:
    delays, end = scripted((8, b""), (0x28, b""), (0, b""))
    assert (delays, end) == ([0.0, 0.05, 0.1], None)
    delays, end = scripted(*[(8, b"")] * 7)
    assert len(delays) == 7
    assert str(end) == "TEST UNIT READY: BUSY"


def test_endless_attentions_end() -> None:
    ua = build_sense(POWER_ON)
    delays, end = scripted(*[(2, ua)] * 17)
    assert len(delays) == 17
    assert isinstance(end, UnitError)
    aborted = build_sense(Sense(Key.ABORTED_COMMAND))
    assert len(scripted(*[(2, aborted)] * 4)[0]) == 4
    becoming = build_sense(Sense(Key.NOT_READY, 4, 1))
    assert scripted((2, becoming), (0, b"")) == ([0.0, 0.05], None)


class Listing(Executing):
    """The unit is at one LUN field, and the target has a list."""

    def __init__(self, unit: Unit, field: bytes, *others: bytes) -> None:
        super().__init__(unit, "a")
        self.field = field
        self.listed = [field, *others]

    async def execute(
        self, lun: int | bytes, cdb: bytes, data_out: memoryview | None, read_length: int, patience: float, /
    ) -> Done:
        command = parse_cdb(cdb)
        if command.op is Op.REPORT_LUNS:
            body = b"".join(self.listed)
            return Done(0, b"", len(body).to_bytes(4, "big") + bytes(4) + body)
        if lun != self.field:
            return Done(2, build_sense(Sense(Key.ILLEGAL_REQUEST, 0x25)), b"")
        return await super().execute(lun, cdb, data_out, read_length, patience)


@pytest.mark.parametrize("number", [256, 300, 16383])
async def test_a_lun_is_asked_where_its_target_has_it(unit: Unit, number: int) -> None:
    """LIO lists its LUN 256 as 0100h, which has a bus; other targets list theirs as 4100h."""
    for field in (straight_lun(number), encode_lun(number)):
        session = Listing(unit, field, encode_lun(0))
        info = await probe_lun(session, number)
        assert (info.lun, info.field, info.usable) == (number, field, True)
        found, problems = await probe(session)
        assert [(each.lun, each.field) for each in found] == [(number, field)]
        assert problems == ("LUN 0: INQUIRY: CHECK CONDITION, ILLEGAL REQUEST: logical unit not supported (05/25/00)",)
    assert await field_of(session, 9999) == encode_lun(9999), "nothing is known of one that is not listed"


def test_a_script_is_a_plain_generator() -> None:
    script = examine(3, encode_lun(3))
    assert next(script).cdb == bytes(6)
    script.close()
