"""Who uses a disk: recorded trees for what a machine rarely has, and a real disk in real use."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from initiator.host import openers
from initiator.host import usage as usage_
from initiator.host.blockreader import read_block
from initiator.host.helper import HELPER
from initiator.host.mounts import read_mounts
from initiator.host.run import HelperFailed
from initiator.host.usage import KernelUse, Kind, LoopUse, Usage, living_superblocks, read_usage
from initiator.model import Swap
from tests.host.conftest import RealDisk, need_root, sh
from tests.host.hanging import HangingMount
from tests.host.tree import Tree
from tests.journeys.host import until

LIVE = Path("/")
ROOT = "20 1 8:1 / / rw - ext4 /dev/sda1 rw"
DATA = "30 20 7:3 / /data rw - ext4 /dev/loop3 rw"


@pytest.fixture
def host(tree: Tree) -> Tree:
    """sda1 is the root, loop3 is our disk with a file system at /data."""
    tree.block("sda", "8:0")
    tree.block("sda1", "8:1", parent="sda")
    tree.block("loop3", "7:3", attributes={"loop/backing_file": "/run/mooring/disk"})
    tree.mounts(ROOT, DATA)
    return tree


def uses(usage: Usage) -> set[tuple[int, str, str]]:
    return {(opener.pid, opener.kind, opener.what) for opener in usage.openers}


def test_nobody(host: Tree) -> None:
    host.process(1)
    host.process(50, fds={0: ("/dev/null", 22), 1: ("socket:[77]", 9), 3: ("/etc/passwd", 20)})
    usage = read_usage(host.root, {"7:3"})
    assert usage.openers == ()
    assert usage.problems == ()
    assert usage.devs == {"7:3"}
    assert [mount.mountpoint for mount in usage.mounts_here] == ["/data"]
    assert (usage.superblocks, usage.hidden, usage.kernel, usage.swaps) == ((), (), (), ())


def test_every_way_to_use_a_file_system(host: Tree) -> None:
    host.process(50, comm="writer", fds={3: ("/data/file", 30), 4: ("/etc/passwd", 20)})
    host.process(51, comm="bash", cwd="/data/folder")
    host.process(52, comm="jailed", root="/data/jail")
    host.process(53, comm="program", exe="/data/bin/program")
    host.process(
        54, comm="mapper", maps="7f00-7f01 r--p 00000000 07:03 12   /data/lib.so\n7f02-7f03 rw-p 0 00:00 0 [heap]\n"
    )
    host.process(55, comm="database", cwd="/database")
    usage = read_usage(host.root, {"7:3"})
    assert uses(usage) == {
        (50, "file", "fd 3"),
        (51, "cwd", "cwd"),
        (52, "root", "root"),
        (53, "exe", "exe"),
        (54, "map", "map"),
    }
    (writer,) = [opener for opener in usage.openers if opener.pid == 50]
    assert (writer.comm, writer.path, writer.user) == ("writer", "/data/file", "root")


def test_the_device_itself_and_what_stands_on_it(host: Tree) -> None:
    host.block("loop3p1", "259:0", parent="loop3")
    host.process(50, comm="dd", fds={3: ("/dev/loop3", 22)})
    host.process(51, comm="qemu", fds={9: ("/dev/loop3p1", 22)})
    host.process(52, comm="other", fds={3: ("/dev/sda", 22)})
    usage = read_usage(host.root, {"7:3"})
    assert usage.devs == {"7:3", "259:0"}
    assert uses(usage) == {(50, "device", "fd 3"), (51, "device", "fd 9")}


def test_of_a_path_that_a_map_can_do_without_only_its_own_openers_count(tree: Tree) -> None:
    tree.block("sdb", "8:16")
    tree.block("dm-0", "252:0", attributes={"dm/name": "mpatha", "dm/uuid": "mpath-36001"})
    tree.stack("dm-0", "sdb")
    tree.mounts(ROOT, "30 20 252:0 / /data rw - ext4 /dev/mapper/mpatha rw")
    tree.process(50, fds={3: ("/data/file", 30)})
    tree.process(51, fds={3: ("/dev/dm-0", 20)})
    tree.process(52, fds={3: ("/dev/sdb", 20)})
    tree.block("sdb1", "8:17", parent="sdb")
    tree.process(53, fds={3: ("/dev/sdb1", 20)})
    assert {pid for pid, _, _ in uses(read_usage(tree.root, {"8:16"}))} == {50, 51, 52, 53}
    assert {pid for pid, _, _ in uses(read_usage(tree.root, set(), bare={"8:16"}))} == {52, 53}


def test_the_generic_devices_of_a_scsi_disk(tree: Tree) -> None:
    """Whoever has one open can write to the disk, and no exclusive open keeps them out."""
    tree.block("sdb", "8:16", attributes={"device/scsi_generic/sg7/dev": "21:7", "device/bsg/3:0:0:1/dev": "250:9"})
    tree.block("sdc", "8:32", attributes={"device/scsi_generic/sg8/dev": "21:8"})
    for place, number in (("scsi_generic/sg7", "21:7"), ("scsi_generic/sg8", "21:8"), ("bsg/3:0:0:1", "250:9")):
        tree.write(f"sys/class/{place}/dev", number)
    tree.mounts(ROOT)
    tree.process(50, fds={3: ("/dev/sg7", 22), 4: ("/dev/sg8", 22)})
    tree.process(51, fds={3: ("/dev/bsg/3:0:0:1", 22)})
    tree.process(52, fds={3: ("/dev/sg8", 22)})
    usage = read_usage(tree.root, {"8:16"})
    assert uses(usage) == {(50, "device", "fd 3"), (51, "device", "fd 3")}
    assert usage.devs == {"8:16"}


@pytest.mark.parametrize(("wanted", "there"), [("c1:7", True), ("1:7", False)])
def test_a_character_device_is_no_block_device_of_the_same_number(wanted: str, there: bool) -> None:
    with open("/dev/full", "rb") as full, subprocess.Popen(["sleep", "1000"], stdin=full) as child:
        try:
            rows = [row for row in openers.scan("", {wanted}, {}, []) if row[:2] == ("use", child.pid)]
        finally:
            child.kill()
    assert rows == ([("use", child.pid, "sleep", rows[0][3], "device", "fd 0", "/dev/full")] if there else [])


@pytest.mark.parametrize("ends", ["50", "50/task/51"])
def test_who_ends_while_it_is_looked_at_counts_as_gone_and_not_as_forbidden(
    host: Tree, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Linux forbids a link in both cases, and only the second one may hide a use."""
    for place in ("50", "50/task/51", "60", "60/task/61"):
        host.process(place, comm="writer", fds={3: ("/dev/loop3", 22)} if place in (ends, "60/task/61") else {})

    def look(place: openers._Recorded, path: str) -> tuple[int, str, str | None]:
        if "/fd/" not in path:
            return 20, "8:1", None
        if path.startswith(f"{host.root}/proc/{ends}/fd"):
            shutil.rmtree(host.root / "proc" / ends)
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(openers._Recorded, "__call__", look)
    rows = [row for row in openers.scan(str(host.root), {"7:3"}, {22: ("0:5", "/dev", False)}, []) if row[0] != "at"]
    assert rows == [("refused", 60, "writer")]


