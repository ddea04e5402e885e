"""Claims on paths, with a loop device and a recorded sysfs folder in place of a SCSI disk."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from initiator.host.run import close_all
from safety import claims_kernel
from safety.claims import number, sequence_number
from safety.world import Busy, StepError
from safety.world_kernel import Route
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


def test_a_claim_keeps_everything_open_until_it_is_closed(disk: RealDisk, route: Route) -> None:
    (claim,) = claims_kernel.take([route], 20.0)
    gc.collect()
    held = claim.held
    assert held
    assert [os.fstat(fd).st_size for fd in (claim.state_fd, claim.delete_fd)] == [8, 0]
    with pytest.raises(Busy):
        claims_kernel.take([route], 20.0)
    with pytest.raises(OSError, match="busy"):
        os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    fds = (claim.fd, claim.lock_fd, claim.state_fd, claim.delete_fd)
    claim.close()
    assert not claim.held
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(("name", "text"), [("wwid", "naa.2"), ("block/{}/diskseq", "1")])
def test_another_disk_under_the_same_name_is_not_claimed(
    disk: RealDisk, route: Route, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "scsi/1:0:0:0" / name.format(disk.kname)).write_text(text)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StepError) as caught:
        claims_kernel.take([route], 20.0)
    assert caught.value.code == "identity-changed"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_that_is_gone_is_not_claimed(route: Route, tmp_path: Path) -> None:
    (tmp_path / "scsi/1:0:0:0/delete").unlink()
    with pytest.raises(StepError) as caught:
        claims_kernel.take([route], 20.0)
    assert caught.value.code == "gone"


def test_nothing_is_left_open_when_something_else_holds_the_path(disk: RealDisk, route: Route) -> None:
    handle = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Busy):
        claims_kernel.take([route], 20.0)
    assert len(os.listdir("/proc/self/fd")) == before
    close_all((handle,))
