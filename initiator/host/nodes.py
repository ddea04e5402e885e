"""What open-iscsi has on disk: node records, discovery records, and the firmware's boot table (iBFT).

Distributions keep the database in /etc/iscsi or in /var/lib/iscsi, and a host that was upgraded may have both, with
different records in each: both are read and a record says where it comes from. Passwords are not taken in.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from initiator.errors import BadInputError
from initiator.host import sysfs
from initiator.host.attributes import FILE
from initiator.host.watched import share
from initiator.model import Portal, Problem
from initiator.names import DEFAULT_PORT, clean, parse_portal

DATABASES = ("etc/iscsi", "var/lib/iscsi")
_DISCOVERIES = ("send_targets", "isns", "slp", "static", "fw")
_LARGEST = 1 << 16
_SETTING = re.compile(r"([\w.\[\]-]+)[ \t]*", re.ASCII)
_SECRET = re.compile(r"password|secret", re.IGNORECASE)


class NodeRecord(NamedTuple):
    """How to log in to one target at one portal through one interface."""

    target: str
    portal: Portal
    interface: str
    path: str
    settings: Mapping[str, str]
    """Under open-iscsi's names, without passwords."""

    @property
    def startup(self) -> str | None:
        """manual, automatic or onboot."""
        return self.settings.get("node.startup")

    @property
    def chap_user(self) -> str | None:
        """The name that this host presents."""
        return self.settings.get("node.session.auth.username")

    @property
    def is_plain_tcp(self) -> bool:
        """Whether it goes through this host's own TCP without being bound to an interface."""
        return self.interface == "default" and self.settings.get("iface.transport_name", "tcp") == "tcp"

    @property
    def login_seconds(self) -> float:
        """How long iscsid tries to log in with it before it gives up; 0 where the record does not say."""
        tries = self.settings.get("node.session.initial_login_retry_max", "")
        each = self.settings.get("node.conn[0].timeo.login_timeout", "")
        if not (tries.isdecimal() and each.isdecimal() and len(tries) < 4 and len(each) < 4):
            return 0.0
        return float(int(tries) * int(each))


@dataclasses.dataclass(frozen=True, slots=True)
class DiscoveryRecord:
    """One discovery that open-iscsi remembers."""

    kind: str
    address: str
    path: str
    settings: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class BootTarget:
    """One target that the firmware boots from."""

    name: str
    portal: Portal | None
    lun: str | None
    chap_user: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """Everything that is there, and what could not be read."""

    nodes: tuple[NodeRecord, ...] = ()
    discoveries: tuple[DiscoveryRecord, ...] = ()
    boot: tuple[BootTarget, ...] = ()
    problems: tuple[Problem, ...] = ()

    def of(self, target: str, portal: Portal, interface: str) -> tuple[NodeRecord, ...]:
        """The records that a session can have come from; two where two databases have one."""
        return tuple(
            record
            for record in self.nodes
            if record.target == target
            and (record.portal.host, record.portal.port) == (portal.host, portal.port)
            and record.interface == interface
        )


class _Place(NamedTuple):
    target: str
    portal: Portal
    interface: str
    path: str


