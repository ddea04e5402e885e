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

    def read(self) -> dict[str, Counters]:
        """The counters by kernel name; empty where the file cannot be read."""
        try:
            data = sysfs.read_bytes(self._path)
        except OSError:
            return {}
        before = self._lines
        self._lines = {}
        for line in data.split(b"\n"):
            entry = before.get(line) or _parse(line)
            if entry is not None:
                self._lines[line] = entry
        return dict(self._lines.values())


def _parse(line: bytes) -> tuple[str, Counters] | None:
    fields = line.split()
    try:
        reads, _, read_sectors, read_ms, writes, _, write_sectors, write_ms, in_flight = map(int, fields[3:12])
        name = fields[2].decode("utf-8", "surrogateescape")
    except (ValueError, IndexError):
        return None
    return name, Counters(reads, read_sectors * _SECTOR, writes, write_sectors * _SECTOR, read_ms + write_ms, in_flight)
