"""Which paths carry I/O, with and without asymmetric access."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.engine.device import DeviceOptions
from initiator.engine.selector import SELECTORS, DevicePath, first, in_turn, least_busy, select, soonest
from initiator.errors import BadInputError
from initiator.model import Access, PathState, SessionState
from initiator.scsi.alua import PortGroup
from initiator.scsi.commands import Op
from initiator.scsi.sense import Key, Sense
from tests.engine.disk_rig import OPTIONS, Rig, look
from tests.engine.scsi_world import FakeSession, Unit, check

BLOCK = 512


def paths(*accesses: Access, alua: bool = True) -> list[DevicePath]:
    unit = Unit()
    unit.tpgs = 1 if alua else 0
    unit.groups = {number + 1: Access.OPTIMIZED for number in range(len(accesses))}
    made = []
    for number, access in enumerate(accesses):
        session = FakeSession(unit, f"s{number}", number + 1)
        path = DevicePath(session, look(session), session.name, now=0.0, wall=0.0)
        path.access = access
        made.append(path)
    return made


def names(chosen: list[DevicePath]) -> list[str]:
    return [path.name for path in chosen]


@pytest.mark.parametrize(
    ("accesses", "expected"),
    [
        ((Access.OPTIMIZED, Access.OPTIMIZED), ["s0", "s1"]),
        ((Access.NON_OPTIMIZED, Access.OPTIMIZED), ["s1"]),
        ((Access.NON_OPTIMIZED, Access.STANDBY), ["s0"]),
        ((Access.UNKNOWN, Access.NON_OPTIMIZED), ["s1"]),
        ((Access.UNKNOWN, Access.STANDBY), ["s0"]),
        ((Access.STANDBY, Access.UNAVAILABLE), []),
        ((Access.TRANSITIONING, Access.OFFLINE), []),
        ((), []),
    ],
)
def test_the_best_access_state_wins(accesses: tuple[Access, ...], expected: list[str]) -> None:
    assert names(select(paths(*accesses), 0.0)) == expected


def test_without_alua_all_are_alike() -> None:
    assert names(select(paths(Access.UNKNOWN, Access.UNKNOWN, alua=False), 0.0)) == ["s0", "s1"]


def test_silence_counts_more_than_access_and_settling_more_than_access() -> None:
    good, poor = paths(Access.OPTIMIZED, Access.NON_OPTIMIZED)
    good.settle_until = 5.0
    assert names(select([good, poor], 4.0)) == ["s1"]
    assert names(select([good, poor], 5.0)) == ["s0"]
    good.session.suspect = True  # type: ignore[misc]
    assert names(select([good, poor], 5.0)) == ["s1"]
    poor.held = "gone"
    assert names(select([good, poor], 5.0)) == ["s0"]
    poor.held = None
    poor.checked = False
    assert names(select([good, poor], 5.0)) == ["s0"]


def test_the_preferred_group_is_taken_among_equals() -> None:
    one, two = paths(Access.OPTIMIZED, Access.OPTIMIZED)
    for path in (one, two):
        path.learn([PortGroup(1, Access.OPTIMIZED), PortGroup(2, Access.OPTIMIZED, preferred=True)])
    assert names(select([one, two], 0.0)) == ["s1"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_the_least_busy_is_least_busy(loads: list[int], turn: int) -> None:
    made = paths(*[Access.OPTIMIZED] * len(loads))
    for path, load in zip(made, loads, strict=True):
        path.in_flight = load
    assert least_busy(made, turn).in_flight == min(loads)


def test_equals_take_turns() -> None:
    made = paths(*[Access.OPTIMIZED] * 3)
    assert {least_busy(made, turn).name for turn in range(3)} == {"s0", "s1", "s2"}


def test_failover_stays_with_the_first_path() -> None:
    made = paths(*[Access.OPTIMIZED] * 3)
    made[0].in_flight = 9
    assert {first(made, turn).name for turn in range(9)} == {"s0"}


def test_round_robin_goes_round() -> None:
    made = paths(*[Access.OPTIMIZED] * 3)
    made[1].in_flight = 9
    assert [in_turn(made, turn).name for turn in range(6)] == ["s0", "s1", "s2"] * 2


@pytest.mark.parametrize(
    ("loads", "latencies", "expected"),
    [
        ((0, 0), (900.0, 100.0), "s1"),
        ((0, 5), (900.0, 100.0), "s1"),
        ((0, 9), (900.0, 100.0), "s0"),
        ((3, 3), (None, 100.0), "s0"),
    ],
)
def test_the_path_that_answers_soonest_is_taken(
    loads: tuple[int, ...], latencies: tuple[float | None, ...], expected: str
) -> None:
    made = paths(*[Access.OPTIMIZED] * 2)
    for path, load, latency in zip(made, loads, latencies, strict=True):
        path.in_flight, path.latency_us = load, latency
    assert {soonest(made, turn).name for turn in range(1, 64)} == {expected}


def test_a_slow_path_is_tried_again_now_and_then() -> None:
    made = paths(*[Access.OPTIMIZED] * 2)
    made[0].latency_us, made[1].latency_us = 1e6, 1.0
    taken = [soonest(made, turn).name for turn in range(256)]
    assert 0 < taken.count("s0") <= 4


# In a disk


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("failover", [6, 0]), ("round-robin", [3, 3]), ("least-queue", [3, 3]), ("least-service-time", [0, 6])],
)
def test_a_disk_shares_out_as_it_is_told(selector: str, expected: list[int]) -> None:
    rig = Rig(options=dataclasses.replace(OPTIONS, selector=selector))
    rig.device.paths[0].latency_us, rig.device.paths[1].latency_us = 1e6, 1.0
    for _ in range(6):
        rig.read(0, BLOCK)
    assert [len(session.pending) for session in rig.sessions] == expected


def test_only_known_selectors_are_taken() -> None:
    assert DeviceOptions().selector in SELECTORS
    with pytest.raises(BadInputError, match="selector"):
        DeviceOptions(selector="random")


def test_a_group_is_ordered_to_serve_only_when_none_does() -> None:
    rig = alua_rig(tpgs=3)
    rig.unit.groups = {1: Access.UNAVAILABLE, 2: Access.NON_OPTIMIZED}
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x06))
    ends, _ = rig.read(0, BLOCK)
    rig.settle(10)
    assert (ends, rig.asked(Op.SET_TARGET_PORT_GROUPS)) == ([0], [])
    rig.unit.groups = {1: Access.UNAVAILABLE, 2: Access.STANDBY}
    ends, _ = rig.read(0, BLOCK)
    rig.settle(2)
    assert ends == [0]
    assert rig.unit.groups == {1: Access.UNAVAILABLE, 2: Access.OPTIMIZED}
    assert len(rig.asked(Op.SET_TARGET_PORT_GROUPS)) == 1
    assert rig.told("port group 2 was ordered to serve")


def test_a_group_in_standby_stays_there_while_another_one_serves() -> None:
    rig = alua_rig(tpgs=3)
    rig.unit.groups = {1: Access.NON_OPTIMIZED, 2: Access.STANDBY}
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x06))
    ends, _ = rig.read(0, BLOCK)
    rig.settle(20)
    assert (ends, rig.asked(Op.SET_TARGET_PORT_GROUPS)) == ([0], [])


def test_a_target_that_takes_no_orders_gets_none() -> None:
    rig = alua_rig(tpgs=1)
    rig.unit.groups = {1: Access.STANDBY, 2: Access.STANDBY}
    ends, _ = rig.read(0, BLOCK)
    rig.settle(20)
    assert (ends, rig.asked(Op.SET_TARGET_PORT_GROUPS)) == ([], [])


def test_a_refused_order_is_told_and_not_repeated_at_once() -> None:
    rig = alua_rig(tpgs=3)
    rig.unit.unsupported = {Op.SET_TARGET_PORT_GROUPS.value}
    rig.unit.groups = {1: Access.STANDBY, 2: Access.STANDBY}
    rig.read(0, BLOCK)
    rig.settle(12)
    assert 1 < len(rig.asked(Op.SET_TARGET_PORT_GROUPS)) < 5
    assert rig.told("does not serve on order")


def alua_rig(tpgs: int = 1) -> Rig:
    unit = Unit()
    unit.tpgs = tpgs
    unit.groups = {1: Access.OPTIMIZED, 2: Access.NON_OPTIMIZED}
    return Rig(unit=unit)


def states(rig: Rig) -> list[tuple[PathState, Access]]:
    return [(path.state, path.access) for path in rig.device.paths]


def test_only_the_optimized_path_carries_io() -> None:
    rig = alua_rig()
    assert states(rig) == [(PathState.ACTIVE, Access.OPTIMIZED), (PathState.STANDBY, Access.NON_OPTIMIZED)]
    assert rig.device.paths[1].reason == "a better path is in use"
    for _ in range(3):
        rig.read(0, BLOCK)
    assert [len(session.pending) for session in rig.sessions] == [3, 0]


def test_a_change_of_states_is_read_again_and_followed() -> None:
    rig = alua_rig()
    rig.unit.groups = {1: Access.NON_OPTIMIZED, 2: Access.OPTIMIZED}
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x06))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    assert states(rig) == [(PathState.STANDBY, Access.NON_OPTIMIZED), (PathState.ACTIVE, Access.OPTIMIZED)]


@pytest.mark.parametrize("access", [Access.STANDBY, Access.UNAVAILABLE, Access.TRANSITIONING])
def test_a_refusal_for_the_access_state_moves_the_command(access: Access) -> None:
    rig = alua_rig()
    rig.unit.groups[1] = access
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    path = rig.device.paths[0]
    assert path.access is access
    assert path.state is (PathState.FAILED if access is Access.UNAVAILABLE else PathState.STANDBY)
    assert path.reason is not None
    assert path.reason.startswith("its target port group is")
    rig.unit.groups[1] = Access.OPTIMIZED
    rig.settle(6)
    assert states(rig)[0] == (PathState.ACTIVE, Access.OPTIMIZED)


def test_commands_wait_while_no_group_serves() -> None:
    rig = alua_rig()
    rig.unit.groups = {1: Access.TRANSITIONING, 2: Access.TRANSITIONING}
    ends, _ = rig.read(0, BLOCK)
    rig.settle(2)
    assert ends == []
    assert rig.device.queueing
    rig.unit.groups = {1: Access.STANDBY, 2: Access.OPTIMIZED}
    rig.settle(2)
    assert ends == [0]
    assert len(rig.asked(Op.READ)) < 10


def test_a_path_in_standby_stays_well_while_it_is_idle() -> None:
    rig = alua_rig()
    rig.unit.groups[2] = Access.STANDBY
    rig.settle(20)
    assert states(rig)[1] == (PathState.STANDBY, Access.STANDBY)


def test_a_path_that_hid_its_size_is_examined_before_it_serves() -> None:
    unit = Unit()
    unit.tpgs = 1
    unit.groups = {1: Access.OPTIMIZED, 2: Access.STANDBY}
    rig = Rig(unit=unit)
    hidden = rig.device.paths[1]
    before = hidden.info.capacity
    unit.groups = {1: Access.STANDBY, 2: Access.OPTIMIZED}
    unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x06))
    ends, _ = rig.read(0, BLOCK)
    rig.settle()
    assert ends == [0]
    assert (before, hidden.info.capacity) == (None, rig.device.info.capacity)
    assert hidden.state is PathState.ACTIVE


def test_a_standby_path_that_loses_its_session_returns_to_standby() -> None:
    rig = alua_rig()
    rig.unit.groups[2] = Access.STANDBY
    rig.sessions[1].lose()
    rig.sessions[1].come_back()
    rig.settle()
    assert states(rig)[1] == (PathState.STANDBY, Access.STANDBY)


def test_states_that_cannot_be_read_hold_the_path() -> None:
    rig = alua_rig()
    rig.unit.unsupported = {Op.REPORT_TARGET_PORT_GROUPS.value}
    rig.unit.report(Sense(Key.UNIT_ATTENTION, 0x2A, 0x06))
    ends, _ = rig.read(0, BLOCK)
    rig.answer()
    assert ends == [0]
    rig.settle(3)
    after, _ = rig.read(0, BLOCK)
    rig.answer()
    assert after == [0]


def test_a_becoming_ready_unit_is_waited_for() -> None:
    rig = alua_rig()
    rig.unit.script.extend([check(Sense(Key.NOT_READY, 0x04, 0x01))] * 2)
    ends, _ = rig.read(0, BLOCK)
    rig.settle(1)
    assert ends == [0]
    assert rig.sessions[0].state is SessionState.LOGGED_IN
