"""Orders to the kernel's initiator as the dashboard asks for them: what is said first, and what can be chosen."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from initiator.model import Disk, Session, Snapshot, Source
from initiator.ways import way_of
from tui import exporting
from tui.exporting import Sheet
from tui.words import count, short_target

if TYPE_CHECKING:
    from initiator.host.nodes import NodeRecord
    from tui.backends import Attacher, KernelOrders, Switch
    from tui.connecting import Chap, Offer, Offers
    from tui.looking import Looker


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One button."""

    label: str
    run: Callable[[], str]
    """Does it and tells what came of it; may take a minute."""


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One order before it is given. Texts have names from outside in them."""

    title: str
    about: tuple[str, ...]
    """Paragraphs: what would be done, and what not."""
    choices: tuple[Choice, ...]
    waits_for: str = "iscsiadm"
    """Who does it, while that takes time."""


def rescan(sessions: Sequence[Session], kernel: KernelOrders) -> Order:
    """Look for LUNs."""
    names = ", ".join(session.name for session in sessions[:3]) + (", and others" if len(sessions) > 3 else "")
    about = (
        f"The kernel asks over {count(len(sessions), 'session')} which LUNs there are, and their sizes: {names}.",
        "New LUNs become disks of this host. None is taken away: only a removal does that.",
    )
    return Order("Rescan", about, (Choice("Rescan", functools.partial(kernel.rescan, tuple(sessions))),))


STARTUPS = (
    ("automatic", "logged in to whenever open-iscsi starts"),
    ("manual", "only when somebody logs in"),
    ("onboot", "by the initial RAM disk: for the disk that this host boots from"),
)


def startup(session: Session, kernel: KernelOrders) -> Order:
    """Choose node.startup."""
    now = session.details.get("startup", "unknown")
    about = (
        f"The node record of {session.name} says: {now}. Nothing changes for the session that is there now.",
        *(f"{mode}: {text}" for mode, text in STARTUPS),
    )
    choices = tuple(
        Choice(mode, functools.partial(kernel.startup, session, mode)) for mode, _ in STARTUPS if mode != now
    )
    return Order(f"Start-up of {session.name}", about, choices)


def logout(session: Session, kernel: KernelOrders, connector: Attacher) -> Order:
    """Log out of what carries no disk, by whoever holds it."""
    about = [f"The session {session.name} carries no disk. Its connection to the target is ended."]
    startup = session.details.get("startup", "")
    if startup in ("automatic", "onboot"):
        about.append(f"Its node record says {startup}: it comes back at the next boot.")
    of_kernel = session.source is Source.KERNEL
    run = functools.partial(kernel.logout if of_kernel else connector.logout, session)
    return Order("Log out", tuple(about), (Choice("Log out", run),), "iscsiadm" if of_kernel else "the engine")


def probe(switch: Switch, sessions: int) -> Order:
    """Switch the probes on beside so many sessions, or off."""

    def run(on: bool) -> str:
        switch.turn(on)
        return "The probes are on. What they find is a part of each path's verdict." if on else "The probes are off."

    about = (
        f"A probe logs in beside each of the {count(sessions, 'session')} of the kernel, over the same link and to the"
        " same portal, and asks twice a second whether the target is there. It never reads or writes a block.",
        "It tells of a silent target within a second; the kernel waits until its own timer has run out.",
    )
    some = len(switch.portals)
    state = "on" if switch.on else f"on for {count(some, 'portal')} only" if some else "off"
    on, off = Choice("Switch on", lambda: run(True)), Choice("Switch off", lambda: run(False))
    choices = (off,) if switch.on else (on, off) if some else (on,)
    return Order(f"Probes are {state}", about, choices, "the probes")


def probe_some(sessions: Sequence[Session], switch: Switch) -> Order:
    """Probe the portals of some sessions by themselves, or not any more."""
    ways = frozenset(map(way_of, sessions))
    probed = ways & switch.portals
    where = ", ".join(dict.fromkeys(f"{each.portal} ({short_target(each.target)})" for each in sessions))

    def run(on: bool) -> str:
        switch.turn_some(ways, on)
        if not on:
            return f"Not probed any more: {where}."
        return f"Probed from now on: {where}. The page of each session, path and link has the last answers."

    about = (
        f"A probe logs in at {where} beside the kernel's own session, over the same link, and asks twice a second"
        " whether the target is there. It never reads or writes a block, and it takes one place at the target.",
        "What it finds wrong is a part of the verdict of each path there. The same key ends it.",
    )
    on, off = Choice("Probe", lambda: run(True)), Choice("Stop", lambda: run(False))
    choices = (*((on,) if probed != ways else ()), *((off,) if probed else ()))
    title = f"Probe {count(len(ways), 'portal')}" if len(ways) > 1 else f"Probe {sessions[0].portal}"
    return Order(f"{title}{' (on)' if probed == ways else ''}", about, choices, "the probes")


def export(view: str, sheet: Sheet, folder: pathlib.Path, stamp: str) -> Order:
    """Save what a view shows."""
    about = (
        f"{count(len(sheet.rows), 'row')} of “{view}” with every column, filtered and sorted as on the screen.",
        f"The file is made in {folder}; nothing that is there is overwritten.",
    )
    choices = tuple(
        Choice(
            form.upper(), functools.partial(exporting.save, sheet, folder / f"mooring-{view.lower()}-{stamp}.{form}")
        )
        for form in exporting.FORMS
    )
    return Order(f"Export {view}", about, choices, "the disk")


def attach(name: str, target: str, lun: int, connector: Attacher) -> Order:
    """Make a logical unit a block device."""
    about = (
        f"LUN {lun} of {target} becomes a block device of this host, over every session that the engine has with it.",
        "Nothing is mounted, and nothing is written to it.",
    )
    return Order(f"Attach {name}", about, (Choice("Attach", functools.partial(connector.attach, target, lun)),))


_MOST_BUTTONS = 4


def look(disk: Disk, snapshot: Snapshot, looker: Looker) -> Order:
    """Mount a volume of a disk read-only; each device that can carry one has a button."""
    from safety.look import leaves

    mounted = {volume.dev for volume in snapshot.volumes}
    found = [each for each in leaves(snapshot, disk) if each.node.dev not in mounted]
    about = [
        f"The file system on {disk.name} is mounted read-only in a folder that only root can enter.",
        "Nothing is written to the disk: no journal is replayed, nothing is mended, and the kernel takes the device for"
        " read-only until it is unmounted again.",
    ]
    if len(found) < 2:
        names = [("Look", found[0].device if found else disk.id)]
    else:
        names = [(each.node.dm_name or each.node.kname, each.device) for each in found[:_MOST_BUTTONS]]
        rest = [each.device for each in found[_MOST_BUTTONS:]]
        about += [f"Not on a button: {', '.join(rest)} (mooring mount DEVICE --read-only)."] if rest else []
    choices = tuple(Choice(label, functools.partial(looker.look, name)) for label, name in names)
    return Order(f"Look into {disk.name}", tuple(about), choices, "the mount")


_BECOME_DISKS = (
    "Its LUNs become disks of this host. Nothing is mounted by Mooring; what /etc/fstab or automounts do, they do."
)


def login(record: NodeRecord, kernel: KernelOrders) -> Order:
    """Log in with a record."""
    user = f" as {record.chap_user} (CHAP)" if record.settings.get("node.session.auth.authmethod") == "CHAP" else ""
    about = (
        f"open-iscsi logs in to {record.target} at {record.portal}{user}.",
        _BECOME_DISKS,
    )
    title = f"Log in to {short_target(record.target)}"
    return Order(title, about, (Choice("Log in", functools.partial(kernel.login, record)),))


def connect(offer: Offer, offers: Offers, chap: Chap, connector: Attacher) -> Order:
    """Log in to what a discovery found."""
    whom = f"{offer.target} at {offer.portal}{f' as {chap.user} (CHAP)' if chap.user else ''}"
    if offers.via.source is Source.KERNEL:
        about = (
            f"open-iscsi logs in to {whom}; Mooring's engine does where it holds a session with this target already.",
            _BECOME_DISKS,
        )
    else:
        about = (
            f"Mooring's engine logs in to {whom}.",
            "Its LUNs can be seen then. None becomes a disk of this host before somebody attaches it.",
        )
    run = functools.partial(connector.login, offer, chap)
    return Order(f"Log in to {short_target(offer.target)}", about, (Choice("Log in", run),), "the target")
