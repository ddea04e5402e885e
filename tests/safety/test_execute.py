"""How a removal is executed: its proofs, what stops it part-way, and what is known then."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest

from initiator.engine.rpc import EngineNotRunning
from initiator.host.run import HelperFailed, Stuck
from safety.facts import User
from safety.journal import EXIT, Journal, JournalError, Kind, Mark, Outcome, Record, read
from safety.plan import Plan
from safety.work import Secrets
from safety.world import Busy, Unreadable
from tests.safety import scenes
from tests.safety.removals import assert_back, assert_gone, begin, go, last, plan_for, quick_disk, remove
from tests.safety.simworld import ALL_MOUNTS, SimWorld

__all__ = ["quick_disk"]


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
