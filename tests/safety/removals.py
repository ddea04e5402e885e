"""One removal of the disk of `simworld`: planned, executed, killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from initiator.model import DiskState
from safety.execute import Run
from safety.journal import Journal, Kind, Outcome, Record, read
from safety.plan import Plan, make
from safety.runner import write_plan
from safety.world import World
from tests.safety import scenes
from tests.safety.simworld import ALL_MOUNTS, Crash, SimWorld


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a process dies, not a machine: what was written is there without being made durable."""
    monkeypatch.setattr("safety.journal.os.fsync", lambda fd: None)


def plan_for(world: SimWorld, **attach: Any) -> Plan:
    snapshot = world.snapshot()
    return make(snapshot, world.facts(snapshot, scenes.SCOPE.on(snapshot)), scenes.SCOPE)


def begin(folder: Path, plan: Plan) -> Path:
    path = folder / "removal.jsonl"
    path.unlink(missing_ok=True)
    with Journal.create(path, boot="boot-1", now=lambda: 1.0) as journal:
        write_plan(journal, plan)
    return path


class Mortal(Journal):
    """A journal whose process dies before or after its n-th record."""

    die_at = 0
    die_after = False
    count = 0

    def append(self, *args: Any, **kwargs: Any) -> Record:
        type(self).count += 1
        if self.count == self.die_at and not self.die_after:
            raise Crash
        record = super().append(*args, **kwargs)
        if self.count == self.die_at:
            raise Crash
        return record


def go(
    path: Path,
    world: World,
    *,
    back: bool = False,
    kind: type[Journal] = Journal,
    boot: str = "boot-1",
    **more: Any,
) -> Outcome:
    """One life of a runner."""
    with kind.open(path, boot=boot, now=lambda: 2.0) as journal:
        journal.append(Kind.RUN, "undo" if back else "run")
        run = Run(Plan.from_json(journal.records[0].data["plan"]), journal, world, **more)
        return run.back() if back else run.forward()


def remove(folder: Path, world: SimWorld, **more: Any) -> tuple[Outcome, Path]:
    path = begin(folder, plan_for(world))
    return go(path, world, **more), path


def last(path: Path) -> Record:
    return read(path)[-1]


def assert_gone(world: SimWorld, written: int) -> None:
    assert world.mounted == []
    assert world.device is None
    assert world.sessions == []
    assert world.tcp == set()
    assert (world.lost, world.stable) == (0, written)


def assert_back(world: SimWorld, written: int) -> None:
    assert world.state is DiskState.ATTACHED
    assert world.device is not None
    assert len(world.sessions) == 2
    assert {mount.mountpoint for mount in world.mounted} == {mount.mountpoint for mount in ALL_MOUNTS}
    assert all(mount.dev == world.dev for mount in world.mounted)
    assert not any(claim.open for claim in world.claims)
    assert not world.autoclear
    assert (world.lost, world.written) == (0, written)
