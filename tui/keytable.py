"""A table whose cursor is bound to a thing, not to a line.

Rows come anew with every snapshot; the cursor follows the key of its row wherever that goes. When the thing is gone,
the cursor goes to what took its place and the owner is told. Only the rows on screen are ever formatted, and only the
lines that look different are painted, so thousands of rows cost as much as forty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.layout import fit, width_of, without_start
from tui.paint import AsciiScrollBar, Look, Painter
from tui.words import UNICODE, Glyphs, Line, Piece


class Keyed(Protocol):
    """A row: anything with a key that stays the same for as long as the thing exists."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Keyed)
UNROLLED = 240
"""The widest that a cell gets where the table is moved sideways: longer than any iSCSI name."""
RIGHT_BUTTON = 3
_SPACE = Piece(" ")


class Column(NamedTuple):
    """A column of fixed width, or with `share` a part of what the fixed ones leave."""

    title: str
    width: int
    share: int = 0
    from_width: int = 0
    """The column is left out of tables narrower than this."""
    right: bool = False


def widths(columns: Sequence[Column], total: int, gap: int = 1) -> list[int]:
    """Cells of each column for a table of `total` cells; 0 for columns that are left out."""
    shown = [total >= column.from_width for column in columns]
    fixed = sum(column.width + gap for column, is_shown in zip(columns, shown, strict=True) if is_shown) - gap
    left = max(0, total - fixed)
    shares = sum(column.share for column, is_shown in zip(columns, shown, strict=True) if is_shown) or 1
    return [
        column.width + left * column.share // shares if is_shown else 0
        for column, is_shown in zip(columns, shown, strict=True)
    ]


