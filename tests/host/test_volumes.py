"""Labels, sizes, and which mounts matter."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from initiator.host import mounts, volumes
from initiator.host.blockreader import read_block
from initiator.host.mounts import Mount, parse_mountinfo
from initiator.host.run import Helper, Stuck
from initiator.host.volumes import Label, Size, Sizes, read_labels, relevant, to_volume
from initiator.inventory import Inventory
from initiator.model import VolumeState
from tests.host.conftest import RealDisk, need_root, sh
from tests.host.hanging import HangingMount
from tests.host.tree import Tree
from tests.until import until


def test_labels_come_from_udevs_database_or_its_links(tree: Tree) -> None:
    for number, kname in enumerate(("sda", "sdb", "sdc", "sdd")):
        tree.block(kname, f"8:{16 * number}")
    nodes, _ = read_block(tree.root)
    assert read_labels(tree.root, nodes) == {}
    tree.write("run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_FS_LABEL_ENC=my\\x20data\nE:ID_FS_UUID=0f1e-2d\nI:12\n")
    tree.write("run/udev/data/b8:16", "E:DEVTYPE=disk\n")
    tree.link("dev/disk/by-label/caf\\xc3\\xa9", "../../sdb")
    tree.link("dev/disk/by-uuid/77aa", "../../sdc")
    assert read_labels(tree.root, nodes) == {
        "8:0": Label("my data", "0f1e-2d"),
        "8:16": Label("café", None),
        "8:32": Label(None, "77aa"),
    }


ROWS = parse_mountinfo(
    """20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw - proc proc rw
30 20 7:3 / /data rw - ext4 /dev/loop3 rw
31 30 0:40 / /data/tmp rw - tmpfs tmpfs rw
32 31 0:41 / /data/tmp/auto rw - autofs auto rw
40 20 0:50 /sub /pool rw - btrfs /dev/sdb rw
41 20 0:51 / /win rw - fuseblk /dev/sdc1 rw
42 20 0:52 / /other rw - tmpfs tmpfs rw
"""
)


def test_shown_are_file_systems_on_devices_and_all_that_hangs_below_our_disks() -> None:
    behind = mounts.real_devices(ROWS, {"sdb": ("8:16",)}, ())
    shown = relevant(ROWS, behind, frozenset(("7:3",)))
    assert [mount.mountpoint for mount in shown] == ["/", "/data", "/data/tmp", "/data/tmp/auto", "/pool", "/win"]
    assert [mount.mountpoint for mount in relevant(ROWS, behind, frozenset())] == ["/", "/data", "/pool", "/win"]


def test_a_volume_has_its_label_or_its_mount_point_for_a_name() -> None:
    data = next(mount for mount in ROWS if mount.mountpoint == "/data")
    volume = to_volume(data, ("d1",), Size(100, 60, 30), Label("harbour", "u"))
    assert (volume.id, volume.name, volume.state) == ("volume:30", "harbour", VolumeState.MOUNTED)
    assert (volume.size_bytes, volume.used_bytes, volume.free_bytes) == (100, 60, 30)
    assert (volume.disks, volume.dev, volume.device) == (("d1",), "7:3", "/dev/loop3")
    plain = to_volume(data, (), None, None)
    assert (plain.name, plain.size_bytes) == ("/data", None)
    (elsewhere,) = parse_mountinfo("30 20 7:3 / /data ro - ext4 /dev/loop3 rw\n", "4026532000", 12)
    other = to_volume(elsewhere, (), None, None)
    assert (other.id, other.state) == ("volume:4026532000:30", VolumeState.READ_ONLY)
    told = to_volume(data, (), Size(100, 60, 30, "quay"), Label(None, "u"))
    assert (told.name, told.label, told.uuid) == ("quay", "quay", "u")


def own(mountpoint: Path) -> list[Mount]:
    return [mount for mount in mounts.read_mounts()[0] if mount.mountpoint == str(mountpoint) and not mount.namespace]


def test_the_size_of_the_root_is_that_of_statvfs() -> None:
    sizes = Sizes(deadline=10.0)
    (root,) = own(Path("/"))
    found, problems = sizes.read([root])
    sizes.close()
    truth = os.statvfs("/")
    assert problems == ()
    assert found[root.dev].size == truth.f_blocks * truth.f_frsize
    assert 0 < found[root.dev].used <= found[root.dev].size


def test_an_answer_whose_end_comes_too_late_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host that is too busy: every volume has answered when the time of the whole is up."""
    (root,) = own(Path("/"))

    def late(self: Helper, name: str, args: object, deadline: float) -> Iterator[tuple[object, ...]]:
        yield (root.mount_id, 4096, 100, 60, 50, b"")
        raise Stuck(name, 1, "", deadline, left_behind=False)

    monkeypatch.setattr(Helper, "stream", late)
    sizes = Sizes()
    found, problems = sizes.read([root])
    assert (found, problems) == ({root.dev: Size(409600, 163840, 204800)}, ())
    assert sizes.read([root]) == (found, ()), "nobody is suspected"


