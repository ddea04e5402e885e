"""The vocabulary of Mooring: frozen values that every room shares.

A `Snapshot` is one consistent reading of a host. Everything in it has an `id` that is stable for as long as the
thing exists, a `name` that a person recognises, and a `state`; objects refer to each other by id only, so that a
snapshot can be compared, stored and printed without following references.

Units are part of the field name (`_bytes`, `_us`, `_mbps`). `None` always means "not known", never zero or "no".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from initiator.quick import quick
from initiator.states import (
    Access,
    DiskState,
    LinkState,
    MapState,
    PathState,
    SessionState,
    Severity,
    Source,
    VolumeState,
)

__all__ = [
    "SCHEMA",
    "Access",
    "BlockNode",
    "Connection",
    "Disk",
    "DiskState",
    "Event",
    "Link",
    "LinkState",
    "Map",
    "MapState",
    "Path",
    "PathState",
    "Portal",
    "Problem",
    "Session",
    "SessionState",
    "Severity",
    "Snapshot",
    "Source",
    "Swap",
    "TcpInfo",
    "Volume",
    "VolumeState",
    "holds_data",
]

SCHEMA = 1
"""Version of the JSON that is made from these classes. Raised when a key changes its meaning or goes away."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Portal:
    """Where a target listens: address, TCP port, portal group tag (RFC 7143, 4.1.1 and 13.8)."""

    host: str
    """An IP address without brackets, in its shortest form, or a host name in lower case."""
    port: int = 3260
    group_tag: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class TcpInfo:
    """The kernel's own view of one TCP connection (struct tcp_info, linux/tcp.h)."""

    state: str = "unknown"
    rtt_us: int | None = None
    rttvar_us: int | None = None
    rto_us: int | None = None
    retransmits: int | None = None
    """Segments sent again since the connection was made (tcpi_total_retrans)."""
    unacked: int | None = None
    last_received_ms: int | None = None
    delivery_rate_bytes_s: int | None = None
    snd_cwnd: int | None = None
    unanswered: int | None = None
    """How often in a row the timer for the oldest unacknowledged segment has run out (tcpi_retransmits)."""
    sent: int | None = None
    """Segments with data sent since the connection was made, those sent again among them (tcpi_data_segs_out). The
    kernel counts them in 32 bits: a fast link begins anew within hours."""


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of a session."""

    id: str
    name: str
    state: str
    cid: int = 0
    local_host: str | None = None
    local_port: int | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    header_digest: str | None = None
    data_digest: str | None = None
    tcp: TcpInfo | None = None


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One iSCSI session: this initiator, one target, one portal at a time."""

    id: str
    name: str
    state: SessionState
    source: Source
    target: str
    portal: Portal
    initiator: str | None = None
    alias: str | None = None
    isid: str | None = None
    """Twelve hexadecimal digits."""
    tsih: int | None = None
    tpgt: int | None = None
    chap_user: str | None = None
    connections: tuple[Connection, ...] = ()
    negotiated: Mapping[str, str] = dataclasses.field(default_factory=dict)
    luns: tuple[int, ...] = ()
    reason: str | None = None
    """Why the state is not logged-in, in one sentence."""
    reconnects: int = 0
    link: str | None = None
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Whatever else the kernel tells: timeouts, interface, host, record (`initiator.host.kernel`)."""


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Path:
    """One route from this host to one disk."""

    id: str
    name: str
    state: PathState
    disk: str
    session: str
    link: str | None = None
    map: str | None = None
    lun: int = 0
    device: str | None = None
    access: Access = Access.UNKNOWN
    in_use: bool = False
    """True while the selector sends I/O over this path."""
    since: float | None = None
    """Unix time at which the state was entered."""
    latency_us: float | None = None
    in_flight: int | None = None
    reads: int | None = None
    writes: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    errors: int | None = None
    timeouts: int | None = None
    failures: int | None = None
    """How often the path went from working to failed."""
    reason: str | None = None
    group: int | None = None
    """Its path group in the map, counted from 1."""
    priority: int | None = None
    """What multipathd gave it; the group with the highest one is used."""
    checker: str | None = None
    """multipathd's last verdict: ready, faulty, shaky, ghost, …"""


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """One logical unit, however many paths lead to it."""

    id: str
    name: str
    state: DiskState
    source: Source
    wwid: str | None
    """SCSI identification of the logical unit (VPD page 83h): `naa.…`, `eui.…`, `t10.…`; None where it has none."""
    size_bytes: int | None
    device: str | None = None
    """The device node that carries the data: a map where there is one, else the disk; None while not attached."""
    dev: str | None = None
    """`major:minor` of `device`."""
    diskseq: int | None = None
    paths: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    map: str | None = None
    target: str | None = None
    lun: int | None = None
    designators: tuple[str, ...] = ()
    vendor: str | None = None
    product: str | None = None
    revision: str | None = None
    serial: str | None = None
    block_bytes: int | None = None
    read_only: bool | None = None
    write_cache: bool | None = None
    thin: bool | None = None
    unflushed: bool | None = None
    """True while the target has acknowledged writes that no SYNCHRONIZE CACHE has covered yet."""
    reason: str | None = None
    kind: str = "disk"
    """disk, tape, cd, controller, enclosure, …: the peripheral device type (SPC-4, 6.6.2)."""
    multipath: bool | None = None
    """Whether the kernel joins its paths into a map; None where nobody can say."""


