"""What all dialogs have in common: a box, deaf for the first moment, and out by Escape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui.widgets.pane import Pane

if TYPE_CHECKING:
    from tui.app import MooringApp

DEAF_S = 0.3
"""Seconds for which a new dialog hears neither key nor click: those made before it came were meant otherwise."""

Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """A dialog. What it shows for the first time, or anew, makes it deaf for a moment."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

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
        """Hear nothing for a moment."""
        self._hears_from = self.mooring.tick() + DEAF_S

    @property
    def is_up(self) -> bool:
        """Whether it is on the screen, so that its first moment has begun."""
        return self._hears_from < math.inf

    @property
    def deaf(self) -> bool:
        """Whether keys and clicks are thrown away now."""
        return self.mooring.tick() < self._hears_from

    def action_scroll(self, by: int) -> None:
        """Move the text; the buttons keep the keys."""
        for pane in self.query(Pane):
            pane.scroll_relative(y=by, animate=False)

    def action_close(self) -> None:
        """Leave without doing anything."""
        self.dismiss(None)
