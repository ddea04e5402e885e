"""Orders to the kernel's initiator, through iscsiadm: discover, log in, log out, set the start-up, rescan.

One order at a time on this host, each with a deadline. What counts is what sysfs and the records show afterwards; the
exit code only explains a failure. There is no way here to log out of a session that still has a disk: that is the work
of a removal (`safety`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from initiator import places
from initiator.errors import BadInputError, MooringError, NotPermittedError, RefusedError
from initiator.host import database, kernelview, sysfs
from initiator.host.chaprecord import Credentials, give_discovery, give_node, take_back
from initiator.host.iscsi import KernelSession, SessionReader, Sessions
from initiator.host.knock import knock
from initiator.host.luns import Lun
from initiator.host.nodes import NodeRecord, Records, read_records
from initiator.host.outcome import (
    EXISTS,
    NO_SUCH,
    REFUSED_CREDENTIALS,
    REFUSED_FOR_GOOD,
    TIMED_OUT,
    ActionFailed,
    not_finished,
    why_no_entry,
    why_not_found,
)
from initiator.host.run import Finished, Stuck, run
from initiator.host.turn import turn
from initiator.model import Portal, holds_data
from initiator.names import clean, parse_name, parse_portal

LOGIN_SECONDS = 150.0
"""iscsid gives up after node.session.initial_login_retry_max (8) times login_timeout (15 s); a record may say more."""
_LONGEST_LOGIN = 600.0
LOGOUT_SECONDS = 60.0
_NOT_TAKEN_UP = frozenset({2, 32})
"""ISCSI_ERR_SESS_NOT_FOUND, ISCSI_ERR_SESSION_NOT_CONNECTED (open-iscsi, iscsi_err.h): what an iscsid says that was
just started and takes up the kernel's sessions one after another."""
_TAKEN_UP_SECONDS = 15.0
SECONDS = 30.0
"""For everything else."""
_QUEUE_SECONDS = 120.0
"""How long an order waits for the one before it."""
_DISKS_SECONDS = 5.0
"""How long the kernel may take to make block devices of the LUNs of a new session."""
_STEP = 0.05
STARTUPS = ("manual", "automatic", "onboot")
_T = TypeVar("_T")
Run = Callable[[Sequence[str], float], Finished]
Knock = Callable[[Portal], str]
_KNOCK: Knock = knock