def test_a_file_counts_by_its_mount_and_not_by_its_name(host: Tree) -> None:
    host.process(50, fds={3: ("/data/looks-like-it", 20), 4: ("/nowhere/near", 30)})
    assert uses(read_usage(host.root, {"7:3"})) == {(50, "file", "fd 4")}


def test_a_process_in_another_namespace(host: Tree) -> None:
    other = "90 1 8:1 / / rw - ext4 /dev/sda1 rw\n91 90 7:3 / /inside rw - ext4 /dev/loop3 rw\n"
    host.process(60, comm="inside", namespace="mnt:[4026532000]", mountinfo=other, fds={3: ("/inside/file", 91)})
    usage = read_usage(host.root, {"7:3"})
    assert uses(usage) == {(60, "file", "fd 3")}
    assert {mount.mountpoint for mount in usage.mounts_here} == {"/data", "/inside"}


def test_a_thread_with_files_and_a_folder_of_its_own(host: Tree) -> None:
    host.process(50)
    host.link("proc/50/task/51/cwd", "/data")
    host.link("proc/50/task/51/root", "/")
    host.link("proc/50/task/51/fd/7", "/data/file")
    host.write("proc/50/task/51/fdinfo/7", "pos:\t0\nmnt_id:\t30\n")
    assert uses(read_usage(host.root, {"7:3"})) == {(50, "cwd", "cwd"), (50, "file", "fd 7")}


