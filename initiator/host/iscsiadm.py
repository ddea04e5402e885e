"""Orders to the kernel's initiator, through iscsiadm: discover, log in, log out, set the start-up, rescan.

One order at a time on this host, each with a deadline. What counts is what sysfs and the records show afterwards; the
exit code only explains a failure. There is no way here to log out of a session that still has a disk: that is the work
of a removal (`safety`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from initiator import places
from initiator.errors import BadInputError, MooringError, NotPermittedError, OutcomeUnknownError, RefusedError
from initiator.host import database, kernelview
from initiator.host.iscsi import KernelSession, Lun, SessionReader, Sessions
from initiator.host.nodes import DATABASES, NodeRecord, Records, read_records
from initiator.host.run import Finished, Stuck, run
from initiator.model import Portal
from initiator.names import clean, parse_name, parse_portal

LOGIN_SECONDS = 90.0
LOGOUT_SECONDS = 60.0
SECONDS = 30.0
"""For everything else."""
_QUEUE_SECONDS = 120.0
"""How long an order waits for the one before it."""
_STEP = 0.05
_STARTUPS = ("manual", "automatic", "onboot")
_EXISTS = 15
_MEANINGS = {
    2: "there is no such session",
    3: "not enough memory",
    4: "the transport failed",
    5: "the login failed",
    6: "the database of node records failed",
    7: "an argument was refused",
    8: "the connection timed out",
    9: "iscsid had an internal error",
    10: "the logout failed",
    11: "the PDU timed out",
    12: "there is no such transport",
    13: "access was refused",
    14: "the transport cannot do it",
    15: "the session exists already",
    18: "iscsid does not answer",
    19: "the target refused the login for good",
    20: "iscsid does not run",
    21: "there is no such record",
    22: "sysfs could not be read",
    24: "the target refused the credentials (CHAP)",
    28: "the session is in use",
    29: "the operation should be tried again",
    32: "the session is not connected",
    33: "the request timed out",
}
"""Exit codes of iscsiadm(8)."""

_T = TypeVar("_T")
Run = Callable[[Sequence[str], float], Finished]


class ActionFailed(MooringError):  # noqa: N818 - says what happened
    """An order was not carried out.

    Attributes:
        exit_code: iscsiadm's.
    """

    code = "iscsiadm-failed"

    def __init__(self, what: str, done: Finished, fix: str = "") -> None:
        meaning = _MEANINGS.get(done.returncode, f"iscsiadm ended with {done.returncode}")
        said = [line for line in done.stderr.splitlines() if line.startswith("iscsiadm: ")]
        detail = f" ({clean(said[0].removeprefix('iscsiadm: '), 200)})" if said else ""
        super().__init__(f"{what}: {meaning}{detail}", fix=fix or "look at: journalctl -u iscsid")
        self.exit_code = done.returncode


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """CHAP: what this host shows the target, and what it wants to see of it (mutual CHAP)."""

    user: str
    secret: str = dataclasses.field(repr=False)
    target_user: str | None = None
    target_secret: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One portal of one target, as a discovery told it."""

    target: str
    portal: Portal


@dataclasses.dataclass(frozen=True, slots=True)
class Rescan:
    """What a rescan changed, as H:C:T:L."""

    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


