"""Removals of a kernel disk in a simulated kernel: every order of deaths, and an intruder at every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safety.facts import User
from safety.findings import Level
from safety.journal import Journal, Kind, Mark, Outcome, read
from safety.plan import Options, Plan, make
from safety.scope import Scope, disks
from safety.steps import KINDS
from safety.world_kernel import Answer, Door, PathClaim
from tests.safety.removals import Mortal, begin, go, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.simworld import Crash

__all__ = ["quick_disk"]

Make = Callable[[], SimKernel]
WORLDS: dict[str, Make] = {
    "single path": lambda: SimKernel(1, mapped=False),
    "map": SimKernel,
    "automount": lambda: SimKernel(1, mapped=False, automount=True),
    "map and LVM and swap": lambda: SimKernel(group=True, swap=True),
}
ILLEGAL = bytes.fromhex("700005000000000a00000000200000000000")
NO_SUCH_UNIT = bytes.fromhex("700005000000000a00000000250000000000")
NOT_READY = bytes.fromhex("700002000000000a00000000040300000000")
ATTENTION = bytes.fromhex("700006000000000a00000000290000000000")


def planned(world: SimKernel, wanted: Scope | None = None) -> Plan:
    snapshot = world.snapshot()
    scope = wanted or disks(snapshot.disks[0])
    return make(snapshot, world.facts(snapshot, scope.on(snapshot)), scope)


def remove(folder: Path, world: SimKernel, wanted: Scope | None = None) -> tuple[Outcome, Path]:
    path = begin(folder, planned(world, wanted))
    return go(path, world), path


def run(path: Path, world: SimKernel, **more: Any) -> Outcome:
    return go(path, world, **more)


def assert_gone(world: SimKernel, written: int) -> None:
    assert (world.mounted, world.lanes, world.sids) == ([], {}, {})
    assert all(disk.map_seq is None for disk in world.disks)
    assert not any(claim.open for claim in world.claims)
    assert set(world.records.values()) == {"manual"}
    assert not world.automounted
    assert (world.lost, world.stable) == (0, written)


def assert_back(world: SimKernel, written: int, before: SimKernel) -> None:
    assert sorted(mount.mountpoint for mount in world.mounted) == [volume.mountpoint for volume in before.volumes]
    assert sorted(world.lanes) == sorted(before.lanes)
    assert all(lane["state"] == "running" for lane in world.lanes.values())
    assert sorted(sid % 10 for sid in world.sids) == sorted(before.sids)
    assert all((disk.map_seq is not None) == before.mapped for disk in world.disks)
    assert [len(world.joined(disk)) for disk in world.disks] == [len(before.joined(disk)) for disk in before.disks]
    assert (world.active, world.swapped) == (before.active, before.swapped)
    assert (world.automounted, world.masks) == (before.automounted, set())
    assert not any(claim.open for claim in world.claims)
    assert world.records == before.records
    assert (world.lost, world.written) == (0, written)


def test_a_whole_removal_of_a_map_with_lvm_and_swap(tmp_path: Path) -> None:
    world = SimKernel(group=True, swap=True)
    written = world.written
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE, last(path)
    assert_gone(world, written)
    assert world.calls == [
        "startup 1 manual",
        "startup 2 manual",
        "swapoff /mnt/data/swap",
        "syncfs /mnt/data",
        "umount /mnt/data",
        "vgchange --activate n vg",
        "claim /dev/dm-3",
        "fsync",
        "defer",
        "hand over",
        "forget sdb",
        "forget sdc",
        "fsync sdb",
        "synchronize sdb",
        "fsync sdc",
        "synchronize sdc",
        "offline sdb",
        "offline sdc",
        "delete sdb",
        "delete sdc",
        "logout 1",
        "logout 2",
    ]
    assert "safe to pull" in last(path).text
    assert last(path).data["free"] == ["portal 127.0.0.1:3260", "link lo", "portal 127.0.0.2:3260"]


def test_a_single_path_is_claimed_and_never_joined(tmp_path: Path) -> None:
    world = SimKernel(1, mapped=False)
    written = world.written
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE, last(path)
    assert_gone(world, written)
    assert "claim paths" in world.calls
    assert not {"defer", "claim /dev/dm-3"}.intersection(world.calls)


def test_every_step_says_what_it_does_and_proves_and_can_be_run() -> None:
    for made in map(planned, (make_world() for make_world in WORLDS.values())):
        assert not made.blocked
        for step in made.steps:
            assert step.kind in KINDS
            assert step.title
            assert step.command
            assert step.proof
            assert step.undo or not step.changing
        assert Plan.from_json(made.to_json()) == made


def test_a_session_with_another_disk_stays(tmp_path: Path) -> None:
    world = SimKernel()
    world.other_luns = {2: "naa.2"}
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE, last(path)
    assert list(world.sids) == [2]
    assert world.records == {1: "manual", 2: "automatic"}
    assert "stay" in last(path).text
    assert (world.lanes, world.lost) == ({}, 0)


def test_nothing_is_done_to_a_disk_that_changed_since_the_plan(tmp_path: Path) -> None:
    world = SimKernel()
    path = begin(tmp_path, planned(world))
    world.lanes["2:0:0:0"]["seq"] = 99
    assert run(path, world) is Outcome.REFUSED
    assert world.calls == []
    assert last(path).data["code"] == "identity-changed"


def test_a_process_in_the_mount_stops_it_before_anything_is_lost(tmp_path: Path) -> None:
    world = SimKernel()
    path = begin(tmp_path, planned(world))
    world.users = (User(9, "bash", "current folder", "/mnt/data"),)
    assert run(path, world) is Outcome.REFUSED
    assert world.calls == []


@pytest.mark.parametrize("name", WORLDS)
def test_who_opens_a_path_beside_its_claim_and_stays_keeps_the_disk(tmp_path: Path, name: str) -> None:
    """An exclusive open does not prevent a plain one, and no counter shows what that wrote to memory only."""
    world = WORLDS[name]()
    before, written, flush = WORLDS[name](), world.written, world.synchronize

    def opened(claim: PathClaim, deadline: float) -> Answer:
        world.raw = (User(9, "dd", "open device", f"/dev/{claim.route.kname}"),)
        return flush(claim, deadline)

    world.synchronize = opened  # type: ignore[method-assign]
    path = begin(tmp_path, planned(world))
    assert run(path, world) is Outcome.STOPPED
    assert "dd (process 9) has /dev/sd" in last(path).text
    assert not any(call.startswith("offline") for call in world.calls)
    world.raw = ()
    assert go(path, world, back=True) is Outcome.UNDONE
    assert_back(world, written, before)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(2, 0, 8, NOT_READY), "flush-failed"),
        (Answer(2, 0, 8, ATTENTION), "flush-failed"),
        (Answer(0, 1, 0, b""), "flush-failed"),
        (Answer(8, 0, 0, b""), "flush-failed"),
    ],
)
def test_a_flush_that_is_not_answered_stops_it_and_undo_brings_all_back(
    tmp_path: Path, answer: Answer, code: str
) -> None:
    world = SimKernel()
    written = world.written
    world.answer = answer
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.STOPPED
    assert last(path).data["code"] == code
    assert not any(call.startswith(("offline", "delete", "logout")) for call in world.calls)
    world.answer = Answer(0, 0, 0, b"")
    assert run(path, world, back=True) is Outcome.UNDONE, last(path)
    assert_back(world, written, SimKernel())


def test_a_target_without_a_cache_does_not_know_the_command(tmp_path: Path) -> None:
    world = SimKernel()
    world.disks[0].target_dirty = 0
    world.write_cache = False
    world.answer = Answer(2, 0, 8, ILLEGAL)
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE, last(path)
    assert any("does not know SYNCHRONIZE CACHE" in record.text for record in read(path))


@pytest.mark.parametrize(
    ("sense", "write_cache"),
    [(ILLEGAL, True), (ILLEGAL, None), (NO_SUCH_UNIT, False)],
    ids=["with a cache", "cache unknown", "unit gone"],
)
def test_a_refused_flush_is_no_flush(tmp_path: Path, sense: bytes, write_cache: bool | None) -> None:
    world = SimKernel()
    world.write_cache = write_cache
    world.answer = Answer(2, 0, 8, sense)
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.STOPPED
    assert last(path).data["code"] == "flush-failed"
    assert not any(call.startswith(("offline", "delete", "logout")) for call in world.calls)
    assert world.lost == 0


def test_traffic_of_nobody_seen_stops_it_before_offline(tmp_path: Path) -> None:
    world = SimKernel()
    world.noise = 10_000
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.STOPPED
    assert last(path).data["step"] == "silent"
    assert not any(call.startswith("offline") for call in world.calls)


def test_an_offline_that_is_taken_back_stops_before_the_delete(tmp_path: Path) -> None:
    world = SimKernel()
    world.state_after = {"1:0:0:0": "running"}
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.STOPPED
    assert not any(call.startswith(("delete", "logout")) for call in world.calls)
    world.state_after = {}
    assert run(path, world) is Outcome.DONE, last(path)


# --- deaths ---


def effects(make_world: Make, folder: Path, wanted: Scope | None = None) -> tuple[int, int]:
    """How many effects and how many records a removal has."""
    folder.mkdir()
    world = make_world()
    _, path = remove(folder, world, wanted)
    return len(world.calls), len(read(path)) - 1


def deaths(
    make_world: Make, folder: Path, wanted: Scope | None = None, *, every: int = 1
) -> Iterator[tuple[str, SimKernel, Path, int]]:
    """Worlds in which the runner has died, before and after each effect and each record, or each `every`-th of them."""
    calls, records = effects(make_world, folder / "count", wanted)
    moments = [(name, number) for name in ("die_before", "die_after") for number in range(1, calls + 1)]
    moments += [(name, number) for name in ("record", "record after") for number in range(1, records + 1)]
    for name, number in moments[::every]:
        world = make_world()
        written = world.written
        path = begin(folder, planned(world, wanted))
        kind: type[Journal] = Journal
        if name.startswith("record"):
            kind = type("Dying", (Mortal,), {"die_at": number, "die_after": name.endswith("after"), "count": 0})
        else:
            setattr(world, name, number)
        try:
            run(path, world, kind=kind)
        except Crash:
            world.process_died()
            yield f"{name} {number}", world, path, written
        else:
            raise AssertionError(f"nothing died at {name} {number}")


@pytest.mark.parametrize("which", WORLDS)
def test_after_a_death_anywhere_a_kernel_removal_is_completed(tmp_path: Path, which: str) -> None:
    seen = 0
    for name, world, path, written in deaths(WORLDS[which], tmp_path):
        assert run(path, world) is Outcome.DONE, (name, last(path))
        assert_gone(world, written)
        seen += 1
    assert seen > 60


@pytest.mark.parametrize("which", WORLDS)
def test_after_a_death_anywhere_a_kernel_removal_is_taken_back(tmp_path: Path, which: str) -> None:
    for name, world, path, written in deaths(WORLDS[which], tmp_path):
        assert run(path, world, back=True) is Outcome.UNDONE, (name, last(path))
        assert_back(world, written, WORLDS[which]())


@pytest.mark.parametrize("which", WORLDS)
def test_a_completed_kernel_removal_is_taken_back(tmp_path: Path, which: str) -> None:
    world = WORLDS[which]()
    written = world.written
    _, path = remove(tmp_path, world)
    assert run(path, world, back=True) is Outcome.UNDONE, last(path)
    assert_back(world, written, WORLDS[which]())


@pytest.mark.parametrize("which", WORLDS)
def test_an_intruder_never_gets_in_between_claim_and_delete(tmp_path: Path, which: str) -> None:
    """Whoever mounts before the claim stops the removal with everything working; after it nobody can."""
    calls, _ = effects(WORLDS[which], tmp_path / "count")
    stopped = 0
    for moment in range(calls):
        world = WORLDS[which]()
        written = world.written
        path = begin(tmp_path, planned(world))
        step = world._effect

        def watched(name: str, world: SimKernel = world, moment: int = moment, step: Any = step) -> None:
            world.intruder = world.intruder or len(world.calls) == moment
            step(name)

        world._effect = watched  # type: ignore[method-assign]
        outcome = run(path, world)
        if world.broke_in:
            stopped += 1
            assert world.broke_in[0].startswith(("umount", "vgchange", "claim", "mask", "stop")), world.broke_in
            assert outcome is Outcome.STOPPED, (moment, last(path))
            assert [mount.mountpoint for mount in world.mounted] == ["/mnt/intruder"]
            assert all(lane["state"] == "running" for lane in world.lanes.values())
        else:
            assert outcome is Outcome.DONE, (moment, last(path))
            assert world.stable == written
        assert world.lost == 0
    assert stopped > 0


def test_a_map_that_somebody_else_removed_is_not_taken_for_flushed(tmp_path: Path) -> None:
    world = SimKernel()
    path = begin(tmp_path, planned(world))
    world.die_after = world_calls(tmp_path, "umount") + 1
    with pytest.raises(Crash):
        run(path, world)
    world.process_died()
    world.vanish(world.disks[0])
    assert run(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "detached-elsewhere"
    assert not any(call.startswith(("offline", "delete", "logout")) for call in world.calls)


def world_calls(folder: Path, word: str) -> int:
    """The number of effects before the first that begins with a word."""
    (folder / word).mkdir()
    world = SimKernel()
    remove(folder / word, world)
    return next(number for number, call in enumerate(world.calls) if call.startswith(word))


def test_a_path_that_was_deleted_by_somebody_else_is_not_taken_for_flushed(tmp_path: Path) -> None:
    world = SimKernel()
    path = begin(tmp_path, planned(world))
    world.die_after = world_calls(tmp_path, "hand over") + 1
    with pytest.raises(Crash):
        run(path, world)
    world.process_died()
    del world.lanes["2:0:0:0"]
    assert run(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "detached-elsewhere"


def test_what_comes_back_is_told(tmp_path: Path) -> None:
    world = SimKernel()
    made = planned(world)
    path = begin(tmp_path, made)
    logout = world.logout

    def again(sid: int) -> None:
        logout(sid)
        if sid == 2:
            world.login(Door.from_json(made.members[0].attach["doors"][0]), None, None)

    world.logout = again  # type: ignore[method-assign]
    assert run(path, world) is Outcome.STOPPED
    assert "again" in last(path).text
    failed = [record for record in read(path) if record.kind is Kind.STEP and record.mark is Mark.FAILED]
    assert [record.step for record in failed] == ["watch"]


def ending(world: SimKernel) -> Plan:
    snapshot, options = world.snapshot(), Options(end_users=True)
    scope = disks(snapshot.disks[0])
    return make(snapshot, world.facts(snapshot, scope.on(snapshot)), scope, options)


def test_processes_are_ended_only_when_a_person_chose_so(tmp_path: Path) -> None:
    world = SimKernel()
    world.users = (User(9, "bash", "current folder", "/mnt/data", 77), User(9, "bash", "open file", "/mnt/data/x", 77))
    assert "open" in {each.code for each in planned(world).findings if each.level is Level.BLOCK}
    made = ending(world)
    assert not made.blocked
    assert [step.params["users"] for step in made.steps if step.kind == "end-users"] == [[{"pid": 9, "started": 77}]]
    path = begin(tmp_path, made)
    assert run(path, world) is Outcome.DONE, last(path)
    assert world.calls[0] == "terminate 9"


def test_a_process_that_does_not_end_stops_it_before_anything_else(tmp_path: Path) -> None:
    world = SimKernel()
    world.users, world.stubborn = (User(9, "bash", "current folder", "/mnt/data", 77),), True
    path = begin(tmp_path, ending(world))
    assert run(path, world) is Outcome.REFUSED
    assert "does not end when asked to" in last(path).text
    assert world.calls == ["terminate 9"]


def test_who_has_the_bare_device_open_or_cannot_be_known_again_is_not_ended() -> None:
    for user in (User(9, "qemu", "open device", "/dev/sdb", 77), User(1, "systemd", "open file", "/mnt/data/x")):
        world = SimKernel()
        world.users = (user,)
        assert ending(world).blocked
