"""A runner that is slow to start, or does not start at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from initiator.errors import OutcomeUnknownError, RefusedError
from safety import runner
from safety.journal import Journal, Kind, boot_id


def journal_and_program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A journal with one record, and a program in Python's place."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    path = folder / "journal.jsonl"
    with Journal.create(path, boot=boot_id()) as journal:
        journal.append(Kind.PLAN, "of a test")
    return path


def test_one_that_has_not_begun_in_time_may_still_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal_and_program(tmp_path, monkeypatch, "exec sleep 1000")
    monkeypatch.setattr(runner, "_START_S", 0.05)
    try:
        with pytest.raises(OutcomeUnknownError, match="may still begin") as caught:
            runner._spawn(path, "run")
        assert str(path.with_suffix(".log")) in caught.value.fix
        assert str(runner._children[-1].pid) in str(caught.value)
    finally:
        runner._children[-1].kill()
        runner._children.pop().wait()


def test_one_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal_and_program(tmp_path, monkeypatch, "echo no such module >&2; exit 3")
    with pytest.raises(RefusedError, match="no such module"):
        runner._spawn(path, "run")