class Iscsiadm:
    """Gives orders.

    Args:
        root: Where `sys`, `etc`, `var` and `run` are.
        run_: Runs iscsiadm: arguments and deadline in, outcome out.
        euid: Who asks.
        sleep: Waits between two looks at sysfs.
        lock: The file that orders queue up at; in the runtime folder when None.
        monotonic: A clock for durations.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        run_: Run | None = None,
        euid: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        lock: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._run = run_ or (lambda argv, deadline: run(argv, deadline))
        self._euid = os.geteuid() if euid is None else euid
        self._sleep = sleep
        self._lock = lock
        self._monotonic = monotonic

    # --- orders ---

    def discover(self, portal: Portal, chap: Credentials | None = None) -> tuple[Found, ...]:
        """Asks a portal for its targets and makes records for those that have none; others are left as they are.

        Existing records keep their start-up: nothing is updated, and nothing is ever deleted, for that could log out a
        session whose portal is not in the answer.
        """
        place = _argument(portal)
        with self._order("discover"):
            before = {record.path: record.startup for record in self._records().nodes}
            mode = ["-m", "discovery", "-t", "sendtargets", "-p", place, "-o", "new"]
            if chap is not None:
                self._must(
                    ["-m", "discoverydb", "-t", "sendtargets", "-p", place, "-o", "new"], f"discovery at {portal}"
                )
                self._give_discovery(portal, chap)
                mode = ["-m", "discoverydb", "-t", "sendtargets", "-p", place, "-D", "-o", "new"]
            done = self._must(mode, f"discovery at {portal}")
            found = tuple(_found(line) for line in done.stdout.splitlines() if line.strip())
            after = self._records()
            changed = [record for record in after.nodes if before.get(record.path, record.startup) != record.startup]
            known = {(record.target, record.portal.host, record.portal.port) for record in after.nodes}
        missing = [each for each in found if (each.target, each.portal.host, each.portal.port) not in known]
        if missing:
            raise MooringError(f"{len(missing)} targets were found, but have no record afterwards", code="no-record")
        if changed:
            raise MooringError(
                f"the discovery changed node.startup of {changed[0].target} at {changed[0].portal}",
                code="startup-changed",
                fix="set it back to what it was before",
            )
        return found

    def login(
        self, target: str, portal: Portal, interface: str = "default", chap: Credentials | None = None
    ) -> KernelSession:
        """Logs in to a target at one portal; makes the record if there is none. Gives the session, which may be old.

        Raises:
            ActionFailed: it did not work; the text says why.
            OutcomeUnknownError: nobody can say: iscsid may still be trying.
        """
        name = _target(target)
        where = ["-m", "node", "-T", name, "-p", _argument(portal), "-I", _interface(interface)]
        with self._order("log in"):
            if not self._records().of(name, portal, interface):
                self._must([*where, "-o", "new"], f"a record for {name} at {portal}")
            if chap is not None:
                self._give_node(name, portal, interface, chap)
            try:
                done = self._run(["iscsiadm", *where, "--login"], LOGIN_SECONDS)
            except Stuck as stuck:
                raise OutcomeUnknownError(
                    f"the login to {name} at {portal} is not finished after {LOGIN_SECONDS:g} s; iscsid may still try",
                    fix="look at the sessions again after a while",
                ) from stuck
            wanted = 10.0 if done.returncode in (0, _EXISTS) else 0.0
            session = self._wait(lambda: self._session_at(name, portal, interface), wanted)
        if session is None:
            raise ActionFailed(f"login to {name} at {portal}", done)
        return session

    def logout(self, sid: int) -> None:
        """Logs out of a session that has no disk.

        Raises:
            RefusedError: it has a disk (code `attached`), or this host boots from it (code `boot`), or what it has
                cannot be known.
            ActionFailed: the session is still there.
        """
        with self._order("log out"):
            session, luns = self._known(sid)
            self._refuse(session, luns)
            try:
                done = self._run(["iscsiadm", "-m", "session", "-r", str(sid), "-u"], LOGOUT_SECONDS)
            except Stuck as stuck:
                raise OutcomeUnknownError(
                    f"the logout of session {sid} is not finished after {LOGOUT_SECONDS:g} s",
                    fix="look at the sessions again",
                ) from stuck
            gone = self._wait(lambda: self._is_gone(sid) or None, 10.0 if done.returncode == 0 else 1.0)
        if not gone:
            raise ActionFailed(f"logout of session {sid}", done)

    def set_startup(self, target: str, portal: Portal, startup: str, interface: str = "default") -> str | None:
        """Sets whether a record is logged in to at boot; gives what it was before.

        Raises:
            BadInputError: there is no such value, or no such record.
            ActionFailed: the record does not show the new value.
        """
        if startup not in _STARTUPS:
            raise BadInputError(f"there is no start-up {clean(startup)!r}", fix=f"one of {', '.join(_STARTUPS)}")
        name = _target(target)
        where = ["-m", "node", "-T", name, "-p", _argument(portal), "-I", _interface(interface)]
        with self._order("set the start-up"):
            before = self._records().of(name, portal, interface)
            if not before:
                raise BadInputError(f"there is no record of {name} at {portal}", fix="discover the target first")
            for setting in ("node.startup", "node.conn[0].startup"):
                done = self._run(["iscsiadm", *where, "-o", "update", "-n", setting, "-v", startup], SECONDS)
            after = self._records().of(name, portal, interface)
        if not after or any(record.startup != startup for record in after):
            raise ActionFailed(f"node.startup of {name} at {portal}", done)
        return before[0].startup

    def rescan(self, sid: int) -> Rescan:
        """Has the kernel look for new LUNs of a session. It takes none away: only a removal does."""
        with self._order("rescan"):
            before = {lun.hctl for lun in self._known(sid)[1]}
            self._must(["-m", "session", "-r", str(sid), "--rescan"], f"rescan of session {sid}")
            after = {lun.hctl for lun in self._known(sid)[1]}
        return Rescan(tuple(sorted(after - before)), tuple(sorted(before - after)))

    # --- how ---

    @contextlib.contextmanager
    def _order(self, what: str) -> Iterator[None]:
        """One order at a time; iscsiadm's own lock covers only its database."""
        if self._euid != 0:
            raise NotPermittedError(f"only root may {what} with the kernel's initiator", fix="sudo, or use the engine")
        path = self._lock or places.runtime_dir() / "iscsiadm.lock"
        until = self._monotonic() + _QUEUE_SECONDS
        with open(path, "w", encoding="ascii") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if self._monotonic() > until:
                        raise MooringError("another order to iscsiadm is not finished", code="busy") from error
                self._sleep(_STEP)
            yield

    def _must(self, arguments: Sequence[str], what: str) -> Finished:
        done = self._run(["iscsiadm", *arguments], SECONDS)
        if done.returncode != 0:
            raise ActionFailed(what, done)
        return done

    def _records(self) -> Records:
        return read_records(self._root)

    def _sessions(self) -> Sessions:
        return SessionReader(self._root).read(full=True)

    def _known(self, sid: int) -> tuple[KernelSession, tuple[Lun, ...]]:
        found = self._sessions()
        if found.problems:
            problem = found.problems[0]
            raise RefusedError(f"{problem.subject}: {problem.reason}; unknown means no", code="unknown")
        session = next((each for each in found.sessions if each.sid == sid), None)
        if session is None:
            raise BadInputError(f"there is no session {sid}", fix="mooring list")
        return session, tuple(lun for lun in found.luns if lun.sid == sid)

    def _refuse(self, session: KernelSession, luns: Iterable[Lun]) -> None:
        disks = [f"/dev/{lun.kname}" if lun.kname else lun.hctl for lun in luns if _may_hold_data(lun)]
        if disks:
            raise RefusedError(
                f"session {session.sid} has disks: {', '.join(disks)}; to log out is to pull their cable",
                code="attached",
                fix="remove each of them first: mooring remove NAME",
            )
        records = self._records()
        target = session.attributes.get("targetname")
        boots = {each.name for each in records.boot}
        boots |= {each.target for each in records.nodes if each.startup == "onboot"}
        if target in boots:
            raise RefusedError(f"this host boots from {clean(target or '')}", code="boot")

    def _session_at(self, target: str, portal: Portal, interface: str) -> KernelSession | None:
        for each in self._sessions().sessions:
            values = each.attributes
            if (values.get("targetname"), values.get("state")) != (target, "LOGGED_IN"):
                continue
            if values.get("ifacename", "default") != interface or not each.connections:
                continue
            connection = each.connections[0].attributes
            seen = (kernelview.portal(connection, "persistent_"), kernelview.portal(connection))
            if any(at is not None and (at.host, at.port) == (portal.host, portal.port) for at in seen):
                return each
        return None

    def _is_gone(self, sid: int) -> bool:
        return all(each.sid != sid for each in self._sessions().sessions) and not os.path.lexists(
            self._root / f"sys/class/iscsi_session/session{sid}"
        )

    def _wait(self, look: Callable[[], _T | None], seconds: float) -> _T | None:
        until = self._monotonic() + seconds
        while (found := look()) is None and self._monotonic() < until:
            self._sleep(_STEP)
        return found

    # --- secrets ---

    def _give_node(self, target: str, portal: Portal, interface: str, chap: Credentials) -> None:
        records: tuple[NodeRecord, ...] = self._records().of(target, portal, interface)
        if not records:
            raise database.DatabaseError(f"there is no record of {target} at {portal} to write the credentials into")
        with database.locked(self._root, sleep=self._sleep):
            for record in records:
                database.change_record(record.path, _settings("node.session.auth", chap), self._root)

    def _give_discovery(self, portal: Portal, chap: Credentials) -> None:
        names = [f"{base}/send_targets/{portal.host},{portal.port}/st_config" for base in DATABASES]
        paths = [path for name in names if os.path.isfile(path := str(self._root / name))]
        if not paths:
            raise database.DatabaseError(f"there is no discovery record of {portal} to write the credentials into")
        with database.locked(self._root, sleep=self._sleep):
            for path in paths:
                database.change_record(path, _settings("discovery.sendtargets.auth", chap), self._root)


