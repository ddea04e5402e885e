"""Claims on paths, with a loop device and a recorded sysfs folder in place of a SCSI disk."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import threading
from pathlib import Path

import pytest

from initiator.host.nursery import children_of
from initiator.host.run import close_all
from safety import claims_kernel
from safety.claims import number, sequence_number
from safety.world import Busy, StepError
from safety.world_kernel import Route
from tests.descriptors import opened
from tests.host.conftest import RealDisk, disk

__all__ = ["disk"]
pytestmark = pytest.mark.root
WWID = "naa.5000000000000001"


@pytest.fixture
def route(disk: RealDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    handle = os.open(disk.device, os.O_RDONLY)
    found = Route("1:0:0:0", disk.kname, number(os.fstat(handle).st_rdev), sequence_number(handle) or 0, WWID)
    os.close(handle)
    folder = tmp_path / "scsi/1:0:0:0"
    (folder / f"block/{disk.kname}").mkdir(parents=True)
    (folder / f"block/{disk.kname}/diskseq").write_text(f"{found.diskseq}\n")
    (folder / "wwid").write_text(f"{WWID}\n")
    (folder / "state").write_text("running\n")
    (folder / "delete").write_text("")
    monkeypatch.setattr(claims_kernel, "_FOLDER", str(tmp_path / "scsi/{}"))
    return found


def test_a_claim_keeps_everything_open_until_it_is_closed(
    disk: RealDisk, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_kernel, "_LOCK_S", 0.2)
    (claim,) = claims_kernel.take([route], 20.0)
    gc.collect()
    held = claim.held
    assert held
    assert [os.fstat(fd).st_size for fd in (claim.state_fd, claim.delete_fd)] == [8, 0]
    with pytest.raises(Busy, match="has its lock"):
        claims_kernel.take([route], 20.0)
    with pytest.raises(OSError, match="busy"):
        os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    fds = (claim.fd, claim.lock_fd, claim.state_fd, claim.delete_fd)
    claim.close()
    assert not claim.held
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_udev_gets_its_time_for_the_events_of_an_unmount(
    disk: RealDisk, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers lock a disk while they work on it; nobody else's claim is waited for so long."""
    monkeypatch.setattr(claims_kernel, "_PATIENCE_S", 0.0)
    udev = os.open(disk.device, os.O_RDONLY)
    fcntl.flock(udev, fcntl.LOCK_EX)

    def done() -> None:
        while not any(_has_open(pid, disk.device) for pid in children_of(os.getpid())):
            pass  # the helper has not come to the lock
        os.close(udev)

    worker = threading.Thread(target=done)
    worker.start()
    (claim,) = claims_kernel.take([route], 20.0)
    worker.join()
    assert claim.held
    claim.close()


def _has_open(pid: int, device: str) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(each) == device for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.parametrize(("name", "text"), [("wwid", "naa.2"), ("block/{}/diskseq", "1")])
def test_another_disk_under_the_same_name_is_not_claimed(
    disk: RealDisk, route: Route, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "scsi/1:0:0:0" / name.format(disk.kname)).write_text(text)
    with pytest.raises(StepError) as caught:
        claims_kernel.take([route], 20.0)
    assert caught.value.code == "identity-changed"
    assert opened(disk.device, tmp_path / "scsi") == []


def test_a_path_that_is_gone_is_not_claimed(route: Route, tmp_path: Path) -> None:
    (tmp_path / "scsi/1:0:0:0/delete").unlink()
    with pytest.raises(StepError) as caught:
        claims_kernel.take([route], 20.0)
    assert caught.value.code == "gone"


def test_nothing_is_left_open_when_something_else_holds_the_path(disk: RealDisk, route: Route, tmp_path: Path) -> None:
    handle = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    with pytest.raises(Busy):
        claims_kernel.take([route], 20.0)
    assert opened(disk.device, tmp_path / "scsi") == [disk.device]
    close_all((handle,))
