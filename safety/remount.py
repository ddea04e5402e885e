"""Mounting again what a removal unmounted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from initiator.host import block
from initiator.host.mounts import Mount, is_under
from initiator.model import BlockNode
from safety.plan import Step
from safety.restore import bring_back
from safety.stand import path_of
from safety.work import LIVING, Work
from safety.world import NotProven, StepError

_SHOWN_ONLY = frozenset({"seclabel"})
"""Words that mountinfo shows and mount(2) does not take."""
_TOP_LEVEL = 5
"""Id of the subvolume of a btrfs that holds all others (BTRFS_FS_TREE_OBJECTID)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What a file system lies on now: its device may have come back under another name."""

    source: str
    dev: str | None
    """Its number in mountinfo; None where that cannot be told beforehand, and the source has to do."""
    names: frozenset[str] = frozenset()
    """Other names by which mountinfo may show it: those of its device, and of all devices that it may lie on."""

    @classmethod
    def of(cls, step: Step, source: str, dev: str | None, nodes: Iterable[BlockNode], disks: Iterable[str]) -> Self:
        """Where the file system of an unmount lies, given the devices of today and the numbers of its disks.

        A btrfs shows under a number of its own, which each mount gives anew, and with the name of its first device,
        whichever it was mounted by.
        """
        if not str(step.params["dev"]).startswith("0:"):
            return cls(source, dev)
        every = tuple(nodes)
        own = block.above(every, disks)
        found = [node for node in every if node.dev in own]
        return cls(source, None, frozenset(name for node in found for name in (f"/dev/{node.kname}", path_of(node))))

    def carries(self, mount: Mount) -> bool:
        """Whether a mount is one of this file system."""
        named = mount.source == self.source or mount.source in self.names
        return named if self.dev is None else mount.dev == self.dev


def mount_again(work: Work, step: Step, ground: Callable[[Work, Step], Ground] | None = None) -> str:
    """Mount a file system at the same place with the same options, as far as that is not so now.

    One that an earlier undo mounted, and then died before it was read-only or private as before, is made so now.

    Args:
        work: The removal.
        step: The unmount that is taken back.
        ground: Brings the disk back, if somebody took it meanwhile, and says where the file system lies; the engine's
            way when None.

    Raises:
        StepError: the disk is not attached, or is another one, or mount(8) failed.
        NotProven: the mount does not show.
    """
    point = step.params["mountpoint"]
    if step.params.get("look"):
        return f"{point} was there only to look into it: mooring mount {step.params['source']} --read-only"
    on = (ground or _engine_ground)(work, step)
    there = _shown(work, step, on) is not None
    if not there:
        if step.params["root"] == "/":
            _calls(work, step, [whole(step, on.source, point)])
        else:
            _bind(work, step, on)
        work.until(lambda: None if _shown(work, step, on) else f"{point} is not mounted.", 10.0)
    if (found := _shown(work, step, on)) is not None:
        _calls(work, step, refine(step, found))
    if (found := _shown(work, step, on)) is None:
        raise NotProven(f"{point} is not mounted.")
    if step.params["root"] != "/":
        _sweep(work, step, on)
    before, after = _words(step.params["options"]), _words(found.options)
    if before != after:
        work.note(f"{found.mountpoint} had the options {','.join(before)}, now it has {','.join(after)}.")
    return f"{point} is mounted" if there else f"{point} is mounted from {on.source}"


def _engine_ground(work: Work, step: Step) -> Ground:
    bring_back(work)
    disk = work.confirm(device=False)
    if disk.device is None or disk.dev is None or disk.state not in LIVING:
        raise StepError(f"{disk.name} is not attached, so {step.params['mountpoint']} cannot be mounted.", code="gone")
    source = _source(work, step, disk.device)
    dev = disk.dev if source == disk.device else None
    return Ground.of(step, source, dev, work.snapshot().block, (disk.dev,))


def whole(step: Step, source: str, point: str) -> Sequence[str]:
    """Arguments of mount(8) that mount the file system of the step; `ro` is that of the file system, not the mount.

    Of a btrfs the whole tree, whichever subvolume was mounted and whichever it would mount by itself.
    """
    own, shared = _words(step.params["options"]), _words(step.params["super_options"])
    state = "ro" if "ro" in shared else "rw"
    if step.params["fstype"] == "btrfs":
        # what the kernel shows last is which subvolume it is, with a path that may have commas in it
        plain = itertools.takewhile(lambda word: not word.startswith(("subvolid=", "subvol=")), shared)
        shared = [*plain, f"subvolid={_TOP_LEVEL}"]
    options = [state, *(word for word in dict.fromkeys((*own, *shared)) if word not in ("ro", "rw"))]
    return ("-t", step.params["fstype"], "-o", ",".join(options), source, point)


def refine(step: Step, found: Mount) -> list[Sequence[str]]:
    """What only further calls of mount(8) can do: an `ro` of this mount alone, a bind's own options, propagation."""
    params = step.params
    point = params["mountpoint"]
    own = _words(params["options"])
    calls: list[Sequence[str]] = []
    if set(own) != set(_words(found.options)):
        calls.append(("-o", ",".join(["remount", "bind", *own]), point))
    wanted = _propagation(params["propagation"])
    if wanted is not None and wanted != _propagation(found.propagation):
        calls.append((f"--make-{wanted}", point))
    return calls


def _propagation(fields: str) -> str | None:
    """The word for mount(8); None for the slave of a mount that nobody here can name."""
    kinds = [word.partition(":")[0] for word in fields.split()]
    if not kinds:
        return "private"
    return next((kind for kind in ("shared", "unbindable") if kind in kinds), None)


def _bind(work: Work, step: Step, on: Ground) -> None:
    """Mount a folder of the file system again: from where the file system is mounted, or from a place made for it."""
    params = step.params
    for mount in work.world.mounts():
        if mount.namespace is None and on.carries(mount) and is_under(params["root"], mount.root):
            inside = params["root"].removeprefix(mount.root.rstrip("/"))
            _calls(work, step, [("--bind", mount.mountpoint + inside, params["mountpoint"])])
            return
    scratch = work.world.scratch()
    _calls(work, step, [whole(step, on.source, scratch)])
    try:
        _calls(work, step, [("--bind", scratch + params["root"], params["mountpoint"])])
    finally:
        work.world.unmount(scratch, step.deadline_s)


def _sweep(work: Work, step: Step, on: Ground) -> None:
    """Unmount what an undo that died left in the place made for it."""
    scratch = work.world.scratch()
    if any(
        on.carries(mount) for mount in work.world.mounts() if (mount.namespace, mount.mountpoint) == (None, scratch)
    ):
        work.world.unmount(scratch, step.deadline_s)


def _calls(work: Work, step: Step, calls: Iterable[Sequence[str]]) -> None:
    for arguments in calls:
        work.world.mount(arguments, step.deadline_s)


def _source(work: Work, step: Step, device: str) -> str:
    """The device node of today for a file system of then: the disk may have come back under another name."""
    then = work.identity.device or ""
    source: str = step.params["source"]
    part = source.removeprefix(then)
    return device + part if source.startswith(then) and part.startswith("p") else device


def _shown(work: Work, step: Step, on: Ground) -> Mount | None:
    """The mount that the step took away, if there is one like it now, on the disk as it is now."""
    place = (step.params["mountpoint"], step.params["root"])
    for mount in work.world.mounts():
        if mount.namespace is None and (mount.mountpoint, mount.root) == place and on.carries(mount):
            return mount
    return None


def _words(options: str) -> list[str]:
    return [word for word in options.split(",") if word and word not in _SHOWN_ONLY]
