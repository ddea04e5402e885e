"""What every kind of step can be asked."""

from __future__ import annotations

from typing import Protocol

from safety.plan import Step
from safety.work import Work


class Kind(Protocol):
    """One kind of step. The defaults are those of a step that leaves nothing behind."""

    def precheck(self, work: Work, step: Step) -> None:
        """Make sure that it may be done now; changes nothing.

        Raises:
            MooringError: it may not.
        """
        return

    def apply(self, work: Work, step: Step) -> None:
        """Do it.

        Raises:
            MooringError: it failed, or nobody knows whether it happened.
        """
        return

    def verify(self, work: Work, step: Step) -> str:
        """Look for the proof and say in one sentence what was seen.

        Raises:
            NotProven: it is not there.
            Unreadable: it cannot be looked for.
        """

    def standing(self, work: Work, step: Step) -> str | None:
        """What shows that its effect is there now, whoever brought it about; None if it is not, or cannot show.

        Asked when a removal is resumed, and when nobody answered whether it happened.

        Raises:
            StepError: the effect is there, but was reached in a way that leaves something unproven.
            Unreadable: it cannot be seen.
        """
        return None

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether nothing of a step that failed has happened: a removal that changed nothing cannot be taken back.

        The default is that of a step with nothing between its effect and none. Where something of it can happen
        without its whole effect (one volume of two closed), only that nothing did counts.

        Raises:
            MooringError: that cannot be seen.
        """
        return self.standing(work, step) is None

    def undo(self, work: Work, step: Step) -> str:
        """Take it back, as far as there is anything to take back, and say what was seen. Doing it twice does no harm.

        Raises:
            MooringError: it could not be taken back.
        """
        return "nothing to take back"
