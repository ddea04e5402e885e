"""What every logout shares, whoever held the session: gone from the list and from TCP."""

from __future__ import annotations

import abc
from typing import Protocol

from safety.kind import Kind
from safety.plan import Step
from safety.work import Work


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

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether it is listed, and has its connection still, where that is known."""
        known = any(ends["local_port"] is not None for ends in step.params["connections"])
        return self.listed(work, step) is not None and (not known or work.connection_of(step) is not None)

    def _left(self, work: Work, step: Step) -> str | None:
        session = self.listed(work, step)
        if session is not None:
            return f"The session {step.params['name']} is still {session.state}."
        found = work.connection_of(step)
        if found is not None:
            return f"A TCP connection from port {found.local_port} to {step.params['portal']} is still open."
        return None