class RecordReader:
    """Reads the databases of one host again and again; only what has another time stamp is read anew.

    Args:
        root: Where `etc`, `var` and `sys` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = sysfs.base(root)
        self._folders: dict[str, tuple[int | None, tuple[str, ...]]] = {}
        self._records: dict[str, tuple[tuple[int, int, int], NodeRecord]] = {}
        self._next_folder = self._next_record = 0
        self._places: tuple[_Place, ...] = ()
        self._trouble: tuple[Problem, ...] = ()
        """What was wrong with the folders and records themselves."""
        self._last = Records()

    def read(self, full: bool = False) -> Records:
        """Reads what is there now; the same object as before if nothing has changed.

        Args:
            full: Read every file, whatever is remembered.
        """
        if full:
            self._folders.clear()
            self._records.clear()
        if not self._folders or self._moved():
            trouble: list[Problem] = []
            self._places = tuple(
                place for base in DATABASES for place in self._find(f"{self._root}/{base}/nodes", trouble)
            )
            self._records = self._read_records(self._places, trouble)
            found = tuple(record for _, record in self._records.values())
            self._trouble = (*trouble, *_disagreements(found))
        else:
            found = self._last.nodes
        problems = [*self._trouble]
        discoveries = tuple(self._discoveries(problems))
        records = Records(found, discoveries, read_ibft(Path(self._root or "/")), tuple(problems))
        if records != self._last:
            self._last = records
        return self._last

    def _moved(self) -> bool:
        """Whether a folder or a record has another time stamp than when it was read, or could not be read then.

        Of a large database a part is looked at in each reading.
        """
        if len(self._records) != len(self._places):
            return True
        folders, self._next_folder = share(self._folders, self._next_folder)
        records, self._next_record = share(self._records, self._next_record)
        stat = os.stat
        try:
            for folder in folders:
                when, _ = self._folders[folder]
                if (_mtime(folder) if when is None else stat(folder).st_mtime_ns) != when:
                    return True
            for path in records:
                (inode, mtime, size), _ = self._records[path]
                found = stat(path)
                if found.st_mtime_ns != mtime or found.st_ino != inode or found.st_size != size:
                    return True
        except OSError:
            return True  # whatever it is, the thorough reading deals with it
        return False

    def _read_records(
        self, places: Iterable[_Place], problems: list[Problem]
    ) -> dict[str, tuple[tuple[int, int, int], NodeRecord]]:
        found = {}
        for place in places:
            entry = self._read_record(place, self._records.get(place.path), problems)
            if entry is not None:
                found[place.path] = entry
        return found

    def _find(self, folder: str, problems: list[Problem]) -> Iterator[_Place]:
        for target in self._names(folder, problems):
            for name in self._names(f"{folder}/{target}", problems):
                portal = _portal(name)
                if portal is None:
                    problems.append(Problem("nodes", f"{target}/{clean(name)}", "its name is no portal"))
                    continue
                path = f"{folder}/{target}/{name}"
                interfaces = self._names(path, problems)
                if not interfaces and os.path.isfile(path):  # before 2.0-870 there were no interfaces
                    yield _Place(target, portal, "default", path)
                for interface in interfaces:
                    yield _Place(target, portal, interface, f"{path}/{interface}")

    def _names(self, folder: str, problems: list[Problem]) -> tuple[str, ...]:
        """The entries of a folder; only listed anew when its time stamp has changed."""
        stamp = _mtime(folder)
        known = self._folders.get(folder)
        if known is not None and known[0] == stamp and stamp is not None:
            return known[1]
        names: tuple[str, ...] = ()
        try:
            names = tuple(sorted(os.listdir(folder)))
        except OSError as error:
            if error.errno in sysfs.REFUSED:
                problems.append(Problem("nodes", folder, "only root may read node records"))
                stamp = None
            elif error.errno not in sysfs.GONE:
                raise
        self._folders[folder] = (stamp, names)
        return names

    def _read_record(
        self, place: _Place, before: tuple[tuple[int, int, int], NodeRecord] | None, problems: list[Problem]
    ) -> tuple[tuple[int, int, int], NodeRecord] | None:
        stamp = _stamp(place.path)
        if stamp is None:
            return None
        if before is None or before[0] != stamp:
            settings = _settings(place.path, problems)
            if settings is None:
                return None
            before = (stamp, NodeRecord(place.target, place.portal, place.interface, place.path, settings))
        if not before[1].settings:
            problems.append(Problem("nodes", place.path, "the record is empty or torn"))
        return before

    def _discoveries(self, problems: list[Problem]) -> Iterator[DiscoveryRecord]:
        for base in DATABASES:
            for kind in _DISCOVERIES:
                folder = f"{self._root}/{base}/{kind}"
                for address in self._names(folder, problems):
                    names = self._names(f"{folder}/{address}", problems)
                    config = next((name for name in names if name.endswith("_config")), None)
                    path = f"{folder}/{address}/{config}" if config else f"{folder}/{address}"
                    settings = (_settings(path, problems) or {}) if config or os.path.isfile(path) else {}
                    yield DiscoveryRecord(kind, clean(address), path, settings)


def read_records(root: Path = Path("/")) -> Records:
    """Reads both databases and the firmware's table once."""
    return RecordReader(root).read(full=True)


