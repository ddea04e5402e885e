"""How long a device has been there, from udev's database: its counters of errors count from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from initiator import model
from initiator.host import sysfs

_FIRST_SEEN = "I:"
"""Microseconds of the monotonic clock at which udev first saw the device; later events of it change nothing."""


def read_ages(
    paths: Iterable[model.Path],
    links: Iterable[model.Link],
    root: Path = Path("/"),
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Seconds for which each has been there, by id; those that udev does not know are missing, as are the engine's."""
    base = sysfs.base(root)
    entries = {}
    for path in paths:
        if path.id.startswith("kernel:") and path.device is not None:
            number = sysfs.read_text(f"{base}/sys/class/block/{path.device.removeprefix('/dev/')}/dev")
            entries[path.id] = f"b{number}"
    for link in links:
        entries[link.id] = f"n{sysfs.read_int(f'{base}/sys/class/net/{link.name}/ifindex')}"
    now = monotonic()
    found = {key: _first_seen(f"{base}/run/udev/data/{entry}") for key, entry in entries.items()}
    return {key: now - at for key, at in found.items() if at is not None and at <= now}


def _first_seen(file: str) -> float | None:
    for line in (sysfs.read_text(file) or "").splitlines():
        if line.startswith(_FIRST_SEEN) and line[2:].isdecimal():
            return int(line[2:]) / 1_000_000
    return None
