from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.host.usage import KernelUse, LoopUse
from initiator.model import BlockNode, DiskState, Path, PathState, Problem, SessionState, Source, Swap
from safety.facts import Facts, Memory, Other, SystemUse, User
from safety.findings import Finding, Level, blocks
from safety.guards import GUARDS, check
from tests.safety import scenes

OTHER = dataclasses.replace(scenes.DATA_MOUNT, mount_id=77, namespace="4026532000", namespace_pid=4242)
SHARED = dataclasses.replace(scenes.DATA_MOUNT, propagation="shared:5")


def ask(snapshot: dict[str, Any] | None = None, facts: dict[str, Any] | None = None) -> dict[str, Finding]:
    found = check(scenes.snapshot(**(snapshot or {})), scenes.facts(**(facts or {})), scenes.SCOPE)
    return {finding.code: finding for finding in found}


def test_a_quiet_disk_is_only_told_what_will_be_unmounted() -> None:
    assert [(finding.level, finding.code) for finding in ask().values()] == [(Level.NOTE, "mounted")]


def test_a_disk_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(BadInputError):
        check(scenes.snapshot(), scenes.facts(), dataclasses.replace(scenes.SCOPE, subjects=("engine:d:none",)))


def snap(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return changes, {}


def fact(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, changes


def mounts(*more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return fact(mounts=(scenes.ROOT_MOUNT, *more))


LOOP = BlockNode("loop4", "7:4", "loop", 1 << 20, False, backing_file="/mnt/data/image")
CRYPT = BlockNode("dm-2", "253:2", "crypt", 1 << 20, False, dm_name="vault", slaves=("loop3",))
INSIDE = dataclasses.replace(scenes.ROOT_MOUNT, mount_id=50, parent_id=40, dev="0:50", mountpoint="/mnt/data/x")
OVERLAY = dataclasses.replace(
    scenes.ROOT_MOUNT,
    mount_id=51,
    dev="0:51",
    mountpoint="/merged",
    fstype="overlay",
    super_options="rw,lowerdir=/l:/mnt/data/lower,upperdir=/u,workdir=/w",
)
BLOCKING: dict[str, tuple[str, tuple[dict[str, Any], dict[str, Any]], str]] = {
    "other namespace": ("mounted-elsewhere", mounts(scenes.DATA_MOUNT, OTHER), "4242"),
    "only other namespace": ("mounted-elsewhere", mounts(OTHER), "4026532000"),
    "private copy of a shared mount": ("mounted-elsewhere", mounts(SHARED, OTHER), "4242"),
    "mount inside": ("mount-inside", mounts(scenes.DATA_MOUNT, INSIDE), "/mnt/data/x"),
    "overlay layer": ("overlay", mounts(scenes.DATA_MOUNT, OVERLAY), "/mnt/data/lower"),
    "lazy unmount": ("mounted-invisibly", mounts(), "loop3"),
    "swap device": ("swap", snap(swaps=(Swap("/dev/loop3", "partition", 0, scenes.DEV),)), "/dev/loop3"),
    "swap file": ("swap", snap(swaps=(Swap("/mnt/data/swap", "file", 9, scenes.DEV),)), "/mnt/data/swap"),
    "swap nobody knows where": ("swap", snap(swaps=(Swap("/x", "file", 9, None),)), "/x"),
    "crypt": ("holder", snap(block=(scenes.node(holders=("dm-2",)), CRYPT)), "vault"),
    "loop on a file": (
        "loop",
        (
            {"block": (scenes.node(), LOOP)},
            {"loops": (LoopUse("loop4", "7:4", "/mnt/data/image", scenes.DEV),)},
        ),
        "/mnt/data/image",
    ),
    "process": ("open", fact(users=(User(99, "bash", "current folder", "/mnt/data"),)), "bash"),
    "udev": ("open", fact(users=(User(99, "(udev-worker)", "open device", "/dev/sda"),)), "udev still works"),
    "nfs": ("exported", fact(exports=(KernelUse("nfs", "/mnt/data/pub", "/mnt/data/pub"),)), "/mnt/data/pub"),
    "lio": ("exported", fact(exports=(KernelUse("lio", "store", "/dev/loop3"),)), "/dev/loop3"),
    "system disk": ("system-disk", fact(system=(SystemUse("/var", scenes.DEV),)), "/var"),
    "not root": ("not-permitted", fact(permitted=False), "root"),
    "mounts unknown": ("unknown", fact(problems=(Problem("mounts", "namespace 1", "denied"),)), "namespace 1"),
    "block unknown": ("unknown", snap(problems=(Problem("block", "sda", "EIO"),)), "sda"),
    "users unknown": ("unknown", fact(problems=(Problem("usage", "process 9", "hangs"),)), "process 9"),
    "engine silent": ("engine-silent", snap(engine="no answer within 5 s"), "does not answer"),
    "kernel session": ("kernel-session", snap(disks=(scenes.disk(source=Source.KERNEL),)), "kernel"),
    "available": ("not-attached", snap(disks=(scenes.disk(state=DiskState.AVAILABLE, device=None, dev=None),)), "not"),
    "offline": ("offline", snap(disks=(scenes.disk(state=DiskState.OFFLINE),)), "offline"),
    "dead": ("dead", snap(disks=(scenes.disk(state=DiskState.DEAD),)), "serves"),
    "no wwid": ("identity-unknown", snap(disks=(scenes.disk(wwid=None),)), "wwid"),
    "no diskseq": ("identity-unknown", snap(disks=(scenes.disk(diskseq=None),)), "diskseq"),
    "twin": ("identity-twice", snap(disks=(scenes.disk(), scenes.disk(id="engine:d:b", name="twin"))), "twin"),
    "another device": ("identity-changed", snap(block=(scenes.node(diskseq=8),)), "another device"),
    "another size": ("identity-changed", snap(block=(scenes.node(size_bytes=512),)), "size"),
    "no such device": ("device-unknown", snap(block=()), "block device"),
    "no path works": (
        "no-path",
        snap(paths=(scenes.path(1, state=PathState.FAILED), scenes.path(2, state=PathState.UNKNOWN))),
        "No path",
    ),
    "no path at all": ("no-path", snap(paths=()), "No path"),
    "path of an unknown session": ("session-unknown", snap(sessions=(scenes.session(1),)), "session"),
    "another attached disk": (
        "shared-session",
        snap(
            disks=(scenes.disk(), scenes.disk(id="engine:d:b", name="other", wwid="naa.2")),
            paths=(scenes.path(1), scenes.path(2), Path("p:9", "p9", PathState.ACTIVE, "engine:d:b", "engine:s:1")),
        ),
        "other",
    ),
    "second runner": ("second-runner", fact(others=(Other("j.jsonl", True, "under way"),)), "under way"),
    "unfinished": ("unfinished", fact(others=(Other("j.jsonl", False, "its runner died"),)), "not finished"),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_a_use_forbids_the_removal_and_is_named(name: str) -> None:
    code, (snapshot, more), words = BLOCKING[name]
    found = ask(snapshot, more)
    assert found[code].level is Level.BLOCK
    assert words in found[code].text + found[code].evidence
    assert found[code].evidence
    assert found[code].fix


WARNING: dict[str, tuple[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "one of two paths": ("last-path", snap(paths=(scenes.path(1), scenes.path(2, state=PathState.FAILED)))),
    "session down": (
        "session-failed",
        snap(sessions=(scenes.session(1), scenes.session(2, state=SessionState.FAILED))),
    ),
    "little memory": ("memory-pressure", fact(memory=Memory(100 << 30, 1 << 30, 0.0))),
    "stalls": ("memory-pressure", fact(memory=Memory(8 << 30, 4 << 30, 40.0))),
}


@pytest.mark.parametrize("name", WARNING)
def test_what_a_person_should_know_is_a_warning(name: str) -> None:
    code, (snapshot, more) = WARNING[name]
    found = ask(snapshot, more)
    assert found[code].level is Level.WARN
    assert not blocks(found.values())


@pytest.mark.parametrize("propagation", ["shared:5", "master:5", "shared:9 master:5"])
def test_the_echo_of_a_shared_mount_goes_with_it(propagation: str) -> None:
    echo = dataclasses.replace(OTHER, propagation=propagation)
    found = ask(*mounts(SHARED, echo))
    assert found["mounted-copy"].level is Level.NOTE
    assert "mounted-elsewhere" not in found


def test_a_group_number_is_compared_as_a_whole() -> None:
    echo = dataclasses.replace(OTHER, propagation="master:55")
    assert "mounted-elsewhere" in ask(*mounts(SHARED, echo))


def test_a_disk_that_is_only_seen_over_the_session_is_a_note() -> None:
    other = scenes.disk(id="engine:d:b", name="logs", wwid="naa.2", state=DiskState.AVAILABLE, device=None, dev=None)
    seen = Path("p:9", "p9", PathState.ACTIVE, other.id, "engine:s:1", lun=1)
    found = ask({"disks": (scenes.disk(), other), "paths": (scenes.path(1), scenes.path(2), seen)})
    assert found["other-lun"].level is Level.NOTE


def test_mounts_of_a_partition_belong_to_the_disk() -> None:
    part = BlockNode("loop3p1", "259:0", "part", 1 << 20, False, parent="loop3")
    mount = dataclasses.replace(scenes.DATA_MOUNT, dev="259:0", source="/dev/loop3p1")
    found = ask({"block": (scenes.node(partitions=("loop3p1",)), part)}, {"mounts": (mount,), "superblocks": ()})
    assert set(found) == {"mounted"}


def test_what_is_on_other_devices_does_not_matter() -> None:
    elsewhere = Swap("/dev/vda2", "partition", 5, "254:2")
    loop = LoopUse("loop4", "7:4", "/var/image", "254:0")
    nfs = KernelUse("nfs", "/srv", "/srv")
    near = KernelUse("nfs", "/mnt/database", "/mnt/database")
    found = ask({"swaps": (elsewhere,)}, {"loops": (loop,), "exports": (nfs, near)})
    assert set(found) == {"mounted"}


def test_unimportant_readers_do_not_forbid() -> None:
    found = ask({"problems": (Problem("sizes", "/mnt/data", "hangs"), Problem("links", "eth0", "gone"))})
    assert set(found) == {"mounted"}


def test_processes_that_refuse_to_be_examined_are_told_once() -> None:
    refusing = tuple(Problem("openers", f"process {pid}", "more rights") for pid in range(9))
    found = check(scenes.snapshot(), scenes.facts(problems=refusing), scenes.SCOPE)
    (told,) = [finding for finding in found if finding.code == "unexamined"]
    assert "9 processes (process 0, process 1, process 2, process 3, process 4, …)" in told.text
    assert not blocks(found)


def test_a_single_path_disk_is_normal() -> None:
    found = ask({"sessions": (scenes.session(1),), "paths": (scenes.path(1),)})
    assert found["last-path"].level is Level.NOTE


@given(st.lists(st.sampled_from(sorted(BLOCKING)), min_size=1, max_size=4, unique=True))
def test_no_combination_hides_a_block(names: list[str]) -> None:
    """Facts of several uses together still forbid; the last one given of a field wins, and it alone forbids."""
    snapshot: dict[str, Any] = {}
    more: dict[str, Any] = {}
    for name in names:
        snapshot |= BLOCKING[name][1][0]
        more |= BLOCKING[name][1][1]
    assert blocks(check(scenes.snapshot(**snapshot), scenes.facts(**more), scenes.SCOPE))


def test_guards_are_pure() -> None:
    snapshot, facts = scenes.snapshot(), scenes.facts()
    assert check(snapshot, facts, scenes.SCOPE) == check(snapshot, facts, scenes.SCOPE)
    assert len({guard.ask for guard in GUARDS}) == len(GUARDS)
    assert isinstance(facts, Facts)
