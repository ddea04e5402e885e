"""The block stack from sysfs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from initiator.host import block
from initiator.host.block import above, loops_in, read_btrfs, read_swaps
from initiator.host.blockreader import read_block
from initiator.host.mounts import parse_mountinfo
from initiator.model import BlockNode, Swap
from tests.host.conftest import RealDisk, sh
from tests.host.tree import Tree


def read(tree: Tree) -> dict[str, BlockNode]:
    nodes, problems = read_block(tree.root)
    assert problems == ()
    return {node.kname: node for node in nodes}


def test_a_disk_with_partitions(tree: Tree) -> None:
    tree.block("sda", "8:0", size=10 << 30, diskseq=7)
    tree.block("sda1", "8:1", size=1 << 30, parent="sda")
    tree.block("sda2", "8:2", size=9 << 30, parent="sda", ro=True)
    nodes = read(tree)
    assert (nodes["sda"].kind, nodes["sda"].size_bytes, nodes["sda"].diskseq) == ("disk", 10 << 30, 7)
    assert nodes["sda"].partitions == ("sda1", "sda2")
    assert (nodes["sda1"].kind, nodes["sda1"].parent, nodes["sda1"].read_only) == ("part", "sda", False)
    assert nodes["sda2"].read_only is True


@pytest.mark.parametrize(
    ("kname", "attributes", "kind"),
    [
        ("dm-0", {"dm/uuid": "mpath-36001405", "dm/name": "mpatha"}, "mpath"),
        ("dm-1", {"dm/uuid": "LVM-abcdef", "dm/name": "vg-lv"}, "lvm"),
        ("dm-2", {"dm/uuid": "CRYPT-LUKS2-x", "dm/name": "secret"}, "crypt"),
        ("dm-3", {"dm/uuid": "part1-mpath-36001405", "dm/name": "mpatha1"}, "part"),
        ("dm-4", {"dm/uuid": "", "dm/name": "by-hand"}, "dm"),
        ("md127", {"md/level": "raid1"}, "md"),
        ("md_d0", {}, "md"),
        ("bcache0", {}, "bcache"),
        ("loop12", {}, "loop"),
        ("zram0", {}, "zram"),
        ("nvme0n1", {}, "disk"),
        ("vda", {}, "disk"),
    ],
)
def test_the_kind_of_a_device(tree: Tree, kname: str, attributes: dict[str, str], kind: str) -> None:
    tree.block(kname, "250:1", attributes=attributes)
    node = read(tree)[kname]
    assert node.kind == kind
    assert node.dm_name == attributes.get("dm/name")


def test_a_loop_device_says_what_it_stands_on(tree: Tree) -> None:
    tree.block("sda", "8:0")
    tree.block("cciss!c0d0", "104:0")
    tree.block("dm-0", "253:0", attributes={"dm/name": "vg-lv", "dm/uuid": "LVM-x"})
    for number, file in enumerate(("/srv/my image", "/dev/sda", "/dev/cciss/c0d0", "/dev/mapper/vg-lv")):
        tree.block(f"loop{number}", f"7:{number}", attributes={"loop/backing_file": file})
    tree.block("loop9", "7:9", size=0)
    nodes = read(tree)
    assert [nodes[f"loop{number}"].backing_dev for number in range(4)] == [None, "8:0", "104:0", "253:0"]
    assert nodes["loop0"].backing_file == "/srv/my image"
    assert nodes["loop9"].backing_file is None


def test_all_that_stands_on_a_disk(tree: Tree) -> None:
    tree.block("sda", "8:0")
    tree.block("sda1", "8:1", parent="sda")
    tree.block("dm-0", "253:0", attributes={"dm/uuid": "CRYPT-x"})
    tree.stack("dm-0", "sda1")
    tree.block("dm-1", "253:1", attributes={"dm/uuid": "LVM-x"})
    tree.stack("dm-1", "dm-0")
    tree.block("loop0", "7:0", attributes={"loop/backing_file": "/data/image"})
    tree.block("loop0p1", "259:0", parent="loop0")
    tree.block("loop1", "7:1", attributes={"loop/backing_file": "/dev/loop0p1"})
    tree.block("sdb", "8:16")
    nodes, _ = read_block(tree.root)
    mounts = parse_mountinfo("20 1 8:16 / / rw - ext4 /dev/sdb rw\n30 20 253:1 / /data rw - ext4 /dev/dm-1 rw\n")
    loops = loops_in(nodes, mounts)
    assert loops == {"7:0": "253:1", "7:1": "259:0"}
    assert above(nodes, ["8:0"], loops) == {"8:0", "8:1", "253:0", "253:1", "7:0", "259:0", "7:1"}
    assert above(nodes, ["8:16"], loops) == {"8:16"}
    assert above(nodes, ["7:0"]) == {"7:0", "259:0", "7:1"}, "a loop device on a device needs no mounts"


def test_a_device_that_goes_away_is_left_out_and_one_without_a_number_is_a_problem(tree: Tree) -> None:
    tree.link("sys/class/block/sdz", "../../devices/gone/sdz")
    tree.block("sda", "8:0")
    tree.write("sys/class/block/sda/uevent", "DEVNAME=sda\n")
    tree.write("sys/class/block/sda/dev", "\n")
    nodes, problems = read_block(tree.root)
    assert nodes == ()
    assert [(problem.source, problem.subject) for problem in problems] == [("block", "sda")]


def test_no_sysfs_is_a_problem(tmp_path: Path) -> None:
    nodes, problems = read_block(tmp_path)
    assert nodes == ()
    assert [problem.source for problem in problems] == ["block"]


def test_unreadable_and_unset_attributes_are_not_known(tree: Tree) -> None:
    tree.block("sda", "8:0")
    tree.write("sys/class/block/sda/size", "(null)\n")
    tree.write("sys/class/block/sda/ro", "what\n")
    node = read(tree)["sda"]
    assert (node.size_bytes, node.read_only, node.diskseq) == (None, None, None)


def test_the_devices_of_a_btrfs(tree: Tree) -> None:
    for kname, dev in (("sdb", "8:16"), ("sdc", "8:32")):
        tree.write(f"sys/fs/btrfs/0f1e/devices/{kname}/dev", f"{dev}\n")
    tree.write("sys/fs/btrfs/features/raid1", "0\n")
    assert read_btrfs(tree.root) == {"sdb": ("8:16", "8:32"), "sdc": ("8:16", "8:32")}


def test_swap_areas_and_where_they_are(tree: Tree) -> None:
    tree.block("sda2", "8:2")
    tree.block("dm-0", "253:0", attributes={"dm/name": "vg-swap"})
    rows = (
        "/dev/sda2 partition 1024 512 -2",
        "/dev/dm-0 partition 1024 0 -3",
        r"/data/swap\040file file 2048 1024 -4",
        r"/data/old\040(deleted) file 8 0 -5",
        "/dev/nosuch partition 8 0 -6",
    )
    tree.write("proc/swaps", "Filename Type Size Used Priority\n" + "\n".join(rows) + "\n")
    nodes, _ = read_block(tree.root)
    mounts = parse_mountinfo("20 1 8:1 / / rw - ext4 a rw\n30 20 7:3 / /data rw - ext4 /dev/loop3 rw\n")
    swaps, problems = read_swaps(tree.root, nodes, mounts)
    assert problems == ()
    assert swaps == (
        Swap("/dev/sda2", "partition", 512 * 1024, "8:2"),
        Swap("/dev/dm-0", "partition", 0, "253:0"),
        Swap("/data/swap file", "file", 1024 * 1024, "7:3"),
        Swap("/data/old (deleted)", "file", 0, "7:3"),
        Swap("/dev/nosuch", "partition", 0, None),
    )


@pytest.mark.parametrize("text", [None, "header\n/dev/sda2 partition\n", "header\n/dev/sda2 partition 1 x -2\n"])
def test_a_swap_table_that_cannot_be_read_is_a_problem(tree: Tree, text: str | None) -> None:
    (tree.root / "proc/swaps").unlink()
    if text is not None:
        tree.write("proc/swaps", text)
    swaps, problems = read_swaps(tree.root, (), ())
    assert swaps == ()
    assert [problem.source for problem in problems] == ["swaps"]


def test_this_host_as_lsblk_sees_it() -> None:
    if shutil.which("lsblk") is None:
        pytest.skip("needs lsblk")
    command = ["lsblk", "--all", "--bytes", "--list", "-J", "-o", "KNAME,MAJ:MIN,SIZE,RO,TYPE"]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["blockdevices"]
    nodes = {node.kname: node for node in read_block()[0]}
    steady = [row for row in theirs if not row["kname"].startswith("loop") and row["kname"] in nodes]
    assert steady
    for row in steady:
        node = nodes[row["kname"]]
        assert (node.dev, node.size_bytes or 0, node.read_only) == (row["maj:min"], int(row["size"] or 0), row["ro"])
        if row["type"] in ("disk", "part", "loop"):
            assert row["type"] == node.kind or (row["type"] == "disk" and node.kind in ("zram", "nbd"))


@pytest.mark.root
def test_real_loop_devices_on_each_other(disk: RealDisk) -> None:
    second = sh("losetup", "--find", "--show", disk.device)
    try:
        nodes, _ = read_block()
        by_name = {node.kname: node for node in nodes}
        assert by_name[disk.kname].backing_file == str(disk.image)
        assert by_name[disk.kname].size_bytes == 32 << 20
        assert by_name[second.removeprefix("/dev/")].backing_dev == disk.dev
        assert by_name[second.removeprefix("/dev/")].dev in block.above(nodes, [disk.dev])
    finally:
        sh("losetup", "-d", second)
