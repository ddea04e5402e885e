"""Changes that somebody else makes, and how soon the dashboard has them: within a second of the kernel knowing."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence

import pytest

from tests.lab import san
from tests.lab.machine import Machine, accelerator

LIMIT = 1.0
WHO = ("kernel", "mooring", "reading")
CORE = "/sys/kernel/config/target"
GROUP = f"{CORE}/iscsi/{san.MD}/tpgt_1"
LUN = f"{CORE}/iscsi/{san.TWO}/tpgt_1/lun/lun_9"
NODE = f"iscsiadm -m node -T {san.TWO} -p 10.9.1.2"


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What was written down in the guest: times and texts."""

    kernel: Sequence[tuple[float, str]]
    mooring: Sequence[tuple[float, str]]
    readings: Sequence[tuple[float, float]]
    """Begin and end of each."""

    def beside(self, since: float, until: float) -> tuple[int, float]:
        """How many readings ended in a stretch of time, and how much of it no reading was under way."""
        within = [(max(begin, since), end) for begin, end in self.readings if since < end <= until]
        return len(within), until - since - sum(end - begin for begin, end in within)

    def __str__(self) -> str:
        lines = [(at, "kernel ", what) for at, what in self.kernel] + [
            (at, "mooring", what) for at, what in self.mooring
        ]
        return "\n".join(f"{at:.2f} {who} {what}" for at, who, what in sorted(lines))


@pytest.fixture(scope="module")
def sids(built: Machine) -> dict[str, str]:
    """A session's number by its target."""
    found = json.loads(built.mooring("list", "--json").out)["sessions"]
    return {session["target"]: session["id"].removeprefix("kernel:s:") for session in found}


@pytest.fixture(scope="module")
def watched(built: Machine, sids: dict[str, str]) -> Seen:
    """Everything that can happen, once, with the dashboard's feed looking on."""
    python = "/opt/mooring/bin/python"
    built.run(f"rm -f /tmp/watch; setsid {python} /opt/lab/watch.py 150 /tmp/watch >/tmp/watch.log 2>&1 </dev/null &")
    built.run("for n in $(seq 100); do grep -q ready /tmp/watch && break; sleep 0.5; done; grep -q ready /tmp/watch")
    steps = (
        "sh /opt/lab/cables.sh pull 2; sleep 12; sh /opt/lab/cables.sh plug 2; sleep 8",
        f"echo 0 > {GROUP}/enable; sleep 8; echo 1 > {GROUP}/enable; sleep 8",
        f"mkdir {LUN}; ln -s {CORE}/core/fileio_6/x0 {LUN}/disk",
        f"iscsiadm -m session -r {sids[san.TWO]} -R; sleep 6",
        "for d in /sys/class/scsi_device/*:9; do echo 1 > $d/device/delete; done; sleep 6",
        f"{NODE} -u; sleep 6; {NODE} -l; sleep 10",
    )
    with built.timed():
        built.run("; ".join(steps), seconds=220, check=False)
    lines = [json.loads(line) for line in built.run("cat /tmp/watch").out.splitlines()]
    found = {who: [(line["at"], line["what"]) for line in lines if line["who"] == who] for who in WHO}
    assert built.run("cat /tmp/watch.log").out == ""
    return Seen(found["kernel"], found["mooring"], [(at - float(what), at) for at, what in found["reading"]])


CHANGES = {
    "a pulled cable": ("host2 1 -> 0", "state link:host2"),
    "a cable that is back": ("host2 0 -> 1", "state link:host2"),
    "a target that is killed": ("session{md} LOGGED_IN -> FAILED", "state kernel:s:{md}"),
    "a target that is back": ("session{md} FAILED -> LOGGED_IN", "state kernel:s:{md}"),
    "a new LUN": (":9 None -> there", "appeared kernel:p:[0-9:]+:9"),
    "a LUN that is gone": (":9 there -> None", "vanished kernel:p:[0-9:]+:9"),
    "a logout by another hand": (r"session\d+ \w* -> None", "vanished kernel:s:"),
    "a login by another hand": (r"session\d+ None -> \w+", "appeared kernel:s:"),
}
"""What the kernel's files show, and the event that has to follow."""


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows_within_a_second_of_the_kernel_knowing(watched: Seen, sids: dict[str, str], what: str) -> None:
    fact, event = (text.format(md=sids[san.MD]) for text in CHANGES[what])
    when = next((at for at, text in watched.kernel if re.search(fact, text)), None)
    assert when is not None, f"the kernel never said {fact}\n{watched}"
    shown = [(at, text) for at, text in watched.mooring if re.match(event, text) and at > when - 0.1]
    assert shown, f"{fact} never became an event\n{watched}"
    at, text = shown[0]
    count, rest = watched.beside(when, at)
    delay, own = at - when, float(text.split()[2]) - when
    print(f"{what}: {delay:.2f} s, {rest:.2f} s beside {count} readings; the event's own time {own:+.2f} s")
    if accelerator() == "kvm":
        assert delay < LIMIT, f"{fact} was shown after {delay:.2f} s\n{watched}"
    # Under emulation a reading takes a second instead of milliseconds. Then at most the one that was under way and the
    # next one may lie between, and what is not a reading counts.
    assert count <= 2, f"{fact} was shown after {count} readings\n{watched}"
    assert rest < LIMIT, f"{fact} was shown after {rest:.2f} s beside readings\n{watched}"
    longest = max(end - begin for begin, end in watched.readings)
    assert -longest < own < delay, f"{text} has the wrong time, {fact} was at {when:.3f}"


def test_the_dashboard_itself_shows_them(built: Machine) -> None:
    """The real one, in a terminal. How soon is measured above: under emulation painting takes seconds."""
    tmux = "tmux -L lab"
    shows = f"{tmux} capture-pane -p"
    # the cursor stays on its event, and new ones come above it
    wait = f"for n in $(seq 150); do {shows} | grep -q '%s' && break; {tmux} send-keys Home; sleep 0.2; done; {shows}"
    built.run(f"{tmux} -f /dev/null new-session -d -x 120 -y 40 'NO_COLOR=1 /opt/mooring/bin/mooring --ascii'")
    try:
        first = built.run(wait % "[1-9] sessions", seconds=300).out
        assert re.search(r"[1-9] sessions", first), first
        built.run(f"{tmux} send-keys 9")  # the list of all events: a pulled cable is followed by many
        built.run("sh /opt/lab/cables.sh pull 2")
        # the event's own line: an alert about the link lies over the list
        pulled = built.run(wait % "state  *Link host2 is down", seconds=300).out
        built.run("sh /opt/lab/cables.sh plug 2")
        assert re.search(r"\d\d:\d\d:\d\d.*state +Link host2 is down: no carrier", pulled), pulled
        plugged = built.run(wait % "state  *Link host2 is up", seconds=300).out
        assert re.search(r"\d\d:\d\d:\d\d.*state +Link host2 is up", plugged), plugged
    finally:
        built.run(f"{tmux} kill-server", check=False)
