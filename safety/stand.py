"""Where something stands: a device of the disk's stack, said in a way that finds it again after the disk came back.

Kernel names are given anew each time (`sdb`, `dm-3`); a device mapper device is known by its UUID, an array by its own,
a partition by its number, and the disk itself by its identification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from initiator.model import BlockNode

_NUMBER = re.compile(r"(\d+)$")


def describe(node: BlockNode, disk: BlockNode, arrays: Mapping[str, str]) -> dict[str, Any]:
    """What a device of the stack is.

    Args:
        node: The device.
        disk: The disk that it stands on.
        arrays: UUIDs of arrays by kernel name.
    """
    if node.dev == disk.dev:
        return {"is": "disk"}
    if node.dm_uuid:
        return {"is": "dm", "uuid": node.dm_uuid, "name": node.dm_name}
    if node.kind == "md":
        return {"is": "md", "uuid": arrays.get(node.kname), "kname": node.kname}
    number = _NUMBER.search(node.kname)
    return {"is": "part", "number": number[1] if number else "", "kname": node.kname}


def find(
    stand: Mapping[str, Any], nodes: Iterable[BlockNode], disk_dev: str | None, arrays: Mapping[str, str]
) -> BlockNode | None:
    """The device of today; None if there is none.

    Args:
        stand: What `describe` gave.
        nodes: The block devices of now.
        disk_dev: `major:minor` of the disk as it is now.
        arrays: UUIDs of arrays of now, by kernel name.
    """
    every = tuple(nodes)
    disk = next((node for node in every if node.dev == disk_dev), None)
    for node in every:
        if stand["is"] == "disk" and node is disk:
            return node
        if stand["is"] == "dm" and node.dm_uuid == stand["uuid"]:
            return node
        if stand["is"] == "md" and node.kind == "md":
            uuid = stand["uuid"]
            if (uuid is not None and arrays.get(node.kname) == uuid) or (uuid is None and node.kname == stand["kname"]):
                return node
        if stand["is"] == "part" and disk is not None and node.parent == disk.kname:
            number = _NUMBER.search(node.kname)
            if number is not None and number[1] == stand["number"]:
                return node
    return None


def path_of(node: BlockNode) -> str:
    """The device node that a person would use."""
    return f"/dev/mapper/{node.dm_name}" if node.dm_name else f"/dev/{node.kname}"
