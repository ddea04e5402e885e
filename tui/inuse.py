"""Whether this host has a logical unit in use already, by whatever name: the guard of `mooring write`. Pure.

A unit is known by its place (target and LUN) before anything is asked of it, and by its identities once it was asked:
those stay the same under each name of its target and over either initiator. What cannot be known is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path as Folder

from initiator.engine.attached import FOLDER_NAME
from initiator.errors import BadInputError, RefusedError
from initiator.model import Disk, Path, Snapshot
from initiator.names import clean, parse_name
from initiator.scsi.commands import decode_lun, encode_lun
from initiator.scsi.errors import ScsiFormatError

_NEEDED = ("iscsi", "kernel", "block", "engine")
"""Readers without which nobody knows which units have a device here, or which of them is which."""
_FOR_CERTAIN = ("naa.", "eui.")
"""How identities begin that the kernel writes as the engine does."""


def refuse_unknown(snapshot: Snapshot, engines: Iterable[Folder]) -> None:
    """Refuse where it is not known what this host has attached.

    Args:
        snapshot: The host.
        engines: Runtime folders of engines that may have disks here, whether they tell us of them or not.

    Raises:
        RefusedError: a reader failed, or an engine that does not answer us has a device here.
    """
    for problem in snapshot.problems:
        if problem.source in _NEEDED:
            raise RefusedError(
                f"what this host has attached is not known: {clean(problem.subject)}: {clean(problem.reason)}",
                code="not-known",
                fix="see: mooring engine status" if problem.source == "engine" else "see: mooring list, as root",
            )
    known = {disk.device for disk in snapshot.disks}
    folders = tuple(f"{os.path.realpath(folder)}/{FOLDER_NAME}/" for folder in engines)
    for node in snapshot.block:
        if (node.backing_file or "").startswith(folders) and f"/dev/{node.kname}" not in known:
            raise RefusedError(
                f"which logical unit is attached as /dev/{node.kname} is not known: its engine does not tell us",
                code="not-known",
                fix=f"ask as the user whose engine has {clean(node.backing_file or '')}: mooring engine status",
            )


def refuse_by_place(snapshot: Snapshot, target: str, lun: int) -> None:
    """Refuse where a LUN of a target has a device here.

    Raises:
        RefusedError: it has.
    """
    wanted = _place(target, lun)
    targets = {session.id: session.target for session in snapshot.sessions}
    for disk, device, paths in _used(snapshot):
        places = [(disk.target, disk.lun), *((targets.get(path.session), path.lun) for path in paths)]
        if any(name and number is not None and _place(name, number) == wanted for name, number in places):
            raise RefusedError(f"LUN {lun} is attached here as {device}", fix=f"mooring remove {clean(disk.name)}")


def refuse_by_identity(snapshot: Snapshot, names: Sequence[str], size_bytes: int | None) -> None:
    """Refuse where a logical unit has a device here, or may have one.

    Args:
        snapshot: The host.
        names: Every identity of the unit, as it says itself.
        size_bytes: Its size.

    Raises:
        RefusedError: it has, or one of the two does not say who it is and they are as long.
    """
    ours = {*names, *filter(None, map(_of_map, names))}
    maps = {each.disk: each.wwid for each in snapshot.maps if each.wwid}
    for disk, device, _ in _used(snapshot):
        theirs = {name for name in (*disk.designators, disk.wwid, maps.get(disk.id)) if name}
        if theirs & ours:
            raise RefusedError(
                f"it is attached here as {device}, by another way", fix=f"mooring remove {clean(disk.name)}"
            )
        telling = disk.designators or [name for name in theirs if name.startswith(_FOR_CERTAIN)]
        if not (telling and names) and disk.size_bytes in (None, size_bytes):
            raise RefusedError(
                f"it may be what is attached here as {device}: nothing tells the two apart",
                code="not-known",
                fix=f"mooring remove {clean(disk.name)}",
            )


def _used(snapshot: Snapshot) -> Iterator[tuple[Disk, str, list[Path]]]:
    """The disks that have a device here, or a path with one; with that and their paths."""
    paths: dict[str, list[Path]] = {}
    for path in snapshot.paths:
        paths.setdefault(path.disk, []).append(path)
    for disk in snapshot.disks:
        own = paths.get(disk.id, [])
        device = disk.device or next((path.device for path in own if path.device), None)
        if device is not None:
            yield disk, clean(device), own


def _place(target: str, lun: int) -> tuple[str, int]:
    """A target and a LUN, each in its normal form."""
    try:
        target = str(parse_name(target, tolerant=True))
    except BadInputError:  # what the kernel is logged in to can be called anything
        target = target.lower()
    try:
        return target, decode_lun(encode_lun(lun))
    except ScsiFormatError:
        return target, lun


def _of_map(name: str) -> str | None:
    """How multipath writes an identity: the number of the designator's type, and its digits."""
    kind, _, digits = name.partition(".")
    return {"eui": "2", "naa": "3"}[kind] + digits if kind in ("eui", "naa") else None
