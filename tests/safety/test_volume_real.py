"""Unmounting a real ext4 on a real loop device by the real runner, whose disk stays where it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safety import runner
from safety.findings import blocks
from safety.journal import Journal, Mark, Outcome, boot_id, read, unfinished
from safety.places import new_journal
from safety.plan import Options, Plan
from safety.prepare import prepare
from tests.safety.conftest import Range
from tests.safety.test_kernel import child, loop_status, to_the_end, work
from tui.cli import main
from tui.find import find_volume

pytestmark = pytest.mark.root


def unmounting(here: Range) -> Plan:
    return prepare(lambda seen: find_volume(seen, str(here.mountpoint)), here.client, Options(watch_s=0.2))


def options_of(here: Range) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line.split()[5] for line in lines if line.split()[4] == str(here.mountpoint))


def assert_unmounted(here: Range, checksum: str) -> None:
    """Nothing is mounted, everything is written, and the disk is attached as ever."""
    assert not here.mounted()
    assert loop_status(str(here.engine.device), "backing_file") == str(here.image)
    assert here.sessions() == 2
    assert here.checksum_in_image() == checksum
    assert unfinished(here.journals) == []


def test_a_volume_is_unmounted_with_every_byte_and_mounted_again(here: Range) -> None:
    checksum = here.fill()
    plan = unmounting(here)
    assert not plan.blocked, plan.findings
    path = runner.start(plan)
    end = to_the_end(path)
    assert end.outcome is Outcome.DONE, end
    assert end.text.endswith("mounted nowhere on this host. data stays attached.")
    assert_unmounted(here, checksum)
    assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE
    assert here.checksum() == checksum
    assert "noatime" in options_of(here)


def test_by_hand_it_is_unmounted_and_mounted_again(here: Range, capsys: pytest.CaptureFixture[str]) -> None:
    """What README promises: `mooring undo` after `mooring unmount`, without another word."""
    checksum = here.fill()
    point = str(here.mountpoint)
    assert main(["unmount", point, "--confirm", point, "--watch", "0.2"]) == 0
    (path,) = here.journals.glob("*.jsonl")
    assert f"journal: {path}" in capsys.readouterr().err
    assert_unmounted(here, checksum)
    assert main(["resume"]) == 2
    assert main(["undo"]) == 0
    assert f"taking back what was done: {point}\n  journal: {path}" in capsys.readouterr().err
    assert here.checksum() == checksum
    assert main(["undo"]) == main(["undo", point]) == 2
    assert "no removal is unfinished, and none was done" in capsys.readouterr().err
    assert main(["unmount", point, "--confirm", point, "--watch", "0.2"]) == 0
    assert main(["undo", point]) == 0
    assert here.mounted()


def test_a_second_mount_of_it_goes_too_and_comes_back(here: Range, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    subprocess.run(["mount", "--bind", str(here.mountpoint), str(second)], check=True)
    try:
        path = runner.start(unmounting(here))
        assert to_the_end(path).outcome is Outcome.DONE, read(path)[-1]
        assert str(second) not in Path("/proc/self/mountinfo").read_text()
        assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE
        assert str(second) in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", str(second)], check=False, capture_output=True)


def test_a_shell_in_it_forbids_it_by_name(here: Range) -> None:
    with child("sh", "-c", f"cd {here.mountpoint} && echo ready && read x") as process:
        found = [finding for finding in blocks(unmounting(here).findings) if finding.code == "open"]
        assert any(f"sh (process {process.pid})" in finding.text for finding in found)
    assert here.mounted()


DEATHS = [(step, Mark.VERIFIED, "before") for step in ("unmount-1", "unmounted")] + [
    ("unmount-1", Mark.STARTED, "after")
]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(("step", "mark", "when"), DEATHS)
def test_killed_in_the_middle_it_is_resumed_or_undone(
    here: Range, step: str, mark: Mark, when: str, back: bool
) -> None:
    checksum = here.fill()
    plan = unmounting(here)
    here.journals.mkdir(mode=0o700, exist_ok=True)
    path = new_journal(here.journals, plan.digest, 0.0)
    with Journal.create(path, boot=boot_id()) as journal:
        runner.write_plan(journal, plan)
    argv = [sys.executable, "-m", "tests.safety.mortal_runner", str(path), "run", step, mark, when]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry.disk for entry in unfinished(here.journals)] == [str(here.mountpoint)]
    assert "unfinished" in {finding.code for finding in blocks(here.plan().findings)}
    assert work(path, "undo" if back else "resume") == 0, read(path)[-1]
    if back:
        assert here.checksum() == checksum
        assert "noatime" in options_of(here)
    else:
        assert_unmounted(here, checksum)


def mooring(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tui.cli", *words]
    return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def test_the_command_plans_refuses_and_unmounts(here: Range) -> None:
    checksum, place = here.fill(), str(here.mountpoint)
    shown = mooring("plan", "--unmount", place, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["scope"]["reach"]) == (0, "volume"), shown.stderr
    wrong = mooring("unmount", place, "--confirm", "data")
    assert (wrong.returncode, here.mounted()) == (2, True)
    assert "is not the mount point" in wrong.stderr
    with child("sh", "-c", f"cd {place} && echo ready && read x"):
        assert mooring("unmount", place, "--confirm", place).returncode == 3
    done = mooring("unmount", place, "--confirm", place, "--watch", "0.1", "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, "done"), done.stderr
    assert_unmounted(here, checksum)
