"""What a disk hears from the session of a path: tasks that are lost, changes of its state, unit attentions."""

from __future__ import annotations

from collections.abc import Sequence

from initiator.engine.dispatch import Dispatcher
from initiator.engine.keeper import Keeper
from initiator.engine.lower import SessionLike
from initiator.engine.selector import DevicePath
from initiator.protocol.errors import ConnectionLost
from initiator.protocol.ffp_task import Task
from initiator.scsi.sense import Sense

_RESET = 0x29


def listen(session: SessionLike, path: DevicePath, keeper: Keeper, dispatcher: Dispatcher) -> None:
    """Take over the session's `on_lost`, `on_state` and `on_sense`; what was set before is called as well."""
    lost_before, state_before, sense_before = session.on_lost, session.on_state, session.on_sense

    def on_lost(which: SessionLike, tasks: Sequence[Task]) -> None:
        rest = dispatcher.handed_back(path, tasks)
        if lost_before is not None:
            lost_before(which, rest)
            return
        for task in rest:
            task.error = ConnectionLost("the connection broke before the command was answered")
            task.done(task)

    def on_state(which: SessionLike) -> None:
        if not dispatcher.over:
            keeper.session_changed(path)
        if state_before is not None:
            state_before(which)

    def on_sense(which: SessionLike, lun: bytes, sense: Sense) -> None:
        # Who was reset is told by unit attentions, too, and counts once.
        if lun == path.lun and sense.asc != _RESET and not dispatcher.over:
            keeper.attention(path, sense)
        if sense_before is not None:
            sense_before(which, lun, sense)

    session.on_sense = on_sense
    session.on_lost = on_lost
    session.on_state = on_state
