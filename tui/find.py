"""What a person means by a name: a disk, a session or anything else in a snapshot."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from initiator.errors import BadInputError
from initiator.model import Disk, Session, Snapshot
from initiator.names import clean, parse_portal
from safety import scope
from safety.scope import Reach, Scope


class Named(Protocol):
    """Anything with an id and a name."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def find_disk(snapshot: Snapshot, text: str) -> Disk:
    """The one disk with this name, id, WWID, device node or mount point.

    Raises:
        BadInputError: none or more than one fits; the message lists what there is.
    """
    points = {key for volume in snapshot.volumes if volume.mountpoint == text for key in volume.disks}
    return _only(
        "disk",
        text,
        snapshot.disks,
        lambda disk: text in (disk.name, disk.id, disk.wwid, disk.device) or disk.id in points,
    )


def find_session(snapshot: Snapshot, text: str) -> Session:
    """The one session with this name or id."""
    return _only("session", text, snapshot.sessions, lambda session: text in (session.name, session.id))


def find_sessions(snapshot: Snapshot, text: str) -> Sequence[Session]:
    """Every session of a target, or the one session with this name or id."""
    of_target = [session for session in snapshot.sessions if session.target == text]
    return of_target or [find_session(snapshot, text)]


def find_probed(snapshot: Snapshot, text: str, portal: str | None = None) -> Sequence[Session]:
    """Every session of a target, with one portal, or with that portal of the target; or the one of this name or id.

    Raises:
        BadInputError: there is none.
    """
    if portal is None:
        with contextlib.suppress(BadInputError):  # the name of a target or a session is seldom that of a portal
            place = str(parse_portal(text))
            if there := [session for session in snapshot.sessions if str(session.portal) == place]:
                return there
        return find_sessions(snapshot, text)
    place, sessions = str(parse_portal(portal)), find_sessions(snapshot, text)
    found = [session for session in sessions if str(session.portal) == place]
    if not found:
        known = ", ".join(dict.fromkeys(clean(str(session.portal)) for session in sessions))
        raise BadInputError(f"{clean(text)} has no session with {clean(portal)}", fix=f"there is: {known}")
    return found


def find_any(snapshot: Snapshot, text: str) -> Named:
    """Whatever carries this name or id; disks may also be named by WWID, device or mount point."""
    everything: list[Named] = [*snapshot.index().values()]
    if not any(text in (item.id, item.name) for item in everything):
        return find_disk(snapshot, text)
    disks = [disk for disk in snapshot.disks if disk.map is not None and text == disk.name]
    own = {disk.map for disk in disks if disk.map != text}  # a disk and its map have one name: the disk is meant
    return _only("object", text, everything, lambda item: text in (item.id, item.name) and item.id not in own)


def find_scope(snapshot: Snapshot, names: Sequence[str]) -> Scope:
    """What a removal of these names takes away: disks; or one path of a map, one session, one target, one link.

    Raises:
        BadInputError: a name fits nothing or more than one thing, or names of several kinds are mixed.
    """
    if len(names) == 1:
        other = _other_scope(snapshot, names[0])
        if other is not None:
            return other
    return scope.disks(*dict.fromkeys(find_disk(snapshot, name) for name in names))


def find_volume(snapshot: Snapshot, text: str) -> Scope:
    """The mounted volume with this mount point, id, label, UUID or device.

    Raises:
        BadInputError: nothing of an iSCSI disk is mounted so, or more than one thing.
    """
    found = [
        each
        for each in snapshot.volumes
        if text in (each.mountpoint, each.id, each.device, each.label, each.uuid) and text
    ]
    ours = [each for each in found if each.disks and each.namespace is None]
    if found and not ours:
        if any(each.disks for each in found):
            text = f"{clean(text)} is mounted in another mount namespace only (a container, a service)"
            raise BadInputError(text, fix="have whoever made that namespace unmount it")
        raise BadInputError(f"{clean(text)} is not on an iSCSI disk", fix=f"umount {clean(text)}")
    if len({each.dev for each in ours}) == 1:
        return scope.volume(ours[-1])  # of one file system, however often it is mounted; the plan takes all of it
    own = [each for each in snapshot.volumes if each.disks and each.namespace is None]
    if ours:
        raise BadInputError(
            f"{clean(text)!r} names more than one volume",
            fix=f"use an id: {', '.join(f'{each.id} ({clean(each.mountpoint)})' for each in ours)}",
        )
    near = difflib.get_close_matches(text, [each.mountpoint for each in own], n=1)
    there = ", ".join(clean(each.mountpoint) for each in own[:12])
    fix = f"did you mean {clean(near[0])!r}?" if near else f"there is: {there}" if there else "nothing is mounted"
    raise BadInputError(f"no mounted volume of an iSCSI disk is called {clean(text)!r}", fix=fix)


def find_drained(snapshot: Snapshot, text: str) -> Scope:
    """The target with this name, or the link: all sessions of it end.

    Raises:
        BadInputError: there is neither.
    """
    links = [link for link in snapshot.links if text in (link.name, link.id)]
    if links:
        return Scope(Reach.LINK, (links[0].id,), links[0].name)
    names = sorted({session.target for session in snapshot.sessions})
    near = difflib.get_close_matches(text, names, n=1)
    if text not in names:
        there = ", ".join(clean(name) for name in names[:12]) or "no session at all"
        raise BadInputError(
            f"this host has no session to a target or over a link called {clean(text)!r}",
            fix=f"did you mean {clean(near[0])!r}?" if near else f"there is: {there}",
        )
    return scope.target(text)


def _other_scope(snapshot: Snapshot, text: str) -> Scope | None:
    """What a name means that is not that of a disk; None if it may be a disk's."""
    if any(text in (disk.name, disk.id, disk.wwid, disk.device) for disk in snapshot.disks):
        return None
    paths = [path for path in snapshot.paths if text in (path.id, path.name, path.device)]
    if len(paths) == 1:
        return scope.path(snapshot, paths[0])
    sessions = [session for session in snapshot.sessions if text in (session.id, session.name)]
    if len(sessions) == 1:
        return scope.session(sessions[0])
    return scope.target(text) if any(session.target == text for session in snapshot.sessions) else None


def _only(kind: str, text: str, items: Iterable[T], fits: Callable[[T], bool]) -> T:
    known = list(items)
    found = [item for item in known if fits(item)]
    if len(found) == 1:
        return found[0]
    names = sorted({item.name for item in known})
    if found:
        ids = ", ".join(clean(item.id) for item in found)
        raise BadInputError(f"{clean(text)!r} names more than one {kind}", fix=f"use an id: {ids}")
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {clean(near[0])!r}?" if near else ""
    if not hint:
        hint = f"there is: {', '.join(clean(name) for name in names[:12])}" if names else f"there is no {kind} at all"
    raise BadInputError(f"no {kind} is called {clean(text)!r}", fix=hint)
