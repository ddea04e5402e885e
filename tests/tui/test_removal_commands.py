"""The commands of a removal as a person at a terminal, or a script, meets them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.errors import BadInputError, RefusedError
from safety import runner
from safety.journal import Journal, Kind, Mark, Outcome
from safety.plan import Plan, _digest
from tests.tui import fakes, samples
from tui import cli
from tui.commands import removal
from tui.exits import Exit

FOLLOW = """
import sys
from pathlib import Path
from tui.commands import removal

path = Path(sys.argv[1])
sys.exit(removal._follow(path, removal._plan_of(path), as_object=True))
"""


IMPATIENT = f"""
import os, signal
from tui import exits
from tui.commands import removal
def say(*lines):
    for line in lines:
        exits.say(line)
        os.kill(os.getpid(), signal.SIGINT)
removal.say = say
{FOLLOW}"""
"""The same, under somebody who presses Ctrl+C at each line."""


class Following:
    """The command that follows a removal, in a process of its own; the runner is played by this one."""

    def __init__(self, journal: Journal, plan: Plan, process: subprocess.Popen[str]) -> None:
        self.journal = journal
        self.plan = plan
        self._process = process

    def step(self) -> str:
        """The first step is proven; what the command says of it."""
        first = self.plan.steps[0]
        self.journal.append(Kind.STEP, step=first.id, mark=Mark.STARTED)
        self.journal.append(Kind.STEP, first.proof, step=first.id, mark=Mark.VERIFIED)
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def hang_up(self) -> None:
        """Nobody reads the narration any more."""
        assert self._process.stderr is not None
        self._process.stderr.close()

    def interrupt(self) -> str:
        """Ctrl+C; what is said then."""
        self._process.send_signal(signal.SIGINT)
        return self.rest()

    def rest(self) -> str:
        """All that it says from here on."""
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def end(self) -> tuple[int, Any]:
        """Its exit code and what it printed."""
        assert self._process.stdout is not None
        printed = self._process.stdout.read()
        return self._process.wait(30), json.loads(printed)


@pytest.fixture
def following(request: pytest.FixtureRequest) -> Iterator[Following]:
    program = getattr(request, "param", FOLLOW)
    plan = fakes.plan(samples.practice())
    path = runner.journal_dir() / "20261128T080000Z-one.jsonl"
    with contextlib.ExitStack() as open_:
        journal = open_.enter_context(fakes.begin(path, plan))
        fakes.run_by(journal, os.getpid())
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # whoever runs the tests in a shell's background has it ignored, and so would the child
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        open_.enter_context(process)
        open_.callback(process.kill)
        yield Following(journal, plan, process)


def test_a_follower_that_is_interrupted_says_that_the_removal_goes_on(
    following: Following, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "verified: Know the disk data" in following.step()
    said = following.interrupt()
    assert "the runner goes on by itself" in said
    assert "-> how it stands: mooring report data" in said
    assert f"journal: {following.journal.path}" in said
    code, printed = following.end()
    assert code == Exit.UNKNOWN
    assert (printed["outcome"], printed["journal"]) == (None, str(following.journal.path))
    assert printed["steps"][-1]["mark"] == "verified"
    assert cli.main(["report", "data"]) == Exit.DONE
    assert "Removal of data on quay: not ended" in capsys.readouterr().out


@pytest.mark.parametrize("following", [IMPATIENT], ids=["impatient"], indirect=True)
def test_pressing_ctrl_c_again_hides_nothing(following: Following) -> None:
    following.step()
    said = following.rest()
    assert "-> how it stands: mooring report data" in said
    assert f"journal: {following.journal.path}" in said
    code, printed = following.end()
    assert (code, printed["outcome"], printed["steps"][-1]["mark"]) == (Exit.UNKNOWN, None, "verified")


@pytest.mark.parametrize("following", [IMPATIENT], ids=["impatient"], indirect=True)
def test_an_end_that_is_told_while_ctrl_c_is_pressed_is_the_end(following: Following) -> None:
    fakes.end(following.journal, Outcome.STOPPED, "The gate did not close.")
    said = following.rest()
    assert "-> mooring resume data, or: mooring undo data" in said
    code, printed = following.end()
    assert (code, printed["outcome"]) == (Exit.STOPPED, "stopped")


def test_so_does_one_whose_narration_nobody_reads(following: Following) -> None:
    following.step()
    following.hang_up()
    following.journal.append(Kind.NOTE, "what nobody reads")
    code, printed = following.end()
    assert code == Exit.UNKNOWN
    assert (printed["outcome"], printed["journal"]) == (None, str(following.journal.path))


def test_an_end_that_nobody_reads_is_the_end(following: Following) -> None:
    following.step()
    following.hang_up()
    fakes.end(following.journal, Outcome.DONE, "data is safe to pull.")
    code, printed = following.end()
    assert (code, printed["outcome"]) == (Exit.DONE, "done")


def test_an_interrupt_while_the_runner_is_started_does_not_hide_it(capsys: pytest.CaptureFixture[str]) -> None:
    def begin() -> Path:
        raise KeyboardInterrupt

    assert removal._carry_out(begin, fakes.plan(samples.practice()), as_object=False) == Exit.UNKNOWN
    assert "-> how it stands: mooring report data" in capsys.readouterr().err


def written(name: str, plan: Plan, outcome: Outcome) -> Path:
    path = runner.journal_dir() / f"{name}.jsonl"
    with fakes.begin(path, plan) as journal:
        fakes.run_by(journal, 1)
        fakes.walk(journal, plan)
        fakes.end(journal, outcome, f"it is {outcome}")
    return path


def of_real_target(plan: Plan) -> Plan:
    """Not of a practice range: those disks are gone with their range."""
    identities = [dataclasses.replace(each.identity, target="iqn.2026-11.example:store") for each in plan.members]
    members = [dataclasses.replace(each, identity=one) for each, one in zip(plan.members, identities, strict=True)]
    made = dataclasses.replace(plan, members=tuple(members))
    return dataclasses.replace(made, digest=_digest(made))


def test_undo_finds_what_was_done_and_resume_does_not() -> None:
    plan = of_real_target(fakes.plan(samples.practice()))
    path = written("1", plan, Outcome.DONE)
    for text in (None, "data", path.name, str(path)):
        assert removal._journal(text, done=True) == path
    for text in (None, "data"):
        with pytest.raises(BadInputError, match=r"no removal is unfinished$"):
            removal._journal(text)
    with pytest.raises(BadInputError, match="unfinished, and none was done that can be taken back"):
        removal._journal("logs", done=True)


def test_one_that_was_overtaken_is_refused_by_the_name_of_its_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = of_real_target(fakes.plan(samples.practice()))
    # of two that were begun in the same moment the name tells which is the newer one
    first, second = written("2", plan, Outcome.DONE), written("1", plan, Outcome.DONE)
    with pytest.raises(RefusedError, match=f"not as {first} left it: then data was removed"):
        removal._journal(str(first), done=True)
    monkeypatch.chdir(first.parent)
    with pytest.raises(RefusedError, match="then data was removed"):
        removal._journal(first.name, done=True)
    assert removal._journal(str(second), done=True) == second
    assert removal._journal(str(first)) == first


def test_undo_takes_what_is_unfinished_before_what_is_done() -> None:
    seen = samples.practice()
    done = written("1", of_real_target(fakes.plan(seen)), Outcome.DONE)
    stopped = written("2", of_real_target(fakes.plan(seen, "engine:d:logs")), Outcome.STOPPED)
    for asked in (None, "logs"):
        assert removal._journal(asked, done=True) == stopped
    assert removal._journal("data", done=True) == done
    other = written("3", of_real_target(fakes.plan(seen, "engine:d:vault")), Outcome.STOPPED)
    with pytest.raises(BadInputError, match="2 removals are unfinished; name one") as error:
        removal._journal(None, done=True)
    assert str(other) in error.value.fix
    with pytest.raises(BadInputError, match="2 removals are unfinished; none is called 'tea'"):
        removal._journal("tea", done=True)


def test_disks_of_a_practice_range_that_has_ended_are_not_looked_for() -> None:
    written("1", fakes.plan(samples.practice()), Outcome.DONE)
    with pytest.raises(BadInputError, match="none was done that can be taken back"):
        removal._journal(None, done=True)
