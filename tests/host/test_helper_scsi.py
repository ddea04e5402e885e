"""The helper's operations on disks, with loop devices in place of paths."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from initiator.host.run import HelperFailed, close_all, run_helper
from tests.host.conftest import RealDisk

pytestmark = pytest.mark.root


def test_all_are_claimed_or_none(disk: RealDisk) -> None:
    given = {"paths": [disk.device, disk.device], "patience": 0.05}
    with pytest.raises(HelperFailed) as caught:
        run_helper("claim_all", given, 10.0)
    assert caught.value.errno == errno.EBUSY
    claim = run_helper("claim_all", {**given, "paths": [disk.device]}, 10.0, want_fds=1)
    close_all(claim.fds)


def test_a_claim_keeps_mounts_away_and_is_taken_as_soon_as_it_is_free(disk: RealDisk) -> None:
    held = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    leaves = threading.Timer(0.1, os.close, [held])
    leaves.start()
    try:
        (claim,) = run_helper("claim_all", {"paths": [disk.device], "patience": 5.0}, 10.0, want_fds=1).fds
    finally:
        leaves.join()
    try:
        with pytest.raises(OSError, match="busy"):
            os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    finally:
        os.close(claim)


def test_the_lock_that_keeps_udev_away(disk: RealDisk) -> None:
    (locked,) = run_helper("open_locked", {"path": disk.device, "patience": 5.0}, 10.0, want_fds=1).fds
    other = os.open(disk.device, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(HelperFailed) as caught:
            run_helper("open_locked", {"path": disk.device, "patience": 0.05}, 10.0, want_fds=1)
        assert caught.value.errno == errno.EWOULDBLOCK
    finally:
        close_all((locked, other))


def test_an_attribute_is_written_through_its_descriptor(tmp_path: Path) -> None:
    attribute = tmp_path / "state"
    attribute.write_text("running\n")
    handle = os.open(attribute, os.O_RDWR)
    attribute.rename(tmp_path / "moved")
    attribute.write_text("another\n")
    run_helper("write_attribute", {"fd": handle, "text": "offline"}, 10.0, pass_fds=(handle,))
    os.close(handle)
    assert (tmp_path / "moved").read_text().startswith("offline")
    assert attribute.read_text() == "another\n"


def test_what_is_no_scsi_disk_refuses_commands(disk: RealDisk) -> None:
    handle = os.open(disk.device, os.O_RDONLY)
    try:
        with pytest.raises(HelperFailed) as caught:
            run_helper("sg_io", {"fd": handle, "cdb": bytes(10), "seconds": 1.0}, 10.0, pass_fds=(handle,))
    finally:
        os.close(handle)
    assert caught.value.errno in (errno.ENOTTY, errno.EINVAL)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("dm_remove", {"deferred": True}),
        ("dm_open_count", {}),
        ("hand_over", {"fd": -1, "paths": [], "patience": 0.0}),
    ],
)
def test_a_map_that_does_not_exist(operation: str, more: dict[str, Any]) -> None:
    for uuid, numbers in (("", (errno.EINVAL,)), ("mpath-moor-none", (errno.ENXIO, errno.ENODEV, errno.ENOENT))):
        with pytest.raises(HelperFailed) as caught:
            run_helper(operation, {"uuid": uuid, **more}, 10.0)
        assert caught.value.errno in numbers
