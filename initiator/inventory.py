"""One Snapshot of everything: what the kernel says of this host, joined with what the engine says of its disks."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from initiator import model
from initiator.changes import diff
from initiator.errors import MooringError
from initiator.host import block, links, mounts, volumes
from initiator.host.helper_calls import pinned_mounts
from initiator.model import BlockNode, Disk, DiskState, Event, Link, Problem, Session, Snapshot, Volume

__all__ = ["Engine", "Inventory", "Report", "diff", "read"]


class Report(Protocol):
    """What the engine tells of itself: `initiator.engine.report.EngineReport`."""

    @property
    def sessions(self) -> tuple[Session, ...]: ...
    @property
    def disks(self) -> tuple[Disk, ...]: ...
    @property
    def paths(self) -> tuple[model.Path, ...]: ...
    @property
    def maps(self) -> tuple[model.Map, ...]: ...
    @property
    def events(self) -> tuple[Event, ...]: ...


class Engine(Protocol):
    """Who is asked for a Report: `initiator.engine.client.EngineClient`."""

    @property
    def runtime(self) -> Path: ...
    def snapshot(self) -> Report: ...


class Inventory:
    """Reads snapshots of one host again and again.

    Args:
        root: Where `proc`, `sys`, `dev` and `run` are; a folder with a recorded tree in tests.
        engine: The engine's client; None leaves the engine out.
        clock: Unix time.
        addresses: The addresses of the links; asked from the kernel when None.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        engine: Engine | None = None,
        clock: Callable[[], float] = time.time,
        addresses: links.Addresses | None = None,
    ) -> None:
        self._root = root
        self._engine = engine
        self._clock = clock
        self._addresses = addresses
        self._live = root == Path("/")
        self._sizes = volumes.Sizes()
        self.events: tuple[Event, ...] = ()
        """The engine's recent messages as of the last reading."""

    def read(self) -> Snapshot:
        """Reads everything once. Never waits for a volume or engine that does not answer longer than a few seconds."""
        taken_at = self._clock()
        if self._live:
            self._sizes.start()
        report, engine, engine_problems = self._ask_engine()
        nodes, block_problems = block.read_block(self._root)
        rows, mount_problems = mounts.read_mounts(self._root, pinned=pinned_mounts if self._live else None)
        swaps, swap_problems = block.read_swaps(self._root, nodes, rows)
        found_links, link_problems = links.read_links(self._root, self._addresses)
        disks, disk_problems = _placed(report.disks if report else (), nodes)
        stacks = _stacks(disks, nodes, rows)
        found_volumes, size_problems = self._volumes(rows, nodes, stacks)
        sessions = tuple(_with_link(session, found_links) for session in (report.sessions if report else ()))
        by_session = {session.id: session.link for session in sessions}
        return Snapshot(
            host=self._host(),
            taken_at=taken_at,
            sessions=_sorted(sessions),
            disks=_sorted(_with_volumes(disks, found_volumes)),
            paths=_sorted(
                dataclasses.replace(path, link=path.link or by_session.get(path.session))
                for path in (report.paths if report else ())
            ),
            maps=_sorted(report.maps if report else ()),
            volumes=_sorted(found_volumes),
            links=_sorted(found_links),
            block=nodes,
            swaps=swaps,
            problems=(
                *engine_problems,
                *block_problems,
                *mount_problems,
                *swap_problems,
                *link_problems,
                *disk_problems,
                *size_problems,
            ),
            engine=engine,
            practice=self._engine is not None and (self._engine.runtime / "practice.json").exists(),
        )

    def _ask_engine(self) -> tuple[Report | None, str, tuple[Problem, ...]]:
        if self._engine is None:
            return None, "not asked", ()
        try:
            report = self._engine.snapshot()
        except MooringError as error:
            if error.code == "not-running":
                return None, "not running", ()
            return None, str(error), (Problem("engine", "engine", str(error)),)
        self.events = report.events
        return report, "running", ()

    def _host(self) -> str:
        return socket.gethostname() if self._live else self._root.name

    def _volumes(
        self, rows: tuple[mounts.Mount, ...], nodes: tuple[BlockNode, ...], stacks: Mapping[str, frozenset[str]]
    ) -> tuple[tuple[Volume, ...], tuple[Problem, ...]]:
        behind = mounts.real_devices(rows, block.read_btrfs(self._root))
        shown = volumes.relevant(rows, behind, frozenset().union(*stacks.values()))
        with_device = [mount for mount in shown if mount.dev in behind or mount.fstype == "fuseblk"]
        sizes, problems = self._sizes.read(with_device) if self._live else ({}, ())
        labels = volumes.read_labels(self._root, nodes)
        on: dict[str, set[str]] = {}
        for disk, stack in stacks.items():
            for dev in stack:
                on.setdefault(dev, set()).add(disk)
        found = []
        for mount in shown:
            under = behind.get(mount.dev, ())
            disks = tuple(sorted({disk for dev in under for disk in on.get(dev, ())}))
            label = next((labels[dev] for dev in under if dev in labels), None)
            found.append(volumes.to_volume(mount, disks, sizes.get(mount.dev), label))
        return tuple(found), problems

    def close(self) -> None:
        """Ends the helper child."""
        self._sizes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(root: Path = Path("/"), engine: Engine | None = None) -> Snapshot:
    """Reads one Snapshot; whoever reads more than one keeps an `Inventory`."""
    with Inventory(root, engine) as inventory:
        return inventory.read()


