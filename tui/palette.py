"""The command palette: every action with its key, and in practice the faults of the range."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from tui.actions import key_name, why_not
from tui.tricks import LESSONS, tricks

if TYPE_CHECKING:
    from tui.app import MooringApp


class Command(NamedTuple):
    """One line of the palette."""

    text: str
    help: str
    run: Callable[[], None]
    first: bool


class MooringProvider(Provider):
    """Finds commands by words. Names in them are data: they are shown as plain content, never as markup."""

    @property
    def mooring(self) -> MooringApp:
        """The app, by its own class."""
        return self.app  # type: ignore[return-value]

    def _commands(self) -> list[Command]:
        app = self.mooring
        found = []
        if app.can_practice and app.store.world is not None:
            for trick in (*tricks(app.store.world.snapshot), *LESSONS):
                run = functools.partial(app.play, trick)
                found.append(Command(trick.text, trick.help, run, trick.first))
        context = app.main.context()
        for action in app.actions:
            reason = why_not(action, context)
            keys = f"  ({key_name(action)})" if action.keys else ""
            text = f"{action.label.capitalize()}{keys}"
            about = f"Not now: {reason}" if reason else action.text
            found.append(Command(text, about, functools.partial(app.main.action_do, action.id), True))
        return found

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for command in self._commands():
            if command.first:
                yield DiscoveryHit(Content(command.text), command.run, command.text, _plain(command.help))

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for command in self._commands():
            score = max(matcher.match(command.text), matcher.match(command.help) / 2)
            if score > 0:
                yield Hit(score, Content(command.text), command.run, command.text, _plain(command.help))


def _plain(text: str) -> str:
    """A help that is shown as it is: reasons have names in them, and Textual reads a `str` there as markup."""
    # It takes content as well, whatever its annotation says.
    return Content(text)  # type: ignore[return-value]