@pytest.mark.parametrize(
    ("hangs", "left_behind", "rounds", "sized"),
    [
        (1, False, ["/data /pool", "/pool /data"], {"7:3", "0:50"}),
        (2, False, ["/data /pool", "/pool /data"], {"0:50"}),
        (9, True, ["/data /pool", "/pool"], {"0:50"}),
    ],
)
def test_silent_is_who_leaves_a_child_that_cannot_be_killed_or_two_that_can(
    monkeypatch: pytest.MonkeyPatch, hangs: int, left_behind: bool, rounds: list[str], sized: set[str]
) -> None:
    """The first child may only have been held up; all of it takes no longer than it may."""
    clock, left, asked = [0.0], [hangs], list[str]()

    def stream(self: Helper, name: str, args: dict[str, Any], deadline: float) -> Iterator[tuple[object, ...]]:
        asked.append(" ".join(path for path, _ in args["mounts"]))
        for path, mount_id in args["mounts"]:
            if path == "/data" and left[0]:
                left[0] -= 1
                clock[0] += deadline
                raise Stuck(name, 1, "", deadline, left_behind=left_behind)
            yield (mount_id, 4096, 100, 60, 50, b"")

    monkeypatch.setattr(Helper, "stream", stream)
    sizes = Sizes(deadline=1.0, clock=lambda: clock[0])
    mine = [mount for mount in ROWS if mount.mountpoint in ("/data", "/pool")]
    found, problems = sizes.read(mine)
    assert (asked, set(found)) == (rounds, sized)
    assert [problem.subject for problem in problems] == ([] if "7:3" in sized else ["/data"])
    assert clock[0] < 1.0
    asked.clear()
    assert sizes.read(mine)[1] == problems
    assert asked == ["/data /pool" if "7:3" in sized else "/pool"], "who is suspected is left alone"


def test_other_namespaces_and_nothing_to_ask_need_no_child() -> None:
    sizes = Sizes()
    (elsewhere,) = parse_mountinfo("30 20 7:3 / / rw - ext4 /dev/loop3 rw\n", "4026532000", 12)
    assert sizes.read([elsewhere]) == ({}, ())
    assert sizes.read([]) == ({}, ())
    sizes.close()


@pytest.mark.root
def test_a_mounted_file_system_says_its_label_when_it_is_asked(disk: RealDisk) -> None:
    disk.mount()
    sizes = Sizes(deadline=10.0)
    (ours,) = own(disk.mountpoint)
    asked, _ = sizes.read([ours], [ours.dev])
    other, _ = sizes.read([ours], ["0:0"])
    sizes.close()
    assert (asked[ours.dev].label, other[ours.dev].label) == ("moor-test", None)
    assert asked[ours.dev].size == other[ours.dev].size


@pytest.mark.root
def test_a_label_is_known_where_no_udev_notes_it(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "Sizes", functools.partial(Sizes, deadline=10.0))
    disk.mount()
    with Inventory() as inventory:
        (volume,) = (each for each in inventory.read().volumes if each.mountpoint == str(disk.mountpoint))
    assert (volume.label, volume.name) == ("moor-test", "moor-test")


@pytest.mark.root
def test_a_covered_mount_has_no_size_and_no_problem(disk: RealDisk) -> None:
    disk.mount()
    sizes = Sizes(deadline=10.0)
    (ours,) = own(disk.mountpoint)
    found, problems = sizes.read([ours])
    assert found[ours.dev].size > 16 << 20
    sh("mount", "-t", "tmpfs", "cover", str(disk.mountpoint))
    assert sizes.read([ours]) == ({}, ())
    sizes.close()
    assert problems == ()


@pytest.mark.root
async def test_a_volume_that_never_answers_is_a_problem_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_root()
    clock, asked, stream = [0.0], list[list[str]](), Helper.stream

    def noted(self: Helper, name: str, args: dict[str, Any], deadline: float) -> Iterator[Any]:
        asked.append([path for path, _ in args["mounts"]])
        return stream(self, name, args, deadline)

    monkeypatch.setattr(Helper, "stream", noted)
    sizes = Sizes(deadline=4.0, retry_after=10.0, clock=lambda: clock[0])
    (root,) = own(Path("/"))
    with HangingMount(tmp_path):
        (dead,) = own(tmp_path)
        started = time.monotonic()
        found, problems = sizes.read([dead, root])
        assert time.monotonic() - started < 5
        assert set(found) == {root.dev}
        assert [(problem.source, problem.subject) for problem in problems] == [("sizes", str(tmp_path))]
        clock[0] = 100.0
        found, problems = sizes.read([dead, root])
        assert asked == [[str(tmp_path), "/"], ["/"], ["/"]], "while its child hangs it is not asked again"
        assert (set(found), len(problems)) == ({root.dev}, 1)
    await until(lambda: not sizes._suspected(dead.dev), what="the child to come back")
    sizes.close()
