"""When a silent target is pinged, suspected and given up, to the tick, with a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from initiator.engine.liveness import Liveness
from initiator.engine.session_config import SessionConfig
from initiator.engine.transport import Transport
from initiator.model import Portal
from initiator.protocol.errors import ConnectionLost


class Silent(SimpleNamespace):
    """A connection, and its protocol core, to a target that said something at 0 and never again."""

    last_received = 0.0
    last_drained = 0.0
    waiting = False
    kicked = 0

    def __init__(self) -> None:
        super().__init__(core=self, pinged=[], dropped=[])

    def ping(self, now: float) -> bool:
        if self.waiting:
            return False
        self.pinged.append(now)
        self.waiting = True
        return True

    def kick(self) -> None:
        self.kicked += 1

    def drop(self, error: ConnectionLost) -> None:
        self.dropped.append(str(error))


def look(liveness: Liveness, connection: Silent, tick: int) -> bool | None:
    """What a tick finds, in tenths of a second; None where it does not judge."""
    now = tick / 10
    return None if liveness.stalled(now) else liveness.suspect(cast(Transport, connection), now)


@pytest.fixture
def liveness() -> Liveness:
    timing = {"ping_interval": 0.2, "suspect_after": 0.6, "lost_after": 1.5}
    return Liveness(SessionConfig("iqn.x:t", Portal("127.0.0.1", 3260), "iqn.x:i", **timing), 0.0)  # type: ignore[arg-type]


@pytest.mark.check(124)
def test_silence_is_first_pinged_then_suspect_and_then_the_end(liveness: Liveness) -> None:
    connection = Silent()
    found = {tick: look(liveness, connection, tick) for tick in range(1, 15)}
    assert (connection.pinged, connection.kicked) == ([0.2], 1)
    assert [tick for tick, suspect in found.items() if suspect] == list(range(6, 15))
    assert connection.dropped == []
    assert look(liveness, connection, 15) is False
    assert connection.dropped == ["the target has been silent for 1.5 s"]


@pytest.mark.check(124)
def test_what_a_socket_still_takes_is_no_silence(liveness: Liveness) -> None:
    connection = Silent()
    for tick in range(1, 15):
        connection.last_drained = tick / 10
        assert look(liveness, connection, tick) is False
    assert liveness.quiet == 0.0


def test_a_tick_that_was_held_up_judges_nobody(liveness: Liveness) -> None:
    connection = Silent()
    look(liveness, connection, 2)
    assert look(liveness, connection, 20) is None
    connection.last_received = 2.0
    connection.waiting = False
    assert look(liveness, connection, 21) is False
    assert connection.dropped == []
