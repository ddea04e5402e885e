"""Kernel disks in the making: which LUNs lead to one disk, and the model's paths, disks and maps made of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from initiator import model
from initiator.host import attributes, kernelview
from initiator.host.diskstats import Counters
from initiator.host.kernelview import Identity, said
from initiator.host.luns import Lun
from initiator.host.multipath import ListedPath, MapInfo, MapPath
from initiator.host.multipathd import Daemon
from initiator.model import BlockNode, Disk, DiskState, Map, MapState, PathState, Session, Source
from initiator.names import clean
from initiator.scsi.designators import parse_designators, unit_names
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.inquiry import parse_serial

MPATH = "mpath-"
"""How the device mapper's UUID of a multipath map begins."""
_NAA = re.compile(r"naa\.([0-9a-f]+)")
_WRITE_CACHES = {"write back": True, "write back, no read (daft)": True, "write through": False, "none": False}


class Facts(NamedTuple):
    """What is read for each disk over its first path only."""

    wwid: str | None
    designators: tuple[str, ...]
    serial: str | None
    cache_type: bytes | None
    """As the kernel writes it."""
    thin: bool | None
    block_bytes: int | None

    @property
    def write_cache(self) -> bool | None:
        """Whether writes stop at a cache."""
        return _WRITE_CACHES.get(attributes.text(self.cache_type) or "")


class Placed(NamedTuple):
    """One LUN with what it belongs to."""

    lun: Lun
    identity: Identity
    session: Session
    node: BlockNode | None
    map: BlockNode | None
    key: str
    """What LUNs that lead to the same disk have in common."""


class Unit(NamedTuple):
    """One disk in the making: the LUNs that lead to it and the map that joins them."""

    id: str
    members: tuple[Placed, ...]
    map: BlockNode | None


class Joined(NamedTuple):
    """What is known of maps at one moment."""

    infos: Mapping[str, MapInfo]
    """By the map's name."""
    answered_at: float | None
    listed: Mapping[str, ListedPath] | None
    """The paths that multipathd knows, by kernel name; None where it does not answer now."""
    daemon: Daemon
    wwids: Collection[str]
    """Disks that were joined before and would be again, as /etc/multipath/wwids has them."""
    any_map: bool

    def like(self, other: Joined) -> bool:
        """Whether the two say the same about every disk but for what they tell of its map."""
        return (
            self.listed is other.listed
            and (self.answered_at, self.daemon, self.any_map) == (other.answered_at, other.daemon, other.any_map)
            and self.wwids == other.wwids
        )

    def multipath(self, unit: Unit) -> bool | None:
        """Whether the kernel joins a disk's paths; None where nobody can say, which is not no."""
        if unit.map is not None:
            return True
        names = [placed.node.kname for placed in unit.members if placed.node is not None]
        if not names:
            return False
        if any(multipath_wwid(placed.identity.wwid) in self.wwids for placed in unit.members):
            return None  # it ought to be joined, and is not, or not yet
        if self.listed is None:
            return False if self.daemon is Daemon.ABSENT and not self.any_map else None
        for name in names:
            path = self.listed.get(name)
            if path is not None and (path.map is not None or not path.ready or path.wwid in self.wwids):
                return None
        return False


def unit_key(lun: Lun, identity: Identity) -> str:
    """What LUNs that lead to the same disk have in common. Only disks can have more than one path."""
    if identity.kind == "disk" and identity.wwid is not None:
        return "_".join(identity.wwid.split())
    return lun.hctl


def map_wwid(node: BlockNode) -> str:
    """multipath's name of the disk under a map."""
    return _wwid_in(node.dm_uuid or "")


@functools.lru_cache(maxsize=1 << 13)
def _wwid_in(uuid: str) -> str:
    return clean(uuid.removeprefix(MPATH))


def multipath_wwid(wwid: str | None) -> str | None:
    """How multipath writes an identity that the kernel writes as `naa.…`: a 3 for the designator's type before it."""
    found = _NAA.fullmatch(wwid or "")
    return f"3{found[1]}" if found else None


