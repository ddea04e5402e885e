"""Removals that somebody races: mounts, exclusive opens, activations and re-adds at random moments."""

from __future__ import annotations

import dataclasses
import json
import random
import shlex
from typing import Any

from tests.lab.deaths import Lost, Stack, journal_end, tell

ACTIVATE = {"klvm": "vgchange -q --activate y vgklvm", "kluks": "vgchange -q --activate y vgkluks"}
FILESYSTEM = {"kxfs": "xfs"}


@dataclasses.dataclass(slots=True)
class Race:
    """What became of one."""

    stack: str
    tries: int = 0
    """Made while the removal ran."""
    critical: int = 0
    """Those between the claim and the last delete."""
    got_in: int = 0
    """Before the claim, or in a removal that stopped for it."""
    outcome: str = ""
    compared: int = 0
    seconds: float = 0.0


def race(stack: Stack, chance: random.Random) -> Race:
    """One removal, one racer; afterwards the disk is back.

    Raises:
        Lost: somebody got in between claim and delete of a removal that went on, or something is not as it has to be.
    """
    ground, stand, guest = stack.ground, stack.stand, stack.ground.guest
    stack.write()
    devices = ground.devices(stand)
    plan = stack.plan()
    paths = [route["kname"] for disk in plan["disks"] for route in disk["attach"]["routes"]]
    late = chance.random() < 0.7  # those who come before the claim only stop the removal
    source = guest.run(f"findmnt -n -o SOURCE,FSTYPE {stand.mountpoint}").out.split()
    spec = {
        "seed": chance.getrandbits(32),
        "mount": source,
        "paths": paths,
        "map": devices[0] if devices[0].startswith("/dev/mapper/") else None,
        "activate": ACTIVATE.get(stand.name),
        "wait": 0 if late else chance.uniform(0, 4.0),
        "journal": plan["journal"],
        "after": '"step":"claim","mark":"verified"' if late else None,
        "slow": 0.1,
    }
    guest.run(
        f"rm -f /run/race.out; echo {shlex.quote(json.dumps(spec))} >/run/race.json; "
        "setsid python3 /opt/lab/racer.py /run/race.json /run/race.out >/run/race.log 2>&1 </dev/null &"
        " echo $! >/run/race.pid"
    )
    ran = guest.warm({"do": "run", "journal": plan["journal"]})
    guest.run("kill $(cat /run/race.pid); while kill -0 $(cat /run/race.pid) 2>/dev/null; do sleep 0.05; done")
    guest.run("mountpoint -q /run/race && umount /run/race; true")
    told = guest.run("cat /run/race.out 2>/dev/null; cat /run/race.log >&2")
    if told.err:
        raise Lost(f"the racer failed: {told.err}")
    lines = [json.loads(line) for line in told.out.splitlines()]
    records = [json.loads(line) for line in guest.run(f"tail -n +2 {plan['journal']}").out.splitlines()]
    outcome = journal_end(stack, plan["journal"])
    compared = stack.check_removed() if ran.code == 0 else 0
    if ran.code != 3:
        back = stack.undo(plan["journal"])
        if back.code:
            raise Lost(f"{outcome}: the undo did not come through: {back}\n{tell(stack, plan['journal'])}")
    compared += stack.check_back()
    return dataclasses.replace(_judge(stand.name, plan, records, lines), outcome=outcome, compared=compared)


def _judge(name: str, plan: dict[str, Any], records: list[dict[str, Any]], lines: list[dict[str, Any]]) -> Race:
    """Whether anybody was inside while the disk was claimed."""

    def at(phase: str, mark: str) -> float | None:
        steps = {step["id"] for step in plan["steps"] if step["phase"] == phase}
        return max((each["at"] for each in records if each["step"] in steps and each["mark"] == mark), default=None)

    ended = records[-1]["at"]
    made = [line for line in lines if line["began"] < ended]
    found = Race(name, len(made), got_in=sum(line["in"] for line in made))
    claimed = at("claim", "verified")
    if claimed is None:
        return found
    gone = at("delete", "started") or ended
    critical = [line for line in made if line["began"] > claimed and line["ended"] < gone]
    found.critical = len(critical)
    # until the map is handed over it has its paths, whoever asks multipathd for them
    handed = at("map", "verified") or claimed
    inside = [line for line in critical if line["in"] and (line["what"] != "readd" or line["began"] > handed)]
    if inside and records[-1]["data"].get("outcome") == "done":
        raise Lost(f"between claim and delete somebody got in: {inside}\n{records}")
    return found
