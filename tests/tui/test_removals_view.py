"""The removals of the past on the dashboard."""

from __future__ import annotations

import dataclasses
import pathlib

from safety.journal import Outcome
from safety.past import Past
from tests.tui import samples
from tests.tui.fakes import dashboard
from tests.until import until


async def test_a_removal_that_ends_while_it_is_looked_at_is_shown_as_ended(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.jsonl"
    past = Past(
        "removal:x", path, "vault", "host", "naa.1", samples.NOW - 9, None, None, True, "It is under way.", 11, 12
    )
    async with dashboard(tmp_path) as bench:
        bench.remover.done = (past,)
        await bench.pilot.press("0")
        await until(lambda: "under way" in bench.text(), what="the removal")
        end = {"ended": samples.NOW, "outcome": Outcome.DONE, "running": False, "said": "vault is safe to pull"}
        bench.remover.done = (dataclasses.replace(past, **end),)  # type: ignore[arg-type]
        await bench.tell(samples.practice(taken_at=samples.NOW + 1))
        await until(lambda: "removed" in bench.text() and "under way" not in bench.text(), what="its end")
