"""Dismounting one file system while its disk stays, in a simulated engine and a simulated kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initiator.errors import BadInputError
from initiator.host.mounts import Mount
from initiator.host.volumes import to_volume
from initiator.model import Map, MapState, PathState, Source, Swap
from safety.facts import Entry, SystemUse, User
from safety.findings import Level
from safety.guards import check
from safety.journal import Kind, Mark, Outcome, read
from safety.plan import Options, Plan, PlanError, make
from safety.report import make_report
from safety.restore_kernel import ground
from safety.scope import Reach, Scope, disks, volume
from safety.sequence import Phase, SequenceError
from safety.steps import KINDS
from safety.work import Work
from tests.safety import scenes
from tests.safety.removals import begin, go, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simworld import ALL_MOUNTS, Crash, SimWorld
from tests.safety.test_removal_kernel import deaths, planned, run

__all__ = ["quick_disk"]

FIRST = Scope(Reach.VOLUME, ("volume:40",), "/mnt/data")
DATA = to_volume(scenes.DATA_MOUNT, (scenes.DISK,), None, None)
WORLDS: dict[str, Callable[[], SimKernel]] = {
    "single path": lambda: SimKernel(1, mapped=False),
    "two maps": lambda: SimKernel(disks=2),
    "automount": lambda: SimKernel(1, mapped=False, automount=True),
    "map and LVM and swap": lambda: SimKernel(group=True, swap=True),
    "a group over two disks": lambda: SimKernel(disks=2, group=True),
}


def plan_of(world: SimWorld, options: Options | None = None) -> Plan:
    snapshot = world.snapshot()
    return make(snapshot, world.facts(snapshot, FIRST.on(snapshot)), FIRST, options)


def findings(snapshot: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> dict[str, Level]:
    seen = scenes.snapshot(**{"volumes": (DATA,), **(snapshot or {})})
    return {each.code: each.level for each in check(seen, scenes.facts(**(facts or {})), volume(DATA))}


def assert_unmounted(world: SimKernel, before: SimKernel) -> None:
    """Nothing of the first file system is mounted; all else is as it was."""
    assert [mount.mountpoint for mount in world.mounted] == [each.mountpoint for each in before.volumes[1:]]
    assert world.lanes == before.lanes
    assert (world.sids, world.records, world.active) == (before.sids, before.records, before.active)
    assert [disk.map_seq for disk in world.disks] == [disk.map_seq for disk in before.disks]
    assert not any(claim.open for claim in world.claims)
    assert world.lost == world.volumes[0].dirty == 0


def test_a_volume_of_the_engine_is_unmounted_everywhere_and_its_disk_stays(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    path = begin(tmp_path, plan_of(world))
    assert go(path, world) is Outcome.DONE, last(path)
    calls = ["syncfs /mnt/data/inner", "umount /mnt/data/inner", "syncfs /mnt/data", "umount /mnt/data"]
    assert world.calls == [*calls, "claim /dev/loop3", "release"]
    assert world.mounted == []
    assert (world.device, len(world.sessions), world.lost, world.fs_dirty) == ("/dev/loop3", 2, 0, 0)
    assert last(path).text == (
        "/mnt/data is unmounted: written back, and mounted nowhere on this host. data stays attached."
    )
    assert read(path)[0].text == "Unmount /mnt/data"
    seen = [record.text for record in read(path) if record.mark is Mark.VERIFIED and record.step == "unmount-2"]
    assert seen == ["no mount namespace lists it, and no superblock of it is alive"]
    told = list(make_report(read(path)).lines())
    assert told[0] == "Unmounting of /mnt/data on testhost: done"
    assert any(line.startswith("disk data") and line.endswith("stays by plan") for line in told)
    assert go(path, world, back=True) is Outcome.UNDONE, last(path)
    assert [mount.mountpoint for mount in world.mounted] == ["/mnt/data", "/mnt/data/inner"]
    assert [call for call in world.calls[6:] if "private" not in call][:2] == [
        "mount -t ext4 -o rw,relatime,errors=continue /dev/loop3 /mnt/data",
        "mount --bind /mnt/data/sub /mnt/data/inner",
    ]


@pytest.mark.parametrize("which", WORLDS)
def test_a_volume_of_the_kernel_is_unmounted_and_nothing_else_changes(tmp_path: Path, which: str) -> None:
    world = WORLDS[which]()
    made = planned(world, FIRST)
    assert (made.blocked, made.touched, made.lossy, made.words) == (False, (), False, "/mnt/data")
    path = begin(tmp_path, made)
    assert run(path, world) is Outcome.DONE, last(path)
    assert_unmounted(world, WORLDS[which]())
    assert run(path, world, back=True) is Outcome.UNDONE, last(path)
    before = WORLDS[which]()
    assert {mount.mountpoint for mount in world.mounted} == {mount.mountpoint for mount in before.mounted}
    assert (world.swapped, world.automounted, world.masks) == (before.swapped, before.automounted, set())


@pytest.mark.parametrize("which", WORLDS)
def test_after_a_death_anywhere_an_unmounting_is_completed_or_taken_back(tmp_path: Path, which: str) -> None:
    for back in (False, True):
        (folder := tmp_path / str(back)).mkdir()
        for name, world, path, written in deaths(WORLDS[which], folder, FIRST):
            wanted = Outcome.UNDONE if back else Outcome.DONE
            assert run(path, world, back=back) is wanted, (name, last(path))
            assert (world.lost, world.written) == (0, written)
            before = WORLDS[which]()
            if back:
                assert {each.mountpoint for each in world.mounted} == {each.mountpoint for each in before.mounted}
                assert (world.swapped, world.masks) == (before.swapped, set())
            else:
                assert_unmounted(world, before)


def test_every_step_says_what_it_does_and_proves_and_the_plan_survives_json() -> None:
    for made in (planned(make_world(), FIRST) for make_world in WORLDS.values()):
        assert made.steps[-1].phase is Phase.UNMOUNTED
        assert {step.phase for step in made.steps} <= {
            Phase.IDENTIFY,
            Phase.LOCK,
            Phase.STOP,
            Phase.DISMOUNT,
            Phase.UNMOUNTED,
        }
        for step in made.steps:
            assert step.kind in KINDS
            assert step.title
            assert step.command
            assert step.proof
            assert step.undo or not step.changing
        assert Plan.from_json(made.to_json()) == made


def test_a_plan_for_a_volume_that_goes_on_to_take_the_disk_away_is_no_plan() -> None:
    whole, part = planned(SimKernel()), planned(SimKernel(), FIRST)
    mixed = dataclasses.replace(part, steps=whole.steps)
    with pytest.raises((PlanError, SequenceError)):
        Plan.from_json(mixed.to_json())
    with pytest.raises(BadInputError, match="together with its disk"):
        plan_of(SimWorld(), Options(abandon=True))


def test_the_disk_is_locked_by_it_so_that_nobody_removes_it_meanwhile() -> None:
    world = SimKernel()
    assert planned(world, FIRST).keys == planned(world).keys


def test_what_only_a_removal_meets_does_not_stand_in_the_way() -> None:
    world = SimKernel()
    world.lanes["2:0:0:0"]["state"] = "transport-offline"
    assert planned(world).blocked
    made = planned(world, FIRST)
    assert not made.blocked, made.findings
    world.lanes["1:0:0:0"]["state"] = "transport-offline"
    assert "no-path" in {each.code for each in planned(world, FIRST).findings if each.level is Level.BLOCK}


def test_guards_of_a_volume() -> None:
    user = User(7, "sh", "current folder", "/mnt/data", 5)
    assert not {level for level in findings().values() if level is Level.BLOCK}
    assert findings(facts={"users": (user,)})["open"] is Level.BLOCK
    assert findings(facts={"system": (SystemUse("/var", scenes.DEV),)})["system-disk"] is Level.BLOCK
    assert findings(facts={"permitted": False})["not-permitted"] is Level.BLOCK
    assert findings({"engine": "silent"})["engine-silent"] is Level.BLOCK
    failed = tuple(scenes.path(number, state=PathState.FAILED) for number in (1, 2))
    assert findings({"paths": failed})["no-path"] is Level.BLOCK
    assert findings({"swaps": (Swap("/mnt/data/swap", "file", 0, scenes.DEV),)})["swap"] is Level.BLOCK
    other = dataclasses.replace(scenes.DATA_MOUNT, mount_id=90, namespace="4026", namespace_pid=9)
    assert findings(facts={"mounts": (scenes.DATA_MOUNT, other)})["mounted-elsewhere"] is Level.BLOCK
    inside = Mount(50, 40, "0:60", "/", "/mnt/data/tmp", "rw", "", "tmpfs", "tmpfs", "rw")
    assert findings(facts={"mounts": (scenes.DATA_MOUNT, inside)})["mount-inside"] is Level.BLOCK
    held = Map("m", "mpatha", MapState.SUSPENDED, Source.KERNEL, "w", "/dev/dm-3", scenes.DISK)
    assert findings({"maps": (held,), "disks": (scenes.disk(map="m"),)})["map-suspended"] is Level.BLOCK
    entry = Entry("/etc/fstab", "UUID=1", "/mnt/data", ("defaults",))
    assert findings(facts={"entries": (entry,)})["boot-entry"] is Level.NOTE
    gone = dataclasses.replace(DATA, dev="0:77", device="/dev/nothing")
    found = check(scenes.snapshot(volumes=(gone,)), scenes.facts(), volume(gone))
    assert "device-unknown" in {each.code for each in found if each.level is Level.BLOCK}


def test_another_file_system_of_the_disk_is_not_in_question() -> None:
    part = scenes.node(kname="loop3p1", dev="259:1", kind="part", parent="loop3", backing_file=None)
    next_ = scenes.node(kname="loop3p2", dev="259:2", kind="part", parent="loop3", backing_file=None)
    own = dataclasses.replace(scenes.DATA_MOUNT, dev="259:1", source="/dev/loop3p1")
    other = dataclasses.replace(scenes.DATA_MOUNT, dev="259:2", source="/dev/loop3p2", mount_id=41, mountpoint="/else")
    seen = scenes.snapshot(
        volumes=tuple(to_volume(mount, (scenes.DISK,), None, None) for mount in (own, other)),
        block=(*scenes.snapshot().block, part, next_),
    )
    facts = scenes.facts(mounts=(own, other), superblocks=("loop3p1", "loop3p2"), system=(SystemUse("/usr", "259:2"),))
    made = make(seen, facts, volume(seen.volumes[0]))
    assert not made.blocked, made.findings
    assert [step.params["mountpoint"] for step in made.steps if step.kind == "unmount-volume"] == ["/mnt/data"]
    (end,) = (step for step in made.steps if step.kind == "unmounted")
    assert (end.params["devs"], end.params["knames"]) == (["259:1"], ["loop3p1"])
    assert make(seen, facts, volume(seen.volumes[1])).blocked


def test_a_btrfs_over_two_devices_is_one_volume() -> None:
    nodes = tuple(scenes.node(kname=f"loop{number}", dev=f"7:{number}", diskseq=number) for number in (3, 4))
    disks = (scenes.disk(diskseq=3), scenes.disk(id="d2", name="more", wwid="naa.2", dev="7:4", device="/dev/loop4"))
    mount = dataclasses.replace(scenes.DATA_MOUNT, dev="0:44", fstype="btrfs")
    found = to_volume(mount, (scenes.DISK, "d2"), None, None)
    seen = scenes.snapshot(block=nodes, disks=disks, volumes=(found,))
    facts = scenes.facts(mounts=(mount,), superblocks=(), filesystem_devs={"0:44": ("7:3", "7:4")})
    made = make(seen, facts, volume(found))
    assert [member.identity.name for member in made.members] == ["data", "more"]
    (end,) = (step for step in made.steps if step.kind == "unmounted")
    assert (end.params["devs"], end.params["knames"]) == (["0:44", "7:3", "7:4"], ["loop3", "loop4"])
    assert len(made.keys) == 2


def test_who_mounts_it_again_while_it_is_watched_is_seen(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    path = begin(tmp_path, planned(world, FIRST))
    world.calls, pause = [], world.pause

    def intrude(seconds: float) -> None:
        world.intruder = True
        pause(seconds)

    world.pause = intrude  # type: ignore[method-assign]
    assert run(path, world) is Outcome.STOPPED
    assert (last(path).data["code"], last(path).text) == ("not-proven", "/mnt/intruder is mounted.")


def test_a_volume_in_use_is_left_as_it_is_and_another_disk_is_not_touched(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_of(world))
    world.identity["wwid"] = "naa.600"
    assert go(path, world) is Outcome.REFUSED
    busy = begin(tmp_path, plan_of(SimWorld()))
    used = SimWorld()
    used.users = (User(7, "sh", "current folder", "/mnt/data", 5),)
    assert go(busy, used) is Outcome.REFUSED
    assert (world.calls, used.calls) == ([], [])


def test_after_a_restart_undo_mounts_what_was_begun_to_be_unmounted(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    path = begin(tmp_path, planned(world, FIRST))
    world.die_after = 2
    with pytest.raises(Crash):
        run(path, world)
    world.process_died()
    world.mounted = []
    assert run(path, world, boot="boot-2") is Outcome.STOPPED
    assert "while /mnt/data was being unmounted" in last(path).text
    assert run(path, world, back=True, boot="boot-2") is Outcome.UNDONE, last(path)
    assert [mount.mountpoint for mount in world.mounted] == ["/mnt/data"]


def test_undo_says_so_when_the_disk_is_gone_by_then(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    path = begin(tmp_path, planned(world, FIRST))
    assert run(path, world) is Outcome.DONE
    world.restart()
    assert run(path, world, back=True) is Outcome.STOPPED
    assert last(path).data["code"] == "gone"
    assert not [record for record in read(path) if record.kind is Kind.NOTE]


def test_a_volume_that_is_not_there_or_not_on_a_disk_of_ours_is_said() -> None:
    with pytest.raises(BadInputError, match="no volume"):
        Scope(Reach.VOLUME, ("volume:9",), "/x").on(scenes.snapshot(volumes=(DATA,)))


def test_a_btrfs_over_two_disks_is_known_by_the_name_of_either() -> None:
    """The kernel shows its first device, whichever it was mounted by."""
    world = SimKernel(disks=2)
    plan = planned(world, disks(*world.snapshot().disks))
    (step,) = (step for step in plan.steps if step.params.get("mountpoint") == "/mnt/data2")
    both = dataclasses.replace(step, params={**step.params, "dev": "0:42"}, disks=tuple(one.id for one in plan.members))
    shown = Mount(90, 1, "0:77", "/", "/mnt/data2", "rw", "", "btrfs", "/dev/mapper/mpatha", "rw,subvolid=5,subvol=/")
    found = ground(Work(plan, world, lambda text: None), both)
    assert found.source == "/dev/dm-13"
    assert found.carries(shown)
    assert found.carries(dataclasses.replace(shown, source="/dev/dm-3"))
    assert found.carries(dataclasses.replace(shown, source="/dev/mapper/mpathb"))
    assert not found.carries(dataclasses.replace(shown, source="/dev/mapper/mpathc"))
    assert ground(Work(plan, world, lambda text: None), step).carries(world.mounted[1])
