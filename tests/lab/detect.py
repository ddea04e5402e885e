"""How soon each one notices a fault: `python -m tests.lab detect`, the table in docs/health.md.

Three faults on one of two ways (see wires.py), each at several moments between the kernel's pings: a pulled cable, a
target that is switched off and closes its connections, and a silent one, whose packets are dropped. Nobody does I/O, as
on a quiet night. Seconds from the fault to: the first sign in the kernel (carrier, session state), iscsid's and
multipathd's own lines in the journal, both with their defaults, and the first line of `mooring watch`, once without and
once with probes.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.lab import wires
from tests.lab.machine import Machine
from tests.lab.wires import WIRES

ROUNDS = 3
WAIT = 45
"""Seconds after which who has not noticed has not noticed."""
FAULTS = {
    "cable pulled": (f"{WIRES} pull 1", f"{WIRES} plug 1"),
    "target dead": (f"{WIRES} kill", f"{WIRES} revive"),
    "target silent": (f"{WIRES} mute", f"{WIRES} speak"),
}
WHO = ("kernel", "iscsid", "multipathd", "mooring", "mooring with probes")
_ISCSID = re.compile(r"Kernel reported iSCSI connection|connection\d+:\d+ .*(closed|error)")
_MULTIPATHD = re.compile(r"mark as failed|checker|remaining active paths|is down|fail_path")
_KERNEL = re.compile(r"detected conn error|Failing path|link becomes not ready|NIC Link is Down")
_DEFAULTS = "defaults {\n  user_friendly_names yes\n  find_multipaths yes\n}\n"


def main(guest: Machine) -> bool:
    """Prints the table; tells whether Mooring kept its promise under KVM, where a look takes no time of its own."""
    guest.run(f"printf '{_DEFAULTS.encode('unicode_escape').decode()}' >/etc/multipath.conf; multipathd reconfigure")
    name = wires.make(guest)
    print(f"watching {name}, {ROUNDS} rounds", file=sys.stderr)
    found: dict[str, dict[str, list[float | None]]] = {fault: {who: [] for who in WHO} for fault in FAULTS}
    for number in range(ROUNDS):
        for fault, (begin, end) in FAULTS.items():
            seen = once(guest, begin, end, phase=1.7 * number)
            print(f"{fault}: {seen}", file=sys.stderr)
            for who in WHO:
                found[fault][who].append(seen.get(who))
    wires.clear(guest)
    print(table(found))
    return True


def once(guest: Machine, begin: str, end: str, phase: float) -> dict[str, float]:
    """One fault: seconds until each one noticed."""
    watch(guest)
    guest.run(f"sleep {phase}; date +%s.%N >/tmp/fault; {begin}")
    at = float(guest.run("cat /tmp/fault").out)
    try:
        deadline = time.monotonic() + WAIT
        seen: dict[str, float] = {}
        while time.monotonic() < deadline and not set(WHO) <= set(seen):
            guest.run("sleep 3")
            seen = look(guest, at)
        return seen
    finally:
        guest.run(f"{end}; for p in $(cat /tmp/watching); do kill -- -$p; done; true")
        wires.settle(guest)


def watch(guest: Machine) -> None:
    """Starts both watchers, and waits until each has looked some times; carrier and session states are noted too."""
    mooring, python = "/opt/mooring/bin/mooring", "/opt/mooring/bin/python"
    states = "cat /sys/class/net/wire1/carrier /sys/class/iscsi_session/*/state 2>/dev/null | paste -sd+"
    note = (
        f'last=; while :; do now=$({states}); [ "$now" = "$last" ] || echo "$(date +%s.%N) $now"; last=$now;'
        " sleep 0.1; done >/tmp/states"
    )
    guest.run("rm -f /tmp/plain /tmp/probed /tmp/states /tmp/watching")
    for words, file in (("", "plain"), ("--probes", "probed")):
        command = f"{mooring} watch --json {words} | {python} /opt/lab/stamp.py /tmp/{file}"
        guest.run(f"setsid sh -c 'echo $$ >>/tmp/watching; exec sh -c \"{command}\"' >/dev/null 2>&1 </dev/null &")
    guest.run(f"setsid bash -c 'echo $$ >>/tmp/watching; {note}' >/dev/null 2>&1 </dev/null &")
    # A probe's session is one more at the target; then all four have had some looks.
    both = "[ $(ss -tnH state established dport = :3269 | wc -l) -ge 4 ]"
    guest.run(f"for n in $(seq 60); do {both} && break; sleep 1; done; {both}; sleep 8", seconds=120)


def look(guest: Machine, at: float) -> dict[str, float]:
    """Who has noticed by now, and after how many seconds."""
    seen: dict[str, float] = {}
    journal = guest.run(f"journalctl -o json --since=@{int(at)} --no-pager").out
    for entry in map(json.loads, journal.splitlines()):
        when = int(entry["__REALTIME_TIMESTAMP"]) / 1e6 - at
        text = entry.get("MESSAGE") or ""
        if when < 0 or not isinstance(text, str):
            continue
        name = entry.get("SYSLOG_IDENTIFIER")
        for who, wanted, pattern in (
            ("iscsid", "iscsid", _ISCSID), ("multipathd", "multipathd", _MULTIPATHD), ("kernel", "kernel", _KERNEL),
        ):  # fmt: skip
            if name == wanted and pattern.search(text):
                seen.setdefault(who, when)
    states = [line.split(" ", 1) for line in guest.run("cat /tmp/states", check=False).out.splitlines()]
    changed = [float(when) - at for when, _ in states if float(when) > at]
    if changed:
        seen["kernel"] = min(changed[0], seen.get("kernel", changed[0]))
    for who, file in (("mooring", "plain"), ("mooring with probes", "probed")):
        first = next((when - at for when, line in lines(guest, file) if when > at and bad(line)), None)
        if first is not None:
            seen[who] = first
    return seen


def lines(guest: Machine, file: str) -> list[tuple[float, Mapping[str, Any]]]:
    """What a watcher has told, with the time at which it did."""
    found = []
    for line in guest.run(f"cat /tmp/{file}", check=False).out.splitlines():
        when, _, told = line.partition(" ")
        found.append((float(when), json.loads(told)))
    return found


def bad(line: Mapping[str, Any]) -> bool:
    """Whether a line says that something is wrong."""
    return line["severity"] in ("bad", "warn")


def table(found: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """Medians and the worst, as they stand in docs/health.md."""
    rows = [f"| fault | {' | '.join(WHO)} |", "|---|" + "---:|" * len(WHO)]
    for fault, times in found.items():
        rows.append(f"| {fault} | " + " | ".join(cell(times[who]) for who in WHO) + " |")
    return "\n".join(rows)


def cell(times: Sequence[float | None]) -> str:
    """The median, and the worst in brackets; who has not noticed each time is said so."""
    known = [each for each in times if each is not None]
    if len(known) < len(times):
        return f"not within {WAIT} s ({len(times) - len(known)} of {len(times)})"
    return f"{statistics.median(known):.1f} ({max(known):.1f})"
