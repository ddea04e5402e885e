"""What the command line asks a person, and what it takes for an answer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from initiator.errors import BadInputError, MooringError
from initiator.practice import range as ranges
from initiator.practice.record import Kind
from initiator.practice.remains import Leftover
from tests.tui import fakes, samples
from tui.commands import practice, removal
from tui.commands.common import ask, at_terminal, chap_secret
from tui.exits import Exit
from tui.terminal import check_terminal

CTRL_D = "\x04"
LEFT = Leftover(Kind.FOLDER, "/run/somewhere", "its folder is still there", dead=True, fix="mooring practice stop")
Type = Callable[[str], None]


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """A terminal on stdin, and what is typed there."""
    master, slave = os.openpty()
    with open(slave, encoding="utf-8") as stdin, open(master, "wb", buffering=0) as keys:
        monkeypatch.setattr(sys, "stdin", stdin)

        def press(text: str) -> None:
            keys.write(text.encode())

        yield press


@pytest.fixture
def removal_asked() -> Callable[[], int]:
    """`mooring remove data --json` when its plan is made."""
    return lambda: removal._confirmed(fakes.plan(samples.practice()), argparse.Namespace(confirm=None, json=True))


@pytest.mark.parametrize(("typed", "answer"), [(" yes \n", "yes"), ("\n", ""), (CTRL_D, "")])
def test_a_question_is_narration_and_its_end_is_no_answer(
    type_: Type, capsys: pytest.CaptureFixture[str], typed: str, answer: str
) -> None:
    type_(typed)
    assert at_terminal()
    assert ask("Really? ") == answer
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("Really? \n" if typed == CTRL_D else "Really? ")


@pytest.mark.parametrize("typed", ["logs\n", CTRL_D])
def test_a_removal_that_is_not_confirmed_does_nothing_and_prints_nothing(
    type_: Type, removal_asked: Callable[[], int], capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    type_(typed)
    assert removal_asked() == Exit.REFUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert "Type the disk's name (data) to go on" in said.err
    assert said.err.endswith("nothing was done\n")


@pytest.mark.parametrize("typed", ["n\n", CTRL_D])
def test_leftovers_of_a_range_are_left_without_a_yes(
    type_: Type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    monkeypatch.setattr(ranges, "leftovers", lambda: (LEFT,))
    type_(typed)
    with pytest.raises(MooringError, match="left as they are"):
        practice._clean_leftovers(without_asking=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "Clean them up now? [y/N] " in said.err


def test_without_any_input_there_is_nobody_to_ask(
    removal_asked: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "leftovers", lambda: (LEFT,))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInputError, match="has to be confirmed"):
        removal_asked()
    with pytest.raises(MooringError, match="there are leftovers"):
        practice._clean_leftovers(without_asking=False)
    with pytest.raises(BadInputError, match="no terminal to ask for the CHAP secret"):
        chap_secret("keeper", None, "--chap")
    with pytest.raises(MooringError, match="needs a terminal"):
        check_terminal()
