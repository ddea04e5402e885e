"""What is lost with a link, a portal, a switch or a controller: the answer before somebody pulls it. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from initiator.chain import Footing, Kind, Lane, controller, lanes, unjoined
from initiator.fabric import EMPTY, Fabric
from initiator.health import WORKING
from initiator.model import Disk, LinkState, Path, Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class Stricken:
    """A disk that loses working paths."""

    disk: str
    name: str
    left: int
    """How many working paths remain."""
    of: int
    """How many work now."""
    volumes: tuple[str, ...] = ()
    """Where it is mounted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """What is lost with one thing."""

    kind: Kind
    name: str
    ends: tuple[Stricken, ...]
    """The disks that lose their last working path."""
    weakens: tuple[Stricken, ...]
    """The disks that lose working paths and keep others."""
    sessions: tuple[str, ...]
    """The names of the sessions over it, working or not."""
    members: tuple[str, ...] = ()
    """Links only: what takes over where it is one of several cables of a bond."""
    unsure: tuple[str, ...] = ()
    """Links only: the names of the sessions that may go over it, and nobody knows."""

    @property
    def text(self) -> str:
        """The answer in one sentence."""
        doubt = f"; nobody knows whether it carries {', '.join(self.unsure)}" if self.unsure else ""
        return f"If {self.kind} {self.name} is lost, you lose {_what(self)}{doubt}."


def _what(loss: Loss) -> str:
    parts = [f"disk {each.name}" + (f" with {', '.join(each.volumes)}" if each.volumes else "") for each in loss.ends]
    text = ", ".join(parts) or "no disk"
    if loss.weakens:
        kept = ", ".join(f"{each.name} keeps {each.left} of {each.of} paths" for each in loss.weakens)
        return f"{text}; {kept}"
    if loss.members:
        return f"{text}: {', '.join(loss.members)} takes over"
    return text if loss.ends or loss.unsure else f"{text}: no working path needs it"


def losses(snapshot: Snapshot, fabric: Fabric = EMPTY) -> tuple[Loss, ...]:
    """The answer for each portal, link, switch and controller that iSCSI uses, by kind and name."""
    known = lanes(snapshot, fabric)
    users: dict[Footing, set[str]] = {}
    spares: dict[Footing, tuple[str, ...]] = {}
    for lane in known.values():
        for footing in falls_with(lane):
            users.setdefault(footing, set()).add(lane.session.id)
        for cable in lane.cables if len(lane.cables) > 1 else ():
            spare = Footing(Kind.LINK, cable.name)
            users.setdefault(spare, set())
            others = [each.name for each in lane.cables if each is not cable and each.state is LinkState.UP]
            if cable.state is LinkState.UP and not others:
                users[spare].add(lane.session.id)
            spares[spare] = tuple(others)
    falling: dict[Footing, set[str]] = {
        footing: {path.id for path in snapshot.paths if path.session in sessions} for footing, sessions in users.items()
    }
    for path in snapshot.paths:
        own = known.get(path.session)
        if own is not None and (door := controller(own, fabric.ports.get(path.id))) is not None:
            falling.setdefault(door, set()).add(path.id)
            users.setdefault(door, set()).add(path.session)
    teller = _Teller(snapshot)
    found = []
    for footing in sorted(falling):
        loss = teller.loss(footing, falling[footing], users[footing], spares.get(footing, ()))
        if unsure := tuple(sorted(lane.session.name for lane in known.values() if _may_need(lane, footing))):
            # What may go down with it too does not take over.
            loss = dataclasses.replace(loss, unsure=unsure, members=())
        found.append(loss)
    return tuple(found)


def unplaced(snapshot: Snapshot, fabric: Fabric = EMPTY) -> tuple[str, ...]:
    """The names of the sessions of which nobody knows through which link they go."""
    return tuple(sorted(lane.session.name for lane in lanes(snapshot, fabric).values() if lane.link is None))


def _may_need(lane: Lane, footing: Footing) -> bool:
    """Whether a session may go over a link without anybody knowing it."""
    if footing.kind is not Kind.LINK or Kind.LINK not in lane.unknown:
        return False
    return lane.link is None or (len(lane.cables) > 1 and footing.name in [cable.name for cable in lane.cables])


def falls_with(lane: Lane) -> Iterable[Footing]:
    """What a session falls with: its footings but the network, which nobody pulls, and each link above its cable."""
    yield from (footing for footing in lane.footings if footing.kind is not Kind.NETWORK)
    for link in lane.way:
        if len(lane.cables) == 1 or link not in lane.cables:
            footing = Footing(Kind.LINK, link.name)
            if footing not in lane.footings:
                yield footing


class _Teller:
    """Says of a set of paths what falls with them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._disks: Mapping[str, Disk] = {disk.id: disk for disk in snapshot.disks}
        self._points = {volume.id: volume.mountpoint for volume in snapshot.volumes}
        self._sessions = {session.id: session.name for session in snapshot.sessions}
        self._working: dict[str, Path] = {path.id: path for path in snapshot.paths if path.state in WORKING}
        self._counts = Counter(path.disk for path in self._working.values())
        of_disk: dict[str, list[Path]] = {}
        for path in snapshot.paths:
            of_disk.setdefault(path.disk, []).append(path)
        self._unjoined = {disk.id for disk in snapshot.disks if unjoined(disk, of_disk.get(disk.id, ()))}

    def loss(self, footing: Footing, paths: set[str], sessions: set[str], members: tuple[str, ...]) -> Loss:
        lost = Counter(self._working[key].disk for key in paths if key in self._working)
        stricken = [self._stricken(key, count) for key, count in sorted(lost.items()) if key in self._disks]
        return Loss(
            kind=footing.kind,
            name=footing.name,
            ends=tuple(each for each in stricken if each.left == 0),
            weakens=tuple(each for each in stricken if each.left > 0),
            sessions=tuple(sorted(self._sessions[key] for key in sessions)),
            members=members,
        )

    def _stricken(self, key: str, lost: int) -> Stricken:
        disk = self._disks[key]
        points = sorted({self._points[volume] for volume in disk.volumes if volume in self._points})
        left = 0 if key in self._unjoined else self._counts[key] - lost  # nobody knows which of its devices is used
        return Stricken(key, disk.name, left, self._counts[key], tuple(points))
