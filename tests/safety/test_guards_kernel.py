"""Guards for disks of the kernel's initiator: each reason, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from initiator.host.scsipaths import ScsiPath, Traffic
from initiator.host.stacks import Array, VolumeGroup
from initiator.model import BlockNode, MapState, Portal, Problem, Snapshot, Swap
from safety.facts import Facts, Memory
from safety.facts_kernel import KernelFacts, Record
from safety.findings import Finding, Level, blocks
from safety.guards import check, examine
from safety.scene import view
from safety.scope import path
from safety.step import Options
from tests.safety.simkernel import SimKernel
from tests.safety.simparts import GROUP, SCOPE, TARGET

Situation = tuple[Snapshot, Facts]


def quiet(**world: Any) -> Situation:
    sim = SimKernel(**world)
    snapshot = sim.snapshot()
    return snapshot, sim.facts(snapshot, SCOPE.on(snapshot))


def known(facts: Facts) -> KernelFacts:
    assert facts.kernel is not None
    return facts.kernel


def kernel(**changes: Any) -> Callable[[Situation], Situation]:
    """Changes in what was read of the kernel."""
    return lambda now: (now[0], dataclasses.replace(now[1], kernel=dataclasses.replace(known(now[1]), **changes)))


def facts(**changes: Any) -> Callable[[Situation], Situation]:
    return lambda now: (now[0], dataclasses.replace(now[1], **changes))


def disk(**changes: Any) -> Callable[[Situation], Situation]:
    return lambda now: (dataclasses.replace(now[0], disks=(dataclasses.replace(now[0].disks[0], **changes),)), now[1])


def first_path(**changes: Any) -> Callable[[Situation], Situation]:
    def change(now: Situation) -> Situation:
        one, *more = known(now[1]).paths
        return kernel(paths=(dataclasses.replace(one, **changes), *more))(now)

    return change


def first_session(**changes: Any) -> Callable[[Situation], Situation]:
    def change(now: Situation) -> Situation:
        one, *more = known(now[1]).sessions
        return kernel(sessions=(dataclasses.replace(one, **changes), *more))(now)

    return change


def the_map(**changes: Any) -> Callable[[Situation], Situation]:
    return lambda now: (dataclasses.replace(now[0], maps=(dataclasses.replace(now[0].maps[0], **changes),)), now[1])


def array(**changes: Any) -> Callable[[Situation], Situation]:
    plain = Array("md7", "raid1", "clean", 0, "idle", ("dm-3",), "a:b")
    node = BlockNode("md7", "9:7", "md", 1 << 20, False, slaves=("dm-3",))

    def change(now: Situation) -> Situation:
        nodes = tuple(
            dataclasses.replace(each, holders=("md7",)) if each.kname == "dm-3" else each for each in now[0].block
        )
        snapshot = dataclasses.replace(now[0], block=(*nodes, node))
        return kernel(arrays=(dataclasses.replace(plain, **changes),))((snapshot, now[1]))

    return change


def moved(now: Situation) -> Situation:
    return facts(
        mounts=tuple(dataclasses.replace(each, mountpoint="/var/lib/kubelet/pods/x") for each in now[1].mounts)
    )(now)


def unmounted(now: Situation) -> Situation:
    changed = kernel(traffic=(("1:0:0:0", Traffic(2, 0, 5, 0, 0)),))(now)
    return facts(mounts=(), superblocks=())(changed)


def unmapped(now: Situation) -> Situation:
    """Two devices that no map joins."""
    paths = tuple(dataclasses.replace(path, holders=()) for path in known(now[1]).paths)
    return kernel(paths=paths)(disk(map=None, multipath=False)(now))


BLOCKING: dict[str, tuple[str, Callable[[Situation], Situation]]] = {
    "not read": ("kernel-session", facts(kernel=None)),
    "a tape": ("not-a-disk", disk(kind="tape")),
    "session lost": ("session-failed", first_session(state="FAILED")),
    "session given up": ("session-failed", first_session(state="FREE")),
    "session not readable": ("session-failed", first_session(state=None)),
    "session going": ("session-unbound", first_session(target_state="UNBOUND")),
    "session unknown": ("session-unknown", kernel(sessions=())),
    "boots from it": ("boot-session", kernel(boot=(TARGET,))),
    "path offline": ("path-not-running", first_path(state="offline")),
    "path blocked": ("path-not-running", first_path(state="blocked")),
    "path state unknown": ("path-not-running", first_path(state=None)),
    "path without device": ("path-no-device", first_path(kname=None)),
    "path of another disk": ("identity-twice", first_path(wwid="naa.9")),
    "path gone since": ("paths-changed", lambda now: kernel(paths=known(now[1]).paths[:1])(now)),
    "path not in the map": ("path-outside-map", first_path(holders=())),
    "path held by something else": ("path-outside-map", first_path(holders=("dm-3", "md1"))),
    "two devices and no map": ("no-map", unmapped),
    "perhaps a map": ("multipath-unknown", disk(multipath=None)),
    "multipathd silent": ("multipathd-silent", kernel(multipathd="multipathd does not answer")),
    "an old answer": ("multipathd-silent", the_map(answered_at=900.0)),
    "map suspended": ("map-suspended", the_map(state=MapState.SUSPENDED)),
    "queueing without a path": ("queueing", the_map(state=MapState.NO_PATH, queueing="on")),
    "no iscsid": ("iscsid-dead", kernel(iscsid=False)),
    "records differ": (
        "records-differ",
        kernel(records=(Record(1, "several: manual, automatic"), Record(2, "manual"))),
    ),
    "LVM does not tell": ("unknown", facts(problems=(Problem("lvm", "the volume groups", "hangs"),))),
    "array over other disks": ("md-spans", array(members=("dm-3", "sdz"))),
    "array degraded": ("md-degraded", array(degraded=1)),
    "array unknown": ("md-unknown", array(state=None)),
    "array busy": ("md-busy", array(sync="resync")),
    "btrfs over other disks": ("fs-spans", facts(filesystem_devs={"0:40": ("253:3", "8:99")})),
    "pod's mount": ("owner", moved),
    "traffic of nobody seen": ("in-flight", unmounted),
    "swap without room": (
        "swap",
        lambda now: facts(memory=Memory(1 << 30, 1 << 20))(
            (dataclasses.replace(now[0], swaps=(Swap("/mnt/data/s", "file", 1 << 20, "253:3"),)), now[1])
        ),
    ),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_a_reason_forbids_the_removal_of_a_kernel_disk(name: str) -> None:
    code, change = BLOCKING[name]
    snapshot, seen = change(quiet())
    found = [each for each in check(snapshot, seen, SCOPE) if each.code == code]
    assert found, code
    assert all(each.level is Level.BLOCK and each.evidence and each.fix for each in found)


def test_a_quiet_kernel_disk_is_not_blocked() -> None:
    snapshot, seen = quiet()
    found = check(snapshot, seen, SCOPE)
    assert not blocks(found)
    assert {each.code for each in found} == {"mounted"}


@pytest.mark.parametrize(
    ("group", "code", "level"),
    [
        (VolumeGroup("vg", GROUP, ("253:3",), ("vg/data",)), "closed", Level.NOTE),
        (VolumeGroup("vg", GROUP, ("253:3", "8:99"), ("vg/data",)), "vg-spans", Level.BLOCK),
        (VolumeGroup("vg", GROUP, ("253:3", ""), ("vg/data",)), "vg-spans", Level.BLOCK),
        (VolumeGroup("vg", "B" * 32, ("253:3",), ()), "lvm-unknown", Level.BLOCK),
    ],
)
def test_a_volume_group_has_to_be_on_the_disk_as_a_whole(group: VolumeGroup, code: str, level: Level) -> None:
    snapshot, seen = kernel(groups=(group,))(quiet(group=True))
    assert code_of(check(snapshot, seen, SCOPE), code).level is level


def code_of(found: tuple[Finding, ...], code: str) -> Finding:
    return next(each for each in found if each.code == code)


def test_two_groups_of_one_name_are_not_told_apart() -> None:
    groups = tuple(VolumeGroup("vg", uuid * 32, ("253:3",), ()) for uuid in "AB")
    snapshot, seen = kernel(groups=groups)(quiet(group=True))
    assert code_of(check(snapshot, seen, SCOPE), "vg-twice").level is Level.BLOCK


@pytest.mark.parametrize("devices", [("8:99",), ("",)])
def test_a_group_of_the_same_name_on_another_disk_forbids_it(devices: tuple[str, ...]) -> None:
    """Every installation of some systems makes an `ubuntu-vg`; vgchange refuses a name that means two groups."""
    ours = VolumeGroup("vg", GROUP, ("253:3",), ("vg/data",))
    others = (VolumeGroup("vg", "B" * 32, devices, ()), VolumeGroup("else", "C" * 32, ("8:99",), ()))
    snapshot, found = kernel(groups=(ours, *others))(quiet(group=True))
    assert view(snapshot, found, SCOPE.on(snapshot)).volume_groups == (ours,)
    twice = code_of(check(snapshot, found, SCOPE), "vg-twice")
    assert (twice.level, twice.subject) == (Level.BLOCK, "vg")
    assert "B" * 32 in twice.evidence
    given_up = view(snapshot, found, SCOPE.on(snapshot), Options(abandon=True))
    assert "vg-twice" not in {each.code for each in examine(given_up)}
    snapshot, found = kernel(groups=(ours, *others[1:]))(quiet(group=True))
    assert not blocks(check(snapshot, found, SCOPE))


def test_what_stands_on_a_map_that_only_loses_a_path_is_in_no_ones_way() -> None:
    """Unless it stands on that path itself too, past the map."""
    sim = SimKernel(group=True)
    snapshot = sim.snapshot()
    out = path(snapshot, snapshot.paths[0])
    snapshot, found = array()((snapshot, sim.facts(snapshot, out.on(snapshot))))
    assert not blocks(check(snapshot, found, out))
    (going,), (group,), (md,) = known(found).paths, known(found).groups, known(found).arrays
    assert going.dev is not None
    assert going.kname is not None
    past = VolumeGroup("past", "B" * 32, ("253:3", going.dev), ())
    _, beside = kernel(groups=(group, past))((snapshot, found))
    assert code_of(check(snapshot, beside, out), "vg-spans").subject == "past"
    _, beside = kernel(arrays=(dataclasses.replace(md, members=("dm-3", going.kname)),))((snapshot, found))
    assert code_of(check(snapshot, beside, out), "md-spans").subject == "md7"


def test_an_array_of_its_own_is_closed_by_the_plan() -> None:
    snapshot, seen = array()(quiet())
    assert not blocks(check(snapshot, seen, SCOPE))


def test_an_encrypted_volume_is_closed_and_its_key_is_a_warning() -> None:
    snapshot, seen = quiet()
    nodes = tuple(
        dataclasses.replace(each, holders=("dm-9",)) if each.kname == "dm-3" else each for each in snapshot.block
    )
    crypt = BlockNode("dm-9", "253:9", "crypt", 1 << 20, False, slaves=("dm-3",), dm_name="vault", dm_uuid="CRYPT-x")
    found = check(dataclasses.replace(snapshot, block=(*nodes, crypt)), seen, SCOPE)
    assert code_of(found, "crypt-key").level is Level.WARN
    assert not blocks(found)


def test_what_no_step_can_close_forbids_it() -> None:
    snapshot, seen = quiet()
    nodes = tuple(
        dataclasses.replace(each, holders=("dm-9",)) if each.kname == "dm-3" else each for each in snapshot.block
    )
    odd = BlockNode("dm-9", "253:9", "dm", 1 << 20, False, slaves=("dm-3",), dm_name="odd", dm_uuid="X")
    assert (
        code_of(check(dataclasses.replace(snapshot, block=(*nodes, odd)), seen, SCOPE), "holder").level is Level.BLOCK
    )


def test_a_session_that_carries_other_disks_stays_and_says_so() -> None:
    other = ScsiPath("1:0:0:1", 1, 1, "disk", "naa.2", "running", "sdx", "65:0", 5, 512)
    door = dataclasses.replace(other, hctl="2:0:0:1", sid=2, kind="enclosure", kname=None, dev=None)
    snapshot, seen = kernel(others=(other, door))(quiet())
    found = [each for each in check(snapshot, seen, SCOPE) if each.code == "session-stays"]
    assert [each.subject for each in found] == ["disks@127.0.0.1:3260"]
    assert "sdx" in found[0].evidence


def test_two_sessions_that_nothing_tells_apart_forbid_it() -> None:
    snapshot, seen = quiet()
    first = known(seen).sessions[0]
    twin = dataclasses.replace(first, sid=9)
    snapshot, seen = kernel(every_session=(*known(seen).sessions, twin))((snapshot, seen))
    assert code_of(check(snapshot, seen, SCOPE), "session-twice").level is Level.BLOCK
    elsewhere = dataclasses.replace(first, sid=9, target="iqn.2026-11.example:others")
    snapshot, seen = kernel(every_session=(*known(seen).sessions, elsewhere))((snapshot, seen))
    assert not blocks(check(snapshot, seen, SCOPE))
    assert first.portals == (Portal("127.0.0.1", 3260),)


def test_a_session_without_a_record_is_a_warning_and_discoveryd_too() -> None:
    snapshot, seen = kernel(records=(Record(1, None), Record(2, "manual")), discoveryd=("sendtargets 10.0.0.1",))(
        quiet()
    )
    found = check(snapshot, seen, SCOPE)
    assert [each.level for each in found if each.code in ("no-record", "discoveryd")] == [Level.WARN, Level.WARN]
    assert not blocks(found)


def test_a_begun_removal_does_not_trip_over_itself() -> None:
    snapshot, seen = first_path(state="offline", holders=())(quiet())
    extent = SCOPE.on(snapshot)
    assert blocks(examine(view(snapshot, seen, extent)))
    assert not blocks(examine(view(snapshot, seen, extent, resuming=True)))


@pytest.mark.parametrize(
    ("devices", "active", "against"),
    [(("253:3", ""), (), []), (("253:3", ""), ("vg/data",), ["vg-spans"]), (("253:3", "8:99"), (), ["vg-spans"])],
)
def test_a_group_whose_other_half_is_removed_already_does_not_stop_a_resume(
    devices: tuple[str, ...], active: tuple[str, ...], against: list[str]
) -> None:
    snapshot, seen = kernel(groups=(VolumeGroup("vg", GROUP, devices, active),))(quiet(group=True))
    scene = view(snapshot, seen, SCOPE.on(snapshot), resuming=True)
    assert [each.code for each in blocks(examine(scene))] == against
