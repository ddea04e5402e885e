"""`mooring mount VOLUME --read-only`: look into a volume without writing a byte to its disk."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from initiator import places
from initiator.engine.client import EngineClient
from initiator.errors import BadInputError, RefusedError
from initiator.host.mounts import Mount
from initiator.host.volumes import Label, read_labels
from initiator.model import Snapshot
from initiator.names import clean
from safety import look, looking
from safety.findings import Finding
from safety.look import Ground, Look
from tui.commands.common import emit, need_root
from tui.exits import Exit, say

SCHEMA = 1


def mount(arguments: argparse.Namespace) -> int:
    """`mooring mount VOLUME --read-only [--dry-run] [--json]`; prints the folder."""
    need_root("looking into a volume")
    found = looking.prepare(lambda seen: _find(seen, arguments.name), EngineClient())
    if found.look is None:
        return _refused(found.ground, found.findings, as_object=arguments.json)
    if arguments.dry_run:
        folder = str(places.look_path() / found.look.folder)
        return _told(found.look, folder, None, found.look.would(folder), as_object=arguments.json)
    made = looking.carry_out(found.look)
    code = _told(found.look, made.mountpoint, made, (), as_object=arguments.json)
    if not arguments.json:
        what = f"{made.fstype} of {found.look.name} ({found.look.device})"
        say(f"{what} is mounted read-only; nothing is written to its disk, and the kernel takes it for read-only")
        say(f"  -> when you have looked: mooring unmount {shlex.quote(made.mountpoint)}")
    return code


def _find(snapshot: Snapshot, text: str) -> Ground:
    """By what the person says, else by the device that a link such as `/dev/disk/by-label/TEA` leads to."""
    labels = read_labels(Path("/"), snapshot.block)
    try:
        return find_ground(snapshot, text, labels)
    except BadInputError:
        real = os.path.realpath(text)
        if not text.startswith("/dev/") or real == text:
            raise
        return find_ground(snapshot, real, labels)


def _refused(ground: Ground, findings: Sequence[Finding], *, as_object: bool) -> int:
    if as_object:
        told = [finding.to_json() for finding in findings]
        emit({"schema": SCHEMA, "outcome": "refused", "device": ground.device, "findings": told})
    say(f"{ground.name} ({ground.device}) is not mounted. Nothing was changed.")
    for finding in findings:
        say(f"  NO: {clean(finding.text, 400)}  [{finding.code}]", f"      seen: {clean(finding.evidence, 400)}")
        if finding.fix:
            say(f"      -> {clean(finding.fix, 400)}")
    return Exit.REFUSED


def _told(wanted: Look, folder: str, made: Mount | None, would: Sequence[str], *, as_object: bool) -> int:
    if as_object:
        outcome = {"outcome": "mounted", "mount_id": made.mount_id} if made else {"outcome": "dry-run", "would": would}
        emit({"schema": SCHEMA, **outcome, "folder": folder, **wanted.to_json()})
    else:
        print("\n".join(f"would {clean(line, 400)}" for line in would) if would else folder)
    return Exit.DONE


def find_ground(snapshot: Snapshot, text: str, labels: Mapping[str, Label] | None = None) -> Ground:
    """The device of an iSCSI disk with this node or label, or that of the disk with this name, if it has only one.

    Args:
        snapshot: The host.
        text: What a person calls it: also a mount point, of which the guards then say that it is one.
        labels: Labels and UUIDs by `major:minor`.

    Raises:
        BadInputError: nothing is called so, or more than one thing.
        RefusedError: it is a single path of a map, or a disk that is not attached.
    """
    name, known = text.removeprefix("/dev/"), look.grounds(snapshot)
    mounted = {volume.dev for volume in snapshot.volumes if volume.mountpoint == text}
    named = [each for each in known if name.removeprefix("mapper/") in (each.node.kname, each.node.dm_name)]
    for disk in snapshot.disks:
        if text in (disk.name, disk.id, disk.wwid, disk.device):
            named = list(look.leaves(snapshot, disk)) or named
            if not named:
                why = f"{clean(disk.name)} ({disk.state}) has no block device on this host to look into"
                raise RefusedError(why, fix=f"attach it first: mooring attach {clean(disk.name)}")
    called = [(each, (labels or {}).get(each.node.dev)) for each in known]
    named = named or [each for each, label in called if label is not None and text in (label.label, label.uuid)]
    named = named or [each for each in known if each.node.dev in mounted]
    if len(named) == 1:
        return named[0]
    if named:
        there = ", ".join(each.device for each in named)
        raise BadInputError(f"{clean(text)} has several devices that can carry a file system", fix=f"name one: {there}")
    _refuse_path(snapshot, text)
    there = ", ".join(f"{clean(disk.name)}" for disk in snapshot.disks[:12]) or "no disk at all"
    raise BadInputError(f"no disk or device of an iSCSI disk is called {clean(text)!r}", fix=f"there is: {there}")


def _refuse_path(snapshot: Snapshot, text: str) -> None:
    """One path of a map, or a partition of it, is not what is mounted.

    Raises:
        RefusedError: it is one.
    """
    node = next((each for each in snapshot.block if text in (each.kname, f"/dev/{each.kname}")), None)
    device = f"/dev/{node.parent or node.kname}" if node else text
    found = next((each for each in snapshot.paths if device in (each.device, each.id, each.name)), None)
    disk = next((each for each in snapshot.disks if found is not None and each.id == found.disk), None)
    if disk is not None and disk.map is not None:
        raise RefusedError(
            f"{clean(text)} is a single path of {clean(disk.name)}, whose map {clean(disk.device or '')} holds it",
            fix=f"mooring mount {clean(disk.name)} --read-only",
        )
