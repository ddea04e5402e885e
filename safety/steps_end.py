"""What every logout shares, whoever held the session: gone from the list and from TCP."""

from __future__ import annotations

import abc
from typing import Protocol

from safety.kind import Kind
from safety.plan import Step
from safety.plan_common import ends
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

    def follow(self, work: Work, step: Step) -> None:
        """Learn which connection has to be seen to close, where the session has logged in anew since the plan."""
        if not _known(step) or work.connection_of(step) is not None:
            return
        for session in work.world.snapshot().sessions:
            if session.id == step.params["session"]:
                work.newer[step.id] = ends(session)

    def verify(self, work: Work, step: Step) -> str:
        """Neither the list of sessions nor the kernel's TCP table has it any more."""
        work.until(lambda: self._left(work, step), step.deadline_s)
        tcp = "its TCP connection is closed" if _known(step) else "which TCP connection it had is not known"
        return f"{step.params['name']} is not listed any more, and {tcp}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is logged out."""
        return f"{step.params['name']} is logged out" if self._left(work, step) is None else None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether it is listed, and has its connection still, where that is known."""
        return self.listed(work, step) is not None and (not _known(step) or work.connection_of(step) is not None)

    def _left(self, work: Work, step: Step) -> str | None:
        session = self.listed(work, step)
        if session is not None:
            return f"The session {step.params['name']} is still {session.state}."
        found = work.connection_of(step)
        if found is not None:
            return f"A TCP connection from port {found.local_port} to {step.params['portal']} is still open."
        return None


def _known(step: Step) -> bool:
    """Whether the kernel told, when the plan was made, which connection the session had."""
    return any(each["local_port"] is not None for each in step.params["connections"])