def _mtime(folder: str) -> int | None:
    """When a name came into a folder or went, in ns; None where it cannot be looked at."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError as error:
        if error.errno in sysfs.GONE or error.errno in sysfs.REFUSED:
            return None
        raise


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What tells one writing of a record from the next; None where it is gone or refused."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in sysfs.GONE or error.errno in sysfs.REFUSED:
            return None
        raise
    return found.st_ino, found.st_mtime_ns, found.st_size


class _Lines(dict[str, tuple[str, str] | None]):
    """What the lines of records say. Remembered, because most records say the same in most lines; secrets are not."""

    def __missing__(self, line: str) -> tuple[str, str] | None:
        words, equals, value = line.partition("=")
        fits = _SETTING.fullmatch(words) if equals else None
        if fits is None or _SECRET.search(words):
            return None
        if len(self) >= _MOST_LINES:
            self.clear()
        return self.setdefault(line, (fits[1], clean(value.strip(" \t"), 1024)))


_LINES = _Lines()
_MOST_LINES = 1 << 13


def parse_settings(text: str) -> dict[str, str]:
    """The `name = value` lines of a record; passwords and comments are left out."""
    return dict([setting for line in text.split("\n") if (setting := _LINES[line]) is not None])


def _settings(path: str, problems: list[Problem]) -> dict[str, str] | None:
    try:
        file = os.open(path, FILE)
        try:
            return parse_settings(os.read(file, _LARGEST).decode("utf-8", "replace"))
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in sysfs.REFUSED:
            problems.append(Problem("nodes", path, "only root may read node records"))
        elif not isinstance(error, IsADirectoryError) and error.errno not in sysfs.GONE:
            raise
        return None


@functools.lru_cache(maxsize=1 << 13)
def _portal(name: str) -> Portal | None:
    """`ADDRESS,PORT,TAG` or `ADDRESS,PORT`; the address of IPv6 has colons and no brackets."""
    fields = name.split(",")
    if len(fields) not in (2, 3) or not all(field.lstrip("-").isdigit() for field in fields[1:]):
        return None
    host = fields[0].strip("[]")
    tag = int(fields[2]) if len(fields) == 3 else -1
    try:
        found = parse_portal(f"[{host}]:{fields[1]}" if ":" in host else f"{host}:{fields[1]}")
    except BadInputError:
        return None
    return Portal(found.host, found.port, tag if tag >= 0 else None)


def _disagreements(records: Iterable[NodeRecord]) -> Iterator[Problem]:
    """Two databases that want different things of the same session."""
    seen: dict[tuple[str, str, int, str], NodeRecord] = {}
    for record in records:
        key = (record.target, record.portal.host, record.portal.port, record.interface)
        other = seen.setdefault(key, record)
        if other is not record and other.startup != record.startup:
            reason = f"node.startup is {other.startup} in {other.path} and {record.startup} in {record.path}"
            yield Problem("nodes", f"{record.target} at {record.portal}", reason)


def read_ibft(root: Path = Path("/")) -> tuple[BootTarget, ...]:
    """The targets in the firmware's boot table; empty where there is none."""
    folder = f"{sysfs.base(root)}/sys/firmware/ibft"
    found = []
    for name in sysfs.names(folder):
        if not name.startswith("target"):
            continue
        target = sysfs.read_text(f"{folder}/{name}/target-name")
        address = sysfs.read_text(f"{folder}/{name}/ip-addr")
        if target is None:
            continue
        port = sysfs.read_int(f"{folder}/{name}/port") or DEFAULT_PORT
        portal = _portal(f"{address},{port}") if address else None
        lun = sysfs.read_text(f"{folder}/{name}/lun")
        user = sysfs.read_text(f"{folder}/{name}/chap-name")
        found.append(BootTarget(clean(target), portal, lun, clean(user) if user else None))
    return tuple(found)
