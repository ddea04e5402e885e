"""Removals that are killed, again and again, then resumed or undone: no byte may be missing afterwards.

A chain begins with a stack that is mounted. Bytes are written into it; its removal is planned and killed; whoever goes
on with it is killed too; and in the end it is removed, or back. Then the bytes are compared with what was written: in
the target's own files when the disk is removed, through the mount when it is back. All choices come from one seed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Mapping
from typing import Any

from tests.lab.disks import Ground, Stand
from tests.lab.machine import Ran

LEDGER = "ledger"
SIZE = 2 << 20
"""Bytes of the file in each file system that is written to, in place."""
WATCH_S = 0.3
BEGUN, REMOVED, BACK = "begun", "removed", "back"

Death = Mapping[str, Any]
"""Where a runner ends: `die` or `die_after` of an order to `guest/warm.py`."""


class Lost(Exception):  # noqa: N818 - says what happened
    """A chain did not end as it has to; the text has everything that is known.

    Attributes:
        lost: Bytes that are not there as they were written.
    """

    def __init__(self, text: str, lost: int = 0) -> None:
        super().__init__(text)
        self.lost = lost


@dataclasses.dataclass(slots=True)
class Chain:
    """What became of one."""

    stack: str
    kind: str
    kills: int = 0
    not_killed: int = 0
    """Runners that were through before their moment came."""
    removals: int = 0
    undone: int = 0
    stopped: list[str] = dataclasses.field(default_factory=list)
    """Runners that stopped by themselves, with their reason; the chain went on with an undo."""
    compared: int = 0
    """Bytes that were compared with what was written."""
    seconds: float = 0.0


class Stack:
    """One stack, and what has been written to it."""

    def __init__(self, ground: Ground, stand: Stand, chance: random.Random) -> None:
        self.ground = ground
        self.stand = stand
        self.chance = chance
        self.took = 8.0
        """Seconds of the last whole removal that nobody disturbed."""
        self.written = {folder: bytearray(SIZE) for folder in stand.folders}
        ground.build(stand)
        for folder in stand.folders:
            self._write(folder, [(0, SIZE)])

    def write(self) -> None:
        """Change some blocks of every file system; half of them are not synced."""
        for folder in self.stand.folders:
            pieces = []
            for _ in range(8):
                length = 4096 * self.chance.randint(1, 32)
                pieces.append((4096 * self.chance.randrange((SIZE - length) // 4096), length))
            self._write(folder, pieces)

    def _write(self, folder: str, pieces: list[tuple[int, int]]) -> None:
        given = []
        for offset, length in pieces:
            seed = self.chance.getrandbits(48)
            given.append([offset, length, seed, self.chance.random() < 0.5])
            self.written[folder][offset : offset + length] = random.Random(seed).randbytes(length)
        path = f"{self.stand.mountpoint}/{self._name(folder)}"
        ran = self.ground.guest.warm({"do": "write", "file": path, "pieces": given})
        if ran.code:
            raise Lost(f"{path} cannot be written: {ran}")

    def _name(self, folder: str) -> str:
        return f"{folder}/{LEDGER}".lstrip("/")

    @property
    def names(self) -> list[str]:
        return [self._name(folder) for folder in self.stand.folders]

    def expected(self) -> list[str]:
        """The checksum of each ledger."""
        return [hashlib.sha256(self.written[folder]).hexdigest() for folder in self.stand.folders]

    def plan(self) -> dict[str, Any]:
        """A plan of its removal, in a journal of its own.

        Raises:
            Lost: a guard forbids it.
        """
        # racers that mount and unmount leave udev hundreds of events, and a disk that it works on is not removed
        self.ground.guest.run("udevadm settle -t 180", seconds=200)
        devices = self.ground.devices(self.stand)
        plan = self.ground.plan(*devices, watch_s=WATCH_S)
        if plan["blocked"]:
            raise Lost(f"no plan for {devices}: {[each for each in plan['findings'] if each['level'] == 'block']}")
        return plan

    def undo(self, journal: str, death: Death | None = None) -> Ran:
        """Take a removal back; who is asked for a key has it, and goes on."""
        order = {"do": "undo", "journal": journal, **(death or {})}
        ran = self.ground.guest.warm(order)
        if ran.code > 0 and self.stand.unlock and " key-needed:" in journal_end(self, journal):
            self.ground.guest.run(self.stand.unlock)
            ran = self.ground.guest.warm(order)
        return ran

    def check_removed(self) -> int:
        """Nothing is left here, and every byte is in the target's files; gives how many."""
        if left := self.ground.left(self.stand):
            raise Lost(f"left over after the removal:\n{left}")
        claims = "find /proc/[0-9]*/fd -lname '/dev/sd* (deleted)' -printf '%p %l\\n' 2>/dev/null"
        gone = f'for n in $(seq 20); do [ -z "$({claims})" ] && exit 0; sleep 1; done; {claims}'
        if held := self.ground.guest.run(gone).out:
            raise Lost(f"somebody still holds what was removed:\n{held}")
        found = self.ground.on_the_target(self.stand, *self.names).splitlines()
        if found != self.expected():
            raise Lost(f"the target has {found}, written was {self.expected()}", SIZE * len(found))
        return SIZE * len(found)

    def check_back(self) -> int:
        """Mounted, and every byte is there; gives how many."""
        place = self.stand.mountpoint
        told = self.ground.guest.run(
            f"for f in {' '.join(self.names)}; do findmnt -n -T {place}/$f -o TARGET; sha256sum < {place}/$f; done"
        ).out.split()
        mounts = [f"{place}/{folder}".rstrip("/") for folder in self.stand.folders]
        if told[::3] != mounts or told[1::3] != self.expected():
            raise Lost(f"after the undo there is {told}, written was {self.expected()}", SIZE * len(mounts))
        return SIZE * len(mounts)


