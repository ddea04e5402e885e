"""The same rows in Textual's DataTable, to measure the dashboard's own table against."""

from __future__ import annotations

import argparse
import random

from textual.app import App, ComposeResult
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from tests.tui import samples
from tui import rowtext
from tui.store import Store
from tui.words import UNICODE, Line


def text(line: Line) -> str:
    """A cell as DataTable takes it."""
    return "".join(piece.text for piece in line).replace("[", "(")


class Yardstick(App[None]):
    """Every row, every cell that differs updated once a second; fixed column widths, the kindest way to use it."""

    BINDINGS = [("q", "quit", "Quit")]  # noqa: RUF012 - Textual's own form

    def __init__(self, paths: int, change: float) -> None:
        super().__init__()
        self.animation_level = "none"
        self.store = Store()
        self.snapshot = samples.large(paths)
        self.change = change
        self.dice = random.Random(7)

    def compose(self) -> ComposeResult:
        """Only the table."""
        yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        """Fill it once."""
        self.store.apply(self.snapshot, (), 0.0)
        self.store.open_all(True)
        table = self.query_one(DataTable)
        for name, width in (("name", 60), ("state", 12), ("measure", 10), ("place", 30), ("trend", 12)):
            table.add_column(name, width=width)
        for cells in self.cells():
            table.add_row(*cells)
        table.focus()
        self.set_interval(1.0, self.tick)

    def cells(self) -> list[list[str]]:
        """All cells of all rows."""
        world = self.store.world
        assert world is not None
        return [
            [text(cell) for cell in rowtext.cells(row, world, self.store.samples, UNICODE, 60)]
            for row in self.store.rows
        ]

    def tick(self) -> None:
        """A second later."""
        self.snapshot = samples.changed(self.snapshot, self.change, self.dice)
        self.store.apply(self.snapshot, (), 0.0)
        table = self.query_one(DataTable)
        for number, cells in enumerate(self.cells()):
            for column, value in enumerate(cells):
                place = Coordinate(number, column)
                if table.get_cell_at(place) != value:
                    table.update_cell_at(place, value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--change", type=float, default=0.0)
    given = parser.parse_args()
    Yardstick(given.paths, given.change).run()
