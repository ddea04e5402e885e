"""A short run of the fuzzer with fixed dice, and the proof that it would notice."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initiator.protocol import ffp_commands
from initiator.protocol.ffp_commands import Commands
from initiator.protocol.ffp_task import Task
from tests.fuzz.__main__ import Watch
from tests.fuzz.targets import TARGETS, everything

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (pip install -e '.[fuzz]')"
)


@needs_atheris
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "all", "--runs", "6000", "--seed", "3", "--findings", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "number_of_executed_units: 6000" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_passes_and_is_not_cut(name: str) -> None:
    for seed in TARGETS[name].seeds:
        assert len(seed) <= TARGETS[name].most
        TARGETS[name].run(seed)


def test_a_task_that_ends_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Commands.finish

    def twice(self: Commands, task: Task) -> None:
        finish(self, task)
        task.done(task)

    monkeypatch.setattr(ffp_commands.Commands, "finish", twice)
    with pytest.raises(AssertionError, match="ended twice"):
        TARGETS["session"].run(TARGETS["session"].seeds[0])


def test_an_input_without_an_end_is_noticed() -> None:
    def run(data: bytes) -> None:
        while data:
            pass

    with Watch(run, 0.05) as watched:
        watched(b"")
        with pytest.raises(RuntimeError, match="processor time"):
            watched(b"!")


def test_many_quick_inputs_are_none_without_an_end() -> None:
    end, given = time.process_time() + 0.3, 0
    with Watch(lambda data: None, 0.05) as watched:
        while time.process_time() < end:
            watched(b"")
            given += 1
    assert given > 1


def test_noise_without_guidance() -> None:
    dice = random.Random(5)
    reached: set[int] = set()
    for _ in range(3000):
        data = dice.randbytes(dice.randrange(96))
        everything(data)
        reached.update(number % len(TARGETS) for number in data[:1])
    assert len(reached) == len(TARGETS)