def test_who_is_known_is_left_out_and_who_has_much_open_is_listed_briefly(host: Tree) -> None:
    host.process(50, fds={number: (f"/data/{number}", 30) for number in range(3, 60)})
    host.process(51, fds={3: ("/data/x", 30)})
    usage = read_usage(host.root, {"7:3"}, ignore={51})
    assert {opener.pid for opener in usage.openers} == {50}
    assert len(usage.openers) == 10


def test_a_loop_device_on_a_file_of_the_disk_and_what_uses_that(host: Tree) -> None:
    host.block("loop4", "7:4", attributes={"loop/backing_file": "/data/image"})
    host.mounts(ROOT, DATA, "31 20 7:4 / /inner rw - ext4 /dev/loop4 rw")
    host.process(50, cwd="/inner")
    usage = read_usage(host.root, {"7:3"})
    assert LoopUse("loop4", "7:4", "/data/image", "7:3") in usage.loops
    assert usage.devs == {"7:3", "7:4"}
    assert uses(usage) == {(50, "cwd", "cwd")}


def test_a_loop_device_whose_file_nobody_finds_is_a_problem(host: Tree) -> None:
    host.mounts(DATA)
    host.block("loop5", "7:5", attributes={"loop/backing_file": "/lost"})
    usage = read_usage(host.root, {"7:3"})
    assert [problem.subject for problem in usage.problems if problem.source == "usage"] == ["loop3", "loop5"]


@pytest.mark.parametrize(
    ("number", "on", "problems"),
    [
        (errno.ENXIO, [], []),
        (errno.ENOTCONN, ["0:0"], []),
        (errno.ECONNABORTED, ["0:0"], []),
        (errno.EIO, ["8:1"], ["loop5"]),
        (0, ["7:3"], []),
    ],
)
def test_the_kernels_word_on_a_loop_device_counts_more_than_the_name(
    host: Tree, monkeypatch: pytest.MonkeyPatch, number: int, on: list[str], problems: list[str]
) -> None:
    host.block("loop5", "7:5", attributes={"loop/backing_file": "/image"})
    nodes, _ = read_block(host.root)
    rows, _ = read_mounts(host.root)

    def answer(device: str) -> str:
        if number:
            raise HelperFailed("loop_status", number, os.strerror(number))
        return "7:3"

    monkeypatch.setattr(usage_, "loop_status", answer)
    loops, found = usage_._loops(nodes, rows, {"7:3"}, live=True)
    assert [loop.on for loop in loops if loop.kname == "loop5"] == on
    assert [problem.subject for problem in found] == problems


def test_a_btrfs_over_two_disks_counts_for_both(tree: Tree) -> None:
    for kname, dev in (("sdb", "8:16"), ("sdc", "8:32")):
        tree.block(kname, dev)
        tree.write(f"sys/fs/btrfs/0f1e/devices/{kname}/dev", f"{dev}\n")
    tree.mounts(ROOT, "50 20 0:41 / /pool rw - btrfs /dev/sdb rw")
    tree.process(50, cwd="/pool/x")
    usage = read_usage(tree.root, {"8:32"})
    assert usage.devs == {"8:32", "0:41"}
    assert usage.filesystem_devs["0:41"] == ("8:16", "8:32")
    assert uses(usage) == {(50, "cwd", "cwd")}
    assert (usage.superblocks, usage.hidden) == (("sdc",), ())


def test_a_file_system_that_lives_and_is_mounted_nowhere(host: Tree) -> None:
    for fstype, kname in (("ext4", "loop3"), ("xfs", "sda1")):
        (host.root / "sys/fs" / fstype / kname).mkdir(parents=True)
    host.write("sys/fs/ext4/features/lazy_itable_init", "supported\n")
    assert (read_usage(host.root, {"7:3"}).superblocks, read_usage(host.root, {"7:3"}).hidden) == (("loop3",), ())
    host.mounts(ROOT)
    assert read_usage(host.root, {"7:3"}).hidden == ("loop3",)
    assert living_superblocks(host.root, ["loop3", "sda1", "sda", "features"]) == ("loop3", "sda1", "features")


