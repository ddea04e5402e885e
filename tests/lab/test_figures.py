"""What the results of `make lab-long` add up to, and which places a removal is killed at."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.lab import deaths, long


def test_figures_add_up_and_a_failure_is_seen(tmp_path: Path) -> None:
    results = [
        {"stack": "a", "kills": 3, "removals": 1, "stopped": ["why", "why not"], "compared": 1 << 20},
        {"stack": "a", "kills": 4, "undone": 1, "compared": 1 << 20},
        {"stack": "b", "tries": 1200, "critical": 7},
        {"stack": "b", "failed": "reason", "lost": 5},
    ]
    path = tmp_path / "results"
    path.write_text("".join(json.dumps(each) + "\n" for each in results))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in long.figures(path).splitlines()]
    assert lines[0] == ["stack", *long.COLUMNS.values(), "failed"]
    assert lines[2:] == [
        ["a", "7", "1", "1", "2", "0", "0", "2,097,152", "0", "0"],
        ["b", "0", "0", "0", "0", "1,200", "7", "0", "5", "1"],
        ["all", "7", "1", "1", "2", "1,200", "7", "2,097,152", "5", "1"],
    ]


def test_a_removal_is_killed_between_all_steps_and_a_share_of_the_places_within() -> None:
    steps = [{"id": "one", "changing": False}, {"id": "two", "changing": True}, {"id": "three", "changing": True}]
    out = deaths.boundaries({"steps": steps})
    assert [death["die"] for death in out[:4]] == [
        ["one", "started", "after"],
        ["one", "verified", "before"],
        ["one", "verified", "after"],
        ["two", "started", "after"],
    ]
    back = deaths.boundaries({"steps": steps}, ("undoing", "undone"))
    assert [death["die"][0] for death in back] == ["three"] * 3 + ["two"] * 3
    chosen = deaths.some(out, 1.0, 0.0, random.Random(1))
    assert [death["die"] for death in chosen] == [[step["id"], "verified", "after"] for step in steps]
    assert deaths.some(back, 1.0, 1.0, random.Random(1)) == back
