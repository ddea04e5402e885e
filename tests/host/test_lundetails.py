"""Details of the kernel's paths from a tree, and registrations from answers of a disk."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from initiator.host import lundetails
from initiator.host.lundetails import LunDetail
from initiator.host.run import HelperFailed, HelperResult, run_helper
from initiator.model import Disk, DiskState, Source
from initiator.scsi.reservations import Keys, Registration, build_full_status, build_keys
from tests.host.conftest import RealDisk
from tests.host.kerneltree import KernelTree, naa

DISK = Disk("kernel:d:1", "mail", DiskState.ATTACHED, Source.KERNEL, "naa.1", 1 << 28, "/dev/mapper/mail")
ONE = Registration(7, "iqn.2026-11.com.example:host8", "00023d000001", port=1)
NOT_SUPPORTED = bytes((0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0))
NOT_READY = bytes((0x72, 2, 4, 1))


def test_what_a_path_says(tmp_path: Path) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(1)
    hctl = tree.lun(1, 3, kname="sdb", state="transport-offline", dh_state="alua")
    bare = tree.lun(1, 4)
    tree.attribute(f"scsi_device/{bare}/device/inquiry", bytes(8))
    asked = (f"kernel:p:{hctl}", f"kernel:p:{bare}", "kernel:p:9:0:0:0", "engine:p:1")
    assert lundetails.read_luns(asked, tree.root) == {
        f"kernel:p:{hctl}": LunDetail("transport-offline", f"naa.{naa(3)}", True, "alua"),
        f"kernel:p:{bare}": LunDetail("running", f"naa.{naa(4)}", False, None),
    }


class Answering:
    """A helper whose disk answers as it is told: no device here has persistent reservations."""

    def __init__(self, *answers: tuple[int, int, bytes, bytes] | HelperFailed) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __call__(self) -> Answering:
        return self

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def call(self, name: str, args: dict[str, Any], deadline: float) -> HelperResult:
        assert (name, args["cdb"][0]) == ("sg_read", 0x5E)
        assert deadline > args["seconds"]
        self.asked.append(args)
        answer = self.answers.pop(0)
        if isinstance(answer, HelperFailed):
            raise answer
        return HelperResult(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((0, 0, b"", build_full_status(3, (ONE,)) + bytes(40)), (ONE,)),
        ((0, 0, b"", struct.pack(">II", 3, 0)), ()),
    ],
    ids=["one", "none"],
)
def test_who_is_registered(
    answer: tuple[int, int, bytes, bytes], expected: tuple[Registration, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = Answering(answer)
    monkeypatch.setattr(lundetails, "Helper", helper)
    assert lundetails.read_registrations((DISK,)) == ({DISK.id: expected}, ())
    assert [(asked["path"], asked["cdb"][1]) for asked in helper.asked] == [("/dev/mapper/mail", 3)]


def test_a_target_that_does_not_know_the_names_tells_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    not_known = (2, 0, NOT_SUPPORTED, b"")
    keys = (0, 0, b"", build_keys(Keys(3, (7, 9))))
    monkeypatch.setattr(lundetails, "Helper", Answering(not_known, keys))
    assert lundetails.read_registrations((DISK,)) == ({DISK.id: (Registration(7, None), Registration(9, None))}, ())
    monkeypatch.setattr(lundetails, "Helper", Answering(not_known, not_known))
    assert lundetails.read_registrations((DISK,)) == ({DISK.id: ()}, ())


@pytest.mark.parametrize(
    "answer",
    [
        (2, 0, NOT_READY, b""),
        (0, 7, b"", b""),
        (0, 0, b"", b"\0\0"),
        (0, 0, b"", struct.pack(">II", 3, 400)),
        HelperFailed("sg_read", 5, "Input/output error"),
    ],
    ids=["not ready", "host status", "cut short", "longer than sent", "I/O error"],
)
def test_a_disk_that_does_not_tell_is_not_known(
    answer: tuple[int, int, bytes, bytes] | HelperFailed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lundetails, "Helper", Answering(answer))
    found, (problem,) = lundetails.read_registrations((DISK,))
    assert found == {}
    assert (problem.source, problem.subject) == ("registrations", "mail")


@pytest.mark.root
def test_a_device_without_scsi_says_so(disk: RealDisk) -> None:
    given = {"path": disk.device, "cdb": b"\x5e\x03" + bytes(8), "length": 512, "seconds": 1.0}
    with pytest.raises(HelperFailed) as caught:
        run_helper("sg_read", given, 10.0)
    assert caught.value.errno in (22, 25)
