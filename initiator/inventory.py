"""One Snapshot of everything: this host with the sessions of its kernel, and what the engine says of its own."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from initiator import model
from initiator.changes import diff
from initiator.errors import MooringError
from initiator.host import block, links, mounts, sysfs, volumes
from initiator.host.blockreader import BlockReader
from initiator.host.helper_calls import pinned_mounts
from initiator.model import BlockNode, Disk, DiskState, Event, Link, Problem, Session, Snapshot, Volume

if TYPE_CHECKING:
    from initiator.host.kernel import KernelReader, KernelReport, Tcp

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
        tcp: Asks TCP about the kernel's connections; costs an import of 0.2 s, so only a dashboard gives it.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        engine: Engine | None = None,
        clock: Callable[[], float] = time.time,
        addresses: links.Addresses | None = None,
        tcp: Tcp | None = None,
    ) -> None:
        self._root = root
        self._engine = engine
        self._clock = clock
        self._addresses = addresses
        self._live = root == Path("/")
        self._sizes = volumes.Sizes()
        self._block = BlockReader(root)
        self._tcp = tcp
        self._kernel: KernelReader | None = None
        self._stacked: tuple[object, dict[str, frozenset[str]]] | None = None
        self.events: tuple[Event, ...] = ()
        """The engine's recent messages as of the last reading."""

    def read(self, full: bool = False) -> Snapshot:
        """Reads everything once. Never waits for a volume or engine that does not answer longer than a few seconds.

        Args:
            full: Read also what hardly ever changes, whatever is remembered. The first reading always does.
        """
        taken_at = self._clock()
        if self._live:
            self._sizes.start()
        report, engine, engine_problems = self._ask_engine()
        nodes, block_problems = self._block.read(full)
        rows, mount_problems = mounts.read_mounts(self._root, pinned=pinned_mounts if self._live else None)
        swaps, swap_problems = block.read_swaps(self._root, nodes, rows)
        found_links, link_problems = links.read_links(self._root, self._addresses)
        kernel = self._read_kernel(nodes, found_links, full)
        placed, disk_problems = _placed(report.disks if report else (), nodes)
        disks = (*placed, *(kernel.disks if kernel else ()))
        paths = (*(report.paths if report else ()), *(kernel.paths if kernel else ()))
        if self._stacked is None or self._stacked[0] != (disks, paths, nodes, rows):
            self._stacked = ((disks, paths, nodes, rows), _stacks(disks, paths, nodes, rows))
        stacks = self._stacked[1]
        found_volumes, size_problems = self._volumes(rows, nodes, stacks)
        sessions = tuple(_with_link(session, found_links) for session in (report.sessions if report else ()))
        by_session = {session.id: session.link for session in sessions}
        return Snapshot(
            host=self._host(),
            taken_at=taken_at,
            sessions=_sorted((*sessions, *(kernel.sessions if kernel else ()))),
            disks=_sorted(_with_volumes(disks, found_volumes)),
            paths=_sorted(
                dataclasses.replace(path, link=by_session[path.session])
                if path.link is None and by_session.get(path.session)
                else path
                for path in paths
            ),
            maps=_sorted((*(report.maps if report else ()), *(kernel.maps if kernel else ()))),
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
                *(kernel.problems if kernel else ()),
                *size_problems,
            ),
            engine=engine,
            practice=self._engine is not None and (self._engine.runtime / "practice.json").exists(),
        )

    def _read_kernel(self, nodes: Sequence[BlockNode], found: tuple[Link, ...], full: bool) -> KernelReport | None:
        """The kernel's own sessions; what reads them is only imported on a host that has some."""
        if self._kernel is None:
            has_maps = any((node.dm_uuid or "").startswith("mpath-") for node in nodes)
            if not has_maps and not sysfs.names(f"{sysfs.base(self._root)}/sys/class/iscsi_session"):
                return None
            from initiator.host.kernel import KernelReader

            self._kernel = KernelReader(self._root, self._clock, tcp=self._tcp)
        return self._kernel.read(nodes, found, full)

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
        mounted = {dev for mount in shown for dev in behind.get(mount.dev, ())}
        labels = volumes.read_labels(self._root, [node for node in nodes if node.dev in mounted])
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
        """Ends the helper child and lets go of multipathd."""
        self._sizes.close()
        if self._kernel is not None:
            self._kernel.close()

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
    disks: Iterable[Disk],
    paths: Iterable[model.Path],
    nodes: tuple[BlockNode, ...],
    rows: tuple[mounts.Mount, ...],
) -> dict[str, frozenset[str]]:
    """For each attached disk the devices that stand on it, itself and those of its paths included."""
    graph = block.Graph(nodes, block.loops_in(nodes, rows))
    numbers = {f"/dev/{node.kname.replace('!', '/')}": node.dev for node in nodes}
    devs = {disk.id: {disk.dev} for disk in disks if disk.dev is not None}
    for path in paths:  # of two paths without a map over them either can be in use
        if path.disk in devs and (number := numbers.get(path.device or "")) is not None:
            devs[path.disk].add(number)
    return {disk: graph.above(under) for disk, under in devs.items()}


def _with_volumes(disks: Iterable[Disk], found: Iterable[Volume]) -> tuple[Disk, ...]:
    by_disk: dict[str, list[str]] = {}
    for volume in found:
        for disk in volume.disks:
            by_disk.setdefault(disk, []).append(volume.id)
    wanted = ((disk, tuple(sorted(by_disk.get(disk.id, ())))) for disk in disks)
    return tuple(disk if disk.volumes == ids else dataclasses.replace(disk, volumes=ids) for disk, ids in wanted)


def _with_link(session: Session, found: Iterable[Link]) -> Session:
    if session.link is not None or not session.connections:
        return session
    local = session.connections[0].local_host
    return dataclasses.replace(session, link=links.link_for(local, found))
