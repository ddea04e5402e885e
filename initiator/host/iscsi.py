"""The kernel's iSCSI sessions, connections and hosts and all their LUNs, from sysfs: any transport, any device type.

Everything that `iscsiadm -m session -P 3` prints comes from these files, except two words that only iscsid knows. CHAP
user names are read (by root), passwords never. An object that goes away while it is read is left out.

Where there are thousands of objects a reading is made cheap by what cannot change: an object is known by the inode of
its link in /sys/class, and what is fixed for its life is read once. Of what can change, the states of the sessions are
read each time, that of the other objects in turn, some hundred at a time.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from initiator.host import attributes, sysfs
from initiator.host.attributes import Raw
from initiator.model import Problem

TURN = 256
"""How many LUNs are read anew in one reading if nothing speaks for them."""
_SESSIONS_IN_TURN = 8
"""One session for so many LUNs: it has many more attributes, and nearly all of them never change."""

_SESSION = (
    "state",
    "target_state",
    "targetname",
    "targetalias",
    "tpgt",
    "isid",
    "tsid",
    "ifacename",
    "initiatorname",
    "username",
    "username_in",
    "recovery_tmo",
    "abort_tmo",
    "lu_reset_tmo",
    "tgt_reset_tmo",
    "first_burst_len",
    "max_burst_len",
    "immediate_data",
    "initial_r2t",
    "max_outstanding_r2t",
    "boot_target",
)
_CONNECTION = (
    "state",
    "address",
    "port",
    "persistent_address",
    "persistent_port",
    "local_port",
    "local_ipaddr",
    "header_digest",
    "data_digest",
    "max_recv_dlength",
    "max_xmit_dlength",
    "ping_tmo",
    "recv_tmo",
)
_ISCSI_HOST = ("ipaddress", "hwaddress", "netdev", "initiatorname")
_SCSI_HOST = ("state", "proc_name")
_LUN_FIXED = ("inquiry", "wwid")
_LUN_OLD = ("type", "vendor", "model", "rev")
"""Where the kernel does not show the answer to INQUIRY."""
_LUN_CHANGING = ("state", "ioerr_cnt", "iotmo_cnt", "access_state")
_LUN_COUNTERS = ("iorequest_cnt", "iodone_cnt")
"""Only for what is no block device: /proc/diskstats tells more of those."""

_SESSION_PLACE = re.compile(r"/host(\d+)/session\d+/")
_LUN_PLACE = re.compile(r"/session(\d+)/target[^/]+/(\d+):(\d+):(\d+):(\d+)/")
_BLOCK_PLACE = re.compile(r"/session\d+/target[^/]+/([\d:]+)/block/([^/]+)$")


@dataclasses.dataclass(frozen=True, slots=True)
class KernelConnection:
    """One connection, as texts under the kernel's names."""

    name: str
    cid: int
    attributes: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class KernelSession:
    """One session with its connections and its host."""

    sid: int
    host: int
    attributes: Mapping[str, str]
    iscsi_host: Mapping[str, str]
    scsi_host: Mapping[str, str]
    connections: tuple[KernelConnection, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Lun:
    """One logical unit as one session sees it."""

    hctl: str
    sid: int
    lun: int
    place: str
    """Its folder in /sys/devices, by way of /sys/class."""
    fixed: Raw
    changing: Raw
    kname: str | None = None
    """Its block device; None for what has none, or not yet."""

    @property
    def state(self) -> str | None:
        """running, offline, transport-offline, blocked, quiesce, cancel, …"""
        return attributes.text(self.changing.get("state"))


@dataclasses.dataclass(frozen=True, slots=True)
class Sessions:
    """One reading."""

    sessions: tuple[KernelSession, ...] = ()
    luns: tuple[Lun, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(slots=True)
class _Known:
    """What is remembered of one object; forgotten as soon as its link has another inode."""

    inode: int
    place: str
    host: int
    """Of a session its host, of a LUN its session."""
    raw: tuple[Mapping[str, Raw], ...] = ()
    made: KernelSession | Lun | None = None


class SessionReader:
    """Reads the sessions of one host again and again.

    Args:
        root: Where `sys` is.
        turn: How many LUNs are looked at in one reading without a reason.
    """

    def __init__(self, root: Path = Path("/"), turn: int = TURN) -> None:
        self._class = f"{sysfs.base(root)}/sys/class"
        self._turn = turn
        self._sessions: dict[str, _Known] = {}
        self._luns: dict[str, _Known] = {}
        self._blocks: dict[str, tuple[int, str | None]] = {}
        self._shapes: dict[str, tuple[str, ...]] = {}
        self._next_session = 0
        self._next_lun = 0

    def read(self, full: bool = False) -> Sessions:
        """Reads what is there now.

        Args:
            full: Read every attribute of every object, whatever is remembered.
        """
        problems: list[Problem] = []
        if full:
            self._shapes.clear()
        try:
            links = attributes.entries(f"{self._class}/iscsi_session") or {}
            connections = attributes.entries(f"{self._class}/iscsi_connection") or {}
            luns = (attributes.entries(f"{self._class}/scsi_device") or {}) if links else {}
            blocks = (attributes.entries(f"{self._class}/block") or {}) if links else {}
        except PermissionError as error:
            return Sessions(problems=(Problem("iscsi", str(error.filename), "may not be read"),))
        found, moved = self._read_sessions(links, connections, full, problems)
        knames = self._knames(blocks)
        units = self._read_luns(luns, {session.sid for session in found}, moved, knames, full)
        return Sessions(tuple(found), tuple(units), tuple(problems))

    # --- sessions ---

    def _read_sessions(
        self, links: Mapping[str, int], connections: Iterable[str], full: bool, problems: list[Problem]
    ) -> tuple[list[KernelSession], set[int]]:
        """The sessions, and the ids of those whose LUNs have to be looked at because something happened."""
        by_session: dict[str, list[str]] = {}
        for name in connections:
            by_session.setdefault(name.removeprefix("connection").partition(":")[0], []).append(name)
        self._sessions = {name: known for name, known in self._sessions.items() if links.get(name) == known.inode}
        due, self._next_session = _turn(sorted(links), self._next_session, max(self._turn // _SESSIONS_IN_TURN, 1))
        found = []
        moved = set()
        for name in links:
            sid = name.removeprefix("session")
            if not sid.isdigit():
                continue
            session, changed = self._session(name, links[name], by_session.get(sid, ()), full or name in due)
            if session is None:
                if os.path.lexists(f"{self._class}/iscsi_session/{name}"):
                    problems.append(
                        Problem("iscsi", name, "it is there, but neither its host nor its state can be read")
                    )
                continue
            found.append(session)
            if changed:
                moved.add(session.sid)
        return found, moved

    def _session(
        self, name: str, inode: int, connections: Iterable[str], read_all: bool
    ) -> tuple[KernelSession | None, bool]:
        known = self._sessions.get(name)
        folder = f"{self._class}/iscsi_session/{name}"
        if known is not None and not read_all and isinstance(known.made, KernelSession):
            state = attributes.read_one(f"{folder}/state")
            if state is not None and state == known.raw[0]["session"].get("state"):
                return known.made, False
        if known is None:
            place = _SESSION_PLACE.search(sysfs.read_link(folder) or "")
            if place is None:
                return None, False
            known = _Known(inode, folder, int(place[1]))
        raw = self._session_files(folder, known.host, sorted(connections))
        if raw is None:
            self._sessions.pop(name, None)
            return None, False
        if known.made is not None and known.raw == (raw,):
            assert isinstance(known.made, KernelSession)
            return known.made, False
        made = _to_session(int(name.removeprefix("session")), known.host, raw)
        self._sessions[name] = dataclasses.replace(known, raw=(raw,), made=made)
        return made, True

    def _session_files(self, folder: str, host: int, connections: Iterable[str]) -> dict[str, Raw] | None:
        scsi_host = attributes.read_raw(f"{self._class}/scsi_host/host{host}", _SCSI_HOST) or {}
        transport = f"session {scsi_host.get('proc_name', b'')!r}"
        session = attributes.read_raw(folder, self._shape(transport, folder, _SESSION))
        if not session:
            return None
        raw: dict[str, Raw] = {"session": session, "scsi_host": scsi_host}
        raw["iscsi_host"] = attributes.read_raw(f"{self._class}/iscsi_host/host{host}", _ISCSI_HOST) or {}
        for name in connections:
            place = f"{self._class}/iscsi_connection/{name}"
            shape = self._shape(f"connection {transport}", place, _CONNECTION)
            connection = attributes.read_raw(place, shape)
            if connection is not None:
                raw[name] = connection
        return raw

    def _shape(self, key: str, folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that objects of a kind have in this kernel; asking for what is not there costs as much."""
        shape = self._shapes.get(key)
        if shape is None:
            there = set(sysfs.names(folder))
            shape = tuple(name for name in names if name in there) or names
            if there:
                self._shapes[key] = shape
        return shape

    # --- LUNs ---

    def _knames(self, blocks: Mapping[str, int]) -> dict[str, str]:
        """The block device of each LUN, by its address."""
        seen = self._blocks
        self._blocks = {}
        found = {}
        for name, inode in blocks.items():
            entry = seen.get(name)
            if entry is None or entry[0] != inode:
                place = _BLOCK_PLACE.search(sysfs.read_link(f"{self._class}/block/{name}") or "")
                entry = (inode, place[1] if place else None)
            self._blocks[name] = entry
            if entry[1] is not None:
                found[entry[1]] = name
        return found

    def _read_luns(
        self, links: Mapping[str, int], sids: set[int], moved: set[int], knames: Mapping[str, str], full: bool
    ) -> Iterator[Lun]:
        luns = self._luns
        self._luns = {}
        due, self._next_lun = _turn(list(links), self._next_lun, self._turn)
        for hctl, inode in links.items():
            known = luns.get(hctl)
            if known is None or known.inode != inode:
                place = _LUN_PLACE.search(sysfs.read_link(f"{self._class}/scsi_device/{hctl}") or "")
                known = _Known(inode, f"{self._class}/scsi_device/{hctl}/device", int(place[1]) if place else -1)
            self._luns[hctl] = known
            if known.host not in sids:
                continue
            lun = known.made
            kname = knames.get(hctl)
            if not isinstance(lun, Lun) or full or hctl in due or known.host in moved or (kname != lun.kname):
                lun = _read_lun(hctl, known, kname, full)
                known.made = lun
            if lun is not None:
                yield lun


def _read_lun(hctl: str, known: _Known, kname: str | None, full: bool) -> Lun | None:
    before = known.made if isinstance(known.made, Lun) else None
    counters = () if kname else _LUN_COUNTERS
    if before is not None and not full:
        changing = attributes.read_raw(known.place, (*_LUN_CHANGING, *counters))
        if changing is None:
            return None
        fixed = before.fixed
    else:
        raw = attributes.read_raw(known.place, (*_LUN_FIXED, *_LUN_CHANGING, *counters))
        if not raw:
            return None
        fixed = {name: raw.pop(name) for name in _LUN_FIXED if name in raw}
        if "inquiry" not in fixed:
            fixed |= attributes.read_raw(known.place, _LUN_OLD) or {}
        changing = raw
    if before is not None and before.changing == changing and before.fixed == fixed and before.kname == kname:
        return before
    return Lun(hctl, known.host, int(hctl.rpartition(":")[2]), known.place, fixed, changing, kname)


def _turn(names: list[str], start: int, count: int) -> tuple[frozenset[str], int]:
    """Which of `names` it is the turn of, and where the next turn begins."""
    if len(names) <= count:
        return frozenset(names), 0
    start %= len(names)
    chosen = names[start : start + count]
    chosen += names[: count - len(chosen)]
    return frozenset(chosen), start + count


def _to_session(sid: int, host: int, raw: Mapping[str, Raw]) -> KernelSession:
    connections = tuple(
        KernelConnection(name, _cid(name), attributes.texts(raw[name]))
        for name in sorted(raw)
        if name.startswith("connection")
    )
    return KernelSession(
        sid,
        host,
        attributes.texts(raw["session"]),
        attributes.texts(raw["iscsi_host"]),
        attributes.texts(raw["scsi_host"]),
        connections,
    )


def _cid(name: str) -> int:
    digits = name.partition(":")[2]
    return int(digits) if digits.isdigit() else 0
