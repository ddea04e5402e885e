"""What the dashboard remembers from one time to the next: how each view was sorted."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.store import Place

NAME = "dashboard.json"


class Memory:
    """A small file. That it cannot be read or written is no reason to bother anybody.

    Args:
        folder: Gives the folder it is in; None remembers nothing.
    """

    def __init__(self, folder: Callable[[], Path] | None = None) -> None:
        self._folder = folder

    def recall(self, places: Mapping[str, Place]) -> None:
        """Sort the views as they were sorted."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            for view, (title, backwards) in json.loads((self._folder() / NAME).read_text(encoding="utf-8")).items():
                if view in places and isinstance(title, str) and isinstance(backwards, bool):
                    places[view].sort, places[view].backwards = title, backwards

    def keep(self, places: Mapping[str, Place]) -> None:
        """Remember how the views are sorted now."""
        if self._folder is None:
            return
        text = json.dumps({view: [place.sort, place.backwards] for view, place in places.items()})
        with contextlib.suppress(OSError):
            new = self._folder() / f".{NAME}.{os.getpid()}"
            new.write_text(text, encoding="utf-8")
            new.rename(self._folder() / NAME)
