"""All views in the order of their keys."""

from __future__ import annotations

from initiator.model import Disk, Link, Path, Session, Volume
from tui.views.checks import CHECKS
from tui.views.network import LINKS, SESSIONS
from tui.views.overview import OVERVIEW
from tui.views.storage import DISKS, PATHS, VOLUMES
from tui.views.told import EVENTS, REMOVALS
from tui.views.tree import TREE
from tui.views.view import View
from tui.world import Thing

VIEWS: tuple[View, ...] = (OVERVIEW, TREE, SESSIONS, DISKS, PATHS, LINKS, VOLUMES, CHECKS, EVENTS, REMOVALS)
BY_ID = {view.id: view for view in VIEWS}

HOMES: dict[type, View] = {Disk: DISKS, Volume: VOLUMES, Path: PATHS, Session: SESSIONS, Link: LINKS}


def home_of(thing: Thing) -> View:
    """The view in which a thing is found."""
    return HOMES.get(type(thing), TREE)