def boundaries(plan: Mapping[str, Any], marks: tuple[str, str] = ("started", "verified")) -> list[Death]:
    """Before and after each step, and within it between the work and its proof, in order."""
    begun, proven = marks
    points = ((begun, "after"), (proven, "before"), (proven, "after"))
    steps = plan["steps"] if begun == "started" else [step for step in reversed(plan["steps"]) if step["changing"]]
    return [{"die": [step["id"], mark, when]} for step in steps for mark, when in points]


def remove(stack: Stack) -> Chain:
    """Removed without a death."""
    chain = Chain(stack.stand.name, "remove")
    stack.write()
    if _to_the_end(stack, chain, stack.plan(), [("resume", {})]) != REMOVED:
        raise Lost(f"the removal stopped: {chain.stopped}")
    chain.compared += stack.check_removed()
    return chain


def sweep(stack: Stack, between: float = 1.0, within: float = 1.0) -> Chain:
    """Killed on the way out and on the way back.

    Args:
        stack: What is removed.
        between: Share of the places between two steps at which it is killed.
        within: Share of the places in a step.
    """
    chain = Chain(stack.stand.name, "sweep")
    stack.write()
    plan = stack.plan()
    deaths = [("resume", death) for death in some(boundaries(plan), between, within, stack.chance)]
    if _to_the_end(stack, chain, plan, [*deaths, ("resume", {})]) == REMOVED:
        chain.compared += stack.check_removed()
        back = some(boundaries(plan, ("undoing", "undone")), between, within, stack.chance)
        _to_the_end(stack, chain, plan, [*(("undo", death) for death in back), ("undo", {})], REMOVED)
    chain.compared += stack.check_back()
    return chain


def wander(stack: Stack, kills: int) -> Chain:
    """Killed at random moments of the time that a removal takes, with a random end: removed, or back."""
    chain, chance = Chain(stack.stand.name, "wander"), stack.chance
    stack.write()
    plan = stack.plan()
    modes = ["resume"]
    for _ in range(kills):
        # what was begun to be taken back can only be finished
        modes.append("undo" if modes[-1] == "undo" or chance.random() < 0.3 else "resume")
    orders = [(mode, {"die_after": chance.uniform(0.02, stack.took)}) for mode in modes[:-1]]
    if _to_the_end(stack, chain, plan, [*orders, (modes[-1], {})]) == REMOVED:
        chain.compared += stack.check_removed()
        _to_the_end(stack, chain, plan, [("undo", {})], REMOVED)
    chain.compared += stack.check_back()
    return chain


def some(points: list[Death], between: float, within: float, chance: random.Random) -> list[Death]:
    ends = (["verified", "after"], ["undone", "after"])
    return [point for point in points if chance.random() < (between if point["die"][1:] in ends else within)]


def _to_the_end(
    stack: Stack, chain: Chain, plan: Mapping[str, Any], orders: list[tuple[str, Death]], state: str = BEGUN
) -> str:
    """Run, die, go on, die, …; the last order has no death. Gives whether the disk is removed, or back.

    A runner that stops by itself is noted, and the removal taken back.
    """
    journal = plan["journal"]
    for number, (mode, death) in enumerate(orders):
        if state == REMOVED and mode == "resume":
            continue
        do = "run" if mode == "resume" and state == BEGUN and number == 0 else mode
        order = {"do": do, "journal": journal, **death}
        began = time.monotonic()
        ran = stack.undo(journal, death) if mode == "undo" else stack.ground.guest.warm(order)
        if ran.code == -9:
            chain.kills += 1
            continue
        chain.not_killed += bool(death)
        if ran.code == 0 and mode == "resume":
            state = REMOVED
            chain.removals += 1
            if do == "run":
                stack.took = time.monotonic() - began
            continue
        if ran.code != 0:
            reason = f"{mode} {journal_end(stack, journal)} {ran.err.strip()}".strip()
            if mode == "undo":
                raise Lost(f"the undo did not come through: {reason}\n{tell(stack, journal)}")
            chain.stopped.append(reason)
            if " refused " in reason:
                return BACK  # nothing was changed; the comparison shows it
            ran = stack.undo(journal)
            if ran.code:
                raise Lost(f"{reason}; nor did the undo: {journal_end(stack, journal)}\n{tell(stack, journal)}")
        chain.undone += 1
        return BACK
    if state == BEGUN:
        raise Lost(f"it did not come to an end: {journal_end(stack, journal)}\n{tell(stack, journal)}")
    return state


def journal_end(stack: Stack, journal: str) -> str:
    """The last word of a journal."""
    line = json.loads(stack.ground.guest.run(f"tail -n 1 {journal}").out)
    return f"{line['data'].get('outcome')} {line['data'].get('code')}: {line['text']}"


def tell(stack: Stack, journal: str) -> str:
    """What is known when something went wrong."""
    return stack.ground.guest.run(
        f"tail -n +2 {journal} | cut -c1-600; lsblk -o NAME,TYPE,SIZE,MOUNTPOINTS; iscsiadm -m session; "
        "multipathd show paths; dmsetup ls; dmesg | tail -n 30; ps axww | tail -n 30", check=False,
    ).out  # fmt: skip
