"""From pieces with roles to what Textual puts on the screen. The only place that turns text into segments.

Text reaches the terminal as segments, never as markup: a bracket in a name is a bracket.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip
from textual.widget import Widget

from tui.layout import fit
from tui.words import Line, Piece, say

ROLES = (
    "good",
    "warn",
    "bad",
    "calm",
    "done",
    "dim",
    "strong",
    "title",
    "heading",
    "rule",
    "volume",
    "spark",
    "bar",
    "key",
    "practice",
    "badge",
    "brand",
)
"""Each is a component class of the same name in the style sheet."""

COMPONENTS = {f"role--{role}" for role in ROLES}


class AsciiScrollBar(ScrollBarRender):
    """A scroll bar made of colours only, without the block characters of its soft ends."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8


class Painter:
    """Turns lines into strips with the colours of one widget; made anew when its styles change."""

    def __init__(self, widget: Widget, background: Style | None = None) -> None:
        """`background` is laid over every role; with a background colour only, states keep their colours."""
        self._widget = widget
        base = widget.rich_style
        self.base = base + background if background else base
        self._background = background
        self._styles: dict[str, Style] = {"": self.base}

    def style(self, role: str) -> Style:
        """The colours of one role."""
        found = self._styles.get(role)
        if found is None:
            shown = "dim" if role == "rule" and self._background is not None else role
            # Not the partial style: only the whole one has translucent colours mixed with what is behind them.
            found = self._widget.get_component_rich_style(f"role--{shown}")
            if self._background is not None:
                found += self._background
            self._styles[role] = found
        return found

    def strip(self, line: Line, width: int, more: str) -> Strip:
        """One line of exactly `width` cells.

        Whoever makes lines cleans what comes from outside; here nothing that acts on a terminal gets past, should
        somebody have forgotten.
        """
        style = self.style
        if not all(piece.text.isprintable() for piece in line):
            line = tuple(Piece(say(piece.text), piece.role) for piece in line)
        return Strip([Segment(text, style(role)) for text, role in fit(line, width, more) if text], width)