_Named = TypeVar("_Named", Session, Disk, model.Path, model.Map, Volume, Link)


def _sorted(items: Iterable[_Named]) -> tuple[_Named, ...]:
    return tuple(sorted(items, key=lambda item: item.id))


_SERVING = (DiskState.ATTACHED, DiskState.DEGRADED, DiskState.NO_PATH)


def _placed(disks: Sequence[Disk], nodes: Iterable[BlockNode]) -> tuple[tuple[Disk, ...], tuple[Problem, ...]]:
    """Gives each disk the device number and sequence number that the kernel has for its device node."""
    by_path = {f"/dev/{node.kname.replace('!', '/')}": node for node in nodes}
    by_path |= {f"/dev/mapper/{node.dm_name}": node for node in by_path.values() if node.dm_name}
    placed = []
    problems = []
    for disk in disks:
        node = by_path.get(disk.device or "")
        if node and disk.diskseq is not None and node.diskseq not in (None, disk.diskseq):
            node = None  # the name has gone to another disk
        if node and node.size_bytes != 0:
            placed.append(dataclasses.replace(disk, dev=node.dev, diskseq=node.diskseq))
        elif disk.device and disk.state in _SERVING:
            reason = f"{disk.device} should carry it, but the kernel has no such device"
            problems.append(Problem("block", disk.name, reason))
            placed.append(dataclasses.replace(disk, dev=None, state=DiskState.UNKNOWN, reason=reason))
        else:
            placed.append(dataclasses.replace(disk, dev=None))
    return tuple(placed), tuple(problems)


def _stacks(
    disks: Iterable[Disk], nodes: tuple[BlockNode, ...], rows: tuple[mounts.Mount, ...]
) -> dict[str, frozenset[str]]:
    """For each attached disk the devices that stand on it, itself included."""
    graph = block.Graph(nodes, block.loops_in(nodes, rows))
    return {disk.id: graph.above((disk.dev,)) for disk in disks if disk.dev is not None}


def _with_volumes(disks: Iterable[Disk], found: Iterable[Volume]) -> tuple[Disk, ...]:
    by_disk: dict[str, list[str]] = {}
    for volume in found:
        for disk in volume.disks:
            by_disk.setdefault(disk, []).append(volume.id)
    return tuple(dataclasses.replace(disk, volumes=tuple(sorted(by_disk.get(disk.id, ())))) for disk in disks)


def _with_link(session: Session, found: Iterable[Link]) -> Session:
    if session.link is not None or not session.connections:
        return session
    local = session.connections[0].local_host
    return dataclasses.replace(session, link=links.link_for(local, found))
