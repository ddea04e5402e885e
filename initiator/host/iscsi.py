"""The kernel's iSCSI sessions, connections and hosts and all their LUNs, from sysfs: any transport, any device type.

Everything that `iscsiadm -m session -P 3` prints comes from these files, except two words that only iscsid knows. CHAP
user names are read (by root), passwords never. An object that goes away while it is read is left out.

An object is known by the inode of its link in /sys/class. Of a known one only what can change at any time is looked at
in each reading (`initiator.host.lifetimes` says what that is); the rest is read again when one of those has changed, or
in turn. What is as it was is the same Python object as before, up to the whole result.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from initiator.host import attributes, lifetimes, sysfs
from initiator.host.attributes import Raw
from initiator.host.blocklinks import BlockLink, BlockLinks
from initiator.host.lifetimes import Lifetime
from initiator.host.luns import Lun, LunReader
from initiator.host.watched import Descriptors, Follower, in_turn
from initiator.model import Problem

TURN = 16
"""How many LUNs are read whole in one reading if nothing speaks for them."""
_SESSIONS_IN_TURN = 8
"""One session for so many LUNs: it has many more attributes, and nearly all of them never change."""

_Item = TypeVar("_Item")
_SESSION_PLACE = re.compile(r"/host(\d+)/session\d+/")


class KernelConnection(NamedTuple):
    """One connection, as texts under the kernel's names."""

    name: str
    cid: int
    attributes: Mapping[str, str]


