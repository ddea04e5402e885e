"""A view that fails says so, and everything else lives on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tui.words import Line, Piece

T = TypeVar("T")


class Guard:
    """Draws what may fail. Each failure is written to the log once, with its place."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def attempt(self, what: str, draw: Callable[[], T], instead: Callable[[Line], T]) -> T:
        """What `draw` gives; where it fails, what `instead` makes of a line that says so.

        Args:
            what: The part of the screen, for the line and the log.
            draw: Makes the part. It must change nothing.
            instead: Makes the part of one line.
        """
        try:
            return draw()
        except Exception as error:
            told = f"{what} cannot be shown: {type(error).__name__}; dashboard.log names the place"
            if told not in self._told:
                self._told.add(told)
                logging.getLogger("mooring").error("%s failed", what, exc_info=error)
            return instead((Piece(told, "bad"),))
