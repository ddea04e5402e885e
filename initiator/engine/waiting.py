"""Commands that wait for a connection, how those end that need not wait any longer, and how long the next try waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from initiator.protocol.errors import IscsiError
from initiator.protocol.ffp_task import Task, TaskError


class Waiting:
    """A queue of tasks in the order in which they will be sent."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        """Queue a new task behind the others."""
        self._tasks.append(task)

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Queue tasks that were sent once, in their order and before all others."""
        self._tasks.extendleft(reversed(tasks))

    def take(self) -> list[Task]:
        """All of them; the queue is empty afterwards."""
        tasks = list(self._tasks)
        self._tasks.clear()
        return tasks

    def take_late(self, now: float) -> list[Task]:
        """Those whose deadline has passed."""
        late = [task for task in self._tasks if task.deadline is not None and task.deadline <= now]
        for task in late:
            self._tasks.remove(task)
        return late


def fail(tasks: Iterable[Task], error: IscsiError) -> None:
    """End tasks without a status."""
    for task in tasks:
        task.error = error
        task.done(task)


def sort_lost(tasks: Iterable[Task]) -> tuple[list[Task], list[Task]]:
    """Tasks whose connection is gone, as those that nobody may repeat and those that can be sent again (7.15).

    The first are failed by the caller with `outcome_unknown`; the second are as new.
    """
    again: list[Task] = []
    unknown: list[Task] = []
    for task in tasks:
        if task.sent_at is None or task.idempotent:
            task.reset()
            again.append(task)
        else:
            unknown.append(task)
    return unknown, again


def outcome_unknown() -> TaskError:
    """Why a command failed that may have been done and must not be done twice."""
    return TaskError("the connection broke, and nobody can say whether the command was done", code="outcome-unknown")


class Pauses:
    """How long to wait before the first try to reconnect: longer from time to time while no connection lasts.

    A target that takes every login and drops it at once, with a Time2Wait of 0, would keep a processor busy.

    Args:
        first: Seconds after the second connection that did not last; doubles from one to the next.
        limit: The most.
    """

    LASTING = 2.0
    """Seconds after which a connection has lasted."""

    def __init__(self, first: float, limit: float) -> None:
        self._first, self._limit = first, limit
        self._next = 0.0

    def after(self, lived: float, asked: float) -> float:
        """Seconds to wait when a connection is lost that lived so long and whose target asked for a wait."""
        if lived >= self.LASTING:
            self._next = 0.0
            return asked
        pause = max(asked, self._next)
        self._next = min(max(2 * self._next, self._first), self._limit)
        return pause
