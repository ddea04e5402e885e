"""From pieces with roles to what Textual puts on the screen. The only place that turns text into segments.

Text reaches the terminal as segments, never as markup: a bracket in a name is a bracket.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip
from textual.widget import Widget

from tui.layout import fit
from tui.words import Line, say


class Look(NamedTuple):
    """The look of a role, in colours of the theme."""

    colour: str = "foreground"
    share: float = 1.0
    """How much of the colour, the rest being what is behind it."""
    bold: bool = False
    behind: str = ""
    """A background of its own."""
    line: bool = False
    """Underlined."""


LOOKS = {
    "": Look(),
    "good": Look("success"),
    "warn": Look("warning", bold=True),
    "bad": Look("error", bold=True),
    "calm": Look("secondary"),
    "done": Look("success", bold=True),
    "dim": Look(share=0.6),
    "label": Look(share=0.6),
    "term": Look(),
    "strong": Look(bold=True),
    "title": Look("primary", bold=True),
    "heading": Look("secondary", bold=True),
    "rule": Look(share=0.28),
    "volume": Look("accent"),
    "spark": Look("primary"),
    "bar": Look("primary"),
    "key": Look("accent", bold=True),
    "practice": Look("background", bold=True, behind="accent"),
    "badge": Look("background", bold=True, behind="warning"),
    "brand": Look("background", bold=True, behind="primary"),
    "tab": Look("background", bold=True, behind="primary"),
    "link": Look("secondary", line=True),
    "linked": Look("background", bold=True, behind="accent"),
    "frame": Look(share=0.4),
    **{
        f"host-{colour}": Look("ansi_bright_white", bold=True, behind=f"ansi_{colour}")
        for colour in ("red", "blue", "magenta")
    },
    **{
        f"host-{colour}": Look("ansi_black", bold=True, behind=f"ansi_{colour}")
        for colour in ("yellow", "green", "cyan")
    },
}
"""Each role of a `Piece`. Not component classes of the style sheet: Textual would work out every one of them again for
each widget at each change of focus, which costs more than the rest of the screen."""

FOCUSED = {"title": "key", "heading": "key"}
"""Roles that look different in the pane that has the keys."""


class AsciiScrollBar(ScrollBarRender):
    """A scroll bar made of colours only, without the block characters of its soft ends."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8


class Painter:
    """Turns lines into strips with the colours of one widget; made anew when its styles or its focus change."""

    def __init__(self, widget: Widget, over: Look | None = None, *, lively: bool = False) -> None:
        """`over` is a cursor or header line: its `behind`, mixed by `share`, lies behind every role.

        A `lively` one shows by its headings that the keys go here.
        """
        self._palette = widget.app.theme_variables
        self._lively = lively
        self._over = over
        _, behind = widget.background_colors
        if over is not None:
            behind = behind.blend(self._colour(over.behind), over.share)
        self._behind = behind
        self._styles: dict[str, Style] = {}
        self.base = self.style("")

    def style(self, role: str) -> Style:
        """The colours of one role."""
        found = self._styles.get(role)
        if found is None:
            found = self._styles[role] = self._made(role)
        return found

    def _made(self, role: str) -> Style:
        look = LOOKS[FOCUSED.get(role, role) if self._lively else role]
        if self._over is not None:
            if self._over.colour != "foreground":
                look = look._replace(colour=self._over.colour, bold=self._over.bold)
            elif role == "rule":
                look = LOOKS["dim"]
        behind = self._colour(look.behind) if look.behind else self._behind
        colour = behind.blend(self._colour(look.colour), look.share)
        return Style(
            color=colour.rich_color,
            bgcolor=behind.rich_color,
            bold=look.bold or None,
            # The terminal's own colours cannot be mixed.
            dim=(colour.ansi is not None and look.share < 1) or None,
            underline=look.line or None,
        )

    def _colour(self, name: str) -> Color:
        return Color.parse(self._palette.get(name, name))

    def strip(self, line: Line, width: int, more: str) -> Strip:
        """One line of exactly `width` cells.

        Whoever makes lines cleans what comes from outside; here nothing that acts on a terminal gets past, should
        somebody have forgotten.
        """
        style = self.style
        if not all(piece.text.isprintable() for piece in line):
            line = tuple(piece._replace(text=say(piece.text)) for piece in line)
        return Strip([Segment(piece.text, style(piece.role)) for piece in fit(line, width, more) if piece.text], width)
