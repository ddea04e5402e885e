"""mountinfo of every namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.host import mounts
from initiator.host.helper_calls import pinned_mounts
from initiator.host.mounts import Mount, below, mount_of, parse_mountinfo, read_mounts, unescape
from initiator.model import BlockNode
from tests.host.conftest import RealDisk, need_root, sh
from tests.host.tree import Tree

ROOT = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
DATA = r"30 20 7:3 / /mnt/my\040data rw,noatime shared:9 master:2 - ext4 /dev/loop3 rw,errors=remount-ro"


def test_every_field_is_read() -> None:
    (mount,) = parse_mountinfo(DATA + "\n")
    assert mount == Mount(
        mount_id=30,
        parent_id=20,
        dev="7:3",
        root="/",
        mountpoint="/mnt/my data",
        options="rw,noatime",
        propagation="shared:9 master:2",
        fstype="ext4",
        source="/dev/loop3",
        super_options="rw,errors=remount-ro",
    )
    assert not mount.read_only


@pytest.mark.parametrize(
    ("options", "super_options", "read_only"),
    [("rw", "rw", False), ("ro,noatime", "rw", True), ("rw", "ro", True), ("rw", "rw,errors=remount-ro", False)],
)
def test_a_mount_or_its_file_system_can_be_read_only(options: str, super_options: str, read_only: bool) -> None:
    (mount,) = parse_mountinfo(f"30 20 7:3 / /m {options} - ext4 /dev/loop3 {super_options}")
    assert mount.read_only is read_only


def test_a_mount_without_optional_fields_and_without_a_source() -> None:
    private, empty = parse_mountinfo(
        "30 20 7:3 /sub /m rw - ext4 /dev/loop3 rw\n31 20 0:5 / /t rw shared:1 - tmpfs  rw\n"
    )
    assert (private.propagation, private.root) == ("", "/sub")
    assert (empty.source, empty.super_options) == ("", "rw")


@pytest.mark.parametrize(
    "line", ["30", "30 20 7:3 / /m rw ext4 /dev/loop3 rw", "x 20 7:3 / /m rw - ext4 a rw", "30 20 7:3"]
)
def test_a_line_that_the_kernel_does_not_write_is_no_mount_and_no_silence(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        parse_mountinfo(line)


@given(st.text(st.characters(codec="latin-1")))
def test_escapes_are_undone(text: str) -> None:
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in text)
    assert unescape(escaped) == text


def test_the_own_namespace_comes_first_and_each_only_once(tree: Tree) -> None:
    tree.mounts(ROOT, DATA)
    tree.process(1)
    tree.process(7)
    other = "90 1 8:1 / / rw - ext4 /dev/sda1 rw\n91 90 7:3 / /inside rw - ext4 /dev/loop3 rw\n"
    tree.process(12, namespace="mnt:[4026532000]", mountinfo=other)
    tree.process(13, namespace="mnt:[4026532000]", mountinfo=other)
    found, problems = read_mounts(tree.root)
    assert problems == ()
    assert [(mount.mount_id, mount.namespace, mount.namespace_pid) for mount in found] == [
        (20, None, None),
        (30, None, None),
        (90, "4026532000", 12),
        (91, "4026532000", 12),
    ]


def test_a_thread_with_a_namespace_of_its_own_is_found_when_threads_are_asked_for(tree: Tree) -> None:
    tree.mounts(ROOT)
    tree.process(12)
    tree.write("proc/12/task/15/mountinfo", "91 90 7:3 / /inside rw - ext4 /dev/loop3 rw\n")
    tree.link("proc/12/task/15/ns/mnt", "mnt:[4026532000]")
    tree.link("proc/12/task/15/root", "/")
    assert len(read_mounts(tree.root)[0]) == 1
    found, problems = read_mounts(tree.root, threads=True)
    assert [mount.mountpoint for mount in found] == ["/", "/inside"]
    assert problems == ()


def test_a_process_with_a_changed_root_is_the_last_choice(tree: Tree) -> None:
    tree.mounts(ROOT)
    whole = "90 1 8:1 / / rw - ext4 /dev/sda1 rw\n91 90 7:3 / /jail rw - ext4 /dev/loop3 rw\n"
    tree.process(12, namespace="mnt:[4026532000]", root="/jail", mountinfo="91 90 7:3 / / rw - ext4 /dev/loop3 rw\n")
    tree.process(13, namespace="mnt:[4026532000]", mountinfo=whole)
    found, problems = read_mounts(tree.root)
    assert [mount.mount_id for mount in found] == [20, 90, 91]
    assert problems == ()
    shutil.rmtree(tree.root / "proc/13")
    found, problems = read_mounts(tree.root)
    assert [mount.mount_id for mount in found] == [20, 91]
    assert [problem.reason for problem in problems] == ["only a process with a changed root is in it"]


def test_a_process_that_ends_meanwhile_is_neither_a_mount_nor_a_problem(tree: Tree) -> None:
    tree.mounts(ROOT)
    tree.process(12, namespace="mnt:[4026532000]")
    (tree.root / "proc/12/mountinfo").unlink()
    tree.process(13)
    (tree.root / "proc/13/ns/mnt").unlink()
    found, problems = read_mounts(tree.root)
    assert [mount.mount_id for mount in found] == [20]
    assert problems == ()


def test_a_table_that_makes_no_sense_is_a_problem(tree: Tree) -> None:
    tree.mounts(ROOT)
    tree.process(12, namespace="mnt:[4026532000]", mountinfo="what is this\n")
    found, problems = read_mounts(tree.root)
    assert len(found) == 1
    assert [(problem.source, problem.subject) for problem in problems] == [("mounts", "namespace mnt:[4026532000]")]


def test_the_own_table_missing_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    found, problems = read_mounts(tmp_path)
    assert found == ()
    assert {problem.subject for problem in problems} == {"the own mount namespace"}


def test_a_namespace_that_only_a_file_keeps_alive(tree: Tree) -> None:
    tree.mounts(ROOT, "40 20 0:4 mnt:[4026532777] /run/keep rw - nsfs nsfs rw")
    _, problems = read_mounts(tree.root)
    assert [problem.subject for problem in problems] == ["namespace mnt:[4026532777]"]
    asked = []

    def pinned(path: str) -> bytes:
        asked.append(path)
        return b"95 94 7:3 / /kept rw - ext4 /dev/loop3 rw\n"

    found, problems = read_mounts(tree.root, pinned=pinned)
    assert (found[-1].mountpoint, found[-1].namespace) == ("/kept", "4026532777")
    assert asked == ["/run/keep"]
    assert problems == ()

    def refuses(path: str) -> bytes:
        raise PermissionError(1, "Operation not permitted", path)

    _, problems = read_mounts(tree.root, pinned=refuses)
    assert [problem.reason for problem in problems] == ["Operation not permitted"]


def test_what_hangs_below_and_which_mount_a_path_leads_through() -> None:
    lines = (
        ROOT,
        DATA,
        "31 30 7:4 / /mnt/my\\040data/in rw - ext4 a rw",
        "32 31 0:9 / /mnt/my\\040data/in/t rw - tmpfs t rw",
    )
    rows = parse_mountinfo("\n".join(lines) + "\n33 20 7:9 / /mnt/my\\040data rw - ext4 b rw\n")
    assert {mount.mount_id for mount in below(rows, [rows[1]])} == {31, 32}
    assert mount_of("/mnt/my data/in/file", rows) == rows[2]
    assert mount_of("/mnt/my data/other", rows) == rows[4], "of two at one place the later one is on top"
    assert mount_of("/mnt/my database", rows) == rows[0]


def test_the_devices_behind_a_btrfs() -> None:
    rows = parse_mountinfo(f"{ROOT}\n50 20 0:41 /sub /b rw - btrfs /dev/sdb rw\n51 20 0:5 / /t rw - tmpfs t rw\n")
    behind = mounts.real_devices(rows, {"sdb": ("8:16", "8:32"), "sdc": ("8:16", "8:32")}, ())
    assert behind == {"8:1": ("8:1",), "0:41": ("8:16", "8:32")}


@pytest.mark.parametrize(
    ("source", "kname"),
    [
        ("/dev/mapper/mpatha", "dm-3"),
        ("/dev/mapper/vg-my--data", "dm-5"),
        ("/dev/dm-3", "dm-3"),
        ("/dev/cciss/c0d0", "cciss!c0d0"),
        ("/dev/mapper/other", None),
    ],
)
def test_a_btrfs_on_a_map_or_a_logical_volume_is_found_by_its_name(source: str, kname: str | None) -> None:
    """The kernel lists `dm-3` as a device of the file system, and shows the mount with the name of the map."""
    nodes = (
        BlockNode("dm-3", "253:3", "mpath", 1 << 30, False, dm_name="mpatha"),
        BlockNode("dm-5", "253:5", "lvm", 1 << 30, False, dm_name="vg-my--data"),
        BlockNode("cciss!c0d0", "104:0", "disk", 1 << 30, False),
    )
    btrfs = {node.kname: (node.dev,) for node in nodes}
    rows = parse_mountinfo(f"50 20 0:41 /@data /b rw - btrfs {source} rw,subvolid=256,subvol=/@data\n")
    assert mounts.real_devices(rows, btrfs, nodes) == ({"0:41": btrfs[kname]} if kname else {})


def test_this_host_as_findmnt_sees_it() -> None:
    if shutil.which("findmnt") is None:
        pytest.skip("needs findmnt")
    tool = subprocess.run(
        ["findmnt", "-J", "-l", "-o", "ID,PARENT,MAJ:MIN,TARGET,FSTYPE,FSROOT"], capture_output=True, text=True
    )
    theirs = {
        (row["id"], row["parent"], row["maj:min"], row["target"], row["fstype"], row["fsroot"])
        for row in json.loads(tool.stdout)["filesystems"]
    }
    found, _ = read_mounts()
    ours = {
        (mount.mount_id, mount.parent_id, mount.dev, mount.mountpoint, mount.fstype, mount.root)
        for mount in found
        if mount.namespace is None
    }
    common = ours & theirs
    assert len(common) >= len(theirs) - 4, "other tests may mount and unmount between the two readings"
    assert any(target == "/" for _, _, _, target, _, _ in common)


@pytest.mark.root
def test_a_mount_in_another_namespace_is_seen(disk: RealDisk) -> None:
    need_root("unshare")
    script = f"mount {disk.device} '{disk.mountpoint}' && echo ready && read line"
    child = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        found, _ = read_mounts()
        (there,) = [mount for mount in found if mount.dev == disk.dev]
        assert there.mountpoint == str(disk.mountpoint)
        assert there.namespace == str(os.stat(f"/proc/{child.pid}/ns/mnt").st_ino)
        assert there.namespace_pid == child.pid
    finally:
        child.communicate("\n", timeout=10)
    assert not [mount for mount in read_mounts()[0] if mount.dev == disk.dev]


def pin_namespace(pin: Path, *argv: str) -> None:
    """Run a command in a namespace that `pin` keeps alive.

    A namespace can only be pinned in one with a lower number (EINVAL), and each processor gives numbers of its own.
    """
    failed: subprocess.CalledProcessError | None = None
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            sh("taskset", "-c", str(cpu), "unshare", f"--mount={pin}", "--propagation", "private", *argv)
        except subprocess.CalledProcessError as error:
            failed = error
        else:
            return
    assert failed is not None
    raise AssertionError(failed.stderr)


@pytest.mark.root
def test_a_mount_in_a_namespace_without_processes_is_seen(disk: RealDisk, tmp_path: Path) -> None:
    need_root("unshare")
    pins = tmp_path / "pins"
    pins.mkdir()
    sh("mount", "--bind", str(pins), str(pins))
    sh("mount", "--make-private", str(pins))
    pin = pins / "ns"
    pin.touch()
    try:
        pin_namespace(pin, "mount", disk.device, str(disk.mountpoint))
        found, problems = read_mounts(pinned=pinned_mounts)
        assert [mount.mountpoint for mount in found if mount.dev == disk.dev] == [str(disk.mountpoint)]
        assert not [problem for problem in problems if str(pin) in problem.reason]
    finally:
        sh("umount", str(pin))
        sh("umount", str(pins))
