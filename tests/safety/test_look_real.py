"""Looking into real file systems on a real disk, left as a crash leaves them: not a byte of the disk is written."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator import places
from initiator.engine.client import EngineClient
from initiator.errors import OutcomeUnknownError, RefusedError
from initiator.host import run as run_
from initiator.host.run import run_helper
from safety import looking, runner
from safety.findings import blocks
from safety.journal import Outcome, read
from tests.safety.conftest import SIZE, Range
from tests.safety.test_kernel import to_the_end
from tests.safety.test_volume_real import mooring
from tui import cli, policy
from tui.commands.look import find_ground
from tui.exits import Exit

pytestmark = pytest.mark.root


def tool(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def crashed(kind: str, folder: Path) -> Path:
    """An image of a file system as a host leaves it that died: a journal to replay, and a file that was open and gone.

    The ext4 also has, where no journal helps, an orphan and a name without an inode: what a mount with `ro` mends, or
    notes in the superblock.
    """
    image, point, copy = folder / f"{kind}.img", folder / "crash", folder / f"{kind}.crashed"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    if kind == "ext4":
        tool("mkfs.ext4", "-q", "-F", "-L", "TEA", image)
        (folder / "word").write_text("word")
        for order in (f"write {folder}/word nameless", "clri nameless"):
            tool("debugfs", "-w", "-R", order, image)
    else:
        tool("mkfs.xfs", "-q", "-f", "--unsupported", "-L", "TEA", image)
    tool("mount", "-o", "loop", image, point)
    try:
        gone = os.open(point / "gone", os.O_RDWR | os.O_CREAT)
        os.write(gone, os.urandom(300_000))
        os.fsync(gone)
        os.unlink(point / "gone")
        tool("fsfreeze", "--freeze", point)  # has all of it written to its place
        tool("fsfreeze", "--unfreeze", point)
        (point / "kept").write_bytes(b"kept" * 1000)
        with (point / "kept").open("rb") as kept:
            os.fsync(kept.fileno())
        shutil.copy(image, copy)
        os.close(gone)
    finally:
        tool("umount", point)
    return copy


def writes(image: Path, folder: Path, kind: str, options: str) -> bool:
    """Whether a mount with these options changes a copy of an image on a device that can be written to."""
    copy = folder / "copy.img"
    shutil.copy(image, copy)
    before, device = digest(copy), tool("losetup", "--find", "--show", copy)
    try:
        tool("mount", "-t", kind, "-o", options, device, folder / "crash")
        subprocess.run(["ls", "-lR", folder / "crash"], check=False, capture_output=True)
        tool("umount", folder / "crash")
    finally:
        tool("losetup", "--detach", device)
    return digest(copy) != before


@pytest.fixture
def bare(here: Range) -> Iterator[Range]:
    """The range with its disk attached, and nothing of it mounted."""
    tool("umount", here.mountpoint)
    yield here
    for place in (here.state.parent / "run" / "look").glob("*/"):
        subprocess.run(["umount", place], check=False, capture_output=True)
    subprocess.run(["blockdev", "--setrw", str(here.engine.device)], check=False, capture_output=True)


def put(here: Range, image: Path) -> str:
    """Write an image to the disk; gives the digest of what the disk holds then."""
    with open(str(here.engine.device), "r+b") as device:
        device.write(image.read_bytes())
        device.flush()
        os.fsync(device.fileno())
    assert digest(here.image) == digest(image)
    return digest(image)


def shown(folder: str) -> list[str]:
    """The line of mountinfo of a mount point, without its ids."""
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return next(line[2:] for line in lines if line[4] == folder)


def protected(here: Range) -> bool:
    return tool("blockdev", "--getro", str(here.engine.device)) == "1"


def entries(here: Range) -> list[str]:
    """What is in the folder of what is looked into; none where it was not even made."""
    return sorted(each.name for each in (here.state.parent / "run" / "look").glob("*"))


KINDS = {"ext4": "ro,noload", "xfs": "ro"}


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_byte_is_written_to_a_crashed_file_system(kind: str, bare: Range, tmp_path: Path) -> None:
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"needs mkfs.{kind}")
    image = crashed(kind, tmp_path)
    assert writes(image, tmp_path, kind, KINDS[kind]), "the trap is none: this mount writes nothing by itself"
    before = put(bare, image)
    done = mooring("mount", "data", "--read-only", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["outcome"], told["label"], told["fstype"]) == (0, "mounted", "TEA", kind), done.stderr
    folder = told["folder"]
    line = shown(folder)
    assert (line[0], line[-2]) == (told["dev"], bare.engine.device)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(line[3].split(","))
    assert {"ro", "norecovery"} <= set(line[-1].split(","))
    assert os.stat(Path(folder).parent).st_mode & 0o777 == 0o700
    subprocess.run(["ls", "-lR", folder], check=False, capture_output=True)
    assert protected(bare)
    again = mooring("mount", "data", "--read-only")
    assert (again.returncode, f"mooring unmount {folder}" in again.stderr) == (3, True)
    gone = mooring("unmount", folder, "--confirm", folder, "--watch", "0.1")
    assert gone.returncode == 0, gone.stderr
    assert (protected(bare), entries(bare), digest(bare.image)) == (False, [], before)


def look(here: Range) -> str:
    found = looking.prepare(lambda seen: find_ground(seen, "data"), EngineClient())
    assert found.look is not None, found.findings
    return looking.carry_out(found.look).mountpoint


def test_a_removal_dismounts_it_and_its_undo_does_not_mount_it_again(bare: Range) -> None:
    before, folder = digest(bare.image), look(bare)
    plan = bare.plan()
    assert not blocks(plan.findings)
    path = runner.start(plan)
    assert to_the_end(path).outcome is Outcome.DONE, read(path)[-1]
    assert (entries(bare), digest(bare.image)) == ([], before)
    assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE, read(path)[-1]
    assert folder not in Path("/proc/self/mountinfo").read_text()
    assert not protected(bare)


def test_what_was_unmounted_by_hand_is_made_good_by_the_next_look(bare: Range) -> None:
    folder = look(bare)
    tool("umount", folder)
    assert (protected(bare), entries(bare)) == (True, ["data", "data.json"])
    looking.sweep()
    assert (protected(bare), entries(bare)) == (False, [])


def test_a_removal_after_an_unmount_by_hand_leaves_no_protected_device_to_others(bare: Range) -> None:
    """The kernel itself keeps the flag for whoever gets the same loop device next."""
    tool("umount", look(bare))
    device = str(bare.engine.device)
    path = runner.start(bare.plan())
    assert to_the_end(path).outcome is Outcome.DONE, read(path)[-1]
    assert tool("blockdev", "--getro", device) == "0"


def test_a_device_that_was_read_only_before_stays_so(bare: Range) -> None:
    tool("blockdev", "--setro", str(bare.engine.device))
    folder = look(bare)
    assert mooring("unmount", folder, "--confirm", folder, "--watch", "0.1").returncode == 0
    assert (protected(bare), entries(bare)) == (True, [])
    tool("blockdev", "--setrw", str(bare.engine.device))


def test_the_device_is_protected_until_the_last_mount_of_it_is_gone(bare: Range, tmp_path: Path) -> None:
    folder, second = look(bare), tmp_path / "second"
    second.mkdir()
    tool("mount", "--bind", folder, second)
    tool("umount", folder)
    looking.sweep()
    assert protected(bare)
    done = mooring("unmount", str(second), "--confirm", str(second), "--watch", "0.1")
    assert done.returncode == 0, done.stderr
    assert (protected(bare), entries(bare)) == (False, [])


def test_who_lets_a_device_be_written_to_waits_for_who_is_about_to_mount_it(bare: Range) -> None:
    found = looking.prepare(lambda seen: find_ground(seen, "data"), EngineClient())
    assert found.look is not None
    tool("umount", looking.carry_out(found.look).mountpoint)
    other = os.open(places.look_dir(), os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        looking.sweep()
        assert protected(bare)
        with pytest.raises(RefusedError, match="Another volume"):
            looking.carry_out(found.look)
    finally:
        os.close(other)
    looking.sweep()
    assert (protected(bare), entries(bare)) == (False, [])


def test_somebody_who_holds_the_device_is_not_joined(bare: Range) -> None:
    found = looking.prepare(lambda seen: find_ground(seen, "data"), EngineClient())
    assert found.look is not None
    device = str(bare.engine.device)
    claim = run_helper("open_excl", {"path": device}, 10.0, want_fds=1)
    try:
        with pytest.raises(RefusedError, match="opened exclusively"):
            looking.carry_out(found.look)
    finally:
        os.close(claim.fds[0])
    assert (protected(bare), entries(bare)) == (False, [])


def test_a_mount_that_does_not_come_back_in_time_is_told_as_unknown(
    bare: Range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that goes on with every look at it, so that the time is up when the mount was asked for."""
    found = looking.prepare(lambda seen: find_ground(seen, "data"), EngineClient())
    assert found.look is not None
    monkeypatch.setattr(run_, "time", types.SimpleNamespace(monotonic=itertools.count(0, 20).__next__))
    with pytest.raises(OutcomeUnknownError, match="did not come back") as stuck:
        looking.carry_out(found.look, 30.0)
    monkeypatch.setattr(run_, "time", time)
    assert (stuck.value.code, "look/data now" in stuck.value.fix) == ("stuck", True)
    looking.sweep()
    if protected(bare):  # it came to its end after all, which is why nobody can say what became of it
        tool("umount", places.look_path() / "data")
        looking.sweep()
    assert (protected(bare), entries(bare)) == (False, [])


