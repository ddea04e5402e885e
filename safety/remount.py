"""Mounting again what a removal unmounted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from initiator.host.mounts import Mount, is_under
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
    if step.params["root"] == "/":
        _calls(work, step, [whole(step, source, step.params["mountpoint"]), *refine(step)])
    else:
        _bind(work, step, source, disk.dev)
    work.until(lambda: None if _shown(work, step) else f"{step.params['mountpoint']} is not mounted.", 10.0)
    found = _shown(work, step)
    if found is None:
        raise NotProven(f"{step.params['mountpoint']} is not mounted.")
    before, after = _words(step.params["options"]), _words(found.options)
    if before != after:
        work.note(f"{found.mountpoint} had the options {','.join(before)}, now it has {','.join(after)}.")
    return f"{found.mountpoint} is mounted from {source}"


def whole(step: Step, source: str, point: str) -> Sequence[str]:
    """Arguments of mount(8) that mount the file system of the step; `ro` is that of the file system, not the mount."""
    own, shared = _words(step.params["options"]), _words(step.params["super_options"])
    state = "ro" if "ro" in shared else "rw"
    options = [state, *(word for word in dict.fromkeys((*own, *shared)) if word not in ("ro", "rw"))]
    return ("-t", step.params["fstype"], "-o", ",".join(options), source, point)


def refine(step: Step) -> list[Sequence[str]]:
    """What only further calls of mount(8) can do: an `ro` of this mount alone, a bind's own options, propagation."""
    params = step.params
    point = params["mountpoint"]
    own, shared = _words(params["options"]), _words(params["super_options"])
    calls: list[Sequence[str]] = []
    if params["root"] != "/" or ("ro" in own and "ro" not in shared):
        calls.append(("-o", ",".join(["remount", "bind", *own]), point))
    kinds = [word.partition(":")[0] for word in params["propagation"].split()]
    if "shared" in kinds:
        calls.append(("--make-shared", point))
    elif "unbindable" in kinds:
        calls.append(("--make-unbindable", point))
    elif not kinds:
        calls.append(("--make-private", point))
    return calls


def _bind(work: Work, step: Step, source: str, dev: str) -> None:
    """Mount a folder of the file system again: from where the file system is mounted, or from a place made for it."""
    params = step.params
    here = step.params["dev"] == work.identity.dev
    for mount in work.world.mounts():
        same = mount.dev == dev if here else mount.source == source
        if mount.namespace is None and same and is_under(params["root"], mount.root):
            inside = params["root"].removeprefix(mount.root.rstrip("/"))
            _calls(work, step, [("--bind", mount.mountpoint + inside, params["mountpoint"]), *refine(step)])
            return
    scratch = work.world.scratch()
    _calls(work, step, [whole(step, source, scratch)])
    try:
        _calls(work, step, [("--bind", scratch + params["root"], params["mountpoint"]), *refine(step)])
    finally:
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


def _shown(work: Work, step: Step) -> Mount | None:
    """The mount that the step took away, if there is one like it now, on the disk as it is now."""
    disk = work.find(work.snapshot())
    if disk is None or disk.dev is None or disk.device is None:
        return None
    source = _source(work, step, disk.device)
    place = (step.params["mountpoint"], step.params["root"])
    for mount in work.world.mounts():
        ours = mount.dev == disk.dev or (source != disk.device and mount.source == source)
        if mount.namespace is None and (mount.mountpoint, mount.root) == place and ours:
            return mount
    return None


def _words(options: str) -> list[str]:
    return [word for word in options.split(",") if word and word not in _SHOWN_ONLY]