def test_what_the_kernel_serves(host: Tree) -> None:
    host.write("proc/fs/nfsd/exports", "# Version 1.1\n/data/my\\040share\t192.0.2.0/24(rw,sync)\n")
    host.write("var/lib/nfs/etab", "/data/my\\040share\t192.0.2.0/24(rw)\n/srv\t*(ro)\n")
    core = "sys/kernel/config/target/core"
    host.write(f"{core}/iblock_0/disk/udev_path", "/dev/loop3\n")
    host.write(f"{core}/fileio_1/file/info", "Status: ACTIVATED\n        TCM FILEIO ID: 0  File: /data/lun  Size: 1\n")
    told = "Status: ACTIVATED\n        iBlock device: loop3  UDEV PATH: /dev/disk/by-id/wwn-0x1  readonly: 0\n"
    host.write(f"{core}/iblock_2/block/info", told)
    host.write(f"{core}/alua/lu_gps", "")
    nvmet = "sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/1/device_path"
    host.write(nvmet, "/dev/disk/by-id/wwn-0x1\n")  # as it was given; the device is what counts
    (host.root / "dev/disk/by-id").mkdir(parents=True)
    (host.root / "dev/disk/by-id/wwn-0x1").symlink_to("../../loop3")
    host.write("sys/kernel/scst_tgt/devices/d1/filename", "/data/scst\n[key]\n")
    overlay = "60 20 0:60 / /merged rw - overlay overlay rw,lowerdir=/data/low:/usr,upperdir=/up,workdir=/work"
    host.mounts(ROOT, DATA, overlay)
    usage = read_usage(host.root, {"7:3"})
    assert usage.problems == ()
    assert set(usage.kernel) == {
        KernelUse("nfs", "/data/my share", "/data/my share"),
        KernelUse("nfs", "/srv", "/srv"),
        KernelUse("lio", "disk", "/dev/loop3"),
        KernelUse("lio", "file", "/data/lun"),
        KernelUse("lio", "block", "/dev/loop3"),
        KernelUse("nvme", "nqn.x", "/dev/loop3"),
        KernelUse("scst", "d1", "/data/scst"),
        KernelUse("overlay", "/merged", "/data/low"),
        KernelUse("overlay", "/merged", "/usr"),
        KernelUse("overlay", "/merged", "/up"),
        KernelUse("overlay", "/merged", "/work"),
    }


def test_a_swap_file_inside(host: Tree) -> None:
    host.write("proc/swaps", "Filename Type Size Used Priority\n/data/swap file 1024 4 -2\n")
    assert read_usage(host.root, {"7:3"}).swaps == (Swap("/data/swap", "file", 4096, "7:3"),)


@pytest.mark.parametrize("missing", ["proc/swaps", "sys/class/block"])
def test_what_cannot_be_read_is_a_problem(host: Tree, missing: str) -> None:
    (host.root / missing).rename(host.root / "elsewhere")
    assert read_usage(host.root, {"7:3"}).problems


# --- a real disk ---


@pytest.fixture
def busy(disk: RealDisk) -> RealDisk:
    """The disk, mounted, with a program and a folder on it."""
    disk.mount()
    sh("cp", "/bin/sleep", str(disk.mountpoint / "sleep"))
    (disk.mountpoint / "folder").mkdir()
    return disk


def look(disk: RealDisk) -> Usage:
    """Who uses it, when no helper of a test beside this one is just asking the device what it stands on."""

    def undisturbed() -> Usage | None:
        usage = read_usage(LIVE, {disk.dev})
        passing = [opener for opener in usage.openers if opener.comm == HELPER and opener.kind is Kind.DEVICE]
        return None if passing else usage

    usage: Usage = until(undisturbed, what="a look in which no helper passes by")
    assert not [problem for problem in usage.problems if problem.source == "usage" and disk.kname in problem.subject]
    return usage


