"""The detach of a claimed loop device: each part that fails is told by its name, and what was done is taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safety import loopctl
from tests.host.conftest import RealDisk, disk, need_root, sh

__all__ = ["disk"]
pytestmark = pytest.mark.root


@pytest.fixture
def claim(disk: RealDisk) -> Iterator[int]:
    """The exclusive descriptor. The kernel keeps the read-only flag for whoever gets the device next."""
    sh("blockdev", "--setrw", disk.device)
    handle = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    yield handle
    os.close(handle)
    sh("blockdev", "--setrw", disk.device)


def state(disk: RealDisk) -> tuple[str, str, str]:
    """Whether the device is read-only, goes with its last user, and on which file it stands."""
    loop = Path(f"/sys/block/{disk.kname}/loop")
    told = [(loop / name).read_text().strip() for name in ("autoclear", "backing_file")]
    return sh("blockdev", "--getro", disk.device), told[0], told[1]


@pytest.fixture(params=["0", "1"], ids=["writable", "read-only"])
def before(request: pytest.FixtureRequest, disk: RealDisk, claim: int) -> tuple[str, str, str]:
    sh("blockdev", "--setro" if request.param == "1" else "--setrw", disk.device)
    return request.param, "0", str(disk.image)


def powerless(fd: int) -> subprocess.CompletedProcess[str]:
    """As it is run for a claim, but without the right to change what the kernel takes the device for."""
    need_root("setpriv")
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-I", "-S"]
    argv += [loopctl.__file__, str(fd)]
    return subprocess.run(argv, pass_fds=(fd,), capture_output=True, text=True, check=False)


def test_a_device_that_others_have_open_is_left_as_it_was(
    disk: RealDisk, before: tuple[str, str, str], claim: int
) -> None:
    other = os.open(disk.device, os.O_RDONLY)
    assert loopctl.seal(claim) == "shared"
    os.close(other)
    assert state(disk) == before


@pytest.mark.parametrize("part", ["fsync", "LOOP_CLR_FD", "LOOP_GET_STATUS64"])
def test_a_part_that_fails_is_named_and_what_was_done_is_taken_back(
    disk: RealDisk, before: tuple[str, str, str], claim: int, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part works once, and then not once more; all else is the kernel's."""
    real, sync, asked = loopctl.ioctl, loopctl.write_back, []

    def fail(name: str) -> None:
        asked.append(name)
        if name == part and asked.count(name) == 2:
            raise OSError(5, f"{name}: Input/output error")

    def ioctl(fd: int, name: str, argument: bytes = b"") -> bytes:
        fail(name)
        return real(fd, name, argument)

    def write_back(fd: int) -> None:
        fail("fsync")
        sync(fd)

    monkeypatch.setattr(loopctl, "ioctl", ioctl)
    monkeypatch.setattr(loopctl, "write_back", write_back)
    other = os.open(disk.device, os.O_RDONLY)
    with pytest.raises(OSError, match=f"^.Errno 5. {part}: Input/output error$"):
        loopctl.seal(claim)
    os.close(other)
    assert state(disk) == before


def test_a_flag_that_may_not_be_changed_is_named_and_nothing_is_done(disk: RealDisk, claim: int) -> None:
    sh("blockdev", "--setro", disk.device)
    done = powerless(claim)
    assert (done.returncode, done.stdout, done.stderr) == (13, "", "BLKROSET: Permission denied\n")
    assert state(disk) == ("1", "0", str(disk.image))


def test_what_could_not_be_taken_back_is_named_too(disk: RealDisk, claim: int) -> None:
    other = os.open(disk.device, os.O_RDONLY)
    done = powerless(claim)
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr == ("somebody else has it open; not taken back, LOOP_SET_STATUS64: Operation not permitted\n")
    assert state(disk) == ("0", "1", str(disk.image))
    loopctl.keep(claim)
    os.close(other)
    assert state(disk) == ("0", "0", str(disk.image))


def test_a_device_that_was_read_only_is_writable_for_whoever_gets_it_next(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    device = sh("losetup", "--find", "--show", str(image))
    sh("blockdev", "--setro", device)
    handle = os.open(device, os.O_RDONLY | os.O_EXCL)
    assert loopctl.seal(handle) == "sealed"
    os.close(handle)
    assert sh("losetup", "--associated", str(image)) == ""
    assert sh("blockdev", "--getro", device) == "0"
