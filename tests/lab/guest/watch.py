"""Writes down, each with its time, what the kernel knows and what Mooring says of it: `watch.py SECONDS OUT`.

A process of its own looks at sysfs every 50 ms, as directly as can be; Mooring reads as its dashboard does, woken by
the kernel's events and twice a second. Each line of OUT is a JSON object with `at`, `who` (kernel, mooring) and `what`.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from pathlib import Path


def facts() -> dict[str, str]:
    """What the scenarios change."""
    found = {}
    for name in os.listdir("/sys/class/iscsi_session"):
        found[name] = _read(f"/sys/class/iscsi_session/{name}/state")
    for name in os.listdir("/sys/class/scsi_device"):
        if Path(f"/sys/class/scsi_device/{name}/device/wwid").exists():
            found[name] = "there"
    for name in ("host1", "host2"):
        found[name] = _read(f"/sys/class/net/{name}/carrier")
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def kernel(until: float, out: str) -> None:
    """Notes every change of the facts."""
    known = facts()
    while time.time() < until:
        time.sleep(0.05)
        now = facts()
        at = time.time()
        for name in known.keys() | now.keys():
            if known.get(name) != now.get(name):
                note(out, at, "kernel", f"{name} {known.get(name)} -> {now.get(name)}")
        known = now


def mooring(until: float, out: str) -> None:
    """Notes every event, at the time it is known here."""
    from initiator.host.udev import Watch
    from initiator.inventory import Inventory, diff

    woken = threading.Event()
    with Inventory() as inventory, Watch(lambda _: woken.set()):
        known = inventory.read()
        note(out, time.time(), "mooring", "ready")
        while time.time() < until:
            woken.wait(0.5)
            woken.clear()
            began = time.monotonic()
            faulthandler.dump_traceback_later(3)  # on standard error, to say where it hangs if it does
            now = inventory.read()
            faulthandler.cancel_dump_traceback_later()
            note(out, time.time(), "reading", f"{time.monotonic() - began:.3f}")
            for event in diff(known, now):
                note(out, time.time(), "mooring", f"{event.kind} {event.subject} {event.text}")
            known = now


def note(out: str, at: float, who: str, what: str) -> None:
    """One line, whole."""
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps({"at": at, "who": who, "what": what}) + "\n")


if __name__ == "__main__":
    end = time.time() + float(sys.argv[1])
    if os.fork() == 0:
        kernel(end, sys.argv[2])
    else:
        mooring(end, sys.argv[2])
