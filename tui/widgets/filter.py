"""The line in which rows are filtered."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import Input


class FilterInput(Input):
    """An input that hands the focus back at the very key that ends it.

    Without priority the key waits in this widget's queue, and keys that came in the same packet (slow SSH) are put
    behind it: they would land in the filter.

    Args:
        leave: Called when Enter is pressed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", show=False, priority=True)]

    def __init__(self, leave: Callable[[], None], placeholder: str, name: str) -> None:
        super().__init__(placeholder=placeholder, id=name, compact=True, select_on_focus=False)
        self._leave = leave

    async def action_submit(self) -> None:
        """Enter: keep what is typed and go back to the rows."""
        self._leave()

    def take(self, event: events.Key) -> bool:
        """Take a key that was on its way to the list when the key before it opened this line; False leaves it alone.

        Keys of one packet (slow SSH, a busy host) are all sent to what has the focus when they arrive.
        """
        if event.key == "enter":
            self._leave()
        elif event.is_printable and event.character is not None:
            self.insert_text_at_cursor(event.character)
        else:
            return False
        return True


def took(app: App[int], event: events.Event) -> bool:
    """Whether the filter line, which has the keys by now, took one that was sent to what had them before it.

    What is typed into the line itself does not come through the app.
    """
    if not isinstance(event, events.Key) or not event.is_forwarded:
        return False
    field = app.focused
    return isinstance(field, FilterInput) and field.take(event)
