"""Orders to the kernel's initiator as the dashboard asks for them: what is said first, and what can be chosen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from initiator.model import Session
from tui.words import count, short_target

if TYPE_CHECKING:
    from initiator.host.nodes import NodeRecord
    from tui.backends import Attacher, KernelOrders


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


def logout(session: Session, kernel: KernelOrders) -> Order:
    """Log out of what carries no disk."""
    about = [f"The session {session.name} carries no disk. Its connection to the target is ended."]
    startup = session.details.get("startup", "")
    if startup in ("automatic", "onboot"):
        about.append(f"Its node record says {startup}: it comes back at the next boot.")
    return Order("Log out", tuple(about), (Choice("Log out", functools.partial(kernel.logout, session)),))


def attach(name: str, target: str, lun: int, connector: Attacher) -> Order:
    """Make a logical unit a block device."""
    about = (
        f"LUN {lun} of {target} becomes a block device of this host, over every session that the engine has with it.",
        "Nothing is mounted, and nothing is written to it.",
    )
    return Order(f"Attach {name}", about, (Choice("Attach", functools.partial(connector.attach, target, lun)),))


def login(record: NodeRecord, kernel: KernelOrders) -> Order:
    """Log in with a record."""
    user = f" as {record.chap_user} (CHAP)" if record.settings.get("node.session.auth.authmethod") == "CHAP" else ""
    about = (
        f"open-iscsi logs in to {record.target} at {record.portal}{user}.",
        "Its LUNs become disks of this host. Nothing is mounted by Mooring; what /etc/fstab or automounts do, they do.",
    )
    title = f"Log in to {short_target(record.target)}"
    return Order(title, about, (Choice("Log in", functools.partial(kernel.login, record)),))
