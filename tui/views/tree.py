"""The tree as a view: everything on one screen, by target."""

from __future__ import annotations

from collections.abc import Sequence

from tui import rowtext
from tui.views.view import Draw, Field, View
from tui.words import Line
from tui.world import Item, Row


def _cells(row: Row, draw: Draw, widths: Sequence[int]) -> Sequence[Line]:
    return rowtext.cells(row, draw.world, draw.samples, draw.glyphs, widths[0])


def _none(item: Item, draw: Draw, width: int) -> Line:
    return ()


TREE = View(
    "tree",
    "2",
    "Tree",
    "Tree",
    "Everything on one screen: targets, their disks with volumes and paths, their sessions, the links",
    (
        Field("Target, disk, path", 14, _none, share=1),
        Field("State", 12, _none),
        Field("Size, time", 10, _none, right=True),
        Field("Where", 16, _none),
        Field("Latency", rowtext.TREND_WIDTH, _none, from_width=84),
    ),
    lambda sight: (),  # which rows are there depends on the branches that are open: see `Store.refresh`
    "Nothing to show.",
    painted=_cells,
)
