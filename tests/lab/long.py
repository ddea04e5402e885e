"""`make lab-long`: hundreds of killed and raced removals, each stack in its turn, every result appended to a file.

A run that is cut off has its figures so far: `python -m tests.lab figures` adds them up.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.lab import deaths, races, stacks
from tests.lab.deaths import Lost, Stack
from tests.lab.disks import Ground, Stand
from tests.lab.machine import Machine

RESULTS = Path(".lab/long.jsonl")
SEED = 20261127
WANDERS = 3
"""Chains with deaths at random moments, for each stack and round."""
RACES = 2
COLUMNS = {
    "kills": "killed",
    "removals": "removed",
    "undone": "undone",
    "stopped": "stopped by themselves",
    "tries": "tries of racers",
    "critical": "between claim and delete",
    "compared": "bytes compared",
    "lost": "bytes lost",
}
"""Of a result, and what they are called."""


def main(machine: Machine, seed: int = SEED, minutes: float = 100.0, names: Sequence[str] = ()) -> bool:
    """Rounds over all stacks until the time is up; True if no byte was lost and nothing left over."""
    end = time.monotonic() + 60 * minutes
    RESULTS.parent.mkdir(exist_ok=True)
    good = True
    chosen = [stand for stand in stacks.EVERY if not names or stand.name in names]
    grounds = {stand.name: Ground(machine, [stand], 0x100 * (n + 1)) for n, stand in enumerate(chosen)}
    for number in range(1000):
        for stand in chosen:
            if time.monotonic() > end:
                return good
            for result in one(grounds[stand.name], stand, random.Random(f"{seed}/{number}/{stand.name}")):
                good = good and "failed" not in result
                note({"seed": seed, "round": number, **result})
    return good


def one(ground: Ground, stand: Stand, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Every kind of chain and race on one stack, which is removed in the end."""
    try:
        stack = Stack(ground, stand, chance)
        yield from _timed(lambda: deaths.sweep(stack, within=0.2))
        for _ in range(RACES):
            yield from _timed(lambda: races.race(stack, chance))
        for _ in range(WANDERS):
            yield from _timed(lambda: deaths.wander(stack, chance.randint(2, 5)))
        deaths.remove(stack)
    except (Lost, AssertionError) as error:
        yield {"stack": stand.name, "failed": str(error), "lost": error.lost if isinstance(error, Lost) else 0}
        ground.clear(stand)


def _timed(make: Any) -> Iterator[dict[str, Any]]:
    began = time.monotonic()
    found = make()
    yield {"kind": type(found).__name__, **dataclasses.asdict(found), "seconds": round(time.monotonic() - began, 1)}


def note(result: dict[str, Any]) -> None:
    """One line in the file, and one for whoever looks on."""
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result)[:400], file=sys.stderr, flush=True)


def figures(path: Path = RESULTS) -> str:
    """The results of a file as a table, one row for each stack and one for all."""
    rows: dict[str, Counter[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        row = rows.setdefault(found["stack"], Counter())
        row["failed"] += "failed" in found
        for name in COLUMNS:
            given = found.get(name, 0)
            row[name] += len(given) if isinstance(given, list) else given
    rows["all"] = sum(rows.values(), Counter())
    titles = ("stack", *COLUMNS.values(), "failed")
    lines = [" | ".join(titles), " | ".join("---" if title == "stack" else "---:" for title in titles)]
    for name, row in rows.items():
        lines.append(" | ".join((name, *(f"{row[column]:,}" for column in COLUMNS), str(row["failed"]))))
    return "\n".join(f"| {line} |" for line in lines)
