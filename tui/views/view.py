"""What a view is: rows out of what there is to see, and columns, each with its cell and its order. No Textual here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from initiator.judgement import Judgement
from initiator.model import Severity
from safety.past import Past
from tui import query as filters
from tui.fields import fields
from tui.rowtext import Samples
from tui.words import Glyphs, Line, Piece, natural
from tui.world import Checked, Happened, Item, Kind, Row, World


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """Everything that a view may list."""

    world: World
    events: Sequence[Happened] = ()
    """Newest first."""
    removals: Sequence[Past] = ()
    checks: Sequence[Checked] = ()
    troubles: Mapping[str, tuple[Severity, str]] = dataclasses.field(default_factory=dict)
    """What is wrong, worst first, by the id of the thing; ids that begin with `problem:` belong to no thing."""
    verdicts: Mapping[str, Judgement] = dataclasses.field(default_factory=dict)
    """What is judged of each thing, by its id; empty where nobody judges."""


class Draw(NamedTuple):
    """What cells are made with."""

    sight: Sight
    samples: Samples
    glyphs: Glyphs
    now: float
    """Unix time, for ages."""
    before: World | None = None
    """The snapshot before this one, for rates."""

    @property
    def world(self) -> World:
        """The snapshot."""
        return self.sight.world


Cell = Callable[[Any, Draw, int], Line]
"""Makes the cell of an item for a width in cells."""
Order = Callable[[Any, World], Any]
"""What a column sorts by; None goes last, whichever way it sorts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A column: how wide, what its cells say, what it sorts by."""

    title: str
    width: int
    cell: Cell
    order: Order | None = None
    share: int = 0
    """Which part of what the fixed widths leave."""
    from_width: int = 0
    """Left out of tables narrower than this; to be seen by moving sideways."""
    right: bool = False


Rows = Callable[[Sight], Iterable[Row]]


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One view."""

    id: str
    key: str
    """The digit that shows it."""
    title: str
    short: str
    """The title where there is little room."""
    about: str
    """One sentence for the help."""
    columns: tuple[Field, ...]
    rows: Rows
    nothing: str
    """What is said where it lists nothing."""
    sort: str = ""
    """Title of the column that sorts at first; empty where rows come in an order of their own."""
    backwards: bool = False
    detail: bool = True
    """Whether the details stand beside it where there is room."""
    painted: Callable[[Row, Draw, Sequence[int]], Sequence[Line]] | None = None
    """Makes all cells of a row at once, where cells belong to rows and not to items: the tree with its branches."""

    def cells(self, row: Row, draw: Draw, widths: Sequence[int]) -> Sequence[Line]:
        """What a row says; nothing in columns without width."""
        if self.painted is not None:
            return self.painted(row, draw, widths)
        item = row.item
        return [
            column.cell(item, draw, width) if width else () for column, width in zip(self.columns, widths, strict=True)
        ]

    def column(self, title: str) -> Field | None:
        """The column with this title."""
        return next((column for column in self.columns if column.title == title), None)


def listed(
    view: View, sight: Sight, query: filters.Query = (), sort: str = "", backwards: bool = False
) -> tuple[list[Row], bool]:
    """The rows of a view as the filter and the order want them; and whether the filter had to be read loosely.

    Sorting is stable: what is equal stays in the view's own order.
    """
    rows, loosely = filtered(list(view.rows(sight)), sight.world, query)
    column = view.column(sort)
    if column is None or column.order is None:
        return rows, loosely
    order, world = column.order, sight.world
    keyed = [(order(row.item, world), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=_first, reverse=backwards)
    return [row for _, row in known] + [row for key, row in keyed if key is None], loosely


def filtered(rows: list[Row], world: World, query: filters.Query) -> tuple[list[Row], bool]:
    """The rows that fit; where none does, those that nearly do."""
    if not query:
        return rows, False
    seen = [(row, fields(world, row.kind, row.item)) for row in rows]
    exact = [row for row, texts in seen if filters.fits(query, texts)]
    if exact:
        return exact, False
    loose = filters.loosened(query)
    return [row for row, texts in seen if filters.fits(loose, texts)], True


def _first(pair: tuple[Any, Row]) -> Any:
    return pair[0]


def row(kind: Kind, item: Item) -> Row:
    """A row of a list: nothing hangs below it."""
    return Row(item.id, kind, item, "", None)


def text(words: str | None, role: str = "", to: str = "") -> Line:
    """A cell of one piece; `words` must have gone through `say` where they come from outside."""
    return (Piece(words, role, to),) if words else ()


def by_name(item: Item, world: World) -> Any:
    """The order of names: disk2 before disk10."""
    return natural(item.name)
