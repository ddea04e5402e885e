"""The report of a removal, made from its journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safety.journal import JournalError, Mark, Outcome, read
from safety.report import make_report
from tests.safety.removals import begin, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.test_removal_kernel import planned, remove, run
from tui.reporting import save_report

__all__ = ["quick_disk"]


def test_a_report_tells_each_step_with_its_evidence(tmp_path: Path) -> None:
    _, journal = remove(tmp_path, SimKernel())
    made = make_report(read(journal))
    assert made.outcome == "done"
    assert all(done.mark is Mark.VERIFIED and done.evidence and done.took_s is not None for done in made.steps)
    told = made.to_json()
    assert json.loads(json.dumps(told))["steps"][2]["command"].startswith("iscsiadm -m node")
    assert [each["ends"] for each in told["sessions"]] == [True, True]
    assert told["details"]["free"]
    text = "\n".join(made.lines())
    assert "mpatha on testhost: done" in text
    assert "the target answered SYNCHRONIZE CACHE with GOOD" in text


def test_a_report_of_what_was_taken_back_tells_every_mark(tmp_path: Path) -> None:
    world = SimKernel()
    _, journal = remove(tmp_path, world)
    assert run(journal, world, back=True) is Outcome.UNDONE
    made = make_report(read(journal))
    assert made.outcome == "undone"
    unmount = next(done for done in made.steps if done.step.kind == "unmount-kernel")
    assert [each.mark for each in unmount.marks] == [Mark.STARTED, Mark.VERIFIED, Mark.UNDOING, Mark.UNDONE]
    assert unmount.evidence == "/mnt/data is mounted from /dev/dm-3"


def test_a_removal_that_did_not_begin_is_told_too(tmp_path: Path) -> None:
    made = make_report(read(begin(tmp_path, planned(SimKernel()))))
    assert (made.outcome, {done.mark for done in made.steps}) == ("not ended", {None})
    with pytest.raises(JournalError):
        make_report(())


def test_a_report_is_saved_for_its_owner_alone(tmp_path: Path) -> None:
    _, journal = remove(tmp_path, SimKernel())
    text, data = save_report(journal, tmp_path)
    assert text.read_text(encoding="utf-8").startswith("Removal of mpatha")
    assert json.loads(data.read_text(encoding="utf-8"))["schema"] == 1
    assert {path.stat().st_mode & 0o777 for path in (text, data)} == {0o600}
