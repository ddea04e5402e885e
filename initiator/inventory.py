"""One Snapshot of everything: this host with the sessions of its kernel, and what the engine says of its own."""

from __future__ import annotations

import dataclasses
import operator
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from initiator import model, places
from initiator.changes import diff
from initiator.errors import MooringError
from initiator.host import block, blockreader, links, mounts, sysfs, volumes
from initiator.host.blockreader import BlockReader
from initiator.host.helper_calls import pinned_mounts
from initiator.host.watched import Descriptors
from initiator.model import BlockNode, Disk, DiskState, Event, Link, Problem, Session, Snapshot, Volume
from initiator.quick import unsearched

if TYPE_CHECKING:
    from initiator.host.kernel import KernelReader, KernelReport
    from initiator.host.kernelsessions import Tcp

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
        turn: Of how many devices and LUNs everything is read in one reading without a reason; None for the usual.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        engine: Engine | None = None,
        clock: Callable[[], float] = time.time,
        addresses: links.Addresses | None = None,
        tcp: Tcp | None = None,
        turn: int | None = None,
    ) -> None:
        self._root = root
        self._engine = engine
        self._clock = clock
        self._addresses = addresses
        self._live = root == Path("/")
        self._sizes = volumes.Sizes()
        self._descriptors = Descriptors()
        self._turn = turn
        self._block = BlockReader(root, blockreader.TURN if turn is None else turn, self._descriptors)
        self._tcp = tcp
        self._kernel: KernelReader | None = None
        self._stacks = _Stacks()
        self._carriers: dict[str, tuple[Disk, Disk]] = {}
        """By disk with volumes: without them, and with them."""
        self.events: tuple[Event, ...] = ()
        """The engine's recent messages as of the last reading."""

    def read(self, full: bool = False) -> Snapshot:
        """Reads everything once. Never waits for a volume or engine that does not answer longer than a few seconds.

        Args:
            full: Read also what hardly ever changes, whatever is remembered. The first reading always does.
        """
        with unsearched():
            return self._read(full)

    def _read(self, full: bool) -> Snapshot:
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
        sessions = tuple(_with_link(session, found_links) for session in (report.sessions if report else ()))
        disks = _merged(placed, kernel.disks if kernel else ())
        paths = _merged(_with_links(report.paths, sessions) if report else (), kernel.paths if kernel else ())
        self._stacks.take(disks, paths, nodes, rows)
        found_volumes, size_problems = self._volumes(rows, nodes)
        return Snapshot(
            host=self._host(),
            taken_at=taken_at,
            sessions=_merged(sessions, kernel.sessions if kernel else ()),
            disks=self._with_volumes(disks, found_volumes),
            paths=paths,
            maps=_merged(report.maps if report else (), kernel.maps if kernel else ()),
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

    def stir(self) -> None:
        """The kernel has told that something happened to a block device; may be called from another thread."""
        self._block.stir()

    def _read_kernel(self, nodes: Sequence[BlockNode], found: tuple[Link, ...], full: bool) -> KernelReport | None:
        """The kernel's own sessions; what reads them is only imported on a host that has some."""
        if self._kernel is None:
            has_maps = any((node.dm_uuid or "").startswith("mpath-") for node in nodes)
            if not has_maps and not self._may_have_sessions():
                return None
            from initiator.host.kernel import KernelReader

            self._kernel = KernelReader(
                self._root, self._clock, tcp=self._tcp, descriptors=self._descriptors, turn=self._turn
            )
        return self._kernel.read(nodes, found, full, self._block.links)

    def _may_have_sessions(self) -> bool:
        """False only where the kernel certainly has none; what may not be listed is for the reader to report."""
        try:
            return bool(os.listdir(f"{sysfs.base(self._root)}/sys/class/iscsi_session"))
        except OSError as error:
            return error.errno not in sysfs.GONE

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
        self, rows: tuple[mounts.Mount, ...], nodes: tuple[BlockNode, ...]
    ) -> tuple[tuple[Volume, ...], tuple[Problem, ...]]:
        behind = mounts.real_devices(rows, block.read_btrfs(self._root), nodes)
        on = self._stacks.disks_under
        shown = volumes.relevant(rows, behind, frozenset(on))
        with_device = [mount for mount in shown if mount.dev in behind or mount.fstype == "fuseblk"]
        mounted = {dev for mount in shown for dev in behind.get(mount.dev, ())}
        noted = volumes.read_labels(self._root, [node for node in nodes if node.dev in mounted] if mounted else ())
        labels = {
            mount.dev: next((noted[dev] for dev in behind.get(mount.dev, ()) if dev in noted), None) for mount in shown
        }
        nameless = [dev for dev, label in labels.items() if label is None or not label.label]
        sizes, problems = self._sizes.read(with_device, nameless) if self._live else ({}, ())
        looks = places.looked_into(mount.mountpoint for mount in shown)
        found = []
        for mount in shown:
            under = behind.get(mount.dev, ())
            disks = tuple(sorted({disk for dev in under for disk in on.get(dev, ())}))
            size, label, look = sizes.get(mount.dev), labels[mount.dev], mount.mountpoint in looks
            found.append(volumes.to_volume(mount, disks, size, label, look=look))
        return tuple(found), problems

    def _with_volumes(self, disks: tuple[Disk, ...], found: Iterable[Volume]) -> tuple[Disk, ...]:
        """The disks with the ids of their volumes; one with the same volumes is the same object as before."""
        by_disk: dict[str, list[str]] = {}
        for volume in found:
            for disk_id in volume.disks:
                by_disk.setdefault(disk_id, []).append(volume.id)
        before, self._carriers = self._carriers, {}
        if not by_disk and not before and not any(disk.volumes for disk in disks):
            return disks
        made = []
        for disk in disks:
            ids = tuple(sorted(by_disk.get(disk.id, ())))
            if disk.volumes != ids:
                bare, full = before.get(disk.id, (None, disk))
                if bare is not disk or full.volumes != ids:
                    full = dataclasses.replace(disk, volumes=ids)
                self._carriers[disk.id] = (disk, full)
                disk = full
            made.append(disk)
        return tuple(made)

    def close(self) -> None:
        """Ends the helper child, lets go of multipathd and closes what is kept open."""
        self._sizes.close()
        self._block.close()
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
    return tuple(sorted(items, key=operator.attrgetter("id")))