def test_the_command_refuses_previews_and_tells(
    here: Range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mooring("mount", str(here.mountpoint), "--read-only", "--json")
    told = json.loads(mounted.stdout)
    assert (mounted.returncode, told["schema"], told["outcome"]) == (3, 1, "refused")
    assert [each["code"] for each in told["findings"]] == ["mounted"]
    tool("umount", here.mountpoint)
    would = mooring("mount", "data", "--read-only", "--dry-run", "--json")
    told = json.loads(would.stdout)
    assert (would.returncode, told["outcome"], told["options"]) == (0, "dry-run", "ro,nosuid,nodev,noexec,noload")
    assert (entries(here), protected(here)) == ([], False)
    assert not (tmp_path / "run" / "look").exists()
    assert mooring("mount", "data").returncode == 2
    assert mooring("mount", "nothing", "--read-only").returncode == 2
    (tmp_path / "policy.toml").write_text('[forbid]\nmount = "Not here."\n')
    monkeypatch.setattr(policy, "FILE", tmp_path / "policy.toml")
    assert cli.main(["mount", "data", "--read-only"]) == Exit.NOT_PERMITTED
    assert "Not here." in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["mount", "data", "--read-only", "--dry-run"]) == Exit.NOT_PERMITTED
    assert "needs root" in capsys.readouterr().err


@pytest.mark.parametrize(("signature", "code"), [("swap", "member"), ("nothing", "empty")])
def test_what_is_no_file_system_is_refused(signature: str, code: str, bare: Range) -> None:
    tool("wipefs", "--all", str(bare.engine.device))
    if signature == "swap":
        tool("mkswap", str(bare.engine.device))
    before = digest(bare.image)
    done = mooring("mount", "data", "--read-only", "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"][0]["code"]) == (3, code), done.stderr
    assert (entries(bare), protected(bare), digest(bare.image)) == ([], False, before)
