"""The speed of one full snapshot on a real kernel with 16 sessions and 8 maps: `python -m tests.lab bench`."""

from __future__ import annotations

import json
import shlex
from typing import Any

from tests.lab import san
from tests.lab.machine import Machine

TARGETS, PORTALS = 8, ("10.9.1.2:3260", "10.9.2.2:3260")
ROUNDS = 9
FASTER, DEARER = 20.0, 1.5
"""What must be reached: so many times faster than the commands, at most so many times the cost of bare reading."""


def make(guest: Machine) -> None:
    """Targets with a disk each, a session over each portal, and a map over each disk."""
    names = [f"{san.NAME}:speed{number}" for number in range(TARGETS)]
    spec = {
        "disks": {f"s{number}": {"size": 64 * san.MIB, "serial": f"b000000{number}"} for number in range(TARGETS)},
        "targets": {name: {"luns": [f"s{number}"], "portals": PORTALS} for number, name in enumerate(names)},
    }
    guest.run("modprobe -a iscsi_tcp dm-multipath; sh /opt/lab/cables.sh make")
    text = shlex.quote(json.dumps(spec))
    guest.run(f"echo {text} | nsenter --net=/run/netns/san python3 /opt/lab/lio.py make")
    for portal in PORTALS:
        guest.run(f"iscsiadm -m discovery -t sendtargets -p {portal}")
    guest.run("iscsiadm -m node -l", seconds=300)
    joined = f"[ $(dmsetup ls --target multipath | wc -l) = {TARGETS} ]"
    guest.run(f"for n in $(seq 120); do {joined} && break; sleep 1; done; {joined}", seconds=200)
    whole = f"[ $(multipathd show paths raw format '%d %t %o' | grep -c 'active running') = {2 * TARGETS} ]"
    guest.run(f"for n in $(seq 60); do {whole} && break; sleep 1; done; {whole}", seconds=200)
    guest.run("udevadm settle -t 120", seconds=150)


def measure(guest: Machine) -> dict[str, Any]:
    """What /opt/lab/bench.py found; times are medians in milliseconds."""
    with guest.timed():
        ran = guest.run(f"/opt/mooring/bin/python /opt/lab/bench.py {ROUNDS}", seconds=600)
    found: dict[str, Any] = json.loads(ran.out)
    assert (found["sessions"], found["maps"], found["paths"]) == (2 * TARGETS, TARGETS, 2 * TARGETS), found
    return found


def table(found: dict[str, Any]) -> str:
    """As it stands in the README."""
    wall, cpu = found["wall_ms"], found["cpu_ms"]
    rows = ["| what | by the clock, ms | CPU, ms |", "|---|---:|---:|"]
    rows += [f"| {name} | {wall[name]:.1f} | {cpu[name]:.1f} |" for name in wall]
    rows.append(f"| commands / snapshot | {wall['commands'] / wall['snapshot']:.1f} | - |")
    rows.append(f"| snapshot / bare | {wall['snapshot'] / wall['bare']:.2f} | {cpu['snapshot'] / cpu['bare']:.2f} |")
    return "\n".join(rows)


def main(guest: Machine) -> bool:
    """Prints the table; tells whether it holds what it must."""
    make(guest)
    found = measure(guest)
    print(f"{found['sessions']} sessions, {found['maps']} maps, {found['files']} files, {found['folders']} folders")
    print(table(found))
    for problem in found["problems"]:
        print(problem)
    wall, cpu = found["wall_ms"], found["cpu_ms"]
    return bool(wall["commands"] >= FASTER * wall["snapshot"] and cpu["snapshot"] <= DEARER * cpu["bare"])
