"""The links in /sys/class/block: which block devices there are, and where in /sys/devices each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from initiator.host import attributes, sysfs


class BlockLink(NamedTuple):
    """One block device."""

    inode: int
    """Of the link: the kernel makes a new one for each new device."""
    place: str
    """Its folder in /sys/devices, which the kernel finds in half the time that it needs to follow the link."""


class BlockLinks:
    """Lists the block devices again and again; where one is, is asked once.

    Args:
        root: Where `sys` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = f"{sysfs.base(root)}/sys/class/block"
        self._devices = f"{sysfs.base(root)}/sys/devices/"
        self._found: Mapping[str, int] = {}
        self.last: Mapping[str, BlockLink] = {}
        """By kernel name, as they were listed last; the same mapping as before if none has come or gone."""

    def read(self) -> Mapping[str, BlockLink] | None:
        """The block devices by kernel name; None where the folder is absent.

        Raises:
            PermissionError: it may not be listed.
        """
        found = attributes.entries(self._folder)
        if found is None:
            self._found, self.last = {}, {}
            return None
        if found != self._found:
            self.last = {name: self._link(name, inode, self.last.get(name)) for name, inode in found.items()}
            self._found = found
        return self.last

    def _link(self, name: str, inode: int, known: BlockLink | None) -> BlockLink:
        return known if known is not None and known.inode == inode else BlockLink(inode, self._place(name))

    def _place(self, name: str) -> str:
        path = f"{self._folder}/{name}"
        target = sysfs.read_link(path) or ""
        return self._devices + target[14:] if target.startswith("../../devices/") else path
