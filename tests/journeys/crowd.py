"""The dashboard on this host as it is, among 2,000 disks that are made up: `python -m tests.journeys.crowd`.

What is made up can be looked at only. Plans, removals, orders and all else is the program's own, and knows this host
alone.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Hashable

from initiator.model import Snapshot, Volume, VolumeState
from tests.tui import samples
from tui.app import AppOptions, run
from tui.backends import Backends, HostKernel, HostRemover, HostSource, differ
from tui.feed import Reading

COUNT = 2_000
LABEL = "ledger-{:04d}"
"""What the volumes of the disks beside the real ones are called."""


def crowd() -> Snapshot:
    """2,000 disks of one path each, with a labelled volume on each of them."""
    made = samples.large(COUNT, per_disk=1)
    volumes = tuple(
        Volume(
            f"volume:crowd-{number}",
            LABEL.format(number),
            VolumeState.MOUNTED,
            f"/srv/pool/{number:04d}",
            "ext4",
            disk.device or "",
            f"253:{number}",
            (disk.id,),
            size_bytes=disk.size_bytes,
            label=LABEL.format(number),
        )
        for number, disk in enumerate(made.disks)
    )
    disks = tuple(
        dataclasses.replace(disk, volumes=(volume.id,)) for disk, volume in zip(made.disks, volumes, strict=True)
    )
    return dataclasses.replace(made, disks=disks, volumes=volumes)


class Among:
    """A source of readings: this host's, with the others beside it."""

    def __init__(self) -> None:
        self._host = HostSource()
        self._others = crowd()

    def read(self) -> Reading:
        """This host as it is now, and the others as they always are."""
        reading, others = self._host.read(), self._others
        own = reading.snapshot
        whole = dataclasses.replace(
            own,
            sessions=(*own.sessions, *others.sessions),
            disks=(*own.disks, *others.disks),
            paths=(*own.paths, *others.paths),
            volumes=(*own.volumes, *others.volumes),
            links=(*own.links, *others.links),
        )
        return dataclasses.replace(reading, snapshot=whole)

    def pulse(self) -> Hashable:
        """Of this host."""
        return self._host.pulse()

    def watch(self, changed: Callable[[], None]) -> None:
        """This host."""
        self._host.watch(changed)

    def close(self) -> None:
        """The end."""
        self._host.close()


if __name__ == "__main__":
    sys.exit(run(AppOptions(), Backends(Among(), differ, HostRemover(), HostKernel())))
