"""Mounted file systems that matter to a person: mounts joined with labels, sizes and the disks they stand on."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from initiator.host import mounts as mounts_
from initiator.host import sysfs
from initiator.host.mounts import Mount
from initiator.host.run import CannotRun, Helper, HelperFailed, Stuck, still_stuck
from initiator.model import BlockNode, Problem, Volume, VolumeState


class Size(NamedTuple):
    """How big a file system is and how much of it is taken, in bytes; free is what a plain user can still write."""

    size: int
    used: int
    free: int
    label: str | None = None
    """Its own word for its label, where it was asked for it and has one."""


class Label(NamedTuple):
    """What a file system is called."""

    label: str | None
    uuid: str | None


_TELLING = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"))
"""File systems that know their label while they are mounted, and can be asked."""
_START_S = 5.0
"""A busy machine needs some of it for the start of an interpreter."""
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


def read_labels(root: Path, nodes: Iterable[BlockNode]) -> dict[str, Label]:
    """Labels and UUIDs by `major:minor`, as udev has noted them; empty where there is no udev.

    The device itself is never read for it: it may be dead, and a read is a use.
    """
    prefix = sysfs.base(root)
    by_label = _links(f"{prefix}/dev/disk/by-label")
    by_uuid = _links(f"{prefix}/dev/disk/by-uuid")
    database = f"{prefix}/run/udev/data"
    has_database = os.path.isdir(database)
    found = {}
    for node in nodes:
        lines = (sysfs.read_text(f"{database}/b{node.dev}") or "").splitlines() if has_database else []
        noted = dict(line[2:].split("=", 1) for line in lines if line.startswith("E:ID_FS_") and "=" in line)
        label = _plain(noted.get("ID_FS_LABEL_ENC")) or by_label.get(node.kname)
        uuid = _plain(noted.get("ID_FS_UUID_ENC")) or noted.get("ID_FS_UUID") or by_uuid.get(node.kname)
        if label or uuid:
            found[node.dev] = Label(label, uuid)
    return found


def _links(folder: str) -> dict[str, str]:
    targets = ((name, sysfs.read_link(f"{folder}/{name}")) for name in sysfs.names(folder))
    return {os.path.basename(target): _plain(name) or name for name, target in targets if target}


def _plain(text: str | None) -> str | None:
    """Undoes udev's escapes, which stand for bytes of UTF-8."""
    if text is None:
        return None
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        return raw


