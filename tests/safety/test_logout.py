"""The logout of a session of the kernel that has lost its connection: an iscsid that was started anew logs in again."""

from __future__ import annotations

import math
from pathlib import Path

from safety.journal import Kind, Outcome, read
from safety.world import Ends
from tests.safety.removals import begin, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.test_removal_kernel import assert_gone, planned, run

__all__ = ["quick_disk"]


def notes(path: Path) -> str:
    return "\n".join(record.text for record in read(path) if record.kind is Kind.NOTE)


def away(world: SimKernel, seconds: float) -> None:
    """The second session loses its connection when the first is logged out, and has it again after some seconds."""
    logout = world.logout

    def lose(sid: int) -> None:
        logout(sid)
        if sid == 1:
            world.back_at = {2: world.clock + seconds}

    world.logout = lose  # type: ignore[method-assign]


def test_a_session_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    world = SimKernel()
    written = world.written
    path = begin(tmp_path, planned(world))
    away(world, 5.0)
    assert run(path, world) is Outcome.DONE, last(path)
    assert_gone(world, written)
    assert world.clock >= world.back_at[2]
    assert "is FAILED: its logout would not reach the target. It has 10 s to come back." in notes(path)


def test_a_session_that_stays_away_stops_it_and_when_it_is_back_it_is_gone_on_with(tmp_path: Path) -> None:
    world = SimKernel()
    written = world.written
    path = begin(tmp_path, planned(world))
    away(world, math.inf)
    assert run(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "session-failed"
    assert last(path).data["fix"] == "bring its portal back, then resume"
    assert list(world.sids) == [2]
    world.back_at = {}
    assert run(path, world) is Outcome.DONE, last(path)
    assert_gone(world, written)


def test_the_connection_of_a_session_that_came_back_has_to_be_seen_to_close(tmp_path: Path) -> None:
    """It is another one than when the plan was made."""
    world = SimKernel()
    path = begin(tmp_path, planned(world))
    away(world, 5.0)
    connections = world.connections

    def stays() -> tuple[Ends, ...]:
        return (*connections(), Ends("127.0.0.9", 51002, "127.0.0.2", 3260)) if world.back_at else connections()

    world.connections = stays  # type: ignore[method-assign]
    assert run(path, world) is Outcome.STOPPED
    assert "A TCP connection from port 51002 to 127.0.0.2:3260" in last(path).text
    assert world.sids == {}
