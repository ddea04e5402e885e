from __future__ import annotations

import os
import pathlib

import pytest

from safety.journal import Kind, Mark, Outcome, read
from tests.tui import fakes, samples
from tui.plantext import plan_lines
from tui.progress import Progress
from tui.words import UNICODE

PLAN = fakes.plan(samples.practice())


def told(path: pathlib.Path, width: int = 90) -> tuple[Progress, str]:
    progress = Progress()
    progress.take(read(path))
    lines = progress.lines(width, UNICODE, samples.NOW + 3)
    return progress, "\n".join("".join(piece.text for piece in line) for line in lines)


def test_a_plan_shows_each_step_with_what_it_does_and_what_proves_it() -> None:
    text = "\n".join("".join(piece.text for piece in line) for line in plan_lines(PLAN, 100, UNICODE))
    assert "✓ Nothing stands against removing data." in text
    assert 'does:  umount2("/run/mooring/practice/data", UMOUNT_NOFOLLOW)' in text
    assert "proof: no command is taken" in text
    assert "undo:  mount it" in text
    assert "Steps 8, about 8 s" in text


def test_a_blocked_plan_shows_the_evidence_and_the_way_out() -> None:
    blocked = fakes.plan(samples.practice(), findings=(fakes.BLOCK, fakes.NOTE))
    text = "\n".join("".join(piece.text for piece in line) for line in plan_lines(blocked, 100, UNICODE))
    assert "✗ data cannot be removed now: 1 reason. Nothing was changed." in text
    assert "seen: /proc/4711/cwd -> /run/mooring/practice/data" in text
    assert "→ leave that folder or end the process" in text


def test_steps_under_way(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        fakes.run_by(journal, os.getpid())
        fakes.walk(journal, PLAN, until_step="claim")
    progress, text = told(path)
    assert not progress.over
    assert "Removing data." in text
    assert "✓ proven    Know the disk data  0.0 s" in text
    assert "▶ now       Claim /dev/loop0  3.0 s" in text
    assert "· waits     Watch that nothing comes back" in text


def test_a_finished_removal_says_what_is_safe(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        fakes.walk(journal, PLAN)
        fakes.end(journal, Outcome.DONE, "Safe to pull: data.")
    progress, text = told(path)
    assert progress.over
    assert not progress.can_go_on
    assert text.startswith("✓ Safe to pull: data.")
    assert progress.headline()[1] == "good"


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.UNKNOWN])
def test_a_stopped_removal_says_why_and_can_go_on(tmp_path: pathlib.Path, outcome: Outcome) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        fakes.walk(journal, PLAN, until_step="offline")
        journal.append(Kind.STEP, "it is busy", step="offline", mark=Mark.FAILED)
        fakes.end(journal, outcome, "The gate did not close.", "wait, then resume")
    progress, text = told(path)
    assert progress.can_go_on
    assert "The gate did not close." in text
    assert "→ wait, then resume" in text
    assert "✗ failed    Close the engine's gate" in text
    assert "it is busy" in text


def test_refused_and_undone_are_at_their_end(tmp_path: pathlib.Path) -> None:
    for outcome, role in ((Outcome.REFUSED, "warn"), (Outcome.UNDONE, "good")):
        path = tmp_path / f"{outcome}.jsonl"
        with fakes.begin(path, PLAN) as journal:
            fakes.end(journal, outcome, "")
        progress, _ = told(path)
        assert progress.over
        assert not progress.can_go_on
        assert progress.headline()[1] == role


def test_what_a_dead_runner_left_is_not_called_done(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        fakes.walk(journal, PLAN, until_step="unmount-1")
    progress, _ = told(path)
    progress.runner_lost = True
    lines = progress.lines(90, UNICODE, samples.NOW)
    text = "\n".join("".join(piece.text for piece in line) for line in lines)
    assert progress.can_go_on
    assert "? not known Unmount /run/mooring/practice/data" in text
    assert "resume or undo data" in text


def test_a_second_runner_takes_over(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        fakes.walk(journal, PLAN, until_step="claim")
        fakes.end(journal, Outcome.STOPPED, "asked to stop", code="asked")
        fakes.run_by(journal, os.getpid(), "undo")
        journal.append(Kind.STEP, step="unmount-1", mark=Mark.UNDOING)
    progress, text = told(path)
    assert not progress.over
    assert text.startswith("Bringing data back.")
    assert "▶ undoing   Unmount" in text


def test_notes_are_shown(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "j.jsonl"
    with fakes.begin(path, PLAN) as journal:
        journal.append(Kind.NOTE, "the target was slow")
    assert "· the target was slow" in told(path)[1]
