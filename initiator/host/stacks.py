"""What LVM and md say of themselves: which volume groups and arrays stand on which devices.

LVM is asked with its own tool, and only where there is something of it; md tells in sysfs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from initiator.errors import MooringError
from initiator.host import sysfs
from initiator.host.run import Finished, run
from initiator.model import BlockNode
from initiator.names import clean

_SECONDS = 20.0
_MEMBER = "LVM2_member"


class StackError(MooringError):
    """A tool did not tell what stands on a disk."""

    code = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeGroup:
    """One LVM volume group."""

    name: str
    uuid: str
    """Without dashes, as the device mapper's UUIDs have it."""
    devices: tuple[str, ...]
    """`major:minor` of its physical volumes; an empty text for one that is missing."""
    active: tuple[str, ...]
    """Its active logical volumes, as `group/volume`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """One md array."""

    kname: str
    level: str | None
    state: str | None
    degraded: int | None
    sync: str | None
    members: tuple[str, ...]
    """Kernel names."""
    uuid: str | None
    """As udev noted it; by it the array is found again."""


def udev_properties(dev: str, root: Path = Path("/")) -> dict[str, str]:
    """What udev noted of a block device (`/run/udev/data/b8:0`); empty where it noted nothing."""
    lines = (sysfs.read_text(f"{sysfs.base(root)}/run/udev/data/b{dev}") or "").splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def uses_lvm(nodes: Collection[BlockNode], root: Path = Path("/")) -> bool:
    """Whether any of these devices is a logical volume, or a physical one by what udev noted."""
    return any(node.kind == "lvm" or udev_properties(node.dev, root).get("ID_FS_TYPE") == _MEMBER for node in nodes)


def read_groups(
    run_: Callable[[list[str], float], Finished] = lambda argv, deadline: run(argv, deadline),
) -> tuple[VolumeGroup, ...]:
    """All volume groups of this host.

    Raises:
        StackError: LVM's tools do not answer, or not with what can be understood.
    """
    volumes = _report(run_, "pvs", "vg_name,vg_uuid,pv_name,pv_major,pv_minor")
    logical = _report(run_, "lvs", "vg_uuid,vg_name,lv_name,lv_active")
    groups: dict[str, VolumeGroup] = {}
    for row in volumes:
        uuid = row["vg_uuid"].replace("-", "")
        if not uuid:
            continue
        known = row["pv_name"] != "[unknown]" and row["pv_major"] not in (
            "",
            "-1",
            "0",
        )  # a missing one, as LVM says it
        dev = f"{row['pv_major']}:{row['pv_minor']}" if known else ""
        group = groups.get(uuid, VolumeGroup(row["vg_name"], uuid, (), ()))
        groups[uuid] = dataclasses.replace(group, devices=(*group.devices, dev))
    for row in logical:
        owner = groups.get(row["vg_uuid"].replace("-", ""))
        if owner is not None and row["lv_active"] == "active":
            name = f"{row['vg_name']}/{row['lv_name']}"
            groups[owner.uuid] = dataclasses.replace(owner, active=(*owner.active, name))
    return tuple(groups.values())


def _report(run_: Callable[[list[str], float], Finished], tool: str, columns: str) -> list[Mapping[str, str]]:
    argv = [tool, "--reportformat", "json", "--nosuffix", "-o", columns]
    done = run_(argv, _SECONDS)
    if done.returncode != 0:  # what it printed may be a part of the truth
        raise _silent(argv, done)
    try:
        report: Any = json.loads(done.stdout)["report"][0]
        rows = report[tool.removesuffix("s")]
        names = columns.split(",")
        return [{name: str(row[name]) for name in names} for row in rows]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _silent(argv, done) from error


def _silent(argv: list[str], done: Finished) -> StackError:
    reason = clean(done.stderr.strip(), 200) or f"exit status {done.returncode}"
    return StackError(f"{argv[0]} does not tell: {reason}", fix=f"run it by hand: {' '.join(argv)}")


def read_array(node: BlockNode, root: Path = Path("/")) -> Array:
    """What md tells of one array; None where it does not tell."""
    folder = f"{sysfs.base(root)}/sys/class/block/{node.kname}/md"
    return Array(
        kname=node.kname,
        level=sysfs.read_text(f"{folder}/level"),
        state=sysfs.read_text(f"{folder}/array_state"),
        degraded=sysfs.read_int(f"{folder}/degraded"),
        sync=sysfs.read_text(f"{folder}/sync_action"),
        members=node.slaves,
        uuid=udev_properties(node.dev, root).get("MD_UUID"),
    )
