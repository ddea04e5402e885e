"""What the last steps of every removal share, whoever held the sessions: gone from list and TCP, and watched."""

from __future__ import annotations

import abc
from typing import Protocol

from safety.kind import Kind
from safety.plan import Step
from safety.work import Work
from safety.world import NotProven

_LOOK_EVERY_S = 0.25


class Listed(Protocol):
    """A session that is still there."""

    @property
    def state(self) -> str | None: ...


class LogoutOf(Kind):
    """Log one session out."""

    @abc.abstractmethod
    def listed(self, work: Work, step: Step) -> Listed | None:
        """The session, while it is there."""

    def verify(self, work: Work, step: Step) -> str:
        """Neither the list of sessions nor the kernel's TCP table has it any more."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        known = any(ends["local_port"] is not None for ends in step.params["connections"])
        tcp = "its TCP connection is closed" if known else "which TCP connection it had is not known"
        return f"{step.params['name']} is not listed any more, and {tcp}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is logged out."""
        return f"{step.params['name']} is logged out" if self._left(work, step) is None else None

    def _left(self, work: Work, step: Step) -> str | None:
        session = self.listed(work, step)
        if session is not None:
            return f"The session {step.params['name']} is still {session.state}."
        found = work.connection_of(step)
        if found is not None:
            return f"A TCP connection from port {found.local_port} to {step.params['portal']} is still open."
        return None


class WatchFor(Kind):
    """Keep looking for a while: agents bring disks back seconds later."""

    @abc.abstractmethod
    def returned(self, work: Work) -> str | None:
        """What of the disk is there again, as a sentence; None if nothing is."""

    def apply(self, work: Work, step: Step) -> None:
        """Look until the time is up.

        Raises:
            NotProven: something came back.
        """
        end = work.world.now() + float(step.params["seconds"])
        while True:
            self._look(work)
            if work.world.now() >= end:
                return
            work.world.pause(_LOOK_EVERY_S)

    def verify(self, work: Work, step: Step) -> str:
        """Once more."""
        self._look(work)
        return f"nothing came back in {step.params['seconds']:g} s"

    def _look(self, work: Work) -> None:
        reason = self.returned(work)
        if reason is not None:
            raise NotProven(reason, fix="find what brings it back, then resume; or undo")
