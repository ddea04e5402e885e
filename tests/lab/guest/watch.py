"""Writes down, each with its time, what the kernel knows and what Mooring says of it: `watch.py SECONDS OUT`.

A process of its own looks at sysfs every 50 ms, as directly as can be; Mooring reads with the feed of its dashboard.
Each line of OUT is a JSON object with `at`, `who` (kernel, mooring, reading) and `what`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


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
        at = time.time()  # it was so before we looked, not after
        now = facts()
        for name in known.keys() | now.keys():
            if known.get(name) != now.get(name):
                note(out, at, "kernel", f"{name} {known.get(name)} -> {now.get(name)}")
        known = now


def mooring(until: float, out: str) -> None:
    """Notes every event, at the time at which the dashboard has it."""
    from tui.backends import HostSource, differ
    from tui.feed import Feed, Mailbox, Reading

    class Source(HostSource):
        def read(self) -> Reading:
            began = time.monotonic()
            reading = super().read()
            note(out, time.time(), "reading", f"{time.monotonic() - began:.3f}")
            return reading

    rung = threading.Event()
    mailbox = Mailbox(rung.set)
    feed = Feed(Source(), mailbox, differ)
    feed.start()
    ready: Any = None
    while time.time() < until:
        if not rung.wait(0.5):
            continue
        rung.clear()
        delivery = mailbox.take()
        for event in delivery.events:
            note(out, time.time(), "mooring", f"{event.kind} {event.subject} {event.at:.3f} {event.text}")
        if delivery.failure:
            note(out, time.time(), "mooring", f"failure {delivery.failure}")
        if ready is None and delivery.snapshot is not None:
            ready = delivery.snapshot
            note(out, time.time(), "mooring", "ready")


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
