"""Somebody who comes in between, again and again: `racer.py SPEC.json OUT`, until it is ended.

The specification: `{"seed", "mount": [DEVICE, FSTYPE] | null, "paths": [KNAME], "map": DEVICE | null,
"activate": COMMAND | null, "wait": SECONDS, "journal": PATH, "after": TEXT | null, "slow": SECONDS}`: it begins after a
while, or when the journal has a text. Each try is a line of OUT: when it began and ended, what
it was, and whether it got in: a mount, an exclusive open, an activated volume, a path that a map holds again. What got
in is left again at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PLACE = "/run/race"
LIBC = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any], out: str) -> None:
    """Try until ended."""
    chance = random.Random(spec["seed"])
    Path(PLACE).mkdir(exist_ok=True)
    tries = {"open": opened}
    if spec["mount"]:
        tries["mount"] = mounted
    if spec["activate"]:
        tries["activate"] = activated
    if spec["map"]:
        tries["readd"] = added
    time.sleep(spec["wait"])
    while spec["after"] and spec["after"] not in Path(spec["journal"]).read_text(encoding="ascii"):
        time.sleep(0.01)
    with open(out, "a", encoding="ascii") as file:
        while True:
            what = chance.choice(list(tries))
            began = time.time()
            inside, said = tries[what](spec, chance)
            line = {"began": began, "ended": time.time(), "what": what, "in": inside, "said": said}
            file.write(json.dumps(line) + "\n")
            file.flush()
            time.sleep(chance.uniform(0, spec["slow"]))


def devices(spec: dict[str, Any]) -> list[str]:
    """Every device that leads to the disk."""
    return [f"/dev/{kname}" for kname in spec["paths"]] + ([spec["map"]] if spec["map"] else [])


def opened(spec: dict[str, Any], chance: random.Random) -> tuple[bool, str]:
    """As mkfs, LVM and mdadm open a disk that they take."""
    device = chance.choice(devices(spec))
    try:
        fd = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        return False, f"{device}: {error.strerror}"
    time.sleep(chance.uniform(0, 0.02))
    os.close(fd)
    return True, device


def mounted(spec: dict[str, Any], chance: random.Random) -> tuple[bool, str]:
    """By the call, not the program: that one would be too slow to come in between."""
    device, kind = spec["mount"]
    if LIBC.mount(device.encode(), PLACE.encode(), kind.encode(), 0, None) != 0:
        return False, os.strerror(ctypes.get_errno())
    time.sleep(chance.uniform(0, 0.02))
    while LIBC.umount2(PLACE.encode(), 0) != 0:
        time.sleep(0.01)
    return True, device


def activated(spec: dict[str, Any], chance: random.Random) -> tuple[bool, str]:
    """By LVM's own tool; whether it got in, the holders of the disk tell."""
    done = subprocess.run(spec["activate"], shell=True, capture_output=True, text=True, check=False)
    return done.returncode == 0 and held(spec, "LVM-"), done.stderr.strip()[-200:]


def added(spec: dict[str, Any], chance: random.Random) -> tuple[bool, str]:
    """multipathd is told of a path, as by a udev event."""
    path = chance.choice(spec["paths"])
    done = subprocess.run(["multipathd", "add", "path", path], capture_output=True, text=True, check=False)
    return held(spec, "mpath-"), done.stdout.strip()[-200:]


def held(spec: dict[str, Any], prefix: str) -> bool:
    """Whether a device with such a UUID stands on one of the paths, directly or on what stands there."""
    todo = list(spec["paths"])
    seen: set[str] = set()
    while todo:
        kname = todo.pop()
        try:
            holders = os.listdir(f"/sys/class/block/{kname}/holders")
        except OSError:
            continue
        for holder in set(holders) - seen:
            seen.add(holder)
            todo.append(holder)
            try:
                if Path(f"/sys/class/block/{holder}/dm/uuid").read_text(encoding="ascii").startswith(prefix):
                    return True
            except OSError:
                continue
    return False


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="ascii")), sys.argv[2])
