from __future__ import annotations

import dataclasses

from initiator.model import DiskState, Link, LinkState, PathState, Problem, SessionState, Severity, Snapshot
from tests.tui import samples
from tui.verdict import counts, troubles, verdict
from tui.world import World


def told(snapshot: Snapshot) -> tuple[Severity, str, int]:
    return verdict(World(snapshot), samples.NOW)


def first(snapshot: Snapshot) -> str:
    """The id of what the worst trouble is about."""
    return next(troubles(World(snapshot), samples.NOW))[2]


def with_state(state: DiskState, name: str = "logs") -> Snapshot:
    base = samples.practice()
    return dataclasses.replace(
        base, disks=tuple(dataclasses.replace(d, state=state) if d.name == name else d for d in base.disks)
    )


def test_all_is_well() -> None:
    assert told(samples.practice()) == (Severity.NOTE, "all 6 paths work", 0)
    assert told(samples.empty()) == (Severity.NOTE, "nothing is wrong", 0)


def test_counts_take_a_file_system_that_is_mounted_twice_as_one() -> None:
    base = samples.practice()
    twice = dataclasses.replace(base.volumes[0], id="volume:9", mountpoint="/elsewhere")
    world = World(dataclasses.replace(base, volumes=(*base.volumes, twice)))
    assert counts(world) == ("2 targets", "6 sessions", "3 disks", "6 paths", "2 volumes")


def test_a_pulled_cable_is_told_once_for_each_disk_with_its_reason() -> None:
    severity, text, more = told(samples.practice(pulled=samples.PORTALS[1]))
    assert severity is Severity.WARN
    assert text == ("data lost 1 of 2 paths 12 s ago: failed via 127.0.0.2:3260, no answer for 1.2 s")
    assert more == 2
    assert first(samples.practice(pulled=samples.PORTALS[1])) == "engine:d:data"


def test_the_worst_comes_first() -> None:
    assert told(with_state(DiskState.NO_PATH))[:2] == (
        Severity.BAD,
        "logs has no working path: I/O to it waits or fails",
    )
    dead = told(with_state(DiskState.DEAD))
    assert dead == (Severity.BAD, "logs is dead: nothing serves /dev/loop1 any more", 0)
    pulled = samples.practice(pulled=samples.PORTALS[1])
    disks = tuple(dataclasses.replace(d, state=DiskState.NO_PATH) if d.name == "vault" else d for d in pulled.disks)
    assert first(dataclasses.replace(pulled, disks=disks)) == "engine:d:vault"


def test_a_removal_an_unknown_state_and_a_lost_empty_session_are_told() -> None:
    assert "is offline for a removal" in told(with_state(DiskState.OFFLINE))[1]
    assert "nobody can say how logs is" in told(with_state(DiskState.UNKNOWN))[1]
    lone = samples.session("spare", "harbour", samples.PORTALS[0], SessionState.FAILED)
    base = samples.practice()
    text = told(dataclasses.replace(base, sessions=(*base.sessions, lone)))[1]
    assert text == "session with harbour over 127.0.0.1:3260 is lost, no answer for 1.2 s"


def test_a_used_link_that_is_down_and_what_could_not_be_read_are_told() -> None:
    base = samples.practice()
    down = dataclasses.replace(samples.LOOPBACK, state=LinkState.DOWN)
    spare = Link("link:eth9", "eth9", LinkState.DOWN, kind="ethernet")
    assert told(dataclasses.replace(base, links=(down, spare)))[1] == "link lo is down"
    problem = Problem("mounts", "namespace 4026531840", "permission denied")
    found = list(troubles(World(dataclasses.replace(base, problems=(problem,))), samples.NOW))
    assert found == [(Severity.WARN, "could not read mounts: namespace 4026531840, permission denied", "")]


def test_a_disk_can_be_degraded_without_a_failed_path() -> None:
    degraded = with_state(DiskState.DEGRADED)
    assert told(degraded)[1] == "logs is degraded"
    standby = tuple(
        dataclasses.replace(p, state=PathState.OFFLINE, since=None) if "logs-127.0.0.2" in p.id else p
        for p in degraded.paths
    )
    assert told(dataclasses.replace(degraded, paths=standby))[1] == "logs lost 1 of 2 paths: offline via 127.0.0.2:3260"


def test_a_disk_whose_paths_are_one_is_told_though_all_of_them_work() -> None:
    from initiator.health import assess
    from tests import wiring
    from tui.feed import Judged

    snapshot, fabric = wiring.two_links()
    fabric = wiring.switched(fabric, eth1="left", eth2="left")
    judged = Judged(assess(snapshot, fabric), fabric)
    severity, text, more = verdict(World(snapshot), 0.0, judged)
    assert (severity, more) == (Severity.WARN, 0)
    assert text == "d1 is at risk: its 2 working paths are one: all over switch left"
    assert verdict(World(snapshot), 0.0)[0] is Severity.NOTE


def test_a_disk_with_one_path_by_choice_is_no_trouble() -> None:
    from initiator.health import assess
    from tests import wiring
    from tui.feed import Judged

    over = wiring.session(1, "eth1", "10.9.1.1", "10.9.1.2")
    snapshot = wiring.host((wiring.link("eth1"),), (over,), (wiring.path(0, over),))
    assert verdict(World(snapshot), 0.0, Judged(assess(snapshot)))[0] is Severity.NOTE
