"""The one text by which other tools know a thing: what is copied."""

from __future__ import annotations

from initiator.model import Disk, Link, Path, Session, Volume
from safety.past import Past
from tui.world import Checked, Item, Target, World


def identity_of(item: Item, world: World) -> str:
    """The WWID of a disk, the device of a path, the name of a target, and so on; empty for headings."""
    if isinstance(item, Disk):
        return item.wwid or item.device or item.name
    if isinstance(item, Path):
        return item.device or world.portal_of(item)
    if isinstance(item, Session):
        return item.target
    if isinstance(item, Volume):
        return item.mountpoint
    if isinstance(item, Link | Target):
        return item.name
    if isinstance(item, Past):
        return str(item.path)
    return item.fix or item.evidence if isinstance(item, Checked) else item.name