def holds_data(kind: str) -> bool:
    """Whether something can be lost on this kind of logical unit: on all but the doors of an array."""
    return kind not in ("controller", "enclosure", "processor")


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Map:
    """Several paths joined into one device: dm-multipath's, or the engine's own."""

    id: str
    name: str
    state: MapState
    source: Source
    wwid: str | None
    device: str | None
    disk: str
    paths: tuple[str, ...] = ()
    active: int = 0
    total: int = 0
    policy: str | None = None
    queueing: str | None = None
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Whatever else multipathd tells: features, hardware handler, failback, counters."""
    answered_at: float | None = None
    """Unix time of the answer that path states come from, where it is older than the snapshot; else None."""


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """One mount of a file system, in one mount namespace."""

    id: str
    name: str
    """The label where there is one, else the mount point."""
    state: VolumeState
    mountpoint: str
    fstype: str
    device: str
    """What mountinfo calls the source."""
    dev: str
    """`major:minor` as in mountinfo."""
    disks: tuple[str, ...] = ()
    options: str = ""
    root: str = "/"
    """The directory inside the file system that is mounted here; not `/` for a bind mount."""
    mount_id: int = 0
    parent_id: int = 0
    namespace: str | None = None
    """None for Mooring's own mount namespace, else the inode of the other one."""
    namespace_pid: int | None = None
    """A process inside that namespace."""
    propagation: str = ""
    size_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    label: str | None = None
    uuid: str | None = None
    look: bool = False
    """Whether Mooring mounted it only to look into it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """One network interface."""

    id: str
    name: str
    state: LinkState
    kind: str = "unknown"
    """loopback, ethernet, bond, vlan, bridge, veth, …"""
    carrier: bool | None = None
    carrier_changes: int | None = None
    speed_mbps: int | None = None
    duplex: str | None = None
    mtu: int | None = None
    master: str | None = None
    lower: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    driver: str | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    rx_errors: int | None = None
    tx_errors: int | None = None
    rx_dropped: int | None = None
    tx_dropped: int | None = None


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class BlockNode:
    """One block device of the kernel and what stands on it."""

    kname: str
    """The kernel's name: `loop0`, `sda1`, `dm-3`."""
    dev: str
    kind: str
    """disk, part, loop, lvm, crypt, mpath, md, bcache, dm, …"""
    size_bytes: int | None
    read_only: bool | None
    holders: tuple[str, ...] = ()
    slaves: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    parent: str | None = None
    """The whole disk of a partition."""
    backing_file: str | None = None
    """Loop devices only: what it is made of, as the kernel prints it."""
    backing_dev: str | None = None
    """Loop devices only: `major:minor` of the block device it stands on, if it stands on one."""
    dm_name: str | None = None
    dm_uuid: str | None = None
    diskseq: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Swap:
    """One swap area that is switched on."""

    path: str
    kind: str
    """`partition` or `file`."""
    used_bytes: int
    dev: str | None
    """`major:minor` of the device, or of the file system that holds the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read. A guard that needed it has to say no."""

    source: str
    """Which reader: `mounts`, `block`, `engine`, …"""
    subject: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One change between two snapshots, or one message of the engine."""

    at: float
    """Unix time."""
    kind: str
    """`appeared`, `vanished`, `state`, `engine`, `removal`."""
    subject: str
    """The id of what changed."""
    text: str
    severity: Severity = Severity.NOTE


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of a host. Tuples are sorted by id."""

    host: str
    taken_at: float
    """Unix time at which reading began."""
    sessions: tuple[Session, ...] = ()
    disks: tuple[Disk, ...] = ()
    paths: tuple[Path, ...] = ()
    maps: tuple[Map, ...] = ()
    volumes: tuple[Volume, ...] = ()
    links: tuple[Link, ...] = ()
    block: tuple[BlockNode, ...] = ()
    swaps: tuple[Swap, ...] = ()
    problems: tuple[Problem, ...] = ()
    engine: str = "not running"
    """`running`, `not running`, or why it did not answer."""
    practice: bool = False
    """True while a practice range is up."""
    schema: int = SCHEMA

    def index(self) -> Mapping[str, Session | Disk | Path | Map | Volume | Link]:
        """Everything that has an id, by id."""
        groups: tuple[Iterable[Session | Disk | Path | Map | Volume | Link], ...] = (
            self.sessions,
            self.disks,
            self.paths,
            self.maps,
            self.volumes,
            self.links,
        )
        return {item.id: item for group in groups for item in group}