def wrong_with(unit: Unit) -> str | None:
    """Why the LUNs of a unit cannot all lead to the same disk."""
    sizes = {placed.node.size_bytes for placed in unit.members if placed.node is not None}
    if len(sizes) > 1:
        return f"devices that claim to be the same disk have different sizes: {_devices(unit)}"
    if unit.map is not None:
        expected = map_wwid(unit.map)
        for placed in unit.members:
            own = multipath_wwid(placed.identity.wwid)
            if placed.map is not None and own is not None and expected.startswith("3") and own != expected:
                return f"{placed.lun.kname} is in map {clean(unit.map.dm_name or '')} but is another disk, {own}"
    return None


def _devices(unit: Unit) -> str:
    return ", ".join(sorted(f"/dev/{placed.node.kname}" for placed in unit.members if placed.node is not None))


def read_facts(lun: Lun) -> Facts:
    """Reads what hardly ever changes while a disk is there and is the same over all its paths."""
    disk = f"scsi_disk/{lun.hctl}"
    cache, thin, block = (
        f"{disk}/cache_type",
        f"{disk}/thin_provisioning",
        f"block/{lun.kname}/queue/logical_block_size",
    )
    more = (cache, thin, block) if lun.kname is not None else ()
    raw = attributes.read_raw(lun.place, ("vpd_pg83", "vpd_pg80", *more)) or {}
    names, serial = _pages(raw.get("vpd_pg83"), raw.get("vpd_pg80"))
    provisioned = attributes.number(raw.get(thin))
    return Facts(
        wwid=next(iter(names), None),
        designators=names,
        serial=serial,
        cache_type=raw.get(cache),
        thin=None if provisioned is None else bool(provisioned),
        block_bytes=attributes.number(raw.get(block)),
    )


@functools.lru_cache(maxsize=1 << 12)
def _pages(designators: bytes | None, serial: bytes | None) -> tuple[tuple[str, ...], str | None]:
    """The names of a logical unit and its serial number. Remembered: each disk is read again and says the same."""
    names: tuple[str, ...] = ()
    try:
        names = unit_names(parse_designators(designators)) if designators is not None else ()
        return names, said(parse_serial(serial)) if serial is not None else None
    except ScsiFormatError:
        return names, None  # a target's mistake; the kernel's own reading of the page stands


def to_path(
    unit: Unit,
    placed: Placed,
    path: MapPath | None,
    counters: Counters | None,
    counted: Counters | None,
    was: model.Path | None,
    now: float,
) -> model.Path:
    """One path.

    Args:
        unit: Its disk.
        placed: The LUN.
        path: What is known of it in its map.
        counters: Its I/O counters now.
        counted: Its I/O counters when it was read before.
        was: The same path when it was read before.
        now: Unix time.
    """
    lun, session, node, joined = placed.lun, placed.session, placed.node, placed.map
    verdict = kernelview.path_verdict(lun, session.state, joined is not None, path)
    failures = path.failures if path is not None else None
    since = latency = None
    if was is not None:
        since = was.since if was.state is verdict.state else now
        latency = _latency(counters, counted, was)
    if failures is None:  # nobody counts but we
        failures = _failures(was, verdict.state)
    return model.Path(
        id=path_id(lun),
        name=f"{session.name} lun {lun.lun}",
        state=verdict.state,
        disk=unit.id,
        session=session.id,
        link=session.link,
        map=map_id(joined) if joined is not None else None,
        lun=lun.lun,
        device=f"/dev/{node.kname}" if node is not None else None,
        access=kernelview.access(lun.changing),
        in_use=verdict.in_use,
        since=since,
        latency_us=latency,
        in_flight=counters.in_flight if counters else None,
        reads=counters.reads if counters else None,
        writes=counters.writes if counters else None,
        read_bytes=counters.read_bytes if counters else None,
        write_bytes=counters.write_bytes if counters else None,
        errors=attributes.number(lun.changing.get("ioerr_cnt"), 16),
        timeouts=attributes.number(lun.changing.get("iotmo_cnt"), 16),
        failures=failures,
        reason=verdict.reason,
        group=path.group if path is not None else None,
        priority=path.priority if path is not None else None,
        checker=path.chk_st if path is not None else None,
    )


def _failures(was: model.Path | None, state: PathState) -> int:
    """How often it was seen to fail."""
    if was is None:
        return 0
    return (was.failures or 0) + (was.state in kernelview.WORKING and state not in kernelview.WORKING)


def _latency(counters: Counters | None, counted: Counters | None, was: model.Path | None) -> float | None:
    """The mean of the requests that ended since the last reading; the last known one if none did."""
    if counters is None or counted is None:
        return None
    ended = counters.reads + counters.writes - counted.reads - counted.writes
    spent = counters.busy_ms - counted.busy_ms
    if ended <= 0 or spent < 0:
        return was.latency_us if was is not None else None
    return spent * 1000 / ended


