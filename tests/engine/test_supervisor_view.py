"""One report of many workers, as a pure function; and what belongs to a login."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from initiator.engine import options, whoami
from initiator.engine.attached import Attachment, Route, Unit, WorkerConfig
from initiator.engine.report import EngineReport
from initiator.engine.view import Remains, Seen, merge
from initiator.errors import BadInputError
from initiator.model import Disk, DiskState, MapState, PathState, Portal, Session, SessionState, Source
from initiator.model import Path as DiskPath
from initiator.protocol.keys import CRC32C, NONE

TARGET = "iqn.2026-11.io.mooring:t"


def session(number: int) -> Session:
    portal = Portal("192.0.2.1")
    return Session(f"engine:s:{number}", "t@x", SessionState.LOGGED_IN, Source.ENGINE, TARGET, portal)


def path(number: int, disk: str, state: PathState = PathState.ACTIVE) -> DiskPath:
    return DiskPath(f"engine:p:{number}:{disk[-1]}", "p", state, disk, f"engine:s:{number}")


def report(number: int, *disks: str, state: PathState = PathState.ACTIVE) -> EngineReport:
    """A worker with one session that sees these disks."""
    paths = tuple(path(number, disk, state) for disk in disks)
    found = tuple(
        Disk(disk, "t-lun0", DiskState.AVAILABLE, Source.ENGINE, disk[9:], 1 << 20, paths=(path.id,), target=TARGET)
        for disk, path in zip(disks, paths, strict=True)
    )
    return EngineReport(1.0, (session(number),), found, paths)


def attachment(disk: str, **more: Any) -> Attachment:
    unit = Unit(0, disk[9:], (), 1 << 20, 512)
    plain = Attachment(disk, "data", TARGET, unit, "/run/d", "/run/d/data", "0:50", "/dev/loop7", "7:7", 3)
    return dataclasses.replace(plain, **more)


A, B = "engine:d:naa.a", "engine:d:naa.b"


def test_a_disk_that_is_only_seen_has_the_paths_of_all_sessions() -> None:
    found = merge([Seen(report(1, A, B)), Seen(report(2, A))], [], [], 5.0)
    assert {disk.id: (disk.state.value, disk.paths) for disk in found.disks} == {
        A: ("available", ("engine:p:1:a", "engine:p:2:a")),
        B: ("available", ("engine:p:1:b",)),
    }
    assert len({disk.name for disk in found.disks}) == 2
    assert (len(found.paths), found.maps, found.taken_at) == (3, (), 5.0)


def test_an_attached_disk_has_the_paths_of_its_own_worker_only() -> None:
    found = merge([Seen(report(1, A, B), attachment(A)), Seen(report(2, A, B))], [], [], 5.0)
    disks = {disk.id: disk for disk in found.disks}
    assert (disks[A].state, disks[A].name, disks[A].paths) == (DiskState.ATTACHED, "data", ("engine:p:1:a",))
    assert (disks[A].device, disks[A].dev, disks[A].diskseq) == ("/dev/loop7", "7:7", 3)
    assert disks[B].paths == ("engine:p:1:b", "engine:p:2:b")
    assert {each.id: each.map for each in found.paths if each.disk == A} == {"engine:p:1:a": "engine:m:naa.a"}
    assert [(each.disk, each.state, each.device) for each in found.maps] == [(A, MapState.OK, "/dev/loop7")]


@pytest.mark.parametrize(
    ("states", "offline", "disk", "joined"),
    [
        (("active", "active"), False, "attached", "ok"),
        (("active", "standby"), False, "attached", "ok"),
        (("active", "failed"), False, "degraded", "degraded"),
        (("failed", "unknown"), False, "no-path", "no-path"),
        ((), False, "no-path", "no-path"),
        (("active",), True, "offline", "ok"),
    ],
)
def test_the_state_of_a_disk_follows_its_paths(states: tuple[str, ...], offline: bool, disk: str, joined: str) -> None:
    paths = tuple(path(number, A, PathState(state)) for number, state in enumerate(states))
    sessions = tuple(session(number) for number in range(len(states)))
    seen = Seen(dataclasses.replace(report(1, A), sessions=sessions, paths=paths), attachment(A, offline=offline))
    found = merge([seen], [], [], 5.0)
    assert (found.disks[0].state.value, found.maps[0].state.value) == (disk, joined)
    assert (found.maps[0].total, found.maps[0].active) == (
        len(states),
        sum(state in ("active", "standby") for state in states),
    )


def test_a_session_over_which_the_disk_is_not_seen_is_a_path_that_is_missing() -> None:
    seen = dataclasses.replace(report(1, A), sessions=(session(1), session(2)))
    found = merge([Seen(seen, attachment(A))], [], [], 5.0)
    assert (found.disks[0].state, found.disks[0].reason) == (DiskState.DEGRADED, "it is not seen over t@x")
    assert (found.maps[0].state, found.maps[0].active, found.maps[0].total) == (MapState.DEGRADED, 1, 2)


def test_of_a_worker_that_is_away_nothing_is_shown_as_working() -> None:
    found = merge([Seen(report(1, A), attachment(A), working=False)], [], [], 5.0)
    assert found.disks[0].state is DiskState.NO_PATH
    assert found.disks[0].reason
    assert found.paths[0].state is PathState.FAILED
    assert found.sessions[0].state is SessionState.FAILED


def test_an_attached_disk_is_there_before_its_worker_has_reported() -> None:
    found = merge([Seen(EngineReport(0.0), attachment(A))], [], [], 5.0)
    assert (found.disks[0].id, found.disks[0].size_bytes, found.disks[0].lun) == (A, 1 << 20, 0)


def test_what_is_left_of_a_dead_disk_is_shown_even_if_its_target_is_seen() -> None:
    dead = Remains(attachment(A), DiskState.DEAD, "the engine ended", "/dev/loop7", "7:7")
    for seen in ([], [Seen(report(1, A))]):
        (disk,) = merge(seen, [dead], [], 5.0).disks
        assert (disk.state, disk.name, disk.device, disk.reason) == (
            DiskState.DEAD,
            "data",
            "/dev/loop7",
            "the engine ended",
        )


def config(**given: Any) -> WorkerConfig:
    return WorkerConfig(1, TARGET, "iqn.2026-11.io.mooring:me", **given)


ROUTE = Route(1, Portal("192.0.2.1"), "80aabbcc0001")


def test_options_reach_the_session_and_the_device() -> None:
    given = config(
        chap_user="me",
        chap_secret="sixteen bytes ok",
        options={
            "digests": "required",
            "lost_after": 2,
            "queue_timeout": 3,
            "chap_algorithms": [7, 5],
            "selector": "failover",
        },
    )
    options.check(given.options)
    made = options.session_config(given, ROUTE)
    assert (made.isid.hex(), made.lost_after, made.chap_algorithms) == (ROUTE.isid, 2.0, (7, 5))
    assert (made.offer.header_digest, made.offer.data_digest, made.require_digests) == ((CRC32C,), (CRC32C,), True)
    assert made.chap is not None
    device = options.device_options(given)
    assert (device.queue_timeout, device.selector) == (3.0, "failover")
    assert options.session_config(config(options={"digests": "none"}), ROUTE).offer.header_digest == (NONE,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 3},
        {"lost_after": 0},
        {"lost_after": "1"},
        {"queue_timeout": True},
        {"digests": "sha1"},
        {"selector": "random"},
        {"chap_algorithms": 5},
        {"chap_algorithms": ["5"]},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        options.check(wrong)


def test_a_host_has_one_name(tmp_path: Path) -> None:
    system = tmp_path / "initiatorname.iscsi"
    first = whoami.initiator_name(tmp_path, system)
    assert first.startswith("iqn.2026-11.io.mooring:host-")
    assert whoami.initiator_name(tmp_path, system) == first
    system.write_text("# made by hand\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")
    assert whoami.initiator_name(tmp_path, system) == "iqn.1993-08.org.debian:01:abc"
    system.write_text("InitiatorName=nonsense\n")
    with pytest.raises(BadInputError):
        whoami.initiator_name(tmp_path, system)
