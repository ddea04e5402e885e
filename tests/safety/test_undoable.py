"""Which removal that was done is meant by its name, and which is overtaken by what came after it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from initiator.errors import RefusedError
from safety.journal import Journal, Outcome, boot_id
from safety.past import Past, Shelf
from safety.plan import Plan, _digest
from safety.runner import write_plan
from safety.scope import volume
from safety.undoable import newest_done
from tests.tui import fakes, samples
from tui.exits import Exit, exit_for

SEEN = samples.practice()
DATA, LOGS = (fakes.plan(SEEN, f"engine:d:{name}") for name in ("data", "logs"))
VOLUME = fakes.volume_plan(SEEN, volume(next(each for each in SEEN.volumes if each.name == "data")))


class History:
    """Journals in a folder, each a day after the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._days = 0

    def add(self, plan: Plan, outcome: Outcome | None, *, until_step: str | None = None) -> Path:
        self._days += 1
        path = self.folder / f"{self._days}.jsonl"
        with Journal.create(path, boot=boot_id(), now=lambda: samples.NOW + 86400.0 * self._days) as journal:
            write_plan(journal, plan)
            fakes.walk(journal, plan, until_step=until_step)
            if outcome is not None:
                fakes.end(journal, outcome, f"it is {outcome}")
        return path

    @property
    def removals(self) -> tuple[Past, ...]:
        return Shelf(self.folder, alive=lambda run: False).look()

    def found(self, name: str | None) -> Path | None:
        past = newest_done(self.removals, name)
        return past.path if past is not None else None

    def refused(self, name: str) -> str:
        with pytest.raises(RefusedError) as error:
            newest_done(self.removals, name)
        assert exit_for(error.value) is Exit.REFUSED
        return str(error.value)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_it_is_found_by_its_name_its_key_and_its_journal(history: History) -> None:
    path = history.add(DATA, Outcome.DONE)
    for name in (None, "data", DATA.keys[0], path.name, str(path)):
        assert history.found(name) == path
    assert history.found("logs") is None


def test_the_newest_of_its_name_is_meant_and_without_a_name_the_newest_of_all(history: History) -> None:
    first, second = history.add(DATA, Outcome.DONE), history.add(LOGS, Outcome.DONE)
    assert (history.found("data"), history.found("logs"), history.found(None)) == (first, second, second)


@pytest.mark.parametrize("outcome", [Outcome.UNDONE, Outcome.REFUSED, Outcome.STOPPED, Outcome.UNKNOWN, None])
def test_what_was_not_done_or_is_taken_back_is_not_found(history: History, outcome: Outcome | None) -> None:
    history.add(DATA, outcome)
    assert history.found("data") is None
    assert history.found(None) is None


def test_one_after_the_other_is_taken_back(history: History) -> None:
    unmounted = history.add(VOLUME, Outcome.DONE)
    removed = history.add(DATA, Outcome.DONE)
    assert history.found(None) == removed
    removed.unlink()
    history.add(DATA, Outcome.UNDONE)
    assert history.found(None) == unmounted
    assert history.found(VOLUME.name) == unmounted


def test_a_volume_whose_disk_left_since_is_not_mounted_again(history: History) -> None:
    history.add(VOLUME, Outcome.DONE)
    removed = history.add(DATA, Outcome.DONE)
    assert f"then data was removed or unmounted ({removed}, done)" in history.refused(VOLUME.name)


@pytest.mark.parametrize("later", [Outcome.DONE, Outcome.UNDONE, None])
def test_a_disk_that_was_here_again_is_not_put_back_where_it_was_before(
    history: History, later: Outcome | None
) -> None:
    """It came back by hand, or it could not have been unmounted: the first removal says nothing of it any more."""
    history.add(DATA, Outcome.DONE)
    history.add(VOLUME, later)
    assert f"then {VOLUME.name} was removed or unmounted" in history.refused("data")
    assert history.found(None) == (history.folder / "2.jsonl" if later is Outcome.DONE else None)


def test_a_volume_that_was_unmounted_twice_is_mounted_as_it_was_last(history: History) -> None:
    history.add(VOLUME, Outcome.DONE)
    second = history.add(VOLUME, Outcome.DONE)
    assert history.found(VOLUME.name) == second
    second.unlink()
    history.add(VOLUME, Outcome.UNDONE)
    assert "was removed or unmounted" in history.refused(VOLUME.name)
    assert history.found(None) is None


def test_what_was_refused_or_came_to_nothing_overtakes_nothing(history: History) -> None:
    path = history.add(DATA, Outcome.DONE)
    history.add(DATA, Outcome.REFUSED)
    history.add(DATA, None, until_step="lock")
    assert history.found("data") == path


def test_two_paths_of_one_map_are_brought_back_in_any_order(history: History) -> None:
    def out(device: str) -> Plan:
        members = tuple(dataclasses.replace(each, whole=False) for each in DATA.members)
        scope = dataclasses.replace(DATA.scope, name=f"data {device}")
        made = dataclasses.replace(DATA, members=members, scope=scope)
        return dataclasses.replace(made, digest=_digest(made))

    first, second = history.add(out("sda"), Outcome.DONE), history.add(out("sdb"), Outcome.DONE)
    assert (history.found("data sda"), history.found("data sdb"), history.found(None)) == (first, second, second)


def test_a_plan_that_cannot_be_read_is_no_plan(history: History) -> None:
    path = history.add(DATA, Outcome.DONE)
    path.write_text(path.read_text().replace('"lun":0', '"lun":1', 1))
    assert "its plan cannot be read" in history.refused("data")
    assert history.found(None) is None
    path.unlink()
    history.add(LOGS, Outcome.DONE)
    newer = history.add(DATA, Outcome.DONE)
    newer.write_text(newer.read_text().replace('"lun":0', '"lun":1', 1))
    assert f"what {newer} did cannot be read" in history.refused("logs")
