from __future__ import annotations

import dataclasses
import errno
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initiator.engine.rpc import EngineNotRunning
from initiator.host.mounts import Mount
from initiator.host.run import HelperFailed, Stuck
from initiator.model import DiskState, Swap
from safety.execute import Run
from safety.facts import User
from safety.journal import EXIT, Journal, JournalError, Kind, Mark, Outcome, Record, read
from safety.plan import Plan, make
from safety.runner import write_plan
from safety.work import Secrets
from safety.world import Busy, Unreadable, World
from tests.safety import scenes
from tests.safety.simworld import ALL_MOUNTS, Crash, SimWorld


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a process dies, not a machine: what was written is there without being made durable."""
    monkeypatch.setattr("safety.journal.os.fsync", lambda fd: None)


def plan_for(world: SimWorld, **attach: Any) -> Plan:
    snapshot = world.snapshot()
    return make(snapshot, world.facts(snapshot, scenes.SCOPE.on(snapshot)), scenes.SCOPE)


def begin(folder: Path, plan: Plan) -> Path:
    path = folder / "removal.jsonl"
    path.unlink(missing_ok=True)
    with Journal.create(path, boot="boot-1", now=lambda: 1.0) as journal:
        write_plan(journal, plan)
    return path


class Mortal(Journal):
    """A journal whose process dies before or after its n-th record."""

    die_at = 0
    die_after = False
    count = 0

    def append(self, *args: Any, **kwargs: Any) -> Record:
        type(self).count += 1
        if self.count == self.die_at and not self.die_after:
            raise Crash
        record = super().append(*args, **kwargs)
        if self.count == self.die_at:
            raise Crash
        return record


def go(
    path: Path,
    world: World,
    *,
    back: bool = False,
    kind: type[Journal] = Journal,
    boot: str = "boot-1",
    **more: Any,
) -> Outcome:
    """One life of a runner."""
    with kind.open(path, boot=boot, now=lambda: 2.0) as journal:
        run = Run(Plan.from_json(journal.records[0].data["plan"]), journal, world, **more)
        return run.back() if back else run.forward()


def remove(folder: Path, world: SimWorld, **more: Any) -> tuple[Outcome, Path]:
    path = begin(folder, plan_for(world))
    return go(path, world, **more), path


def last(path: Path) -> Record:
    return read(path)[-1]


def assert_gone(world: SimWorld, written: int) -> None:
    assert world.mounted == []
    assert world.device is None
    assert world.sessions == []
    assert world.tcp == set()
    assert (world.lost, world.stable) == (0, written)


def assert_back(world: SimWorld, written: int) -> None:
    assert world.state is DiskState.ATTACHED
    assert world.device is not None
    assert len(world.sessions) == 2
    assert {mount.mountpoint for mount in world.mounted} == {mount.mountpoint for mount in ALL_MOUNTS}
    assert all(mount.dev == world.dev for mount in world.mounted)
    assert not any(claim.open for claim in world.claims)
    assert not world.autoclear
    assert (world.lost, world.written) == (0, written)


def test_a_whole_removal(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    written = world.written
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE
    assert_gone(world, written)
    assert world.calls == [
        "syncfs /mnt/data/inner",
        "umount /mnt/data/inner",
        "syncfs /mnt/data",
        "umount /mnt/data",
        "claim /dev/loop3",
        "fsync",
        "engine flush",
        "seal",
        "release",
        "engine flush",
        "engine offline",
        "engine logout",
        "engine logout",
    ]
    end = last(path)
    assert "safe to pull" in end.text
    assert end.data["free"] == ["portal 127.0.0.1:3260", "link lo", "portal 127.0.0.2:3260"]
    assert end.data["busy"] == []
    marks = [(record.step, record.mark) for record in read(path) if record.kind is Kind.STEP]
    assert marks[::2] == [(step.id, Mark.STARTED) for step in plan_steps(path)]
    assert marks[1::2] == [(step.id, Mark.VERIFIED) for step in plan_steps(path)]


def plan_steps(path: Path) -> Any:
    return Plan.from_json(read(path)[0].data["plan"]).steps


def test_a_portal_with_other_sessions_is_not_called_free(tmp_path: Path) -> None:
    world = SimWorld()
    other = scenes.session(1, id="engine:s:other", name="logs@127.0.0.1:3260")
    world.sessions.append(other)
    _, path = remove(tmp_path, world)
    data = last(path).data
    assert data["free"] == ["portal 127.0.0.2:3260"]
    assert [entry.partition(" (")[0] for entry in data["busy"]] == ["portal 127.0.0.1:3260", "link lo"]
    assert "Still in use by other sessions" in last(path).text


def test_a_link_that_cannot_be_looked_up_does_not_undo_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(work: object) -> tuple[str, dict[str, list[str]]]:
        raise Unreadable("The engine does not answer.")

    monkeypatch.setattr("safety.execute.verdict", silent)
    outcome, path = remove(tmp_path, SimWorld())
    assert outcome is Outcome.DONE
    assert "safe to pull" in last(path).text
    assert "not known" in last(path).text


def records_of_a_removal(folder: Path) -> int:
    folder.mkdir(parents=True)
    _, path = remove(folder, SimWorld(ALL_MOUNTS))
    return len(read(path)) - 1


def every_death(folder: Path) -> Iterator[tuple[str, Callable[[SimWorld], type[Journal]]]]:
    """Each place at which a runner can die: before and after each record, before and after each effect."""
    for number in range(1, records_of_a_removal(folder / "count") + 1):
        for after in (False, True):
            kind = type("Dying", (Mortal,), {"die_at": number, "die_after": after, "count": 0})
            yield f"record {number} {after}", lambda world, kind=kind: kind  # type: ignore[misc]
    for number in range(1, 14):
        for name in ("die_before", "die_after"):

            def prepare(world: SimWorld, name: str = name, number: int = number) -> type[Journal]:
                setattr(world, name, number)
                return Journal

            yield f"effect {number} {name}", prepare


def deaths(folder: Path) -> Iterator[tuple[str, SimWorld, Path, int]]:
    """Worlds in which the runner has died, each with its journal and the count of written bytes."""
    for name, prepare in every_death(folder):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        path = begin(folder, plan_for(world))
        kind = prepare(world)
        with pytest.raises(Crash):
            go(path, world, kind=kind)
        world.process_died()
        yield name, world, path, written


def test_after_a_death_anywhere_resume_completes_it(tmp_path: Path) -> None:
    count = 0
    for name, world, path, written in deaths(tmp_path):
        if last(path).kind is not Kind.END:
            assert go(path, world) is Outcome.DONE, name
        assert_gone(world, written)
        count += 1
    assert count == len(list(every_death(tmp_path / "again"))) >= 80


def test_after_a_death_anywhere_undo_brings_everything_back(tmp_path: Path) -> None:
    for name, world, path, written in deaths(tmp_path):
        assert go(path, world, back=True) is Outcome.UNDONE, name
        assert_back(world, written)


def test_an_undo_that_dies_can_be_undone_again(tmp_path: Path) -> None:
    _, donor = remove(tmp_path, SimWorld(ALL_MOUNTS))
    count = len(read(donor))
    for number in range(1, 2 * count):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        _, path = remove(tmp_path, world)
        kind = type("Dying", (Mortal,), {"die_at": number, "die_after": bool(number % 2), "count": 0})
        try:
            go(path, world, back=True, kind=kind)
        except Crash:
            world.process_died()
        assert go(path, world, back=True) is Outcome.UNDONE
        assert_back(world, written)


def test_two_deaths_and_a_resume(tmp_path: Path) -> None:
    first = range(2, 26, 3)
    for one in first:
        for two in range(1, 24, 5):
            world = SimWorld(ALL_MOUNTS)
            written = world.written
            path = begin(tmp_path, plan_for(world))
            for number in (one, two):
                kind = type("Dying", (Mortal,), {"die_at": number, "die_after": False, "count": 0})
                try:
                    go(path, world, kind=kind)
                except Crash:
                    world.process_died()
            if last(path).kind is not Kind.END:
                assert go(path, world) is Outcome.DONE
            assert_gone(world, written)


def test_a_removal_that_is_done_can_be_taken_back(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    written = world.written
    _, path = remove(tmp_path, world)
    assert go(path, world, back=True) is Outcome.UNDONE
    assert_back(world, written)
    assert world.sessions[0].id == "engine:s:10"


def test_a_secret_is_asked_for_and_never_stored(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    world.sessions = [dataclasses.replace(one, chap_user="admin") for one in world.sessions]
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE
    world.secret = "open sesame"
    assert go(path, world, back=True) is Outcome.STOPPED
    assert last(path).data["code"] == "secret-needed"
    assert go(path, world, back=True, secrets=Secrets("open sesame")) is Outcome.UNDONE
    assert "sesame" not in path.read_text()


def test_a_target_that_had_to_prove_who_it_is_has_to_again(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    world.sessions = [
        dataclasses.replace(one, chap_user="admin", details={"chap_user_in": "array"}) for one in world.sessions
    ]
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE
    world.secret, world.target_secret = "open sesame", "barley corn"
    for half in (Secrets(), Secrets("open sesame"), Secrets(target="barley corn")):
        assert go(path, world, back=True, secrets=half) is Outcome.STOPPED
        assert last(path).data["code"] == "secrets-needed"
    assert go(path, world, back=True, secrets=Secrets("open sesame", "barley corn")) is Outcome.UNDONE
    assert world.attach_asked["chap_target_user"] == "array"
    assert "sesame" not in path.read_text()
    assert "barley" not in path.read_text()


IDENTITY: list[dict[str, Any]] = [
    {"wwid": "naa.5000000000000002"},
    {"designators": ("naa.5000000000000002",)},
    {"size_bytes": 1 << 20},
    {"target": "iqn.2026-11.example:other"},
    {"lun": 1},
    {"serial": "0002"},
    {"wwid": None},
]


@pytest.mark.parametrize("change", IDENTITY, ids=lambda change: next(iter(change)))
def test_another_disk_under_the_same_name_stops_it_before_the_next_step(tmp_path: Path, change: dict[str, Any]) -> None:
    total = 13
    for number in range(total):
        world = SimWorld(ALL_MOUNTS)
        path = begin(tmp_path, plan_for(world))

        def effect(name: str, world: SimWorld = world, number: int = number) -> None:
            if len(world.calls) == number:
                world.identity = change
            SimWorld._effect(world, name)

        if number == 0:
            world.identity = change
        world._effect = effect  # type: ignore[method-assign]
        outcome = go(path, world)
        made = len(world.calls)
        # The call during which the disk changed is the last one, but two calls can be one step (syncfs and umount).
        assert made <= number + 2, (number, world.calls)
        assert outcome is (Outcome.REFUSED if not _changed(world) else outcome)
        if number < total - 1:
            assert outcome in (Outcome.REFUSED, Outcome.STOPPED), number
            assert world.lost == 0


def _changed(world: SimWorld) -> bool:
    return any(call.startswith(("umount", "seal")) for call in world.calls)


@pytest.mark.parametrize(
    ("point", "outcome"),
    [
        ("/elsewhere/data", Outcome.DONE),  # another engine's mount that got the free number
        ("/container/run/mooring/disks/data", Outcome.STOPPED),  # a copy of ours in another namespace
    ],
)
def test_the_number_of_the_fuse_mount_alone_does_not_make_it_ours(tmp_path: Path, point: str, outcome: Outcome) -> None:
    ours = Mount(90, 1, "0:77", "/", "/run/mooring/disks/data", "rw", "", "fuse.mooring", "mooring", "rw")

    class World(SimWorld):
        def _engine_offline(self, disk: str) -> dict[str, Any]:
            self.fuse = [dataclasses.replace(ours, mountpoint=point)]
            return super()._engine_offline(disk)

    world = World()
    world.fuse = [ours]
    found, path = remove(tmp_path, world)
    assert found is outcome
    assert found is Outcome.DONE or point in last(path).text


def test_a_new_use_since_the_plan_refuses_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.users = (User(4711, "bash", "current folder", "/mnt/data"),)
    assert go(path, world) is Outcome.REFUSED
    assert "bash" in last(path).text
    assert "4711" in last(path).text
    assert world.calls == []


def test_a_changed_situation_refuses_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.mounted.append(dataclasses.replace(scenes.DATA_MOUNT, mount_id=50, mountpoint="/elsewhere"))
    assert go(path, world) is Outcome.REFUSED
    assert last(path).data["code"] == "changed"
    assert world.calls == []


def test_a_use_that_shows_up_in_the_last_moment_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    real = world.syncfs

    def syncfs(mountpoint: str, deadline: float) -> None:
        real(mountpoint, deadline)
        world.users = (User(4711, "vim", "open file", "/mnt/data/f"),)

    world.syncfs = syncfs  # type: ignore[method-assign]
    assert go(path, world) is Outcome.REFUSED
    assert "vim (process 4711" in last(path).text
    assert len(world.mounted) == 1
    assert EXIT[Outcome.REFUSED] == 3


def test_stopping_at_the_second_mount_is_part_way(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    path = begin(tmp_path, plan_for(world))
    real = world.unmount

    def unmount(mountpoint: str, deadline: float) -> None:
        real(mountpoint, deadline)
        world.users = (User(1, "cp", "open file", "/mnt/data/f"),)

    world.unmount = unmount  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    assert last(path).data["exit"] == 4
    world.users = ()
    assert go(path, world, back=True) is Outcome.UNDONE
    assert len(world.mounted) == 2


def test_somebody_who_only_looks_at_the_mount_is_waited_for(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    real, refusals = world.unmount, iter([True, True])

    def unmount(mountpoint: str, deadline: float) -> None:
        if next(refusals, False):
            raise Busy(f"{mountpoint} is in use.")
        real(mountpoint, deadline)

    world.unmount = unmount  # type: ignore[method-assign]
    assert go(path, world) is Outcome.DONE


def test_a_write_back_error_stops_before_anything_is_unmounted(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))

    def syncfs(mountpoint: str, deadline: float) -> None:
        raise HelperFailed("syncfs", errno.EIO, "Input/output error")

    world.syncfs = syncfs  # type: ignore[method-assign]
    assert go(path, world) is Outcome.REFUSED
    assert last(path).data["code"] == "write-back"
    assert len(world.mounted) == 1


def test_a_failed_fsync_never_reaches_offline(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    path = begin(tmp_path, plan_for(world))

    def fsync(claim: object, deadline: float) -> None:
        raise HelperFailed("fsync", errno.EIO, "Input/output error")

    world.fsync = fsync  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    assert world.device == "/dev/loop3"
    assert len(world.sessions) == 2
    assert not any(claim.open for claim in world.claims)


@pytest.mark.parametrize(
    ("sense", "write_cache", "accepted"),
    [
        ("700005000000000a000000002000000000000000", False, True),
        ("700005000000000a000000002000000000000000", True, False),
        ("700005000000000a000000002000000000000000", None, False),
        ("700005000000000a000000002500000000000000", False, False),  # the logical unit is gone
        ("7000050000000000", False, False),  # nobody says why
        ("70000300000000000000000003000000", False, False),
        ("nonsense", False, False),
        ("", False, False),
    ],
)
def test_only_a_target_without_a_cache_may_refuse_to_flush(
    tmp_path: Path, sense: str, write_cache: bool | None, accepted: bool
) -> None:
    world = SimWorld()
    world.identity = {"write_cache": write_cache}
    world.flush_answer = {"status": 2, "sense": sense, "explain": "CHECK CONDITION", "paths": []}
    outcome, path = remove(tmp_path, world)
    assert (outcome is Outcome.DONE) is accepted
    if not accepted:
        assert last(path).data["code"] == "flush-failed"
        assert world.device == "/dev/loop3"
        assert "engine logout" not in world.calls


@pytest.mark.parametrize("answer", [{}, {"status": None, "sense": "", "explain": ""}, []])
def test_an_answer_that_makes_no_sense_is_no_good(tmp_path: Path, answer: Any) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world._engine_flush = lambda disk: answer  # type: ignore[method-assign]
    assert go(path, world) in (Outcome.STOPPED, Outcome.UNKNOWN)
    assert "engine logout" not in world.calls
    assert world.device == "/dev/loop3"


def test_a_raw_opener_keeps_the_device_as_it_is(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    world.foreign_openers = 1
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.STOPPED
    assert "open elsewhere" in last(path).text
    assert world.device == "/dev/loop3"
    assert not world.autoclear
    world.foreign_openers = 0
    assert go(path, world) is Outcome.DONE


@pytest.mark.parametrize("method", ["offline", "logout"])
def test_an_answer_that_never_comes_is_looked_up_in_the_kernel(tmp_path: Path, method: str) -> None:
    world = SimWorld()
    world.silent = {method}
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.DONE
    assert any(record.kind is Kind.NOTE and "did not answer" in record.text for record in read(path))


def test_a_flush_without_an_answer_is_an_unknown_outcome(tmp_path: Path) -> None:
    world = SimWorld()
    world.silent = {"flush"}
    outcome, path = remove(tmp_path, world)
    assert outcome is Outcome.UNKNOWN
    assert last(path).data["exit"] == 6
    assert world.device == "/dev/loop3"
    assert len(world.sessions) == 2


def test_a_stuck_helper_is_named_and_stops_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))

    def unmount(mountpoint: str, deadline: float) -> None:
        raise Stuck("umount", 321, "folio_wait_writeback", 600.0, True)

    world.unmount = unmount  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    stuck = next(record for record in read(path) if record.mark is Mark.STUCK)
    assert stuck.data["wchan"] == "folio_wait_writeback"
    assert stuck.data["pid"] == 321
    assert last(path).data["exit"] == 4


def test_an_engine_that_is_gone_stops_it(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))

    def engine(method: str, timeout: float, params: object) -> object:
        raise EngineNotRunning("the engine is not running")

    world.engine = engine  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    assert world.device == "/dev/loop3"


@pytest.mark.parametrize("number", range(1, 14))
def test_an_engine_that_was_killed_is_started_again_by_resume_and_undo(tmp_path: Path, number: int) -> None:
    for back in (False, True):
        world = SimWorld(ALL_MOUNTS)
        written = world.written
        path = begin(tmp_path, plan_for(world))

        def effect(name: str, world: SimWorld = world) -> None:
            if len(world.calls) == number:
                world.engine_state = "not running"
            SimWorld._effect(world, name)

        world._effect = effect  # type: ignore[method-assign]
        outcome = go(path, world)
        world._effect = functools.partial(SimWorld._effect, world)  # type: ignore[method-assign]
        if outcome is Outcome.REFUSED:
            assert len(world.mounted) == 2
            continue
        assert go(path, world, back=back) is (Outcome.UNDONE if back else Outcome.DONE)
        (assert_back if back else assert_gone)(world, written)


def test_a_device_that_somebody_else_detached_before_the_flush_is_not_passed_over(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.die_after = 2
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.device = None
    assert go(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "detached-elsewhere"
    assert "engine logout" not in world.calls
    assert go(path, world, back=True) is Outcome.UNDONE


def test_what_was_mounted_again_meanwhile_is_not_torn_away(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    world.die_after = 2
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.mounted.append(dataclasses.replace(scenes.DATA_MOUNT, mount_id=90))
    assert go(path, world) is Outcome.STOPPED
    assert "claim /dev/loop3" not in world.calls


def test_something_that_comes_back_is_seen_by_the_watch(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    real = world.pause

    def pause(seconds: float) -> None:
        real(seconds)
        if not world.sessions:
            world._engine_attach(portals=["127.0.0.1:3260", "127.0.0.2:3260"])

    world.pause = pause  # type: ignore[method-assign]
    assert go(path, world) is Outcome.STOPPED
    assert "again" in last(path).text


def test_after_an_undo_was_begun_only_the_undo_goes_on(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    _, path = remove(tmp_path, world)
    kind = type("Dying", (Mortal,), {"die_at": 12, "die_after": True, "count": 0})
    with pytest.raises(Crash):
        go(path, world, back=True, kind=kind)
    world.process_died()
    assert go(path, world) is Outcome.STOPPED
    assert last(path).data["code"] == "undo-begun"
    assert go(path, world, back=True) is Outcome.UNDONE


def test_a_request_to_stop_is_obeyed_between_steps(tmp_path: Path) -> None:
    world = SimWorld(ALL_MOUNTS)
    outcome, path = remove(tmp_path, world, stop_asked=lambda: "claim /dev/loop3" in world.calls)
    assert outcome is Outcome.STOPPED
    assert last(path).data["code"] == "asked"
    assert not any(claim.open for claim in world.claims)
    assert go(path, world, back=True) is Outcome.UNDONE


def test_a_journal_that_cannot_be_written_stops_before_the_step(tmp_path: Path) -> None:
    for number in range(2, 26):
        world = SimWorld(ALL_MOUNTS)
        path = begin(tmp_path, plan_for(world))

        class Full(Journal):
            left = number

            def append(self, *args: Any, **kwargs: Any) -> Record:
                type(self).left -= 1
                if type(self).left <= 0:
                    raise JournalError("No space left on device")
                return super().append(*args, **kwargs)

        with pytest.raises(JournalError):
            go(path, world, kind=Full)
        started = {record.step for record in read(path) if record.mark is Mark.STARTED}
        if "unmount-1" not in started:
            assert len(world.mounted) == 2
        if "detach" not in started:
            assert world.device == "/dev/loop3"
        if "logout-1" not in started:
            assert len(world.sessions) == 2
        world.process_died()
        assert go(path, world) is Outcome.DONE


@pytest.mark.parametrize("number", range(1, 14))
def test_after_a_restart_names_mean_nothing_and_undo_starts_from_the_identity(tmp_path: Path, number: int) -> None:
    world = SimWorld(ALL_MOUNTS)
    path = begin(tmp_path, plan_for(world))
    world.die_after = number
    with pytest.raises(Crash):
        go(path, world)
    world.process_died()
    world.restart()
    # Another disk has the old one's device name, sequence number and session ids now.
    neighbour = [scenes.session(1), scenes.session(2)]
    world.sessions += neighbour
    calls = len(world.calls)
    assert go(path, world, boot="boot-2") is Outcome.STOPPED
    assert last(path).data["code"] == "restarted"
    assert ("is proven" in last(path).text) is (number >= 8)
    assert world.calls[calls:] == []
    assert go(path, world, boot="boot-2", back=True) is Outcome.UNDONE
    assert {mount.mountpoint for mount in world.mounted} == {mount.mountpoint for mount in ALL_MOUNTS}
    assert neighbour[0] in world.sessions
    assert "engine logout" not in world.calls[calls:]


def test_a_restart_before_anything_was_changed_closes_the_journal(tmp_path: Path) -> None:
    world = SimWorld()
    path = begin(tmp_path, plan_for(world))
    assert go(path, world, boot="boot-2") is Outcome.REFUSED
    assert world.calls == []


USES: list[Callable[[SimWorld], dict[str, Any]]] = [
    lambda world: {"swaps": (Swap("/dev/loop3", "partition", 1, scenes.DEV),)},
    lambda world: {"engine": "no answer"},
    lambda world: {"paths": ()},
    lambda world: {"block": ()},
    lambda world: {"disks": (scenes.disk(state=DiskState.DEAD),)},
    lambda world: {"disks": (scenes.disk(wwid=None),)},
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(uses=st.lists(st.sampled_from(range(len(USES))), min_size=1, max_size=3), at_plan=st.booleans())
def test_no_plan_is_executed_when_something_forbids_it(tmp_path: Path, uses: list[int], at_plan: bool) -> None:
    world = SimWorld(ALL_MOUNTS)
    quiet = plan_for(world)
    real = world.snapshot
    changes = {key: value for use in uses for key, value in USES[use](world).items()}
    world.snapshot = lambda: dataclasses.replace(real(), **changes)  # type: ignore[method-assign]
    found = world.snapshot()
    blocked = make(found, world.facts(found, scenes.SCOPE.on(found)), scenes.SCOPE)
    assert blocked.blocked
    path = begin(tmp_path, blocked if at_plan else quiet)
    assert go(path, world) is Outcome.REFUSED
    assert world.calls == []
