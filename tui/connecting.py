"""Discovering, logging in and attaching as the dashboard orders it: with the initiator that this host has.

Everything here may take a minute and is called from threads of its own. Secrets come in as arguments, go to the
initiator and are kept nowhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from initiator.errors import BadInputError
from initiator.model import Portal, Session, Source
from initiator.names import parse_name, parse_portal
from tui import via
from tui.words import count

if TYPE_CHECKING:
    from initiator.engine.client import EngineClient
    from initiator.host.chaprecord import Credentials

DEADLINE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Chap:
    """What a person typed: this host's name and secret, and the target's where both sides prove who they are."""

    user: str = ""
    secret: str = dataclasses.field(default="", repr=False)
    target_user: str = ""
    target_secret: str = dataclasses.field(default="", repr=False)

    def check(self) -> None:
        """Complain about halves.

        Raises:
            BadInputError: a name without a secret, or the other way round; mutual CHAP without CHAP.
        """
        if bool(self.user) is not bool(self.secret):
            raise BadInputError("CHAP needs both a name and a secret", fix="fill in both, or neither")
        if bool(self.target_user) is not bool(self.target_secret):
            raise BadInputError(
                "mutual CHAP needs both the target's name and its secret", fix="fill in both, or neither"
            )
        if self.target_user and not self.user:
            raise BadInputError(
                "mutual CHAP needs CHAP: the target proves itself only to an initiator that does",
                fix="fill in the first name and secret too",
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """One target at one portal, as a discovery told it."""

    target: str
    portal: Portal


@dataclasses.dataclass(frozen=True, slots=True)
class Offers:
    """The answer to a discovery."""

    via: via.Choice
    portal: Portal
    found: tuple[Offer, ...]
    new_records: tuple[str, ...] = ()
    """The start-up of each node record that open-iscsi made of the answer; the engine keeps none."""

    @property
    def at_boot(self) -> int:
        """With how many of the new records a boot logs in."""
        return sum(startup in ("automatic", "onboot") for startup in self.new_records)

    def kept(self) -> str:
        """What the discovery left on this host, in a sentence or two."""
        if self.via.source is Source.ENGINE:
            return "Nothing is kept of the answer."
        if not self.new_records:
            return "open-iscsi had a node record of each already." if self.found else "There is no new node record."
        made = count(len(self.new_records), "new node record")
        told = f"open-iscsi made {made}, start-up {', '.join(sorted(set(self.new_records)))}"
        if self.at_boot:
            return f"{told}: the next boot logs in with {self.at_boot}. To prevent that: mooring startup TARGET manual."
        return f"{told}."


class Connector:
    """Gives the orders of this host.

    Raises (every method): MooringError, with the reason and the way out.
    """

    def discover(self, where: str, chap: Chap) -> Offers:
        """Ask a portal for its targets; the kernel's initiator makes a node record for each that has none."""
        portal = parse_portal(where.strip())
        chap.check()
        choice = self._choice(None, portal)
        if choice.source is Source.KERNEL:
            from initiator.host.iscsiadm import Iscsiadm
            from initiator.host.nodes import read_records

            before = {record.path for record in read_records().nodes}
            told = Iscsiadm().discover(portal, _for_kernel(chap))
            made = [record for record in read_records().nodes if record.path not in before]
            offered = tuple(Offer(each.target, each.portal) for each in told)
            return Offers(choice, portal, offered, tuple(record.startup or "unknown" for record in made))
        # The credentials are for the login that follows. A portal that tells its targets to everybody may do so, unless
        # it is to prove who it is.
        given = {**_for_engine(chap), "chap_may_be_left_out": not chap.target_user}
        answer = _engine().call("discover", timeout=DEADLINE_S, portal=str(portal), **given)
        found = [Offer(each["name"], Portal(**at)) for each in answer["targets"] for at in each["portals"]]
        return Offers(choice, portal, tuple(found))

    def login(self, offer: Offer, chap: Chap) -> str:
        """Log in to a target at one portal."""
        chap.check()
        choice = self._choice(offer.target, offer.portal)
        if choice.source is Source.KERNEL:
            from initiator.host.iscsiadm import Iscsiadm

            session = Iscsiadm().login(offer.target, offer.portal, chap=_for_kernel(chap))
            return f"Logged in to {offer.target} at {offer.portal}: session {session.sid} of the kernel."
        target = str(parse_name(offer.target))
        portals = [str(offer.portal)]
        _engine().call("login", timeout=DEADLINE_S, target=target, portals=portals, **_for_engine(chap))
        return f"Logged in to {offer.target} at {offer.portal}. Its disks can be attached: move to one and press a."

    def attach(self, target: str, lun: int) -> str:
        """Make a logical unit that a session of the engine sees a block device of this host."""
        disk = _engine().call("attach", timeout=DEADLINE_S, target=target, lun=lun)
        return f"{disk['name']} is attached as {disk['device']}. Nothing is mounted."

    def logout(self, session: Session) -> str:
        """End a session of the engine, which refuses it while a disk of it is attached."""
        _engine().call("logout", timeout=DEADLINE_S, session=session.id)
        return f"Logged out of {session.name}: the engine has no such session any more."

    def _choice(self, target: str | None, portal: Portal) -> via.Choice:
        from initiator.engine.client import EngineClient, EngineNotRunning
        from initiator.host import openiscsi

        held = ""
        with contextlib.suppress(EngineNotRunning):
            held = via.held_by_engine(EngineClient().snapshot().sessions, target, portal)
        return via.choose(None, via.Facts(openiscsi.why_not(), os.geteuid() == 0, held))


def _for_kernel(chap: Chap) -> Credentials | None:
    from initiator.host.chaprecord import Credentials

    if not chap.user:
        return None
    return Credentials(chap.user, chap.secret, chap.target_user or None, chap.target_secret or None)


def _for_engine(chap: Chap) -> dict[str, Any]:
    named = {
        "chap_user": chap.user,
        "chap_secret": chap.secret,
        "chap_target_user": chap.target_user,
        "chap_target_secret": chap.target_secret,
    }
    return {name: value for name, value in named.items() if value}


def _engine() -> EngineClient:
    from initiator.engine.client import EngineClient

    client = EngineClient()
    client.ensure()
    return client


def by_target(offers: Sequence[Offer]) -> list[Offer]:
    """Offers in the order of their targets' names."""
    return sorted(offers, key=lambda offer: (offer.target, offer.portal))