def _settings(prefix: str, chap: Credentials) -> dict[str, str]:
    settings = {f"{prefix}.authmethod": "CHAP", f"{prefix}.username": chap.user, f"{prefix}.password": chap.secret}
    if chap.target_user is not None and chap.target_secret is not None:
        settings |= {f"{prefix}.username_in": chap.target_user, f"{prefix}.password_in": chap.target_secret}
    return settings


def _may_hold_data(lun: Lun) -> bool:
    """Whether a LUN is something that can be lost: all but the doors of an array."""
    return lun.kname is not None or kernelview.identity(lun.fixed).kind not in ("controller", "enclosure", "processor")


def _target(text: str) -> str:
    return str(parse_name(text, tolerant=True))


def _argument(portal: Portal) -> str:
    """A portal as iscsiadm takes it. It cannot be taken for an option: it is parsed before."""
    tag = f",{portal.group_tag}" if portal.group_tag is not None else ""
    return f"{parse_portal(str(portal))}{tag}"


def _interface(name: str) -> str:
    if not name or name.startswith("-") or not name.isprintable() or "/" in name or " " in name:
        raise BadInputError(f"{clean(name, 40)!r} is no name of an iSCSI interface")
    return name


def _found(line: str) -> Found:
    portal, _, target = line.strip().partition(" ")
    # A target behind a name that cannot be resolved prints as [name]:port; -1 stands for no group tag.
    found = parse_portal(portal.removesuffix(",-1"))
    return Found(_target(target), found)
