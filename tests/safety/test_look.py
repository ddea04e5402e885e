"""Looking into a volume: what forbids it, each rule alone, and how it is mounted where nothing does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.errors import BadInputError, RefusedError
from initiator.host.contents import Contents, parse
from initiator.host.mounts import Mount
from initiator.host.usage import KernelUse, LoopUse
from initiator.host.volumes import Label, to_volume
from initiator.model import (
    BlockNode,
    DiskState,
    Map,
    MapState,
    PathState,
    Problem,
    Snapshot,
    Source,
    Swap,
)
from safety import look
from safety.facts import Other, User
from safety.findings import Level
from safety.look import Ground
from safety.looking import differs
from safety.scene import view
from tests.safety import scenes
from tui.commands.look import find_ground

OTHER = dataclasses.replace(scenes.DATA_MOUNT, namespace="4026532000", namespace_pid=4242)
CRYPT = BlockNode("dm-2", "253:2", "crypt", scenes.SIZE, False, slaves=("loop3",), dm_name="vault", dm_uuid="CRYPT-1")
EXT4 = Contents("ext4", "filesystem", "TEA", "1-2")
FREE: dict[str, Any] = {"mounts": (scenes.ROOT_MOUNT,), "superblocks": (), "filesystem_devs": {"254:0": ("254:0",)}}


def against(snapshot: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> dict[str, str]:
    """The words of what forbids to look into the disk, by code, on a host that does not use it."""
    seen = scenes.snapshot(**(snapshot or {}))
    node = next((each for each in seen.block if each.dev == scenes.DEV), scenes.node())
    extent = Ground(node, seen.disks[:1]).extent(seen)
    found = look.against(view(seen, scenes.facts(**{**FREE, **(facts or {})}), extent))
    assert all(each.level is Level.BLOCK and each.evidence and each.fix for each in found)
    return {each.code: f"{each.text} {each.evidence} {each.fix}" for each in found}


def ground(snapshot: Snapshot | None = None) -> Ground:
    return look.leaves(snapshot or scenes.snapshot(), scenes.disk())[0]


def test_nothing_forbids_it_where_nobody_uses_the_disk() -> None:
    assert against() == {}


def mapped(state: MapState = MapState.OK, **changes: Any) -> dict[str, Any]:
    """The disk behind a map."""
    found = Map("map:m", "mpatha", state, Source.KERNEL, scenes.WWID, "/dev/loop3", scenes.DISK)
    return {"disks": (scenes.disk(map="map:m"),), "maps": (dataclasses.replace(found, **changes),)}


USES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "mounted": ("mounted", {}, {"mounts": (scenes.DATA_MOUNT,)}, "mooring unmount /mnt/data"),
    "in a container": ("mounted", {}, {"mounts": (OTHER,)}, "mount namespace 4026532000"),
    "out of sight": ("mounted-invisibly", {}, {"superblocks": ("loop3",)}, "loop3"),
    "swap": ("swap", {"swaps": (Swap("/dev/loop3", "partition", 0, scenes.DEV),)}, {}, "/dev/loop3"),
    "swap nobody knows where": ("swap", {"swaps": (Swap("/x", "file", 0, None),)}, {}, "nobody knows where"),
    "opened crypt": ("holder", {"block": (scenes.node(holders=("dm-2",)), CRYPT)}, {}, "vault"),
    "loop": ("loop", {}, {"loops": (LoopUse("loop4", "7:4", "/dev/loop3", scenes.DEV),)}, "losetup -d"),
    "served": ("exported", {}, {"exports": (KernelUse("lio", "store", "/dev/loop3"),)}, "served to other machines"),
    "opened raw": ("open", {}, {"users": (User(9, "qemu", "open device", "/dev/loop3"),)}, "qemu (process 9)"),
    "mounts unknown": ("unknown", {}, {"problems": (Problem("mounts", "namespace 1", "denied"),)}, "namespace 1"),
    "not root": ("not-permitted", {}, {"permitted": False}, "root"),
    "removal under way": ("second-runner", {}, {"others": (Other("j", True, "under way"),)}, "under way"),
    "removal unfinished": ("unfinished", {}, {"others": (Other("j", False, "it died"),)}, "mooring resume"),
    "offline": ("offline", {"disks": (scenes.disk(state=DiskState.OFFLINE),)}, {}, "is being removed"),
    "available": ("not-attached", {"disks": (scenes.disk(state=DiskState.AVAILABLE),)}, {}, "mooring attach"),
    "dead": ("dead", {"disks": (scenes.disk(state=DiskState.DEAD),)}, {}, "Nothing serves"),
    "no wwid": ("identity-unknown", {"disks": (scenes.disk(wwid=None),)}, {}, "wwid"),
    "another device": ("identity-changed", {"block": (scenes.node(diskseq=8),)}, {}, "another device"),
    "not listed": ("device-unknown", {"block": ()}, {}, "block device"),
    "no path": ("no-path", {"paths": (scenes.path(1, state=PathState.FAILED),)}, {}, "would hang"),
    "suspended map": ("map-suspended", mapped(MapState.SUSPENDED), {}, "dmsetup resume mpatha"),
    "a path of the map": (
        "single-path",
        {**mapped(), "paths": (scenes.path(1, map="map:m", device="/dev/loop3"),)},
        {},
        "single path of a map",
    ),
    "kernel unread": ("kernel-session", {"disks": (scenes.disk(source=Source.KERNEL),)}, {}, "was not read"),
    "engine silent": ("engine-silent", {"engine": "no answer"}, {}, "does not answer"),
}


@pytest.mark.parametrize("name", USES)
def test_a_use_forbids_it_and_is_named(name: str) -> None:
    code, snapshot, facts, words = USES[name]
    found = against(snapshot, facts)
    assert words in found[code]


def test_of_a_volume_that_is_looked_into_already_the_place_is_told() -> None:
    there = "/run/mooring/look/data"
    mount = dataclasses.replace(scenes.DATA_MOUNT, mountpoint=there)
    found = against(facts={"mounts": (mount,), "looks": frozenset({there})})
    assert f"when done: mooring unmount {there}" in found["mounted"]


CONTENTS = {
    "ambiguous": Contents(several=True),
    "partitioned": Contents(table="gpt"),
    "empty": Contents(),
    "member": Contents("LVM2_member", "raid"),
    "unknown-kind": Contents("zonefs", "filesystem"),
    "several-devices": Contents("btrfs", "filesystem", devices=2),
}


@pytest.mark.parametrize("code", CONTENTS)
def test_what_is_on_the_device_forbids_it(code: str) -> None:
    wanted, findings = look.order(ground(), CONTENTS[code])
    assert wanted is None
    assert [(each.code, each.level) for each in findings] == [(code, Level.BLOCK)]
    assert findings[0].fix


@pytest.mark.parametrize("kind", ["crypto_LUKS", "linux_raid_member", "bcache", "swap", "jbd"])
def test_whatever_is_no_file_system_is_not_mounted(kind: str) -> None:
    usage = {"crypto_LUKS": "crypto", "linux_raid_member": "raid"}.get(kind, "other")
    ((finding),) = look.order(ground(), Contents(kind, usage))[1]
    assert f"no file system but {kind}" in finding.text


OPTIONS = {
    "ext4": "ro,nosuid,nodev,noexec,noload",
    "ext2": "ro,nosuid,nodev,noexec",
    "xfs": "ro,nosuid,nodev,noexec,norecovery,nouuid",
    "btrfs": "ro,nosuid,nodev,noexec,rescue=nologreplay",
    "vfat": "ro,nosuid,nodev,noexec",
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_kind_is_mounted_so_that_it_replays_nothing(kind: str) -> None:
    wanted, findings = look.order(ground(), Contents(kind, "filesystem", "TEA", "1-2", devices=1))
    assert wanted is not None
    assert findings == ()
    assert wanted.options == OPTIONS[kind]
    assert wanted.would("/x")[1] == f"mount -t {kind} -o {OPTIONS[kind]} /dev/loop3 /x"
    assert (wanted.device, wanted.dev, wanted.diskseq, wanted.folder) == ("/dev/loop3", scenes.DEV, 7, "data")


def test_a_name_from_outside_becomes_a_plain_folder() -> None:
    strange = Ground(scenes.node(dm_name="../../etc"), (scenes.disk(name="../a b\n/c", dev="9:9"),))
    wanted, _ = look.order(strange, EXT4)
    assert wanted is not None
    assert wanted.folder == "a-b-c-etc"


def test_what_the_kernel_shows_has_to_be_what_was_wanted() -> None:
    wanted, _ = look.order(ground(), EXT4)
    assert wanted is not None
    made = Mount(9, 1, scenes.DEV, "/", "/x", "ro,nosuid,nodev,noexec,relatime", "", "ext4", "/dev/loop3", "ro")
    assert differs(wanted, made) == ""
    assert differs(wanted, dataclasses.replace(made, super_options="rw")) == "without ro"
    assert differs(wanted, dataclasses.replace(made, options="ro,nodev,noexec")) == "without nosuid"
    assert "on device 7:4" in differs(wanted, dataclasses.replace(made, dev="7:4"))
    anonymous = dataclasses.replace(made, dev="0:41", fstype="btrfs")
    assert differs(wanted, anonymous) == ""
    assert "0:41" in differs(wanted, dataclasses.replace(anonymous, source="/dev/sdz"))


def test_blkid_is_read_with_its_escapes() -> None:
    text = "DEVNAME=/dev/loop3\nLABEL=old\\ tea\\$\\(x\\)\nUUID=1-2\nTYPE=ext4\nUSAGE=filesystem\n"
    assert parse(text) == Contents("ext4", "filesystem", "old tea$(x)", "1-2")
    assert parse("") == Contents()


PARTS = tuple(BlockNode(f"loop3p{n}", f"259:{n}", "part", 1 << 20, False, parent="loop3", diskseq=7) for n in (1, 2))
SPLIT = scenes.snapshot(block=(scenes.node(partitions=("loop3p1", "loop3p2")), *PARTS))


def test_a_disk_is_looked_into_by_its_only_device_and_parts_by_their_names() -> None:
    plain = scenes.snapshot()
    for text in ("data", scenes.DISK, scenes.WWID, "/dev/loop3", "loop3"):
        assert find_ground(plain, text).node.kname == "loop3"
    with pytest.raises(BadInputError, match="several devices") as many:
        find_ground(SPLIT, "data")
    assert many.value.fix == "name one: /dev/loop3p1, /dev/loop3p2"
    assert find_ground(SPLIT, "/dev/loop3p2").name == "data loop3p2"
    for text in ("TEA", "1-2"):
        assert find_ground(SPLIT, text, {"259:1": Label("TEA", "1-2")}).node.kname == "loop3p1"


def test_a_mount_point_leads_to_what_is_mounted_there_so_that_the_guards_can_say_so() -> None:
    seen = scenes.snapshot(volumes=(to_volume(scenes.DATA_MOUNT, (scenes.DISK,), None, None),))
    assert find_ground(seen, "/mnt/data").node.kname == "loop3"


def test_what_is_no_device_of_an_iscsi_disk_is_not_found() -> None:
    for text in ("vda", "/dev/vda", "nothing", ""):
        with pytest.raises(BadInputError, match="is called") as none:
            find_ground(scenes.snapshot(), text)
        assert none.value.fix == "there is: data"


def test_a_disk_that_is_not_attached_is_refused_with_the_way() -> None:
    free = scenes.disk(state=DiskState.AVAILABLE, device=None, dev=None, diskseq=None)
    with pytest.raises(RefusedError, match="available") as refused:
        find_ground(scenes.snapshot(disks=(free,)), "data")
    assert refused.value.fix == "attach it first: mooring attach data"


def test_a_single_path_of_a_map_is_refused_with_the_map() -> None:
    sda = BlockNode("sda", "8:0", "disk", scenes.SIZE, False, holders=("loop3",), partitions=("sda1",))
    sda1 = BlockNode("sda1", "8:1", "part", scenes.SIZE, False, parent="sda")
    path = scenes.path(1, device="/dev/sda", map="map:m")
    seen = scenes.snapshot(**mapped(), paths=(path,), block=(sda, sda1, scenes.node()))
    for text in ("/dev/sda", "sda", "/dev/sda1", path.name):
        with pytest.raises(RefusedError, match="single path of data") as refused:
            find_ground(seen, text)
        assert refused.value.fix == "mooring mount data --read-only"
