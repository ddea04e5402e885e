"""Paths of kernel disks, straight from a recorded sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from initiator.host.scsipaths import Traffic, read_paths, read_traffic
from initiator.model import Portal
from tests.host.kerneltree import KernelTree, naa


@pytest.fixture
def kernel(tmp_path: Path) -> KernelTree:
    return KernelTree(tmp_path / "host")


def test_a_path_and_its_session(kernel: KernelTree) -> None:
    place = kernel.session(3, address="fd00::2", persistent="10.9.1.2")
    kernel.lun(3, 1, kname="sdb", dev="8:16", diskseq=9, state="offline")
    kernel.lun(3, 7, kind=13)
    (kernel.root / f"{place}/target3:0:0/3:0:0:1/block/sdb/holders/dm-2").symlink_to("x")
    found = read_paths(kernel.root)
    assert found.problems == ()
    (session,) = found.sessions
    assert (session.sid, session.state, session.interface) == (3, "LOGGED_IN", "default")
    assert session.portals == (Portal("10.9.1.2", 3260), Portal("fd00::2", 3260))
    disk, door = found.paths
    assert (disk.hctl, disk.sid, disk.lun, disk.state, disk.wwid) == ("3:0:0:1", 3, 1, "offline", f"naa.{naa(1)}")
    assert (disk.kname, disk.dev, disk.diskseq, disk.size_bytes) == ("sdb", "8:16", 9, 1 << 28)
    assert disk.holders == ("dm-2",)
    assert (disk.may_hold_data, door.may_hold_data, door.kname) == (True, False, None)


def test_a_disk_that_the_kernel_has_not_made_yet_may_hold_data(kernel: KernelTree) -> None:
    kernel.session(1)
    kernel.lun(1, 0)
    (path,) = read_paths(kernel.root).paths
    assert path.may_hold_data


def test_traffic_of_a_path(kernel: KernelTree) -> None:
    place = kernel.session(1)
    hctl = kernel.lun(1, kname="sda", device_busy="3", iotmo_cnt="0x1f")
    block = f"{place}/target1:0:0/{hctl}/block/sda"
    kernel.write(f"{block}/inflight", "       2        5\n")
    kernel.write(f"{block}/stat", "10 0 80 4 20 0 160 6 0 1 1 3 0 0 0 4 9\n")
    assert read_traffic(hctl, kernel.root) == Traffic(in_flight=7, busy=3, ended=37, errors=1, timeouts=31)
    assert read_traffic("9:0:0:0", kernel.root) is None


def test_what_a_path_does_not_tell_is_not_zero(kernel: KernelTree) -> None:
    kernel.session(1)
    hctl = kernel.lun(1, kname="sda")
    seen = read_traffic(hctl, kernel.root)
    assert seen is not None
    assert (seen.in_flight, seen.busy, seen.ended) == (None, None, None)