class KernelSession(NamedTuple):
    """One session with its connections and its host."""

    sid: int
    host: int
    attributes: Mapping[str, str]
    iscsi_host: Mapping[str, str]
    scsi_host: Mapping[str, str]
    connections: tuple[KernelConnection, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Sessions:
    """One reading."""

    sessions: tuple[KernelSession, ...] = ()
    luns: tuple[Lun, ...] = ()
    problems: tuple[Problem, ...] = ()


class Wanted(NamedTuple):
    """The attributes that are read of each kind of object; all that there are, unless told otherwise."""

    session: Mapping[str, Lifetime] = lifetimes.SESSION
    connection: Mapping[str, Lifetime] = lifetimes.CONNECTION
    iscsi_host: Mapping[str, Lifetime] = lifetimes.ISCSI_HOST
    scsi_host: Mapping[str, Lifetime] = lifetimes.SCSI_HOST


EVERYTHING = Wanted()


@dataclasses.dataclass(slots=True)
class _KnownSession:
    """What is remembered of one session."""

    inode: int
    host: int
    connections: tuple[tuple[str, int], ...]
    """Names and inodes of the links."""
    raw: Mapping[str, Raw]
    made: KernelSession


@dataclasses.dataclass(slots=True)
class _Listing:
    """The names in the folders of /sys/class with the inodes of their links, as they were last."""

    sessions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    connections: Mapping[str, int] = dataclasses.field(default_factory=dict)
    luns: Mapping[str, int] = dataclasses.field(default_factory=dict)
    blocks: Mapping[str, BlockLink] = dataclasses.field(default_factory=dict)


class SessionReader:
    """Reads the sessions of one host again and again.

    Args:
        root: Where `sys` is.
        turn: How many LUNs are read whole in one reading without a reason.
        descriptors: How many files may be kept open.
        wanted: What is read of sessions, connections and hosts.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        turn: int = TURN,
        descriptors: Descriptors | None = None,
        wanted: Wanted = EVERYTHING,
    ) -> None:
        self._wanted = wanted
        self._class = f"{sysfs.base(root)}/sys/class"
        self._turn = turn
        descriptors = descriptors or Descriptors()
        self._watch = Follower(descriptors)
        self._unwatched: list[str] = []
        self._luns = LunReader(self._class, turn, descriptors)
        self._blocks = BlockLinks(root)
        self._listing = _Listing()
        self._sessions: dict[str, _KnownSession] = {}
        self._by_session: dict[str, tuple[tuple[str, int], ...]] = {}
        self._shapes: dict[str, tuple[str, ...]] = {}
        self._next_session = 0
        self._last = Sessions()

    def read(self, full: bool = False, blocks: Mapping[str, BlockLink] | None = None) -> Sessions:
        """Reads what is there now; the same object as before if nothing has changed.

        Args:
            full: Read every attribute of every object, whatever is remembered.
            blocks: The block devices that there are, from `BlockReader.links`; None to look here.
        """
        problems: list[Problem] = []
        if full:
            self._shapes.clear()
        try:
            listing = self._list(blocks)
        except PermissionError as error:
            return Sessions(problems=(Problem("iscsi", str(error.filename), "may not be read"),))
        # Before anything is read: what changes from here on is another value at the next look.
        changed, again = self._changed(), self._luns.changed()
        sessions, moved = self._read_sessions(listing, changed, full, problems)
        sids = {session.sid for session in sessions}
        luns = self._luns.read(listing.luns, listing.blocks, sids, again, moved, full)
        self._listing = listing
        found = Sessions(_same(self._last.sessions, sessions), _same(self._last.luns, luns), tuple(problems))
        if (found.sessions, found.luns) != (self._last.sessions, self._last.luns) or problems or self._last.problems:
            self._last = found
        return self._last

    def _list(self, blocks: Mapping[str, BlockLink] | None) -> _Listing:
        def entries(kind: str) -> dict[str, int]:
            return attributes.entries(f"{self._class}/{kind}") or {}

        sessions = entries("iscsi_session")
        if not sessions:
            return _Listing(connections=entries("iscsi_connection"))
        if blocks is None:
            blocks = self._blocks.read() or {}
        return _Listing(sessions, entries("iscsi_connection"), entries("scsi_device"), blocks)

    def _changed(self) -> set[str]:
        """The names of the known sessions of which something that is followed has changed.

        The first reading opens nothing for it: many programs read only once.
        """
        for name in self._unwatched:
            if (known := self._sessions.get(name)) is not None:
                raw = known.raw["session"]
                self._follow(name, f"{self._class}/iscsi_session/{name}", self._wanted.session, raw)
                for connection, _ in known.connections:
                    raw = known.raw.get(connection, {})
                    self._follow(name, f"{self._class}/iscsi_connection/{connection}", self._wanted.connection, raw)
        self._unwatched.clear()
        return self._watch.changed()

    def _follow(self, name: str, place: str, table: Mapping[str, Lifetime], raw: Raw) -> None:
        self._watch.follow(name, place, lifetimes.looks(table, raw), raw)

    def close(self) -> None:
        """Closes what is kept open."""
        self._watch.close()
        self._luns.close()

    # --- sessions ---

    def _read_sessions(
        self, listing: _Listing, changed: set[str], full: bool, problems: list[Problem]
    ) -> tuple[list[KernelSession], set[int]]:
        """The sessions, and the ids of those whose LUNs have to be looked at because something happened."""
        links = listing.sessions
        if listing.connections != self._listing.connections:
            self._by_session = _grouped(listing.connections)
        if links != self._listing.sessions:
            self._forget({name for name, known in self._sessions.items() if links.get(name) != known.inode})
        due, self._next_session = in_turn(list(links), self._next_session, max(self._turn // _SESSIONS_IN_TURN, 1))
        found = []
        moved = set()
        for name, inode in links.items():
            sid = name.removeprefix("session")
            if not sid.isdigit():
                continue
            connections = self._by_session.get(sid, ())
            known = self._sessions.get(name)
            if known is not None and known.connections == connections and not (
                full or name in changed or name in due
            ):  # fmt: skip
                found.append(known.made)
                continue
            session = self._session(name, inode, known, connections)
            if session is None:
                moved.add(int(sid))
                if os.path.lexists(f"{self._class}/iscsi_session/{name}"):
                    problems.append(
                        Problem("iscsi", name, "it is there, but neither its host nor its state can be read")
                    )
                continue
            found.append(session)
            if known is None or session is not known.made:
                moved.add(session.sid)
        return found, moved

    def _forget(self, names: set[str]) -> None:
        self._watch.forget(names)
        for name in names:
            self._sessions.pop(name, None)

    def _session(
        self, name: str, inode: int, known: _KnownSession | None, connections: tuple[tuple[str, int], ...]
    ) -> KernelSession | None:
        folder = f"{self._class}/iscsi_session/{name}"
        if known is None:
            place = _SESSION_PLACE.search(sysfs.read_link(folder) or "")
            if place is None:
                return None
            host = int(place[1])
        else:
            host = known.host
        raw = self._session_files(folder, host, connections)
        if raw is None:
            self._forget({name})
            return None
        if known is not None and known.raw == raw and known.connections == connections:
            return known.made
        if known is None or known.connections != connections:
            if known is not None:
                self._watch.forget({name})
            self._unwatched.append(name)
        made = _to_session(int(name.removeprefix("session")), host, raw)
        if known is not None and made == known.made:
            made = known.made
        self._sessions[name] = _KnownSession(inode, host, connections, raw, made)
        return made

    def _session_files(self, folder: str, host: int, connections: tuple[tuple[str, int], ...]) -> dict[str, Raw] | None:
        wanted = self._wanted
        scsi_host = attributes.read_raw(f"{self._class}/scsi_host/host{host}", wanted.scsi_host) or {}
        transport = f"session {scsi_host.get('proc_name', b'')!r}"
        session = attributes.read_raw(folder, self._shape(transport, folder, wanted.session))
        if not session:
            return None
        raw: dict[str, Raw] = {"session": session, "scsi_host": scsi_host}
        if wanted.iscsi_host:
            raw["iscsi_host"] = attributes.read_raw(f"{self._class}/iscsi_host/host{host}", wanted.iscsi_host) or {}
        for name, _ in connections:
            place = f"{self._class}/iscsi_connection/{name}"
            shape = self._shape(f"connection {transport}", place, wanted.connection)
            connection = attributes.read_raw(place, shape)
            if connection is not None:
                raw[name] = connection
        return raw

    def _shape(self, key: str, folder: str, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that objects of a kind have in this kernel; asking for what is not there costs as much."""
        shape = self._shapes.get(key)
        if shape is None:
            there = set(sysfs.names(folder))
            shape = tuple(name for name in names if name in there) or tuple(names)
            if there:
                self._shapes[key] = shape
        return shape


def _same(before: tuple[_Item, ...], now: list[_Item]) -> tuple[_Item, ...]:
    """`before` if it has just these objects."""
    if len(before) == len(now) and all(map(operator.is_, before, now)):
        return before
    return tuple(now)


def _grouped(connections: Mapping[str, int]) -> dict[str, tuple[tuple[str, int], ...]]:
    """The connections of each session, by the digits of its name."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, inode in sorted(connections.items()):
        found.setdefault(name.removeprefix("connection").partition(":")[0], []).append((name, inode))
    return {sid: tuple(entries) for sid, entries in found.items()}


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
        attributes.texts(raw.get("iscsi_host", {})),
        attributes.texts(raw["scsi_host"]),
        connections,
    )


def _cid(name: str) -> int:
    digits = name.partition(":")[2]
    return int(digits) if digits.isdigit() else 0
