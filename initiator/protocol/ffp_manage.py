"""Task management and its escalation (RFC 7143, 4.2.2.1, 4.2.3.3, 7.11, 11.5, 11.6).

A task that hangs is ended by ABORT TASK; where that is refused or not answered by a reset of its unit, then by one of
the target, at last by a new session. Where one task hangs, all do mostly, and a target has to take only one immediate
request of this kind at a time (4.2.2.1): few aborts are under way at once, and one reset is made for all tasks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from initiator.protocol.errors import ConnectionLost, RemoteProtocolError
from initiator.protocol.ffp_commands import Commands
from initiator.protocol.ffp_numbers import MASK, at_most
from initiator.protocol.ffp_task import Management, Task, TaskError
from initiator.protocol.pdu import NO_LUN, NO_TAG, Pdu, TaskManagement, TaskManagementResponse

ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LU_RESET, TARGET_WARM_RESET, TARGET_COLD_RESET = 1, 2, 4, 5, 6, 7
TASK_REASSIGN = 8
QUERY_TASK, QUERY_TASK_SET, NEXUS_RESET = 9, 10, 11
"""Functions of RFC 7144, for targets that speak iSCSIProtocolLevel 2."""
_OF_A_UNIT = (ABORT_TASK_SET, CLEAR_TASK_SET, LU_RESET)
_OF_THE_TARGET = (TARGET_WARM_RESET, TARGET_COLD_RESET, NEXUS_RESET)
"""Of these every task of ours ends; they name no unit."""
COMPLETE, NO_SUCH_TASK = 0, 1
FUNCTION_SUCCEEDED = 7
"""The answer to a query that means yes: the task, or one of the task set, is still there (RFC 7144, 4.2)."""
_STRONGER = {ABORT_TASK: LU_RESET, LU_RESET: TARGET_WARM_RESET}
"""What follows when a function is refused or not answered (7.11); after the last the session is renewed."""
_TOO_MANY = 0x06
"""The reason of a Reject: too many immediate commands; the request may be sent again (11.17.1)."""

AT_ONCE = 4
"""Requests that may be under way at a time; one, as soon as the target has said that they are too many."""


class Manager:
    """The task management requests of one connection."""

    def __init__(
        self, commands: Commands, *, timeout: float, tag: Callable[[], int], send: Callable[[Pdu], None]
    ) -> None:
        """`tag` gives a free task tag, `send` queues a PDU; `timeout` is how long the target may take to answer."""
        self._commands = commands
        self._timeout = timeout
        self._tag = tag
        self._send = send
        self._most = AT_ONCE
        self._sent: dict[int, Management] = {}
        """By their tags. Those that count as not answered stay: a late answer is still an answer."""
        self._queue: deque[Management] = deque()
        """To be sent, for the first time or again."""
        self._resets: dict[bytes, Management] = {}
        """The reset that is being made for hanging tasks, by the unit's LUN; under b"" that of the target."""

    @property
    def waiting(self) -> bool:
        """True if the target owes an answer."""
        return bool(self._sent)

    def uses(self, tag: int) -> bool:
        """True if the task tag belongs to a request."""
        return tag in self._sent

    def request(
        self, function: int, lun: bytes, done: Callable[[Management], None] | None, task: Task | None
    ) -> Management:
        """Send what a user asks for; RefCmdSN and the referenced tag belong to single tasks (11.5.4, 11.5.5)."""
        management = Management(
            function,
            lun,
            done=done,
            task=task,
            tag=NO_TAG if task is None else task.itt,
            ref_cmd_sn=0 if task is None else task.cmd_sn,
            hanging={},
        )
        self._transmit(management)
        return management

    def condemn(self, task: Task, error: TaskError) -> None:
        """See that a task ends that was sent, with `error` unless its own answer is faster."""
        task.verdict = error
        self._commands.counters.aborts += 1
        self._begin(ABORT_TASK, task.lun, {task.itt: task})
        self._proceed()

    def tick(self) -> None:
        """Escalate what was not answered in time, and send again what the target could not take.

        Raises:
            ConnectionLost: a reset was not answered; only a new login helps.
        """
        now = self._commands.now
        if self._commands.sendable:
            for management in [each for each in self._sent.values() if each.deadline <= now]:
                management.deadline = math.inf
                self._fail(management)
            self._proceed()

    def abandon(self) -> None:
        """The connection is gone: tell those who wait."""
        managed = [*self._sent.values(), *self._queue]
        self._sent.clear()
        self._queue.clear()
        self._resets.clear()
        for management in managed:
            if management.done is not None:
                management.done(management)

    def answered(self, pdu: TaskManagementResponse) -> None:
        """The target has answered.

        Raises:
            RemoteProtocolError: there was no such request.
            ConnectionLost: it refuses the last reset; only a new login helps.
        """
        management = self._sent.get(pdu.initiator_task_tag)
        if management is None:
            raise RemoteProtocolError("answer to a task management request that was never sent (RFC 7143, 11.6)")
        self._end(management, pdu.response)

    def rejected(self, tag: int, reason: int) -> bool:
        """The target has rejected a PDU; False if it was none of these requests.

        Raises:
            ConnectionLost: it refuses the last reset; only a new login helps.
        """
        management = self._sent.get(tag)
        if management is None:
            return False
        if reason == _TOO_MANY and self._commands.now < management.until:
            # It goes out again after an answer or with the next tick; at once it would only be rejected again.
            del self._sent[tag]
            self._most = 1
            self._queue.appendleft(management)
        else:
            self._end(management, None)
        return True

    def _begin(self, function: int, lun: bytes, hanging: dict[int, Task]) -> None:
        """Have tasks ended that hang on a unit: by a reset under way that reaches it, or by a request of their own."""
        reset = self._resets.get(b"") or (self._resets.get(lun) if function != TARGET_WARM_RESET else None)
        if reset is not None:
            reset.hanging.update(hanging)
        elif function == ABORT_TASK:
            for tag, task in hanging.items():
                self._queue.append(
                    Management(function, lun, task=task, tag=tag, ref_cmd_sn=task.cmd_sn, hanging={tag: task})
                )
        else:
            waiting, self._queue = self._queue, deque()
            for weaker in waiting:
                if weaker.hanging and (function == TARGET_WARM_RESET or weaker.lun == lun):
                    self._forget(weaker)
                    hanging.update(weaker.hanging)
                else:
                    self._queue.append(weaker)
            reset = Management(function, lun, hanging=hanging)
            self._resets[_reach(reset)] = reset
            self._queue.appendleft(reset)

    def _proceed(self) -> None:
        """Send what waits, as many as may be under way."""
        if not self._queue:
            return
        room = self._most - sum(each.deadline != math.inf for each in self._sent.values())
        while self._queue and room > 0 and self._commands.sendable:
            management = self._queue.popleft()
            if management.hanging:
                management.hanging = self._still(management)
                if not management.hanging:
                    self._forget(management)
                    continue
            self._transmit(management)
            room -= 1

    def _transmit(self, management: Management) -> None:
        numbers, now = self._commands.numbers, self._commands.now
        if management.until == math.inf:
            management.until = now + self._timeout
        management.itt = tag = self._tag()
        management.cmd_sn = numbers.cmd_sn
        management.deadline = now + self._timeout
        self._sent[tag] = management
        self._send(
            TaskManagement(
                function=management.function,
                lun=NO_LUN if management.function in _OF_THE_TARGET else management.lun,
                initiator_task_tag=tag,
                referenced_task_tag=management.tag,
                cmd_sn=numbers.cmd_sn,
                exp_stat_sn=numbers.exp_stat_sn,
                ref_cmd_sn=management.ref_cmd_sn,
            )
        )

    def _end(self, management: Management, response: int | None) -> None:
        del self._sent[management.itt]
        management.response = response
        if response == COMPLETE or (response == NO_SUCH_TASK and management.function == ABORT_TASK):
            for task in self._ended_by(management):
                task.error = task.verdict or TaskError("the task was ended by task management", code="aborted")
                self._commands.finish(task)
            # A task that was sent only after the reset to which it was added.
            for tag, task in self._take(management).items():
                self._begin(ABORT_TASK, task.lun, {tag: task})
        else:
            self._fail(management)
        if management.done is not None:
            management.done(management)
        self._proceed()

    def _ended_by(self, management: Management) -> list[Task]:
        """Tasks for which no answer will come after this function (11.6.1): those sent before it."""
        live = self._commands.live
        if management.function in (QUERY_TASK, QUERY_TASK_SET):
            return []
        if management.task is not None:
            # One that has ended meanwhile may be under way again, as another task (4.2.3.3).
            return [management.task] if live.get(management.tag) is management.task else []
        before = (management.cmd_sn - 1) & MASK
        older = [task for task in live.values() if at_most(task.cmd_sn, before)]
        if management.function in _OF_A_UNIT:
            return [task for task in older if task.lun == management.lun]
        return older if management.function in _OF_THE_TARGET else []

    def _fail(self, management: Management) -> None:
        """A function was refused or not answered; if tasks hang on it, the next stronger one follows."""
        hanging = self._take(management)
        if not hanging:
            return
        stronger = _STRONGER.get(management.function)
        if stronger is None:
            raise ConnectionLost("the target answers neither the command nor a reset", code="reset-failed")
        self._begin(stronger, management.lun, hanging)

    def _still(self, management: Management) -> dict[int, Task]:
        """Those that hang on it and have not ended by themselves."""
        live = self._commands.live
        return {tag: task for tag, task in management.hanging.items() if live.get(tag) is task}

    def _take(self, management: Management) -> dict[int, Task]:
        """Those that still hang on it; from here on nothing does."""
        hanging, management.hanging = self._still(management), {}
        self._forget(management)
        return hanging

    def _forget(self, management: Management) -> None:
        """Add no further tasks to it."""
        reach = _reach(management)
        if self._resets.get(reach) is management:
            del self._resets[reach]


def _reach(management: Management) -> bytes:
    return b"" if management.function == TARGET_WARM_RESET else management.lun
