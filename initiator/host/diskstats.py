"""I/O counters of every block device from the one file that has them all: /proc/diskstats (Documentation/iostats)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from initiator.host import sysfs

_SECTOR = 512


class Counters(NamedTuple):
    """Since the device appeared."""

    reads: int
    read_bytes: int
    writes: int
    write_bytes: int
    busy_ms: int
    """Time that all its requests took, added up."""
    in_flight: int


class StatsReader:
    """Reads the counters again and again; lines that have not changed are not parsed anew.

    Args:
        root: Where `proc` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = f"{sysfs.base(root)}/proc/diskstats"
        self._lines: dict[bytes, tuple[str, Counters]] = {}
        self._last: dict[str, Counters] = {}
        self.changed: set[str] = set()
        """The kernel names of which the last reading gave something else than the one before."""

    def read(self) -> dict[str, Counters]:
        """The counters by kernel name; empty where the file cannot be read."""
        try:
            lines = dict.fromkeys(sysfs.read_bytes(self._path).split(b"\n"))
        except OSError:
            lines = {}
        gone, come = self._lines.keys() - lines.keys(), lines.keys() - self._lines.keys()
        self.changed = {self._lines.pop(line)[0] for line in gone}
        fresh = {line: entry for line in come if (entry := _parse(line)) is not None}
        for name in self.changed:
            self._last.pop(name, None)
        self._last.update(fresh.values())
        self._lines |= fresh
        self.changed |= {name for name, _ in fresh.values()}
        return self._last


def _parse(line: bytes) -> tuple[str, Counters] | None:
    fields = line.split()
    try:
        reads, _, read_sectors, read_ms, writes, _, write_sectors, write_ms, in_flight = map(int, fields[3:12])
        name = fields[2].decode("utf-8", "surrogateescape")
    except (ValueError, IndexError):
        return None
    return name, Counters(reads, read_sectors * _SECTOR, writes, write_sectors * _SECTOR, read_ms + write_ms, in_flight)
