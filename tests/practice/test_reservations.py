"""What a practice disk keeps from whom, compares before it writes, and has ordered of its port groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator.model import Access
from initiator.practice.device import Device
from initiator.practice.nexus import ACCESS_CHANGED, Nexus
from initiator.practice.unit import Unit
from initiator.scsi import alua, commands, inquiry, reservations
from initiator.scsi.commands import Status
from initiator.scsi.reservations import Ask, Keys, Order, Registration, Reservation, Type
from initiator.scsi.sense import Key, parse_sense
from tests.practice.test_unit import LUN0, Bench

MINE, THEIRS, THIRD = 0xA, 0xB, 0xC
BLOCK = 512


class Cluster(Bench):
    """A disk with three initiators; `status` runs a command of one of them and gives its status."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.one = self.nexus
        self.two, self.three = self.enter("iqn.2026-11.io.mooring.test:b"), self.enter("iqn.2026-11.io.mooring.test:c")
        for nexus in (self.two, self.three):
            nexus.attentions.clear()

    def order(self, nexus: Nexus, order: Order, key: int, new: int = 0, kind: int = 0) -> int:
        return self.run(*reservations.reserve_out(order, key, new, kind), nexus=nexus).status

    def register(self, *pairs: tuple[Nexus, int]) -> None:
        for nexus, key in pairs:
            assert self.order(nexus, Order.REGISTER, 0, key) == Status.GOOD

    def status(self, nexus: Nexus, cdb: bytes, data: bytes = b"") -> int:
        return self.run(cdb, data, nexus=nexus).status

    def holder(self) -> Reservation | None:
        answer = self.run(reservations.reserve_in(Ask.READ_RESERVATION))
        return reservations.parse_reservation(answer.data)

    def keys(self) -> Keys:
        return reservations.parse_keys(self.run(reservations.reserve_in(Ask.READ_KEYS)).data)

    def told(self, nexus: Nexus) -> int | None:
        return nexus.next_attention("disk")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.store.close()


def test_registrations_are_counted_and_told(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    assert cluster.keys() == Keys(2, (MINE, THEIRS))
    assert cluster.holder() is None
    assert cluster.order(cluster.one, Order.RESERVE, MINE, kind=Type.WRITE_EXCLUSIVE) == Status.GOOD
    assert cluster.holder() == Reservation(MINE, Type.WRITE_EXCLUSIVE)
    status = reservations.parse_full_status(cluster.run(reservations.reserve_in(Ask.READ_FULL_STATUS)).data)
    isid = "800000000001"
    assert status == (
        Registration(MINE, "iqn.2026-11.io.mooring.test:a", isid, True, Type.WRITE_EXCLUSIVE, port=1),
        Registration(THEIRS, "iqn.2026-11.io.mooring.test:b", isid, port=1),
    )
    known = reservations.parse_capabilities(cluster.run(reservations.reserve_in(Ask.REPORT_CAPABILITIES)).data)
    assert (known.types, known.persist) == (frozenset(Type), False)


def test_a_wrong_key_changes_nothing(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE))
    for order in (Order.REGISTER, Order.RESERVE, Order.RELEASE, Order.CLEAR, Order.PREEMPT):
        assert cluster.order(cluster.one, order, THEIRS, 1, Type.WRITE_EXCLUSIVE) == Status.RESERVATION_CONFLICT
        assert cluster.order(cluster.two, order, MINE, 1, Type.WRITE_EXCLUSIVE) == Status.RESERVATION_CONFLICT
    assert cluster.keys() == Keys(1, (MINE,))
    assert cluster.order(cluster.two, Order.REGISTER_AND_IGNORE, 0x99, THEIRS) == Status.GOOD
    assert cluster.keys() == Keys(2, (MINE, THEIRS))


READ, WRITE = commands.read(0, 1), commands.write(0, 1)
DATA = bytes(BLOCK)


