"""All views in the order of their keys."""

from __future__ import annotations

from initiator.model import Disk, Link, Map, Path, Session, Volume
from tui.views.checks import CHECKS
from tui.views.network import LINKS, SESSIONS
from tui.views.overview import OVERVIEW
from tui.views.storage import DISKS, PATHS, VOLUMES
from tui.views.told import EVENTS, REMOVALS
from tui.views.tree import TREE
from tui.views.view import View
from tui.words import say
from tui.world import Thing

VIEWS: tuple[View, ...] = (OVERVIEW, TREE, SESSIONS, DISKS, PATHS, LINKS, VOLUMES, CHECKS, EVENTS, REMOVALS)
BY_ID = {view.id: view for view in VIEWS}

HOMES: dict[type, View] = {Disk: DISKS, Volume: VOLUMES, Path: PATHS, Session: SESSIONS, Link: LINKS}


def home_of(thing: Thing) -> View:
    """The view in which a thing is found."""
    return HOMES.get(type(thing), TREE)


def why_not_listed(thing: Thing | None) -> str:
    """Why a thing has no row in the view where it would be looked for, and how to see it."""
    if thing is None:
        return "It is not there any more."
    name = say(thing.name)
    if isinstance(thing, Link):
        return f"The links shown are those that iSCSI uses, and network cards; {name} is neither. mooring list links"
    if isinstance(thing, Volume):
        where = say(thing.mountpoint)
        return f"The volumes shown are those on iSCSI disks; {where} is not on one. findmnt {where}"
    if isinstance(thing, Map):
        return f"The disk of the map {name} is not there."
    return f"{name} is not among the {home_of(thing).title.lower()}."
