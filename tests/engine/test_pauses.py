"""How long a session waits before it reconnects while no connection lasts."""

from __future__ import annotations

from initiator.engine.waiting import Pauses


def test_one_short_connection_is_followed_at_once_and_the_next_ever_later() -> None:
    pauses = Pauses(0.5, 4.0)
    assert [pauses.after(0.01, 0.0) for _ in range(6)] == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0]


def test_a_connection_that_lasts_starts_anew() -> None:
    pauses = Pauses(0.5, 4.0)
    assert [pauses.after(lived, 0.0) for lived in (0.1, 0.1, 60.0, 0.1, 0.1)] == [0.0, 0.5, 0.0, 0.0, 0.5]


def test_a_target_that_asks_for_more_gets_more() -> None:
    pauses = Pauses(0.5, 4.0)
    assert [pauses.after(0.1, 3.0) for _ in range(4)] == [3.0, 3.0, 3.0, 3.0]
    assert pauses.after(0.1, 0.0) == 4.0
