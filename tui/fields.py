"""What a filter sees of a thing: the fields that `/` knows, in lower case."""

from __future__ import annotations

from collections.abc import Iterable

from initiator.model import Disk, Link, Path, Session, Volume
from safety.past import Past
from tui.words import mark
from tui.world import Checked, Group, Happened, Item, Kind, Target, Trouble, World

Found = dict[str, str | None]


def fields(world: World, kind: Kind, item: Item) -> dict[str, str]:
    """The fields of a row."""
    found: Found = {"kind": kind.value, "name": item.name}
    if isinstance(item, Target):
        found |= {"target": item.name, "state": item.mark.word}
    elif isinstance(item, Group):
        found["name"] = ""
    elif isinstance(item, Happened):
        found |= {"state": mark(item.event.severity).word, "text": item.event.text}
    elif isinstance(item, Trouble):
        found |= {"state": mark(item.severity).word, "text": item.name}
    elif isinstance(item, Past):
        outcome = str(item.outcome) if item.outcome else "running" if item.running else "died"
        found |= {"state": outcome, "disk": item.name, "wwid": item.wwid, "text": item.said}
    elif isinstance(item, Checked):
        found["state"] = mark(item.severity).word if item.severity else "unknown"
        found |= {"disk": item.subject, "text": f"{item.evidence} {item.fix}", "alias": item.rule}
    else:
        found["state"] = f"{item.state} {mark(item.state).word}"
        found |= _of_thing(world, item)
    return {name: text.casefold() for name, text in found.items() if text}


def _of_thing(world: World, item: Disk | Volume | Path | Session | Link) -> Found:
    if isinstance(item, Disk):
        return _disk(world, item)
    if isinstance(item, Volume):
        disks = _names(map(world.disk, item.disks))
        return {"device": item.device, "mount": item.mountpoint, "fs": item.fstype, "label": item.label, "disk": disks}
    if isinstance(item, Path):
        link, disk, session = world.link(item.link), world.disk(item.disk), world.session_of(item)
        return {
            "portal": world.portal_of(item),
            "device": item.device,
            "link": link.name if link else None,
            "disk": disk.name if disk else None,
            "target": session.target if session else None,
            "access": item.access.value,
            "lun": str(item.lun),
            "text": item.reason,
        }
    if isinstance(item, Session):
        link = world.link(item.link)
        return {
            "target": item.target,
            "portal": str(item.portal),
            "source": item.source,
            "alias": item.alias,
            "chap": item.chap_user,
            "link": link.name if link else None,
            "disk": _names(world.carried_by(item)),
            "text": item.reason,
        }
    return {"link": item.name, "device": " ".join(item.addresses), "text": item.kind}


def _disk(world: World, disk: Disk) -> Found:
    volumes, joined = world.volumes_of(disk), world.map_of(disk)
    return {
        "target": world.target_of(disk),
        "device": disk.device,
        "wwid": disk.wwid,
        "source": disk.source,
        "serial": disk.serial,
        "lun": None if disk.lun is None else str(disk.lun),
        "mount": " ".join(volume.mountpoint for volume in volumes),
        "fs": " ".join(volume.fstype for volume in volumes),
        "label": " ".join(volume.label for volume in volumes if volume.label),
        "map": joined.name if joined else None,
        "text": disk.reason,
    }


def _names(disks: Iterable[Disk | None]) -> str:
    return " ".join(disk.name for disk in disks if disk)