class KeyTable(ScrollView, Generic[R], can_focus=True):
    """The table. Give it rows with `update`, and a function that says what a row's cells are."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "end(False)", "First", show=False),
        Binding("end,G", "end(True)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
        Binding("left,h", "fold(False)", "Close", show=False),
        Binding("right,l", "fold(True)", "Open", show=False),
        Binding("shift+left,H", "aside(-1)", "Left", show=False),
        Binding("shift+right,L", "aside(1)", "Right", show=False),
    ]

    cursor: var[str | None] = var(None)
    """Key of the row that is acted on."""

    class Moved(Message):
        """The cursor is on another thing."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

        def can_replace(self, message: Message) -> bool:
            """Only the newest position matters."""
            return isinstance(message, KeyTable.Moved)

    class Chosen(Message):
        """Enter, or a click on the cursor's own row."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Folded(Message):
        """Left or right: close or open a branch."""

        def __init__(self, key: str, opened: bool) -> None:
            super().__init__()
            self.key = key
            self.opened = opened

    class HeaderPressed(Message):
        """The title of a column was clicked."""

        def __init__(self, title: str) -> None:
            super().__init__()
            self.title = title

    class MenuWanted(Message):
        """The right button was pressed on a row, on which the cursor is now."""

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Callable[[R, Sequence[int]], Sequence[Line]],
        glyphs: Glyphs = UNICODE,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.glyphs = glyphs
        self.rows: Sequence[R] = ()
        self.nothing = ""
        """What is said where there is no row."""
        self.sorted: tuple[str, bool] = ("", False)
        """Title of the column that the rows are sorted by, and whether backwards."""
        self.aside = 0
        """Cells by which all but the first column are moved left; then every column has all the room it wants."""
        self._cells = cells
        self._at: dict[str, int] = {}
        self._painted: dict[int, tuple[bool, Sequence[Line]]] = {}
        self._widths: list[int] = [0] * len(self.columns)
        self._painters: dict[bool, Painter] = {}

    @property
    def position(self) -> int | None:
        """The line of the cursor's row, for drawing and moving only: actions use the key."""
        return self._at.get(self.cursor) if self.cursor is not None else None

    @property
    def at_cursor(self) -> R | None:
        """The row under the cursor."""
        position = self.position
        return None if position is None else self.rows[position]

    def change(self, columns: Sequence[Column], cells: Callable[[R, Sequence[int]], Sequence[Line]]) -> None:
        """Become a table of something else; `update` with its rows comes next."""
        self.columns, self._cells = tuple(columns), cells
        self.rows, self._at = (), {}
        self.aside = 0
        self._painted.clear()
        self._measure()

    def place(self, rows: Sequence[R], cursor: str | None, top: int) -> None:
        """Show other rows, with the cursor and the first visible row as they were left."""
        self.rows = rows
        self._at = {row.key: number for number, row in enumerate(rows)}
        wanted = cursor if cursor in self._at else rows[0].key if rows else None
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        self.scroll_to(y=top, animate=False, force=True)
        if wanted == self.cursor:
            self.post_message(self.Moved(wanted))
        self.cursor = wanted
        self.reveal()
        self.refresh()

    @property
    def visible_rows(self) -> int:
        """How many rows fit below the header."""
        return max(0, self.size.height - 1)

    def update(self, rows: Sequence[R]) -> None:
        """Show these rows; the cursor keeps its thing and, as far as possible, its place on the screen."""
        old_rows, old_position = self.rows, self.position
        self.rows = rows
        self._at = {row.key: number for number, row in enumerate(rows)}
        if self.cursor is None or self.cursor not in self._at:
            self.cursor = self._heir(old_rows, old_position)
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        moved = self._follow(old_position)
        if self.aside:
            self._measure()
        if moved:
            self.refresh()
        else:
            self._refresh_changed()

    def _heir(self, old_rows: Sequence[R], old_position: int | None) -> str | None:
        """Where the cursor goes when its thing is gone: what was below it, else what was above, else the top."""
        if old_position is not None:
            below = (row.key for row in old_rows[old_position + 1 :])
            above = (row.key for row in reversed(old_rows[:old_position]))
            for candidates in (below, above):
                found = next((key for key in candidates if key in self._at), None)
                if found is not None:
                    return found
        return self.rows[0].key if self.rows else None

    def _follow(self, old_position: int | None) -> bool:
        """Scroll so that rows that came or went above do not move the cursor's row; returns whether it scrolled."""
        position = self.position
        if position is None or old_position is None or position == old_position:
            return False
        top = self.scroll_offset.y
        if top <= old_position < top + self.visible_rows:
            wanted = max(0, min(top + position - old_position, len(self.rows) - self.visible_rows))
            if wanted != top:
                self.scroll_to(y=wanted, animate=False, force=True)
                return True
        return False

    def _refresh_changed(self) -> None:
        top = self.scroll_offset.y
        for y in range(1, self.size.height):
            if self._painted.get(y) != self._look(y + top - 1):
                self.refresh(Region(0, y, self.size.width, 1))

    def _look(self, number: int) -> tuple[bool, Sequence[Line]]:
        """Everything that decides how a line is painted."""
        if number >= len(self.rows):
            return False, (((Piece(f" {self.nothing}", "dim"),),) if number == 0 and not self.rows else ())
        row = self.rows[number]
        return row.key == self.cursor, self._cells(row, self._widths)

    def on_mount(self) -> None:
        """A scroll bar that the terminal can draw."""
        if self.glyphs.good.isascii():
            # Textual declares a class variable and reads it through the instance.
            self.vertical_scrollbar.renderer = AsciiScrollBar  # type: ignore[misc]

    def render_line(self, y: int) -> Strip:
        """The header, or one row."""
        if y == 0:
            return self._header()
        look = self._look(y + self.scroll_offset.y - 1)
        self._painted[y] = look
        at_cursor, cells = look
        painter = self._painter(at_cursor)
        if not self.rows:
            return painter.strip(cells[0] if cells else (), self.size.width, self.glyphs.more)
        return painter.strip(self._joined(cells), self.size.width, self.glyphs.more)

    def _joined(self, cells: Sequence[Line]) -> Line:
        if len(cells) == 1 < len(self.columns):
            return cells[0]  # no cells but one thing to say
        parts: list[Line] = []
        for column, width, cell in zip(self.columns, self._widths, cells, strict=False):
            if width:
                parts.append(fit(cell, width, self.glyphs.more, right=column.right))
        line = parts[0] if parts else ()
        rest = tuple(piece for part in parts[1:] for piece in (_SPACE, *part))
        return (*line, *(without_start(rest, self.aside) if self.aside else rest))

    def _titles(self) -> list[Line]:
        title, backwards = self.sorted
        sign = self.glyphs.falling if backwards else self.glyphs.rising
        return [(Piece(f"{column.title}{sign if column.title == title else ''}"),) for column in self.columns]

    def _header(self) -> Strip:
        titles = self._joined(self._titles())
        if self.aside < self._most_aside or not all(self._widths):
            titles = (*fit(titles, self.size.width - len(self.glyphs.arrow), ""), Piece(self.glyphs.arrow))
        look = Look("accent", bold=True, behind="panel") if self.has_focus else Look("secondary", behind="panel")
        return Painter(self, look).strip(titles, self.size.width, "")

    def _painter(self, at_cursor: bool) -> Painter:
        painter = self._painters.get(at_cursor)
        if painter is None:
            look = Look(share=0.38, behind="primary") if self.has_focus else Look(behind="panel")
            painter = self._painters[at_cursor] = Painter(self, look if at_cursor else None)
        return painter

    def notify_style_update(self) -> None:
        """Colours changed: paint everything anew."""
        self._painters.clear()
        super().notify_style_update()

    def watch_has_focus(self, focused: bool) -> None:
        """The cursor line shows whether keys go here."""
        super().watch_has_focus(focused)
        self._painters.clear()
        self.refresh()

    def on_resize(self) -> None:
        """New widths; the cursor stays in sight."""
        self._measure()
        self._painted.clear()
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        self.reveal()
        self.refresh()

    def _measure(self) -> None:
        """The widths of the columns: as they fit, or as their visible cells want them where they are moved aside."""
        room = self.size.width - self.styles.scrollbar_size_vertical
        if not self.aside:
            self._widths = widths(self.columns, room)
            return
        wanted = [
            max(column.width, width_of(title)) for column, title in zip(self.columns, self._titles(), strict=True)
        ]
        top = self.scroll_offset.y
        for row in self.rows[top : top + self.visible_rows]:
            cells = self._cells(row, [UNROLLED] * len(self.columns))
            wanted = [max(width, width_of(cell)) for width, cell in zip(wanted, cells, strict=False)]
        self._widths = [min(wanted[0], room // 2), *(min(width, UNROLLED) for width in wanted[1:])]
        self.aside = min(self.aside, self._most_aside)

    @property
    def _most_aside(self) -> int:
        room = self.size.width - self.styles.scrollbar_size_vertical
        return max(0, sum(width + 1 for width in self._widths if width) - 1 - room)

    def action_aside(self, direction: int) -> None:
        """Move all but the first column to the left, so that what lies to the right of the screen is seen, or back."""
        if direction > 0 and not self.aside:
            self.aside = 1
            self._measure()  # with the room that they want, the columns may be wider than the screen
        self.aside = max(0, self.aside + direction * max(8, self.size.width // 4) - (self.aside == 1))
        self._measure()
        self._painted.clear()
        self.refresh()

    def on_mouse_scroll_right(self) -> None:
        """Sideways, where the mouse can."""
        self.action_aside(1)

    def on_mouse_scroll_left(self) -> None:
        """And back."""
        self.action_aside(-1)

    def watch_cursor(self, old: str | None, new: str | None) -> None:
        """Repaint the two lines, keep the new one in sight and tell the owner."""
        top = self.scroll_offset.y
        for key in (old, new):
            number = self._at.get(key) if key is not None else None
            if number is not None and 0 <= number - top < self.visible_rows:
                self.refresh(Region(0, number - top + 1, self.size.width, 1))
        self.reveal()
        self.post_message(self.Moved(new))

    def reveal(self) -> None:
        """Scroll as little as it takes to show the cursor's row."""
        position, top = self.position, self.scroll_offset.y
        if position is None or self.visible_rows == 0:
            return
        if position < top:
            self.scroll_to(y=position, animate=False, force=True)
        elif position >= top + self.visible_rows:
            self.scroll_to(y=position - self.visible_rows + 1, animate=False, force=True)

    def go_to(self, number: int) -> None:
        """Put the cursor on a line, or the nearest there is."""
        if self.rows:
            self.cursor = self.rows[max(0, min(number, len(self.rows) - 1))].key

    def action_move(self, by: int) -> None:
        """Up or down."""
        self.go_to((self.position or 0) + by)

    def action_page(self, direction: int) -> None:
        """A screen up or down."""
        self.go_to((self.position or 0) + direction * max(1, self.visible_rows - 1))

    def action_end(self, last: bool) -> None:
        """To the first or the last row."""
        self.go_to(len(self.rows) - 1 if last else 0)

    def action_choose(self) -> None:
        """Enter on the cursor's row."""
        if self.cursor is not None:
            self.post_message(self.Chosen(self.cursor))

    def action_fold(self, opened: bool) -> None:
        """Close or open the cursor's row."""
        if self.cursor is not None:
            self.post_message(self.Folded(self.cursor, opened))

    def on_click(self, event: events.Click) -> None:
        """The first click moves the cursor, a click on the cursor's row is Enter; the right button asks for a menu."""
        number = event.y - 1 + self.scroll_offset.y
        if event.y < 1:
            self._press_header(event.x)
        if event.y < 1 or number >= len(self.rows):
            return
        key = self.rows[number].key
        if event.button == RIGHT_BUTTON:
            self.cursor = key
            self.post_message(self.MenuWanted())
            return
        if key == self.cursor:
            self.post_message(self.Chosen(key))
        self.cursor = key

    def _press_header(self, x: int) -> None:
        end = 0
        for number, (column, width) in enumerate(zip(self.columns, self._widths, strict=True)):
            end += width + 1 if width else 0
            if width and x < end - (self.aside if number else 0):
                self.post_message(self.HeaderPressed(column.title))
                return
