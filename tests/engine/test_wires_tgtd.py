"""Chains, verdicts and losses of sessions over real cables to a real target, beside what ip and ss say of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cables import LEFT, PORT, RIGHT, TARGET, Wires, run
from tests.tgtd import needs_tgtd
from tests.until import until

pytestmark = [
    pytest.mark.root,
    needs_tgtd,
    pytest.mark.skipif(not shutil.which("ip") or not shutil.which("ss"), reason="iproute2 is not installed"),
]


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wires]:
    with Wires(tmp_path_factory.mktemp("wires")) as made:
        yield made


def chains(wires: Wires) -> dict[str, Any]:
    """What `mooring path` tells, by the address of the portal."""
    told = wires.mooring("path", TARGET, "--interval", "0")
    return {each["lane"]["connection"]["peer_host"]: each for each in told["paths"]}


def test_the_chain_is_what_ip_and_ss_say(wires: Wires) -> None:
    told = chains(wires)
    assert set(told) == {LEFT, RIGHT}
    assert [link["name"] for link in told[LEFT]["lane"]["way"]] == ["wire1"]
    assert [link["name"] for link in told[RIGHT]["lane"]["way"]] == ["upper2", "wire2"]
    links = {link["ifname"]: link for link in wires.ip("-d", "-s", "link")}
    for peer, network in ((LEFT, "10.19.1.0/24"), (RIGHT, "10.19.2.0/24")):
        lane = told[peer]["lane"]
        for link in lane["way"]:
            theirs = links[link["name"]]
            assert (link["mtu"], link["mac"]) == (theirs["mtu"], theirs["address"])
            assert link["carrier"] is ("LOWER_UP" in theirs["flags"])
        assert lane["network"] == network
        local = lane["connection"]["local_host"]
        (route,) = wires.ip("route", "get", peer, "from", local)
        assert (lane["route"]["device"], lane["link"]["name"]) == (route["dev"], route["dev"])
        text = run("ip", "netns", "exec", wires.here, "ss", "-tinH", "dst", f"{peer}:{PORT}")
        assert f"{local}:{lane['connection']['local_port']}" in text
        assert lane["tcp"]["state"] == "established"
        retrans = re.search(r"retrans:\d+/(\d+)", text)
        assert lane["tcp"]["retransmits"] == (int(retrans[1]) if retrans else 0)


def test_two_cables_are_two_ways_and_what_would_be_lost_is_counted(wires: Wires) -> None:
    told = wires.mooring("path", TARGET, "--interval", "0")
    assert {each["health"]["verdict"] for each in told["paths"]} == {"ok"}
    (ways,) = told["ways"].values()
    assert (ways["working"], ways["independent"], ways["shared"]) == (2, 2, [])
    losses = {each["name"]: each for each in wires.mooring("lose")["losses"]}
    for name in ("wire1", "wire2", "upper2", f"{LEFT}:{PORT}", f"{RIGHT}:{PORT}"):
        assert ([each["left"] for each in losses[name]["weakens"]], losses[name]["ends"]) == ([1], [])


async def test_a_pulled_cable_leaves_what_was_said_and_the_next_loss_is_the_end(wires: Wires) -> None:
    wires.pull(1)
    try:
        told = chains(wires)
        assert told[LEFT]["health"]["verdict"] in ("at-risk", "down")
        assert "wire1 no carrier" in " ".join(told[LEFT]["health"]["evidence"]), told[LEFT]["health"]
        await until(lambda: working(wires) == [RIGHT], seconds=30, what="the path fails")
        losses = {each["name"]: each for each in wires.mooring("lose")["losses"]}
        assert [each["left"] for each in losses["wire2"]["ends"]] == [0]
        assert "takes over" not in losses["wire2"]["text"]
    finally:
        wires.pull(1, up=True)
    await until(lambda: working(wires) == [LEFT, RIGHT], seconds=40, what="the path comes back")


def working(wires: Wires) -> list[str]:
    """The peers of the paths that work."""
    sessions = wires.mooring("list", "sessions")["sessions"]
    return sorted(each["portal"].rpartition(":")[0] for each in sessions if each["state"] == "logged-in")
