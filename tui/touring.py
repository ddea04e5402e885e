"""The tour as the dashboard carries it along: what happens on the screen goes in, the lines of the lesson come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from initiator.model import PathState, Snapshot
from tui import tour
from tui.layout import paragraph, width_of
from tui.tour import Seen, Tour
from tui.words import Glyphs, Line, Piece
from tui.world import Row

if TYPE_CHECKING:
    from safety.past import Past
    from safety.plan import Plan

KEYS = (" > next  < back  T ends the tour", " > < T")
"""With words where there is room."""


class Touring:
    """A person on the tour.

    Args:
        now: Unix time; removals that began earlier are not those of the tour.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self.tour = Tour()

    @property
    def seen(self) -> Seen:
        """What was seen in this lesson."""
        return self.tour.seen

    def move(self, by: int, now: float, snapshot: Snapshot | None) -> None:
        """To another lesson."""
        self._since = now
        self.tour = self.tour.move(by)
        if snapshot is not None:
            self.world(snapshot)

    def world(self, snapshot: Snapshot) -> None:
        """A new reading of the host."""
        self._take(tour.saw_world(self.seen, snapshot))

    def row(self, row: Row, *, moved: bool) -> None:
        """A row is under the cursor; `moved` if the person brought it there."""
        state = getattr(row.item, "state", None)
        if moved or state is PathState.FAILED:
            self._take(tour.saw_row(self.seen, row.kind.value, state))

    def help(self) -> None:
        """The words were read."""
        self._take(dataclasses.replace(self.seen, helped=True))

    def plan(self, plan: Plan) -> None:
        """A plan was read."""
        from safety.findings import blocks

        self._take(tour.saw_plan(self.seen, plan.name, (finding.code for finding in blocks(plan.findings))))

    def loss(self, written: int, arrived: int) -> None:
        """The disaster was made."""
        self._take(dataclasses.replace(self.seen, lost=(written, arrived)))

    def removals(self, found: Iterable[Past]) -> None:
        """All removals so far, as their journals tell."""
        from safety.journal import Outcome

        names = {past.name for past in found if past.outcome is Outcome.DONE and past.began >= self._since}
        self._take(dataclasses.replace(self.seen, removed=self.seen.removed | names))

    def _take(self, seen: Seen) -> None:
        self.tour = self.tour.take(seen)

    def lines(self, width: int, glyphs: Glyphs) -> list[Line]:
        """The lesson, `width` cells wide: its title with the keys, then what to do, or what there was to learn."""
        title = Piece(f"{self.tour.headline()} ", "title")
        fitting = [each for each in KEYS if width_of((title,)) + len(each) <= width]
        keys = Piece((fitting or [""])[0], "key")
        rule = Piece(glyphs.rule * max(0, width - width_of((title, keys))), "rule")
        if not self.tour.passed:
            about = paragraph(self.tour.about(), width, "dim") if self.tour.about() else []
            return [(title, rule, keys), *about, *paragraph(self.tour.text(), width, "strong")]
        sign: Line = (Piece(f"{glyphs.good} ", "good"),)
        first, *rest = paragraph(self.tour.text(), width - 2)
        return [(title, rule, keys), (*sign, *first), *((Piece("  "), *line) for line in rest)]
