"""The removals of the past, read from real journals."""

from __future__ import annotations

import os
from pathlib import Path

from safety.journal import Journal, Kind, Mark, Outcome, boot_id
from safety.past import Past, Shelf, leaving
from tests.tui import fakes, samples

DATA = fakes.plan(samples.practice())


def shelf(folder: Path, alive: bool = False) -> Shelf:
    return Shelf(folder, alive=lambda run: alive)


def removal(folder: Path, name: str, outcome: Outcome | None = None, at: float = 0.0) -> Path:
    """A journal of eight steps of which three are proven, and its end."""
    plan = DATA
    path = folder / f"{name}.jsonl"
    with Journal.create(path, boot=boot_id(), now=lambda: samples.NOW + at) as journal:
        journal.append(Kind.PLAN, data={"plan": plan.to_json()})
        journal.append(Kind.RUN, "run", data={"pid": os.getpid(), "started": 1, "mode": "run"})
        for step in plan.steps[:3]:
            journal.append(Kind.STEP, step=step.id, mark=Mark.STARTED)
            journal.append(Kind.STEP, step=step.id, mark=Mark.VERIFIED)
        if outcome is not None:
            fakes.end(journal, outcome, f"it is {outcome}")
    return path


def only(folder: Path, alive: bool = False) -> Past:
    (found,) = shelf(folder, alive).look()
    return found


def test_a_removal_that_was_done(tmp_path: Path) -> None:
    removal(tmp_path, "one", Outcome.DONE)
    found = only(tmp_path)
    assert (found.id, found.name, found.host) == ("removal:one", "data", "quay")
    assert (found.outcome, found.said) == (Outcome.DONE, "it is done")
    assert (found.proven, found.steps) == (3, 8)
    assert found.ended is not None
    assert not found.running


def test_one_whose_runner_lives_and_one_whose_runner_died(tmp_path: Path) -> None:
    removal(tmp_path, "one")
    running, died = only(tmp_path, alive=True), only(tmp_path, alive=False)
    assert running.running
    assert running.said == "It is under way."
    assert not died.running
    assert died.outcome is None
    assert died.ended is None
    assert died.said == "Its runner died."
    assert leaving((running,)) == set(running.wwid.split()) == {member.identity.wwid for member in DATA.members}
    assert leaving((died,)) == set()


def test_the_newest_comes_first(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "c", "a")):
        removal(tmp_path, name, Outcome.UNDONE, at=number)
    assert [found.id for found in shelf(tmp_path).look()] == ["removal:a", "removal:c", "removal:b"]


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("no journal\n")
    (tmp_path / "empty.jsonl").touch()
    broken, empty = shelf(tmp_path).look()
    assert "cannot be read" in broken.said
    assert "empty" in empty.said
    assert broken.records == ()


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    path = removal(tmp_path, "one", Outcome.STOPPED)
    shelf_ = shelf(tmp_path)
    (first,) = shelf_.look()
    assert shelf_.look()[0] is first
    with Journal.open(path, boot=boot_id()) as journal:
        fakes.end(journal, Outcome.UNDONE, "back")
    (second,) = shelf_.look()
    assert second.outcome is Outcome.UNDONE
    path.unlink()
    assert shelf_.look() == ()
