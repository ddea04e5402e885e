"""What is told of too much, and that it is said how much is not."""

from __future__ import annotations

from initiator.engine.throttle import Throttle
from tests.engine.scsi_world import Clock


def test_some_come_at_once_and_then_one_in_a_while() -> None:
    clock = Clock()
    throttle = Throttle(3, 10.0, clock)
    assert [throttle.admits() for _ in range(5)] == [True, True, True, False, False]
    clock.advance(9.5)
    assert not throttle.admits()
    clock.advance(0.5)
    assert [throttle.admits() for _ in range(2)] == [True, False]


def test_after_a_long_silence_there_is_room_for_as_many_as_before_and_no_more() -> None:
    clock = Clock()
    throttle = Throttle(3, 10.0, clock)
    assert all(throttle.admits() for _ in range(3))
    clock.advance(1000)
    assert [throttle.admits() for _ in range(4)] == [True, True, True, False]


def test_each_that_was_left_out_is_counted_once_and_told_now_and_then() -> None:
    clock = Clock()
    throttle = Throttle(1, 10.0, clock)
    throttle.admits()
    assert throttle.left_out() == 0
    for _ in range(4):
        throttle.admits()
    assert (throttle.left_out(), throttle.left_out()) == (4, 0)
    throttle.admits()
    clock.advance(9)
    assert throttle.left_out() == 0
    clock.advance(1)
    assert (throttle.left_out(), throttle.left_out()) == (1, 0)
