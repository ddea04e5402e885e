"""Mounting again what a removal unmounted."""

from __future__ import annotations

from collections.abc import Sequence

from initiator.host.mounts import Mount
from safety.plan import Step
from safety.restore import bring_back
from safety.work import LIVING, Work
from safety.world import NotProven, StepError

_SHOWN_ONLY = frozenset({"seclabel"})
"""Words that mountinfo shows and mount(2) does not take."""


def mount_again(work: Work, step: Step) -> str:
    """Mount a file system at the same place with the same options, if it is not mounted there now.

    The disk is brought back first, if somebody else has detached it meanwhile.

    Raises:
        StepError: the disk is not attached, or is another one, or mount(8) failed.
        NotProven: the mount does not show.
    """
    bring_back(work)
    disk = work.confirm(device=False)
    if disk.device is None or disk.dev is None or disk.state not in LIVING:
        raise StepError(f"{disk.name} is not attached, so {step.params['mountpoint']} cannot be mounted.", code="gone")
    if _shown(work, step) is not None:
        return f"{step.params['mountpoint']} is mounted"
    source = _source(work, step, disk.device)
    for arguments in arguments_for(step, source):
        work.world.mount(arguments, step.deadline_s)
    work.until(lambda: None if _shown(work, step) else f"{step.params['mountpoint']} is not mounted.", 10.0)
    found = _shown(work, step)
    if found is None:
        raise NotProven(f"{step.params['mountpoint']} is not mounted.")
    before, after = _words(step.params["options"]), _words(found.options)
    if before != after:
        work.note(f"{found.mountpoint} had the options {','.join(before)}, now it has {','.join(after)}.")
    return f"{found.mountpoint} is mounted from {source}"


def arguments_for(step: Step, source: str) -> list[Sequence[str]]:
    """The calls of mount(8) that make a mount like the one in the step: mount it, then what only a second call can do.

    The first call takes the options of the file system (`ro` there is about the superblock); an `ro` of this mount
    alone needs a remount, and propagation is a call of its own.
    """
    params = step.params
    point = params["mountpoint"]
    own, shared = _words(params["options"]), _words(params["super_options"])
    state = "ro" if "ro" in shared else "rw"
    options = [state, *(word for word in dict.fromkeys((*own, *shared)) if word not in ("ro", "rw"))]
    if params["root"] != "/":
        options.append(f"X-mount.subdir={params['root'].lstrip('/')}")
    calls: list[Sequence[str]] = [("-t", params["fstype"], "-o", ",".join(options), source, point)]
    if "ro" in own and state == "rw":
        calls.append(("-o", ",".join(["remount", "bind", *own]), point))
    kinds = [word.partition(":")[0] for word in params["propagation"].split()]
    if "shared" in kinds:
        calls.append(("--make-shared", point))
    elif not kinds:
        calls.append(("--make-private", point))
    elif "unbindable" in kinds:
        calls.append(("--make-unbindable", point))
    return calls


def _source(work: Work, step: Step, device: str) -> str:
    """The device node of today for a file system of then: the disk may have come back under another name."""
    then = work.identity.device or ""
    source: str = step.params["source"]
    part = source.removeprefix(then)
    return device + part if source.startswith(then) and (part == "" or part[0] == "p") else device


def _shown(work: Work, step: Step) -> Mount | None:
    disk = work.find(work.snapshot())
    dev = disk.dev if disk is not None else None
    point, root = step.params["mountpoint"], step.params["root"]
    whole = step.params["dev"] == work.identity.dev
    for mount in work.world.mounts():
        if mount.namespace is None and mount.mountpoint == point and mount.root == root:
            if mount.dev == (dev if whole else step.params["dev"]):
                return mount
            if not whole and mount.source.startswith((disk.device if disk and disk.device else "\0") + "p"):
                return mount
    return None


def _words(options: str) -> list[str]:
    return [word for word in options.split(",") if word and word not in _SHOWN_ONLY]
