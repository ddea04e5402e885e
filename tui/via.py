"""Which of the two initiators an order goes to: the kernel's (open-iscsi) or Mooring's own engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from initiator.errors import MooringError
from initiator.model import Portal, Session, Source

NAMES = {Source.KERNEL: "the kernel's initiator (open-iscsi)", Source.ENGINE: "Mooring's own engine"}


class Facts(NamedTuple):
    """What decides."""

    kernel_why_not: str
    """Why open-iscsi cannot be used here; empty where it can."""
    root: bool
    held: str = ""
    """What the engine holds already of what the order is about; empty for nothing."""
    only_engine: str = ""
    """An option that was given and that only the engine understands."""


class Choice(NamedTuple):
    """Who, and why."""

    source: Source
    why: str

    def __str__(self) -> str:
        return f"via {NAMES[self.source]}: {self.why}"


def choose(asked: str | None, facts: Facts) -> Choice:
    """The kernel where open-iscsi is there and may be used; the engine where not, or where it holds the target already.

    Args:
        asked: `kernel` or `engine` where a person said so.

    Raises:
        MooringError: the kernel was asked for and cannot be used.
    """
    if asked == Source.ENGINE:
        return Choice(Source.ENGINE, "as asked for")
    if asked == Source.KERNEL:
        if facts.kernel_why_not:
            raise MooringError(
                facts.kernel_why_not, code="no-open-iscsi", fix="install open-iscsi, or use --via engine"
            )
        if facts.only_engine:
            raise MooringError(
                f"{facts.only_engine} is not for the kernel's initiator",
                code="bad-input",
                fix="see /etc/iscsi/initiatorname.iscsi and node.session.auth.chap_algs in iscsid.conf",
            )
        return Choice(Source.KERNEL, "as asked for")
    if facts.held:
        return Choice(Source.ENGINE, f"it holds {facts.held} already")
    if facts.kernel_why_not:
        return Choice(Source.ENGINE, facts.kernel_why_not)
    if not facts.root:
        return Choice(Source.ENGINE, "only root may use open-iscsi")
    if facts.only_engine:
        return Choice(Source.ENGINE, f"{facts.only_engine} is for it alone")
    return Choice(Source.KERNEL, "open-iscsi is here")


def held_by_engine(sessions: Iterable[Session], target: str | None, portal: Portal | None) -> str:
    """What of a target, or of a portal where there is no target, the engine holds; empty for nothing."""
    for session in sessions:
        if session.source is not Source.ENGINE:
            continue
        at = (session.portal.host, session.portal.port)
        if target is not None and session.target == target:
            return "a session with this target"
        if target is None and portal is not None and at == (portal.host, portal.port):
            return "a session at this portal"
    return ""