def _merged(ours: tuple[_Named, ...], theirs: tuple[_Named, ...]) -> tuple[_Named, ...]:
    """The engine's and the kernel's things, sorted; the kernel's already are."""
    return theirs if not ours else _sorted(ours + theirs)


_SERVING = (DiskState.ATTACHED, DiskState.DEGRADED, DiskState.NO_PATH)


def _placed(disks: Sequence[Disk], nodes: Iterable[BlockNode]) -> tuple[tuple[Disk, ...], tuple[Problem, ...]]:
    """Gives each disk the device number and sequence number that the kernel has for its device node."""
    if not disks:
        return (), ()
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


class _Stacks:
    """What stands on each disk; worked out anew only when disks, devices or mounts are others than before."""

    def __init__(self) -> None:
        self._nodes: tuple[BlockNode, ...] | None = None
        self._numbers: dict[str, str] = {}
        self._things: tuple[object, object] = ((), ())
        self._key: tuple[object, ...] | None = None
        self.disks_under: dict[str, set[str]] = {}
        """By `major:minor` of each device that stands on an attached disk, the disk and its paths included."""

    def take(
        self,
        disks: tuple[Disk, ...],
        paths: tuple[model.Path, ...],
        nodes: tuple[BlockNode, ...],
        rows: tuple[mounts.Mount, ...],
    ) -> None:
        """Takes up one reading."""
        if nodes is not self._nodes:
            self._numbers = {f"/dev/{node.kname.replace('!', '/')}": node.dev for node in nodes}
        elif self._things[0] is disks and self._things[1] is paths and self._key is not None and self._key[3] == rows:
            return
        self._nodes, self._things = nodes, (disks, paths)
        key = ([(disk.id, disk.dev) for disk in disks], [(path.disk, path.device) for path in paths], nodes, rows)
        if key == self._key:
            return
        self._key = key
        graph = block.Graph(nodes, block.loops_in(nodes, rows))
        devs = {disk.id: {disk.dev} for disk in disks if disk.dev is not None}
        for path in paths:  # of two paths without a map over them either can be in use
            if path.disk in devs and (number := self._numbers.get(path.device or "")) is not None:
                devs[path.disk].add(number)
        self.disks_under = {}
        for disk, under in devs.items():
            for dev in graph.above(under):
                self.disks_under.setdefault(dev, set()).add(disk)


def _with_links(paths: Iterable[model.Path], sessions: Iterable[Session]) -> tuple[model.Path, ...]:
    links_of = {session.id: session.link for session in sessions}
    return tuple(
        dataclasses.replace(path, link=links_of[path.session])
        if path.link is None and links_of.get(path.session)
        else path
        for path in paths
    )


def _with_link(session: Session, found: Iterable[Link]) -> Session:
    if session.link is not None or not session.connections:
        return session
    local = session.connections[0].local_host
    return dataclasses.replace(session, link=links.link_for(local, found))
