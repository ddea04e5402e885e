"""That processes of a run are really stopped, and go on, so that a green run under `tests.stall` means something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.stall import Pauses, run

TEST = """
import subprocess, sys

PROGRAM = "from signal import *; pthread_sigmask(SIG_BLOCK, {SIGCONT}); sigwait({SIGCONT})"

def test_that_waits_until_its_child_goes_on():
    assert subprocess.run([sys.executable, "-c", PROGRAM], timeout=60).returncode == 0
"""


def test_a_run_is_held_up_and_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    code, stopped = run(Pauses(1, 0.1, 0.05), ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "test_it.py"])
    assert code == os.EX_OK
    assert stopped.total() > 0
