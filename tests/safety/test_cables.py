"""Which sessions hang on a link, through VLANs and bonds; and what is said of a link when one has ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from initiator.errors import BadInputError
from initiator.model import Link, LinkState, Snapshot
from safety import cables
from safety.journal import Outcome
from safety.scope import Reach, Scope, disks
from tests.safety.removals import begin, go, last, quick_disk
from tests.safety.simkernel import SimKernel
from tests.safety.test_removal_kernel import planned

__all__ = ["quick_disk"]


def link(name: str, kind: str = "ethernet", *lower: str) -> Link:
    return Link(f"link:{name}", name, LinkState.UP, kind, lower=lower)


LINKS = (
    *(link(name) for name in ("eth1", "eth2", "eth3")),
    link("eth1.100", "vlan", "eth1"),
    link("bond0", "bond", "eth2", "eth3"),
    link("bond0.7", "vlan", "bond0"),
)


def wired(*over: str | None) -> Snapshot:
    """A host with one session over each of these links."""
    snapshot = SimKernel().snapshot()
    sessions = tuple(
        dataclasses.replace(snapshot.sessions[0], id=f"kernel:s:{number}", name=f"s{number}", link=name)
        for number, name in enumerate(over)
    )
    return dataclasses.replace(snapshot, sessions=sessions, links=LINKS)


def hanging(snapshot: Snapshot, name: str) -> tuple[list[str], list[str], list[str]]:
    found = cables.carried(snapshot, f"link:{name}")
    alone, shared, unknown = ([session.name for session in each] for each in found)
    return alone, shared, unknown


def test_a_vlan_hangs_on_its_link_and_not_the_other_way_round() -> None:
    snapshot = wired("link:eth1.100", "link:eth1")
    assert hanging(snapshot, "eth1") == (["s0", "s1"], [], [])
    assert hanging(snapshot, "eth1.100") == (["s0"], [], [])


def test_a_bond_goes_on_without_one_of_its_members() -> None:
    snapshot = wired("link:bond0.7", "link:eth2", None)
    assert hanging(snapshot, "eth2") == (["s1"], ["s0"], ["s2"])
    assert hanging(snapshot, "bond0") == (["s0"], [], ["s2"])
    assert hanging(snapshot, "eth1") == ([], [], ["s2"])


def test_to_drain_a_link_takes_what_is_on_its_vlans() -> None:
    snapshot = wired("link:eth1.100", "link:bond0")
    found = Scope(Reach.LINK, ("link:eth1",), "eth1").on(snapshot)
    assert [session.name for session in found.sessions] == ["s0"]
    with pytest.raises(BadInputError, match="member of what carries bond0"):
        Scope(Reach.LINK, ("link:eth2",), "eth2").on(snapshot)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("link:eth1", "link eth1 (other)"),
        (None, "link eth1 (perhaps other: it is not known over which link)"),
        ("link:eth2", None),
    ],
)
def test_the_link_below_a_vlan_is_called_free_only_if_it_is(
    tmp_path: Path, other: str | None, said: str | None
) -> None:
    world = SimKernel(1, mapped=False)
    seen = world.snapshot

    def snapshot() -> Snapshot:
        now = seen()
        own = tuple(dataclasses.replace(session, link="link:eth1.100") for session in now.sessions)
        foreign = dataclasses.replace(now_session, id="kernel:s:77", name="other", target="iqn.2026-11.io.mooring:x")
        return dataclasses.replace(now, sessions=(*own, dataclasses.replace(foreign, link=other)), links=LINKS)

    now_session = seen().sessions[0]
    world.snapshot = snapshot  # type: ignore[method-assign]
    path = begin(tmp_path, planned(world, disks(snapshot().disks[0])))
    assert go(path, world) is Outcome.DONE, last(path)
    data = last(path).data
    assert ("link eth1" in data["free"]) == (said is None)
    assert said is None or said in data["busy"]
