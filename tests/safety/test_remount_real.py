"""Mounting again, on real loop devices: what an undo has to bring back is what mountinfo said before."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from initiator.engine.client import EngineClient
from initiator.host.mounts import Mount, is_under, read_mounts
from safety import remount, runner
from safety.effects import Host
from safety.journal import Outcome, read
from safety.plan import Plan, Step, make
from safety.remount import Ground
from safety.work import Work
from safety.world import StepError
from tests.host.conftest import need_root, sh
from tests.safety import scenes
from tests.safety.conftest import made
from tests.safety.test_kernel import to_the_end

pytestmark = pytest.mark.root


class Stage:
    """A loop device with a file system, and the runner's hands.

    Attributes:
        notes: What was written into the journal.
    """

    def __init__(self, folder: Path, fstype: str) -> None:
        self.folder = folder
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(128 << 20)
        sh(f"mkfs.{fstype}", "-q", str(image))
        self.fstype = fstype
        self.device = sh("losetup", "--find", "--show", str(image))
        self.dev = Path(f"/sys/block/{self.device.removeprefix('/dev/')}/dev").read_text().strip()
        self.notes: list[str] = []

    def place(self, name: str) -> str:
        (self.folder / name).mkdir()
        return str(self.folder / name)

    def shown(self, point: str) -> Mount:
        """The one mount at a place."""
        (found,) = (mount for mount in read_mounts()[0] if mount.mountpoint == point and mount.namespace is None)
        return found

    def again(self, before: Mount, host: type[Host] = Host) -> str:
        """Mount again what was mounted, as an undo does."""
        seen = scenes.snapshot()
        plan: Plan = make(seen, scenes.facts(), scenes.SCOPE)
        (step,) = (step for step in plan.steps if step.kind == "unmount")
        params = {**step.params, **{key: value for key, value in dataclasses.asdict(before).items() if key != "dev"}}
        step = dataclasses.replace(step, params={**params, "dev": before.dev})
        world = host(EngineClient())
        with contextlib.closing(world):
            work = Work(plan, world, self.notes.append)
            return remount.mount_again(work, step, self._ground)

    def _ground(self, work: Work, step: Step) -> Ground:
        return Ground(self.device, None if self.fstype == "btrfs" else self.dev)

    def close(self) -> None:
        for mount in reversed(read_mounts()[0]):
            if mount.namespace is None and is_under(mount.mountpoint, str(self.folder)):
                subprocess.run(["umount", mount.mountpoint], check=False)
        sh("losetup", "-d", self.device)


@contextlib.contextmanager
def stage(folder: Path, fstype: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    need_root(f"mkfs.{fstype}", "losetup", "mount", "umount")
    if fstype not in Path("/proc/filesystems").read_text():
        pytest.skip(f"needs {fstype} in the kernel")
    (folder / "run").mkdir(mode=0o700)
    monkeypatch.setenv("MOORING_RUNTIME_DIR", str(folder / "run"))
    found = Stage(folder, fstype)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def btrfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    need_root("btrfs")
    with stage(tmp_path, "btrfs", monkeypatch) as found:
        top = found.place("top")
        sh("mount", found.device, top)
        sh("btrfs", "subvolume", "create", f"{top}/@data")
        sh("btrfs", "subvolume", "create", f"{top}/@a, b")
        for name in ("@data", "@a, b"):
            Path(top, name, "inner").mkdir()
            Path(top, name, "inner", "file").write_text(name)
        sh("btrfs", "subvolume", "set-default", f"{top}/@a, b")
        sh("umount", top)
        yield found


@pytest.fixture
def ext4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with stage(tmp_path, "ext4", monkeypatch) as found:
        yield found


def same(before: Mount, now: Mount) -> bool:
    """Whether a mount is as it was, but for the numbers that each mount gets."""

    def plain(mount: Mount) -> Mount:
        groups = re.sub(r":\d+", "", mount.propagation)
        return dataclasses.replace(mount, mount_id=0, parent_id=0, dev="", propagation=groups)

    return plain(before) == plain(now)


@pytest.mark.parametrize("seen", [False, True], ids=["alone", "with its top mounted elsewhere"])
@pytest.mark.parametrize("options", ["subvol=@data,noatime", "subvolid=5", "nodev", "subvol=@data,ro"])
def test_a_subvolume_comes_back(btrfs: Stage, options: str, seen: bool) -> None:
    point = btrfs.place("mnt")
    sh("mount", "-o", options, btrfs.device, point)
    before = btrfs.shown(point)
    inside = sorted(path.name for path in Path(point).iterdir())
    sh("umount", point)
    if seen and "ro" not in options.split(","):
        sh("mount", "-o", "subvolid=5", btrfs.device, str(btrfs.folder / "top"))
    btrfs.again(before)
    now = btrfs.shown(point)
    assert same(before, now), (before, now)
    assert sorted(path.name for path in Path(point).iterdir()) == inside
    assert btrfs.notes == []


def test_a_folder_of_a_subvolume_comes_back(btrfs: Stage) -> None:
    whole, point = btrfs.place("whole"), btrfs.place("mnt")
    sh("mount", "-o", "subvol=@data", btrfs.device, whole)
    sh("mount", "--bind", f"{whole}/inner", point)
    before = btrfs.shown(point)
    sh("umount", whole)
    sh("umount", point)
    btrfs.again(before)
    assert same(before, btrfs.shown(point)), (before, btrfs.shown(point))
    assert Path(point, "file").read_text() == "@data"


class Dies(Host):
    """Does the first mount, and fails in what is to follow it."""

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        if arguments[0] not in ("-t", "--bind"):
            raise StepError("mount: killed.", code="mount")
        super().mount(arguments, deadline)


@pytest.mark.parametrize("kind", ["a mount alone read-only", "a folder", "a shared one", "an unbindable one"])
def test_a_mount_that_an_undo_died_in_is_finished_by_the_next(ext4: Stage, kind: str) -> None:
    """Before it was, anybody could write to it, or use a program with setuid on it."""
    top, point, folder = ext4.place("top"), ext4.place("mnt"), str(ext4.folder)
    sh("mount", "--bind", folder, folder)
    sh("mount", "--make-private", folder)
    sh("mount", ext4.device, top)
    if kind == "a folder":
        Path(top, "sub").mkdir()
        sh("mount", "--bind", f"{top}/sub", point)
        sh("mount", "-o", "remount,bind,ro,nosuid,nodev", point)
        sh("mount", "--make-private", point)
    else:
        sh("mount", ext4.device, point)
        sh("mount", "--make-private", point)
        if "alone" in kind:
            sh("mount", "-o", "remount,bind,ro", point)
        else:
            sh("mount", f"--make-{'shared' if 'shared' in kind else 'unbindable'}", point)
    before = ext4.shown(point)
    sh("umount", point)
    if "shared" not in kind:  # what is mounted below a shared mount begins as shared
        sh("mount", "--make-shared", folder)
    with pytest.raises(StepError, match="killed"):
        ext4.again(before, Dies)
    assert not same(before, ext4.shown(point))
    ext4.again(before)
    assert same(before, ext4.shown(point)), (before, ext4.shown(point))
    assert ext4.again(before) == f"{point} is mounted"
    assert ext4.notes == []


class Leaves(Host):
    """Dies before it takes the place away from which a folder was mounted."""

    def unmount(self, mountpoint: str, deadline: float) -> None:
        raise StepError("umount: killed.", code="mount")


def test_nothing_is_left_of_the_place_from_which_a_folder_was_mounted(ext4: Stage) -> None:
    top, point, scratch = ext4.place("top"), ext4.place("mnt"), str(ext4.folder / "run" / "undo")
    sh("mount", ext4.device, top)
    Path(top, "sub").mkdir()
    sh("mount", "--bind", f"{top}/sub", point)
    before = ext4.shown(point)
    sh("umount", point)
    sh("umount", top)
    with pytest.raises(StepError, match="killed"):
        ext4.again(before, Leaves)
    assert ext4.shown(scratch).root == "/"
    ext4.again(before)
    assert same(before, ext4.shown(point))
    assert scratch not in {mount.mountpoint for mount in read_mounts()[0]}


def test_a_subvolume_on_a_disk_of_the_engine_goes_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_root("btrfs", "mkfs.btrfs", "losetup", "mount", "umount")
    if "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs btrfs in the kernel")
    monkeypatch.setenv("MOORING_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MOORING_STATE_DIR", str(tmp_path / "state"))
    with made(tmp_path, "btrfs", 128 << 20) as here:
        place = str(here.mountpoint)
        sh("btrfs", "subvolume", "create", f"{place}/@data")
        sh("umount", place)
        sh("mount", "-o", "subvol=@data,noatime", str(here.engine.device), place)
        checksum = here.fill()
        journal = runner.start(here.plan())
        assert to_the_end(journal).outcome is Outcome.DONE, read(journal)[-1]
        assert not here.mounted()
        assert to_the_end(runner.undo(journal)).outcome is Outcome.UNDONE, read(journal)[-1]
        assert here.checksum() == checksum
        (row,) = (mount for mount in read_mounts()[0] if mount.mountpoint == place and mount.namespace is None)
        assert (row.root, "noatime" in row.options.split(",")) == ("/@data", True)
