"""Task management at the target (RFC 7143, 4.2.3, 11.5, 11.6)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

from initiator.practice.nexus import COMMANDS_CLEARED, POWER_ON
from initiator.practice.numbers import after
from initiator.protocol import pdu

if TYPE_CHECKING:
    from initiator.practice.session import Host, Session
    from initiator.practice.tasks import Task

COMPLETE, NO_TASK, NO_LUN = 0, 1, 2
NO_REASSIGNMENT, NOT_SUPPORTED, REJECTED = 4, 5, 255


class Function(enum.IntEnum):
    """What a request asks for (11.5.1)."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A request that is answered when these tasks have ended; `then` follows the answer."""

    request: pdu.TaskManagement
    tasks: tuple[Task, ...]
    then: Callable[[], None]


def perform(session: Session, host: Host, request: pdu.TaskManagement) -> Pending | None:
    """Do what is asked; None if it was answered already."""
    function = request.function
    if function == Function.ABORT_TASK:
        session.managed(request, _abort_task(session, request))
        return None
    if function in (Function.TARGET_WARM_RESET, Function.TARGET_COLD_RESET):
        return _target_reset(session, host, request)
    if function in (Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET, Function.LOGICAL_UNIT_RESET):
        return _task_set(session, host, request)
    session.managed(request, NO_REASSIGNMENT if function == Function.TASK_REASSIGN else NOT_SUPPORTED)
    return None


def _abort_task(session: Session, request: pdu.TaskManagement) -> int:
    task = session.tasks.active.get(request.referenced_task_tag)
    if task is not None:
        if task.lun != request.lun:
            return REJECTED
        session.tasks.abort(task, at_once=True)
        return COMPLETE
    # An earlier command that never came is taken as received, so that the gap in the numbers closes (11.6.1).
    if after(request.cmd_sn, request.ref_cmd_sn) > 0 and session.admit(request.ref_cmd_sn, False, lambda: None):
        return COMPLETE
    return NO_TASK


def _task_set(session: Session, host: Host, request: pdu.TaskManagement) -> Pending | None:
    device = session.device
    unit = device.unit(request.lun)
    if unit is None:
        session.managed(request, NO_LUN)
        return None
    own = _abort_all(session, request.lun)
    if request.function != Function.ABORT_TASK_SET:
        for other in _others(session, host):
            cleared = other.tasks.on_lun(request.lun)
            for task in cleared:
                other.tasks.abort(task, at_once=True)
            if cleared and request.function == Function.CLEAR_TASK_SET:
                other.nexus.attend(unit.config.name, COMMANDS_CLEARED)
    if request.function == Function.LOGICAL_UNIT_RESET:
        device.reset(unit)
    return Pending(request, own, lambda: None)


def _target_reset(session: Session, host: Host, request: pdu.TaskManagement) -> Pending:
    device = session.device
    own = _abort_all(session, None)
    for other in _others(session, host):
        for task in other.tasks.on_lun(None):
            other.tasks.abort(task, at_once=True)
    cold = request.function == Function.TARGET_COLD_RESET
    for unit in device.luns.values():
        if cold:
            device.nexuses.attend(unit.config.name, POWER_ON)
        else:
            device.reset(unit)

    def then() -> None:
        for one in host.sessions_of(device) if cold else ():
            one.link.finish()
            one.broken("target cold reset")

    return Pending(request, own, then)


def _abort_all(session: Session, lun: bytes | None) -> tuple[Task, ...]:
    """Abort the tasks of the issuing session; those that are owed data end when it has come (4.2.3.3, step a)."""
    affected = tuple(session.tasks.on_lun(lun))
    for task in affected:
        session.tasks.abort(task, at_once=False)
    return affected


def _others(session: Session, host: Host) -> list[Session]:
    return [other for other in host.sessions_of(session.device) if other is not session]