@pytest.mark.parametrize("kind", Type)
def test_a_reservation_keeps_out_whom_its_type_says(cluster: Cluster, kind: Type) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    assert cluster.order(cluster.one, Order.RESERVE, MINE, kind=kind) == Status.GOOD
    conflict = Status.RESERVATION_CONFLICT
    assert cluster.status(cluster.one, WRITE, DATA) == Status.GOOD
    assert cluster.status(cluster.two, WRITE, DATA) == (Status.GOOD if kind.of_registrants else conflict)
    assert cluster.status(cluster.three, WRITE, DATA) == conflict
    reads = Status.GOOD if kind.of_registrants or not kind.guards_reads else conflict
    assert cluster.status(cluster.two, READ) == reads
    assert cluster.status(cluster.three, READ) == (conflict if kind.guards_reads else Status.GOOD)
    for always in (commands.test_unit_ready(), commands.inquiry(), commands.read_capacity16()):
        assert cluster.status(cluster.three, always) == Status.GOOD
    assert cluster.status(cluster.three, commands.synchronize_cache16()) == conflict


def test_a_second_reservation_is_refused_and_the_same_again_is_not(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    for _ in range(2):
        assert cluster.order(cluster.one, Order.RESERVE, MINE, kind=Type.EXCLUSIVE_ACCESS) == Status.GOOD
    for nexus, key, kind in (
        (cluster.one, MINE, Type.WRITE_EXCLUSIVE),
        (cluster.two, THEIRS, Type.EXCLUSIVE_ACCESS),
    ):
        assert cluster.order(nexus, Order.RESERVE, key, kind=kind) == Status.RESERVATION_CONFLICT


def test_a_release_frees_it_and_tells_registrants(cluster: Cluster) -> None:
    kind = Type.WRITE_EXCLUSIVE_REGISTRANTS
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    cluster.order(cluster.one, Order.RESERVE, MINE, kind=kind)
    assert cluster.order(cluster.two, Order.RELEASE, THEIRS, kind=kind) == Status.GOOD  # not its own: nothing happens
    assert cluster.holder() == Reservation(MINE, kind)
    wrong = cluster.run(*reservations.reserve_out(Order.RELEASE, MINE, 0, Type.EXCLUSIVE_ACCESS))
    assert parse_sense(wrong.sense).code == 0x2604
    assert cluster.order(cluster.one, Order.RELEASE, MINE, kind=kind) == Status.GOOD
    assert cluster.holder() is None
    assert (cluster.told(cluster.two), cluster.told(cluster.one)) == (0x2A04, None)


def test_leaving_gives_the_reservation_up(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    cluster.order(cluster.one, Order.RESERVE, MINE, kind=Type.WRITE_EXCLUSIVE)
    assert cluster.order(cluster.one, Order.REGISTER, MINE, 0) == Status.GOOD
    assert (cluster.holder(), cluster.keys()) == (None, Keys(3, (THEIRS,)))


def test_all_registrants_hold_until_the_last_has_left(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    cluster.order(cluster.one, Order.RESERVE, MINE, kind=Type.EXCLUSIVE_ACCESS_ALL)
    cluster.order(cluster.one, Order.REGISTER, MINE, 0)
    assert cluster.holder() == Reservation(0, Type.EXCLUSIVE_ACCESS_ALL)
    cluster.order(cluster.two, Order.REGISTER, THEIRS, 0)
    assert cluster.holder() is None


def test_clearing_ends_everything_and_tells_the_others(cluster: Cluster) -> None:
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS))
    cluster.order(cluster.two, Order.RESERVE, THEIRS, kind=Type.WRITE_EXCLUSIVE)
    assert cluster.order(cluster.one, Order.CLEAR, MINE) == Status.GOOD
    assert (cluster.holder(), cluster.keys()) == (None, Keys(3))
    assert cluster.told(cluster.two) == 0x2A03


def test_a_dead_holder_is_preempted(cluster: Cluster) -> None:
    kind = Type.WRITE_EXCLUSIVE_REGISTRANTS
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS), (cluster.three, THIRD))
    cluster.order(cluster.two, Order.RESERVE, THEIRS, kind=kind)
    assert cluster.order(cluster.one, Order.PREEMPT, MINE, THEIRS, Type.EXCLUSIVE_ACCESS) == Status.GOOD
    assert cluster.holder() == Reservation(MINE, Type.EXCLUSIVE_ACCESS)
    assert cluster.keys().keys == (MINE, THIRD)
    assert (cluster.told(cluster.two), cluster.told(cluster.three)) == (0x2A05, 0x2A04)
    assert cluster.status(cluster.two, WRITE, DATA) == Status.RESERVATION_CONFLICT


