"""A pane of prepared lines that scrolls, repaints only the lines that changed, and follows what leads somewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.layout import fit
from tui.paint import AsciiScrollBar, Painter
from tui.words import LABELLED, UNICODE, Glyphs, Line, Piece


class Pane(ScrollView, can_focus=True):
    """Shows `Line`s. Whoever fills it wraps them to `content_width` first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("enter", "follow", "Go there", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    class Resized(Message):
        """It has another width: its lines have to be wrapped anew."""

    class Followed(Message):
        """Somebody wants to go where a piece of the text leads."""

        def __init__(self, to: str) -> None:
            super().__init__()
            self.to = to

    class Asked(Message):
        """Somebody wants to know what a label or heading means."""

        def __init__(self, label: str) -> None:
            super().__init__()
            self.label = label

    def __init__(self, glyphs: Glyphs = UNICODE, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.glyphs = glyphs
        self.lines: Sequence[Line] = ()
        self._painter: Painter | None = None
        self._width = 0
        self._chosen = 0
        """Number of the link that Enter follows, counted from the top."""

    @property
    def content_width(self) -> int:
        """Cells of one line; a scroll bar is always reckoned with, so that lines do not change when it comes."""
        return max(1, self.size.width - self.styles.scrollbar_size_vertical)

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the lines; what looks the same is not painted again, and the scroll position stays."""
        old, self.lines = self.lines, lines
        self._grow(len(lines))
        top = self.scroll_offset.y
        for y in range(self.size.height):
            at = y + top
            before = old[at] if at < len(old) else ()
            if before != (lines[at] if at < len(lines) else ()):
                self.refresh(Region(0, y, self.size.width, 1))

    def _grow(self, lines: int) -> None:
        """Let there be so many lines; only when a scroll bar comes or goes is the screen laid out anew."""
        size, height = Size(self.size.width, lines), self.size.height
        if self.virtual_size.height > height and lines > height and self.virtual_size.width == size.width:
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = lines
            self.scroll_y = min(self.scroll_y, self.max_scroll_y)
        else:
            self.virtual_size = size

    def on_mount(self) -> None:
        """A scroll bar that the terminal can draw."""
        if self.glyphs.good.isascii():
            # Textual declares a class variable and reads it through the instance.
            self.vertical_scrollbar.renderer = AsciiScrollBar  # type: ignore[misc]

    def on_resize(self) -> None:
        """Tell whoever fills it of another width."""
        if self._width != self.content_width:
            self._width = self.content_width
            self.post_message(self.Resized())

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        if self._painter is None:
            self._painter = Painter(self, lively=self.has_focus)
        at = y + self.scroll_offset.y
        line = self._lit(at) if at < len(self.lines) else ()
        return self._painter.strip(fit(line, self.content_width, self.glyphs.more), self.size.width, "")

    @property
    def label(self) -> str:
        """The label or heading that Enter's link stands beside or below; without a link in sight, the first in sight.

        Empty where there is none.
        """
        top, bottom = self.scroll_offset.y, self.scroll_offset.y + self.size.height
        links = self._links()
        at = links[min(self._chosen, len(links) - 1)][0] if links else top
        at = at if top <= at < bottom else top
        above = (line[0] for line in reversed(self.lines[: at + 1]) if line and line[0].role in LABELLED)
        below = (line[0] for line in self.lines[at:bottom] if line and line[0].role in LABELLED)
        found = next((piece for piece in above if piece.text.strip()), None) or next(below, None)
        return found.text.strip() if found else ""

    # --- where the text leads ------------------------------------------------------------------------------------

    def _links(self) -> list[tuple[int, int, str]]:
        """Line, number of the piece in it, and where it leads."""
        return [
            (at, number, piece.to)
            for at, line in enumerate(self.lines)
            for number, piece in enumerate(line)
            if piece.to and (number == 0 or line[number - 1].to != piece.to)
        ]

    def _lit(self, at: int) -> Line:
        """A line, with the link that Enter follows standing out while the keys go here."""
        line = self.lines[at]
        if not self.has_focus or not any(piece.to for piece in line):
            return line
        links = self._links()
        chosen = links[min(self._chosen, len(links) - 1)]
        if chosen[0] != at:
            return line
        return tuple(
            piece._replace(role="linked") if number >= chosen[1] and piece.to == chosen[2] else piece
            for number, piece in enumerate(line)
        )

    def first_link(self) -> None:
        """Begin at the top again: the text is about something else."""
        self._chosen = 0
        self.scroll_home(animate=False)

    def action_step(self, by: int) -> None:
        """To the next link, where one is near; else a line on."""
        links = self._links()
        now = min(self._chosen, len(links) - 1)
        top, bottom = self.scroll_offset.y, self.scroll_offset.y + self.size.height
        if links and not top <= links[now][0] < bottom:  # it was scrolled away: begin with what is in sight
            seen = [number for number, link in enumerate(links) if top <= link[0] < bottom]
            wanted = seen[0 if by > 0 else -1] if seen else now
        else:
            wanted = now + by
        ahead = 2 if by > 0 else -2
        if (
            0 <= wanted < len(links)
            and wanted != now
            and top + min(ahead, 0) <= links[wanted][0] < bottom + max(ahead, 0)
        ):
            self._choose(wanted, links)
        else:
            self.scroll_relative(y=by, animate=False)

    def _choose(self, number: int, links: list[tuple[int, int, str]]) -> None:
        self._chosen = number
        at, height = links[number][0], self.size.height
        top = self.scroll_offset.y
        if at < top:
            self.scroll_to(y=at, animate=False)
        elif at >= top + height:
            self.scroll_to(y=at - height + 1, animate=False)
        self.refresh()

    def action_follow(self) -> None:
        """Go where the chosen link leads."""
        links = self._links()
        if links:
            self.post_message(self.Followed(links[min(self._chosen, len(links) - 1)][2]))

    def on_click(self, event: events.Click) -> None:
        """A click on a link follows it; one on a label asks what it means."""
        at = event.y + self.scroll_offset.y
        piece = piece_at(self.lines[at], event.x) if at < len(self.lines) else Piece("")
        if piece.to:
            self.post_message(self.Followed(piece.to))
        elif piece.role in LABELLED and piece.text.strip():
            self.post_message(self.Asked(piece.text.strip()))

    def watch_has_focus(self, focused: bool) -> None:
        """Headings show whether keys go here."""
        super().watch_has_focus(focused)
        self._painter = None
        self.refresh()

    def notify_style_update(self) -> None:
        """Colours changed: paint everything anew."""
        self._painter = None
        super().notify_style_update()


def piece_at(line: Line, x: int) -> Piece:
    """The piece that covers a cell of a line."""
    for piece in line:
        x -= cell_len(piece.text)
        if x < 0:
            return piece
    return Piece("")
