"""What all dialogs have in common: a box, deaf for the first moment, and out by Escape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

if TYPE_CHECKING:
    from tui.app import MooringApp

DEAF_S = 0.3
"""Seconds for which a new dialog hears no key: keys typed before it came were meant for something else."""

Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """A dialog. What it shows for the first time, or anew, makes it deaf for a moment."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._hears_from = math.inf

    @property
    def mooring(self) -> MooringApp:
        """The app, by its own class."""
        return self.app  # type: ignore[return-value]

    def on_mount(self) -> None:
        """Deaf from the first moment."""
        self.deafen()

    def deafen(self) -> None:
        """Hear no key for a moment."""
        self._hears_from = self.mooring.tick() + DEAF_S

    @property
    def is_up(self) -> bool:
        """Whether it is on the screen, so that its first moment has begun."""
        return self._hears_from < math.inf

    @property
    def deaf(self) -> bool:
        """Whether keys are thrown away now."""
        return self.mooring.tick() < self._hears_from

    def action_close(self) -> None:
        """Leave without doing anything."""
        self.dismiss(None)