def test_preempting_a_bystander_leaves_the_reservation(cluster: Cluster) -> None:
    kind = Type.WRITE_EXCLUSIVE_REGISTRANTS
    cluster.register((cluster.one, MINE), (cluster.two, THEIRS), (cluster.three, THIRD))
    cluster.order(cluster.two, Order.RESERVE, THEIRS, kind=kind)
    assert cluster.order(cluster.one, Order.PREEMPT, MINE, THIRD, kind) == Status.GOOD
    assert cluster.holder() == Reservation(THEIRS, kind)
    assert cluster.keys().keys == (MINE, THEIRS)
    assert cluster.order(cluster.one, Order.PREEMPT, MINE, 0x77, kind) == Status.RESERVATION_CONFLICT
    answer = cluster.run(*reservations.reserve_out(Order.PREEMPT, MINE, 0, kind))
    assert parse_sense(answer.sense).code == 0x2600


def test_what_is_not_served_is_refused(cluster: Cluster) -> None:
    for cdb, data, code in (
        (*reservations.reserve_out(Order.REGISTER, 0, MINE, all_ports=True), 0x2600),
        (*reservations.reserve_out(Order.REGISTER, 0, MINE, persist=True), 0x2600),
        (*reservations.reserve_out(Order.PREEMPT_AND_ABORT, 0, MINE), 0x2400),
        (*reservations.reserve_out(Order.RESERVE, 0, 0, 2), 0x2400),
        (reservations.reserve_out(Order.REGISTER, 0, MINE)[0], bytes(8), 0x1A00),
        (bytes.fromhex("5e1f0000000000002000"), b"", 0x2400),
    ):
        assert cluster.code(cdb, data) == (Key.ILLEGAL_REQUEST, code)
    assert cluster.keys() == Keys(0)


# --- COMPARE AND WRITE ----------------------------------------------------------------------------------------------


def test_blocks_are_written_only_where_they_are_as_expected(cluster: Cluster) -> None:
    old, new = bytes(BLOCK), b"n" * BLOCK
    cdb = commands.compare_and_write(3, 1)
    assert cdb.hex() == "89000000000000000003000000010000"
    assert cluster.run(cdb, old + new).status == Status.GOOD
    assert bytes(cluster.run(commands.read(3, 1)).data) == new
    lost = cluster.run(cdb, new[:40] + b"x" + new[41:] + old)
    sense = parse_sense(lost.sense)
    assert (sense.key, sense.code, sense.information) == (Key.MISCOMPARE, 0x1D00, 40)
    assert bytes(cluster.run(commands.read(3, 1)).data) == new


def test_a_compare_beyond_the_limits_is_refused(cluster: Cluster) -> None:
    page = inquiry.parse_block_limits(cluster.run(commands.inquiry(True, 0xB0)).data)
    assert page.maximum_compare == 128
    assert cluster.code(commands.compare_and_write(0, 129), bytes(258 * BLOCK)) == (Key.ILLEGAL_REQUEST, 0x2400)
    assert cluster.code(commands.compare_and_write(0, 2), bytes(BLOCK)) == (Key.ILLEGAL_REQUEST, 0x1A00)


# --- SET TARGET PORT GROUPS -----------------------------------------------------------------------------------------


def test_port_groups_change_on_order_where_that_is_allowed(cluster: Cluster) -> None:
    order = alua.set_port_groups([(1, Access.STANDBY), (2, Access.OPTIMIZED)])
    assert cluster.code(*order) == (Key.ILLEGAL_REQUEST, 0x2000)
    unit = Unit(dataclasses.replace(cluster.config, explicit_alua=True), cluster.store)
    cluster.device = Device({0: unit}, cluster.ports)
    one = cluster.enter("iqn.2026-11.io.mooring.test:a", 1)
    two = cluster.enter("iqn.2026-11.io.mooring.test:b", 2)
    one.attentions.clear()
    two.attentions.clear()
    assert inquiry.parse_standard(cluster.run(commands.inquiry(), nexus=one).data).tpgs == 3
    assert cluster.run(*order, nexus=one).status == Status.GOOD
    groups = alua.parse_port_groups(cluster.run(commands.report_target_port_groups(), nexus=one).data)
    assert [each.access for each in groups] == [Access.STANDBY, Access.OPTIMIZED]
    assert (cluster.told(two), cluster.told(one)) == (ACCESS_CHANGED, None)
    unknown = cluster.device.start(one, LUN0, alua.set_port_groups([(9, Access.OPTIMIZED)])[0])
    assert unknown.finish(memoryview(alua.set_port_groups([(9, Access.OPTIMIZED)])[1])).status  # type: ignore[union-attr]