@pytest.mark.root
def test_a_shell_and_a_program_in_the_mount(busy: RealDisk) -> None:
    program = subprocess.Popen([busy.mountpoint / "sleep", "1000"], cwd=busy.mountpoint / "folder")
    try:
        found = {opener.kind: opener for opener in look(busy).openers if opener.pid == program.pid}
        assert set(found) == {Kind.CWD, Kind.EXE, Kind.MAP}
        assert found[Kind.CWD].path == str(busy.mountpoint / "folder")
        assert (found[Kind.CWD].comm, found[Kind.CWD].user) == ("sleep", "root")
    finally:
        program.kill()
        program.wait()
    assert look(busy).openers == ()


@pytest.mark.root
def test_an_open_file_an_open_device_and_a_node_with_another_name(busy: RealDisk, tmp_path: Path) -> None:
    node = tmp_path / "alias"
    os.mknod(node, 0o060600, os.stat(busy.device).st_rdev)
    with (busy.mountpoint / "file").open("w"):
        handles = [os.open(busy.device, os.O_RDONLY), os.open(node, os.O_RDONLY)]
        mine = [opener for opener in look(busy).openers if opener.pid == os.getpid()]
        for handle in handles:
            os.close(handle)
    assert sorted(opener.kind for opener in mine) == ["device", "device", "file"]
    assert {opener.path for opener in mine} == {busy.device, str(node), str(busy.mountpoint / "file")}
    assert look(busy).openers == ()


@pytest.mark.root
def test_a_lazy_unmount_hides_nothing(busy: RealDisk) -> None:
    folder = os.open(busy.mountpoint / "folder", os.O_RDONLY)
    sleeper = subprocess.Popen(["sleep", "1000"], cwd=busy.mountpoint)
    try:
        sh("umount", "--lazy", str(busy.mountpoint))
        usage = look(busy)
        assert usage.mounts_here == ()
        assert usage.hidden == usage.superblocks == (busy.kname,)
        assert {(opener.pid, opener.kind) for opener in usage.openers} == {
            (os.getpid(), Kind.FILE),
            (sleeper.pid, Kind.CWD),
        }
    finally:
        os.close(folder)
        sleeper.kill()
        sleeper.wait()
    assert look(busy).superblocks == ()


@pytest.mark.root
def test_a_loop_device_on_a_deleted_file_of_the_disk(busy: RealDisk) -> None:
    image = busy.mountpoint / "image"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    loop = sh("losetup", "--find", "--show", str(image))
    try:
        image.unlink()
        (found,) = [loop_use for loop_use in look(busy).loops if loop_use.kname == Path(loop).name]
        assert found.on == busy.dev
        assert found.dev in look(busy).devs
    finally:
        sh("losetup", "-d", loop)


@pytest.mark.root
def test_a_swap_file_on_the_disk(busy: RealDisk) -> None:
    need_root("mkswap", "swapon", "swapoff")
    swap = busy.mountpoint / "swap"
    swap.write_bytes(bytes(4 << 20))
    swap.chmod(0o600)
    sh("mkswap", str(swap))
    sh("swapon", str(swap))
    try:
        assert [(area.kind, area.dev) for area in look(busy).swaps if area.path == str(swap)] == [("file", busy.dev)]
    finally:
        sh("swapoff", str(swap))


@pytest.mark.root
def test_a_process_in_a_mount_of_another_namespace(disk: RealDisk) -> None:
    need_root("unshare")
    script = f"mount {disk.device} '{disk.mountpoint}' && cd '{disk.mountpoint}' && echo ready && read line"
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
        usage = look(disk)
        assert (child.pid, Kind.CWD) in {(opener.pid, opener.kind) for opener in usage.openers}
        assert [mount.namespace_pid for mount in usage.mounts_here] == [child.pid]
        assert usage.hidden == ()
    finally:
        child.communicate("\n", timeout=10)


@pytest.mark.root
def test_a_dead_file_system_elsewhere_neither_hangs_nor_hides_anything(busy: RealDisk, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    with HangingMount(dead):
        waiting = os.open(dead, os.O_PATH)
        try:
            with (busy.mountpoint / "file").open("w"):
                usage = look(busy)
        finally:
            os.close(waiting)
    assert [opener.kind for opener in usage.openers if opener.pid == os.getpid()] == [Kind.FILE]
    assert not [problem for problem in usage.problems if "hangs" in problem.reason]