def path_id(lun: Lun) -> str:
    """The id of the path to a LUN."""
    return f"kernel:p:{lun.hctl}"


def map_id(node: BlockNode) -> str:
    """The id of a map."""
    return f"kernel:m:{map_wwid(node)}"


def to_map(
    unit: Unit,
    node: BlockNode,
    info: MapInfo | None,
    paths: Sequence[model.Path],
    answered_at: float | None,
    suspended: bool | None,
) -> Map:
    """The map over a disk's paths."""
    own = [path for path in paths if path.map is not None]
    state = MapState.NO_PATH if not own else kernelview.map_state([path.state for path in own], suspended)
    return Map(
        id=map_id(node),
        name=clean(node.dm_name or node.kname),
        state=state,
        source=Source.KERNEL,
        wwid=map_wwid(node),
        device=f"/dev/mapper/{node.dm_name}" if node.dm_name else f"/dev/{node.kname}",
        disk=unit.id,
        paths=tuple(sorted(path.id for path in own)),
        active=kernelview.working_of(path.state for path in own),
        total=max(len(node.slaves), len(own)),
        policy=info.policy if info is not None else None,
        queueing=info.queueing if info is not None else None,
        details=info.fields if info is not None else {},
        answered_at=answered_at if info is not None else None,
    )


def to_disk(
    unit: Unit, paths: Sequence[model.Path], facts: Facts | None, wrong: str | None, multipath: bool | None
) -> Disk:
    """The disk that a unit is."""
    node = unit.map or _device_node(unit)
    identity = unit.members[0].identity if unit.members else None
    targets = {placed.session.target for placed in unit.members}
    luns = {placed.lun.lun for placed in unit.members}
    reason: str | None
    if wrong is not None:
        state, reason = DiskState.UNKNOWN, wrong
    elif not unit.members:
        state, reason = DiskState.DEAD, "its map is left over: no path belongs to it any more"
    else:
        state = kernelview.disk_state([path.state for path in paths], node is not None)
        reason = _reason(unit, state, paths)
    return Disk(
        id=unit.id,
        name=clean((unit.map.dm_name if unit.map else None) or (node.kname if node else unit.members[0].lun.hctl)),
        state=state,
        source=Source.KERNEL,
        wwid=(facts.wwid if facts else None) or (identity.wwid if identity else None),
        size_bytes=node.size_bytes if node else None,
        device=_device(unit, node),
        dev=node.dev if node else None,
        diskseq=node.diskseq if node else None,
        paths=tuple(sorted(path.id for path in paths)),
        map=map_id(unit.map) if unit.map else None,
        target=next(iter(targets)) if len(targets) == 1 else None,
        lun=next(iter(luns)) if len(luns) == 1 else None,
        designators=facts.designators if facts else (),
        vendor=identity.vendor if identity else None,
        product=identity.product if identity else None,
        revision=identity.revision if identity else None,
        serial=facts.serial if facts else None,
        block_bytes=facts.block_bytes if facts else None,
        read_only=node.read_only if node else None,
        write_cache=facts.write_cache if facts else None,
        thin=facts.thin if facts else None,
        reason=reason,
        kind=identity.kind if identity else "disk",
        multipath=multipath,
    )


def _device_node(unit: Unit) -> BlockNode | None:
    """Of several devices that no map joins the one that is used, else the first."""
    nodes = [placed.node for placed in unit.members if placed.node is not None]
    ranked = sorted(nodes, key=lambda node: (not (node.holders or node.partitions), len(node.kname), node.kname))
    return next(iter(ranked), None)


def _device(unit: Unit, node: BlockNode | None) -> str | None:
    if unit.map is not None and unit.map.dm_name:
        return f"/dev/mapper/{unit.map.dm_name}"
    return f"/dev/{node.kname}" if node is not None else None


def _reason(unit: Unit, state: DiskState, paths: Sequence[model.Path]) -> str | None:
    if state is DiskState.ATTACHED:
        if unit.map is None and sum(placed.node is not None for placed in unit.members) > 1:
            return f"several devices are this one disk and no map joins them: {_devices(unit)}"
        return None
    return next((path.reason for path in paths if path.reason is not None), None)
