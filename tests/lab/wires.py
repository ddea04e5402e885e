"""The network of the scenarios of health: see guest/wires.sh. One disk over two ways, one target port group each."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.machine import Machine

TARGET = "iqn.2026-11.io.mooring.lab:health"
WIRES = "sh /opt/lab/wires.sh"
WWID = "6001405b1000001"
PORTALS = ("10.19.1.2:3269", "10.19.2.2:3269")


def make(guest: Machine) -> str:
    """Cables, target, sessions and the map; gives the map's name."""
    guest.run(f"{WIRES} make")
    guest.run(f"iscsiadm -m discovery -t sendtargets -p {PORTALS[0]} && iscsiadm -m node -T {TARGET} -l", seconds=240)
    found = f"multipathd show maps raw format '%n %w' | grep {WWID}"
    whole = f"[ $(multipathd show paths raw format '%w %t %o' | grep {WWID} | grep -c 'active running') = 2 ]"
    guest.run(
        f"for n in $(seq 90); do {whole} && {found} && exit 0; sleep 1; done; multipathd show paths; exit 1",
        seconds=200,
    )
    return guest.run(found).out.split()[0]


def settle(guest: Machine) -> None:
    """Waits until both paths work again."""
    whole = f"[ $(multipathd show paths raw format '%w %t %o %T' | grep {WWID} | grep -c 'active running ready') = 2 ]"
    guest.run(f"for n in $(seq 120); do {whole} && exit 0; sleep 1; done; multipathd show paths; exit 1", seconds=240)


def chains(guest: Machine, name: str) -> dict[str, Any]:
    """What `mooring path` tells of the map, by the address of the portal."""
    told = json.loads(guest.mooring("path", name, "--json", "--interval", "0", seconds=240).out)
    return {each["lane"]["session"]["portal"].rpartition(":")[0]: each for each in told["paths"]}


def clear(guest: Machine) -> None:
    """Takes everything away again."""
    guest.run(f"iscsiadm -m node -T {TARGET} -u; iscsiadm -m node -T {TARGET} -o delete", seconds=240, check=False)
    guest.run(f"{WIRES} clear", check=False)