class Sizes:
    """Asks how full mounts are, in a helper child, and survives mounts that never answer.

    A mount that hung is not asked again before its child has come back and `retry_after` seconds are over. Where the
    child could be killed, only a second one tells whether the mount hangs: the first may not have been let run.

    Args:
        deadline: Seconds that one round of questions may take.
        retry_after: Seconds during which a mount that hung is left alone.
        clock: A monotonic clock.
    """

    def __init__(
        self, deadline: float = 1.0, retry_after: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deadline = deadline
        self._retry_after = retry_after
        self._clock = clock
        self._helper = Helper()
        self._suspects: dict[str, tuple[int, float]] = {}

    def start(self) -> None:
        """Starts the child early, so that it is ready when `read` needs it."""
        with contextlib.suppress(CannotRun):  # `read` tries again, and says so
            self._helper.start(_START_S)

    def read(
        self, mounts: Iterable[Mount], nameless: Iterable[str] = ()
    ) -> tuple[dict[str, Size], tuple[Problem, ...]]:
        """The sizes of the file systems behind mounts of the own namespace.

        Args:
            mounts: Who is asked.
            nameless: Device numbers of mountinfo of those that are to say their label, too, because udev does not:
                where there is no udev, nobody else knows it without reading the device.

        Returns:
            By device number of mountinfo, and a Problem for each mount that does not answer. A file system that cannot
            be asked (its mount point is covered, or permission is missing) has no entry.
        """
        waiting: dict[int, Mount] = {}
        silent: dict[str, Mount] = {}
        labels = frozenset(nameless)
        for mount in mounts:
            if mount.namespace is None:
                if self._suspected(mount.dev):
                    silent.setdefault(mount.dev, mount)
                else:
                    waiting[mount.mount_id] = mount
        found: dict[str, Size] = {}
        doubted: set[str] = set()
        until = self._clock() + self._deadline
        while waiting and (left := until - self._clock()) > 0:
            try:
                hung = self._round(waiting, found, left, labels, doubted)
            except CannotRun as error:
                return found, (Problem("sizes", "the file systems", str(error)),)
            if hung:
                silent[hung.dev] = hung
        silent |= {mount.dev: mount for mount in waiting.values() if mount.dev not in found}
        reason = "the file system does not answer"
        return found, tuple(Problem("sizes", mount.mountpoint, reason) for mount in silent.values())

    def _round(
        self,
        waiting: dict[int, Mount],
        found: dict[str, Size],
        seconds: float,
        nameless: frozenset[str],
        doubted: set[str],
    ) -> Mount | None:
        """Asks `waiting` in order and takes out who answers, and all mounts of the one that hangs, which it gives.

        One that may hang is noted in `doubted`, and its mounts come last then.
        """
        asked = [(mount.mountpoint, mount.mount_id) for mount in waiting.values()]
        labels = tuple(one.mount_id for one in waiting.values() if one.dev in nameless and one.fstype in _TELLING)
        try:
            for mount_id, fragment, blocks, free, available, label in self._helper.stream(
                "statvfs", {"mounts": asked, "labels": labels}, max(seconds / 2, 0.05)
            ):
                mount = waiting.pop(mount_id)
                if fragment:
                    taken, left = (blocks - free) * fragment, available * fragment
                    found[mount.dev] = Size(blocks * fragment, taken, left, label.decode(errors="replace") or None)
        except Stuck as stuck:
            hung = next(iter(waiting.values()), None)
            if hung is None:  # all have answered; only the end of the answer came too late
                return None
            its = {mount_id: mount for mount_id, mount in waiting.items() if mount.dev == hung.dev}
            for mount_id in its:
                del waiting[mount_id]
            if not stuck.left_behind and hung.dev not in doubted:
                doubted.add(hung.dev)
                waiting.update(its)
                return None
            self._suspects[hung.dev] = (stuck.pid, self._clock() + self._retry_after)
            return hung
        except HelperFailed:
            waiting.clear()
        return None

    def _suspected(self, dev: str) -> bool:
        if dev not in self._suspects:
            return False
        pid, until = self._suspects[dev]
        if still_stuck(pid) or self._clock() < until:
            return True
        del self._suspects[dev]
        return False

    def close(self) -> None:
        """Ends the child."""
        self._helper.close()


def relevant(mounts: Iterable[Mount], behind: Mapping[str, tuple[str, ...]], ours: frozenset[str]) -> tuple[Mount, ...]:
    """The mounts to show: those on block devices, and all that hang below one on a disk of ours.

    Args:
        mounts: All mounts.
        behind: The block devices of each mountinfo device number (see `initiator.host.mounts.real_devices`).
        ours: `major:minor` of our disks and of all that stands on them.
    """
    every = tuple(mounts)
    on_ours = [mount for mount in every if ours.intersection(behind.get(mount.dev, ()))]
    below = {(mount.namespace, mount.mount_id) for mount in mounts_.below(every, on_ours)}
    return tuple(
        mount
        for mount in every
        if mount.dev in behind or mount.fstype == "fuseblk" or (mount.namespace, mount.mount_id) in below
    )


def to_volume(
    mount: Mount, disks: tuple[str, ...], size: Size | None, label: Label | None, *, look: bool = False
) -> Volume:
    """One mount as the model knows it."""
    name = (label.label if label else None) or (size.label if size else None)
    return Volume(
        id=volume_id(mount),
        name=name or mount.mountpoint,
        state=VolumeState.READ_ONLY if mount.read_only else VolumeState.MOUNTED,
        mountpoint=mount.mountpoint,
        fstype=mount.fstype,
        device=mount.source,
        dev=mount.dev,
        disks=disks,
        options=mount.options,
        root=mount.root,
        mount_id=mount.mount_id,
        parent_id=mount.parent_id,
        namespace=mount.namespace,
        namespace_pid=mount.namespace_pid,
        propagation=mount.propagation,
        size_bytes=size.size if size else None,
        used_bytes=size.used if size else None,
        free_bytes=size.free if size else None,
        label=name,
        uuid=label.uuid if label else None,
        look=look,
    )


def volume_id(mount: Mount) -> str:
    """Unique among all namespaces, for as long as the mount exists."""
    return f"volume:{mount.namespace}:{mount.mount_id}" if mount.namespace else f"volume:{mount.mount_id}"
