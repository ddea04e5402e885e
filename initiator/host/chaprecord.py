"""CHAP credentials in open-iscsi's records, and the way back when a login with them has failed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from initiator.host import database
from initiator.host.nodes import DATABASES, NodeRecord
from initiator.model import Portal

_LARGEST = 1 << 16
"""Bytes of a record; open-iscsi writes some thousand."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """CHAP: what this host shows the target, and what it wants to see of it (mutual CHAP)."""

    user: str
    secret: str = dataclasses.field(repr=False)
    target_user: str | None = None
    target_secret: str | None = dataclasses.field(default=None, repr=False)


Sleep = Callable[[float], None]


def give_node(records: Iterable[NodeRecord], chap: Credentials, root: Path, sleep: Sleep) -> list[database.Change]:
    """Writes credentials into node records; gives what takes them back."""
    with database.locked(root, sleep=sleep):
        return [database.change_record(each.path, _settings("node.session.auth", chap), root) for each in records]


def take_back(changes: Iterable[database.Change], root: Path, sleep: Sleep) -> None:
    """Makes records what they were before, but for one that somebody else has changed since."""
    with database.locked(root, sleep=sleep):
        for change in changes:
            database.undo(change, root)


def give_discovery(portal: Portal, chap: Credentials, root: Path, sleep: Sleep) -> list[database.Change]:
    """Writes credentials into the discovery records of a portal; gives what takes them back."""
    names = [f"{base}/send_targets/{portal.host},{portal.port}/st_config" for base in DATABASES]
    paths = [path for name in names if os.path.isfile(path := str(root / name))]
    if not paths:
        raise database.DatabaseError(f"there is no discovery record of {portal} to write the credentials into")
    with database.locked(root, sleep=sleep):
        return [database.change_record(path, _settings("discovery.sendtargets.auth", chap), root) for path in paths]


def _settings(prefix: str, chap: Credentials) -> dict[str, str]:
    settings = {f"{prefix}.authmethod": "CHAP", f"{prefix}.username": chap.user, f"{prefix}.password": chap.secret}
    if chap.target_user is not None and chap.target_secret is not None:
        settings |= {f"{prefix}.username_in": chap.target_user, f"{prefix}.password_in": chap.target_secret}
    return settings


def read_node(path: str) -> Credentials | None:
    """The credentials in one node record; None where it has none or may not be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.partition("=") for line in file.read(_LARGEST).splitlines() if "=" in line]
    except OSError:
        return None
    settings = {name.strip(): value.strip() for name, _, value in lines}
    prefix = "node.session.auth"
    user, secret = settings.get(f"{prefix}.username"), settings.get(f"{prefix}.password")
    if settings.get(f"{prefix}.authmethod") != "CHAP" or not user or not secret:
        return None
    return Credentials(
        user, secret, settings.get(f"{prefix}.username_in") or None, settings.get(f"{prefix}.password_in") or None
    )
