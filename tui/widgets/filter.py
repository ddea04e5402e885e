"""The line in which rows are filtered."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

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
