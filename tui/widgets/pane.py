"""A pane of prepared lines that scrolls and repaints only the lines that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.layout import fit
from tui.paint import AsciiScrollBar, Painter
from tui.words import UNICODE, Glyphs, Line


class Pane(ScrollView, can_focus=True):
    """Shows `Line`s. Whoever fills it wraps them to `content_width` first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, glyphs: Glyphs = UNICODE, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.glyphs = glyphs
        self.lines: Sequence[Line] = ()
        self._painter: Painter | None = None

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

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        if self._painter is None:
            self._painter = Painter(self, lively=self.has_focus)
        at = y + self.scroll_offset.y
        line = self.lines[at] if at < len(self.lines) else ()
        return self._painter.strip(fit(line, self.content_width, self.glyphs.more), self.size.width, "")

    def watch_has_focus(self, focused: bool) -> None:
        """Headings show whether keys go here."""
        super().watch_has_focus(focused)
        self._painter = None
        self.refresh()

    def notify_style_update(self) -> None:
        """Colours changed: paint everything anew."""
        self._painter = None
        super().notify_style_update()
