"""The line in which rows are filtered."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input


class FilterInput(Input):
    """An input that hands the focus back at the very key that ends it.

    Args:
        leave: Called when Enter is pressed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", show=False)]

    def __init__(self, leave: Callable[[], None], placeholder: str, name: str) -> None:
        super().__init__(placeholder=placeholder, id=name, compact=True, select_on_focus=False)
        self._leave = leave

    async def action_submit(self) -> None:
        """Enter: keep what is typed and go back to the rows."""
        self._leave()

    def take(self, event: events.Key | events.Paste) -> bool:
        """Take what is typed or pasted at once, in the order in which it came; False leaves it to its binding.

        By way of this widget's queue it could be overtaken by the Enter that ends the line.
        """
        text = event.character if isinstance(event, events.Key) and event.is_printable else ""
        if isinstance(event, events.Paste):
            text = "".join(event.text.splitlines()[:1])
        if text:
            self.insert_text_at_cursor(text)
        return bool(text)