def _no_knock(portal: Portal) -> str:
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One portal of one target, as a discovery told it."""

    target: str
    portal: Portal


@dataclasses.dataclass(frozen=True, slots=True)
class Rescan:
    """What a rescan changed; LUNs as H:C:T:L."""

    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    resized: tuple[tuple[str, int, int], ...] = ()
    """Block devices with their sizes before and after, in bytes."""

    def told(self) -> list[str]:
        """One sentence for each change."""
        return [
            *(f"LUN {hctl} appeared." for hctl in self.appeared),
            *(f"LUN {hctl} vanished." for hctl in self.vanished),
            *(f"/dev/{kname} had {before} bytes and has {after} now." for kname, before, after in self.resized),
        ]


class Iscsiadm:
    """Gives orders.

    Args:
        root: Where `sys`, `etc`, `var` and `run` are.
        run_: Runs iscsiadm: arguments and deadline in, outcome out.
        euid: Who asks.
        sleep: Waits between two looks at sysfs.
        lock: The file that orders queue up at; in the runtime folder when None.
        monotonic: A clock for durations.
        knock: Says why a portal cannot be reached; empty when it can. Only of this very host if None.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        run_: Run | None = None,
        euid: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        lock: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        knock: Knock | None = None,
    ) -> None:
        self._root = root
        self._run = run_ or (lambda argv, deadline: run(argv, deadline))
        self._euid = os.geteuid() if euid is None else euid
        self._sleep = sleep
        self._lock = lock
        self._monotonic = monotonic
        self._knock = knock or (_KNOCK if root == Path("/") else _no_knock)

    # --- orders ---

    def discover(self, portal: Portal, chap: Credentials | None = None) -> tuple[Found, ...]:
        """Asks a portal for its targets and makes records for those that have none; others are left as they are.

        Existing records keep their start-up: nothing is updated, and nothing is ever deleted, for that could log out a
        session whose portal is not in the answer.
        """
        place = _argument(portal)
        with self._order(f"discover at {portal}"):
            self._reach(portal, f"discovery at {portal}")
            before = {record.path: record.startup for record in self._records().nodes}
            changes: list[database.Change] = []
            mode = ["-m", "discovery", "-t", "sendtargets", "-p", place, "-o", "new"]
            if chap is not None:
                self._must(
                    ["-m", "discoverydb", "-t", "sendtargets", "-p", place, "-o", "new"], f"discovery at {portal}"
                )
                changes = give_discovery(portal, chap, self._root, self._sleep)
                mode = ["-m", "discoverydb", "-t", "sendtargets", "-p", place, "-D", "-o", "new"]
            try:
                done = self._must(mode, f"discovery at {portal}")
            except ActionFailed:
                take_back(changes, self._root, self._sleep)
                raise
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
        name, what = _target(target), f"login to {clean(target)} at {portal}"
        where = _where(name, portal, interface)
        with self._order(f"log in to {name} at {portal}"):
            before = self._records().of(name, portal, interface)
            plain = interface == "default" and all(record.is_plain_tcp for record in before)
            if plain:  # else what this host's own stack reaches says nothing
                self._reach(portal, what)
            if not before:
                offered = self._offered(portal) if plain else None
                if offered is not None and name not in offered:
                    reason, fix = why_not_found(offered)
                    raise MooringError(f"{what}: {reason}", code="target-not-found", fix=fix)
                self._must([*where, "-o", "new"], f"a record for {name} at {portal}")
            records = self._records().of(name, portal, interface)
            changes = self._give(records, chap, what)
            fix = "iscsid may still try: look at the sessions again after a while"
            patience = min(max([LOGIN_SECONDS, *(each.login_seconds + SECONDS for each in records)]), _LONGEST_LOGIN)
            done = self._ask([*where, "--login"], patience, what, fix)
            wanted = 10.0 if done.returncode in (0, EXISTS) else 0.0
            session = self._wait(lambda: self._session_at(name, portal, interface), wanted)
            if session is None:
                reason, fix = self._why(name, portal, records, chap, done)
                left = self._as_before(where, changes, made=not before)
                raise ActionFailed(what, done, reason, "; ".join(filter(None, (fix, left))))
            self._wait(lambda: self._has_its_disks(session.sid) or None, _DISKS_SECONDS)
        return session

    def logout(self, sid: int) -> None:
        """Logs out of a session that has no disk.

        Raises:
            RefusedError: it has a disk (code `attached`), or this host boots from it (code `boot`), or what it has
                cannot be known.
            ActionFailed: the session is still there.
        """
        with self._order(f"log out of session {sid}"):
            until = self._monotonic() + _TAKEN_UP_SECONDS
            while True:
                session, luns = self._known(sid)
                self._refuse(session, luns)
                order = ["-m", "session", "-r", str(sid), "-u"]
                done = self._ask(order, LOGOUT_SECONDS, f"the logout of session {sid}")
                if self._wait(lambda: self._is_gone(sid) or None, 10.0 if done.returncode == 0 else 1.0):
                    return
                if done.returncode not in _NOT_TAKEN_UP or self._monotonic() > until:
                    raise ActionFailed(f"logout of session {sid}", done)

    def set_startup(self, target: str, portal: Portal, startup: str, interface: str = "default") -> str | None:
        """Sets whether a record is logged in to at boot; gives what it was before.

        Raises:
            BadInputError: there is no such value, or no such record.
            ActionFailed: the record does not show the new value.
        """
        if startup not in STARTUPS:
            raise BadInputError(f"there is no start-up {clean(startup)!r}", fix=f"one of {', '.join(STARTUPS)}")
        name = _target(target)
        what = f"node.startup of {name} at {portal}"
        where = _where(name, portal, interface)
        with self._order(f"set {what}"):
            before = self._records().of(name, portal, interface)
            if not before:
                raise BadInputError(f"there is no record of {name} at {portal}", fix="discover the target first")
            for setting in ("node.startup", "node.conn[0].startup"):
                done = self._ask([*where, "-o", "update", "-n", setting, "-v", startup], SECONDS, what)
            after = self._records().of(name, portal, interface)
        if not after or any(record.startup != startup for record in after):
            raise ActionFailed(what, done)
        return before[0].startup

    def rescan(self, sid: int) -> Rescan:
        """Has the kernel look for new LUNs of a session. It takes none away: only a removal does."""
        with self._order(f"rescan session {sid}"):
            before, sizes = self._seen(sid)
            self._must(["-m", "session", "-r", str(sid), "--rescan"], f"rescan of session {sid}")
            self._wait(lambda: self._has_its_disks(sid) or None, _DISKS_SECONDS)
            after, new_sizes = self._seen(sid)
        resized = [(kname, sizes[kname], new) for kname, new in new_sizes.items() if sizes.get(kname, new) != new]
        return Rescan(tuple(sorted(after - before)), tuple(sorted(before - after)), tuple(sorted(resized)))

    # --- how ---

    @contextlib.contextmanager
    def _order(self, what: str) -> Iterator[None]:
        """One order at a time; iscsiadm's own lock covers only its database."""
        if self._euid != 0:
            raise NotPermittedError(f"only root may {what} with the kernel's initiator", fix="sudo, or use the engine")
        path = self._lock or places.runtime_dir() / "iscsiadm.lock"
        with turn(path, what, _QUEUE_SECONDS, self._monotonic, self._sleep):
            yield

    def _ask(self, arguments: Sequence[str], seconds: float, what: str, fix: str = "") -> Finished:
        try:
            return self._run(["iscsiadm", *arguments], seconds)
        except Stuck as stuck:
            raise not_finished(what, stuck, fix) from stuck

    def _must(self, arguments: Sequence[str], what: str) -> Finished:
        done = self._ask(arguments, SECONDS, what)
        if done.returncode != 0:
            raise ActionFailed(what, done)
        return done

    def _reach(self, portal: Portal, what: str) -> None:
        """Looks before iscsiadm leaps, which tries for two minutes at a portal that is not there."""
        why_not = self._knock(portal)
        if why_not:
            raise MooringError(
                f"{what}: the portal cannot be reached: {why_not}",
                code="portal-silent",
                fix=f"check the address, the link and any firewall between this host and {portal}",
            )

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

    def _has_its_disks(self, sid: int) -> bool:
        """Whether every disk among the LUNs of a session has its block device; the kernel makes them later."""
        luns = [lun for lun in self._sessions().luns if lun.sid == sid]
        return all(lun.kname is not None or kernelview.identity(lun.fixed).kind != "disk" for lun in luns)

    def _seen(self, sid: int) -> tuple[set[str], dict[str, int]]:
        """The LUNs of a session, and the sizes of its block devices in bytes."""
        luns = self._known(sid)[1]
        sizes = {
            lun.kname: sysfs.read_int(f"{sysfs.base(self._root)}/sys/class/block/{lun.kname}/size")
            for lun in luns
            if lun.kname is not None
        }
        return {lun.hctl for lun in luns}, {kname: 512 * size for kname, size in sizes.items() if size is not None}

    def _wait(self, look: Callable[[], _T | None], seconds: float) -> _T | None:
        until = self._monotonic() + seconds
        while (found := look()) is None and self._monotonic() < until:
            self._sleep(_STEP)
        return found

    # --- logins that fail ---

    def _give(self, records: Sequence[NodeRecord], chap: Credentials | None, what: str) -> list[database.Change]:
        if chap is None:
            return []
        if not records:
            raise database.DatabaseError(f"{what}: there is no record to write the credentials into")
        return give_node(records, chap, self._root, self._sleep)

    def _as_before(self, where: Sequence[str], changes: Sequence[database.Change], *, made: bool) -> str:
        """A login that failed leaves no wrong secret in a record, and no record that was not there.

        Returns:
            What could not be put back; empty when all was.
        """
        try:
            if made:
                self._must([*where, "-o", "delete"], "the new record is still there")
            else:
                take_back(changes, self._root, self._sleep)
        except MooringError as error:
            return f"and look at the node record, it is not as it was before: {error}"
        return ""

    def _why(
        self, target: str, portal: Portal, records: Sequence[NodeRecord], chap: Credentials | None, done: Finished
    ) -> tuple[str, str]:
        """Why a login failed, and the way out, where more can be known than iscsiadm says."""
        if done.returncode == REFUSED_CREDENTIALS:
            return why_no_entry(records, chap)
        if done.returncode in (REFUSED_FOR_GOOD, TIMED_OUT):
            offered = self._offered(portal)
            if offered is not None and target not in offered:
                return why_not_found(offered)
        return "", ""

    def _offered(self, portal: Portal) -> set[str] | None:
        """The targets that a portal names, without keeping a record of it; None if it does not tell."""
        order = ["-m", "discovery", "-t", "sendtargets", "-p", _argument(portal), "-o", "nonpersistent"]
        try:
            done = self._run(["iscsiadm", *order], SECONDS)
            names = {_found(line).target for line in done.stdout.splitlines() if line.strip()}
        except (Stuck, BadInputError):
            return None
        return names if done.returncode in (0, NO_SUCH) else None


def _where(target: str, portal: Portal, interface: str) -> list[str]:
    return ["-m", "node", "-T", target, "-p", _argument(portal), "-I", _interface(interface)]


def _may_hold_data(lun: Lun) -> bool:
    return lun.kname is not None or holds_data(kernelview.identity(lun.fixed).kind)


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
