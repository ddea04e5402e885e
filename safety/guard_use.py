"""Guards that look for anything that uses the disk: mounts, swap, devices above, processes, exports, the system."""

from __future__ import annotations

import re
from collections.abc import Iterator

from initiator.host.mounts import Mount, below, is_under
from initiator.model import Swap
from safety.facts import UDEV, User
from safety.findings import Finding, Level
from safety.scene import Scene

_GROUP = re.compile(r"\b(shared|master):(\d+)")
_ABOVE = {
    "lvm": ("an LVM volume", "vgchange --activate n {name}"),
    "crypt": ("an encrypted volume", "cryptsetup close {name}"),
    "md": ("a RAID array", "mdadm --stop /dev/{kname}"),
    "mpath": ("a multipath map", "multipath -f {name}"),
    "loop": ("a loop device", "losetup -d /dev/{kname}"),
    "bcache": ("a bcache device", "stop /dev/{kname} through its sysfs folder"),
}


CLOSED = frozenset({"lvm", "crypt", "md", "part"})
"""Kinds of devices that the plan for a disk of the kernel closes; `safety.guard_stack` says when it may."""


def mounts(scene: Scene) -> Iterator[Finding]:
    """Mounts in the own namespace are unmounted by the plan; others have to go first."""
    own, taken = scene.own_mounts, unmounted_there(scene)
    for mount in own:
        text = f"{mount.mountpoint} is unmounted{'' if scene.volume else ' first'}."
        yield Finding(Level.NOTE, "mounted", mount.mountpoint, text, f"{mount.fstype}, mount {mount.mount_id}")
    for mount in scene.mounts:
        if mount.namespace is not None:
            yield _elsewhere(mount, own, mount in taken)
    listed = {(mount.namespace, mount.mount_id) for mount in scene.mounts}
    for mount in below(scene.facts.mounts, own):
        if (mount.namespace, mount.mount_id) not in listed:
            text = f"{mount.mountpoint} ({mount.fstype}) is mounted inside a file system of the disk."
            fix = f"umount {mount.mountpoint}"
            yield Finding(Level.BLOCK, "mount-inside", mount.mountpoint, text, f"mount {mount.mount_id}", fix)


def _elsewhere(mount: Mount, own: tuple[Mount, ...], taken: bool) -> Finding:
    where = f"mount namespace {mount.namespace}" + (
        f", process {mount.namespace_pid}" if mount.namespace_pid is not None else ""
    )
    subject = f"{mount.namespace}:{mount.mountpoint}"
    if copies(mount, own):
        text = f"{mount.mountpoint} also shows in another mount namespace; it goes when the first one is unmounted."
        return Finding(Level.NOTE, "mounted-copy", subject, text, f"{where}: {mount.propagation}")
    text = f"{mount.mountpoint} is mounted in another mount namespace (a container or a sandboxed service)."
    if taken:
        text = f"{text[:-1]}; it is unmounted there, and undo cannot bring that back."
        fix = "stop the container first, if it still needs the mount"
        return Finding(Level.WARN, "mounted-elsewhere", subject, text, where, fix)
    fix = (
        f"nsenter --target {mount.namespace_pid} --mount umount {mount.mountpoint}, or stop process "
        f"{mount.namespace_pid}"
        if mount.namespace_pid is not None
        else "find what keeps the namespace alive and stop it"
    )
    return Finding(Level.BLOCK, "mounted-elsewhere", subject, text, where, fix)


def unmounted_there(scene: Scene) -> tuple[Mount, ...]:
    """Mounts in namespaces of others that the plan unmounts, if the person chose so: each namespace's deepest first."""
    if not scene.options.other_namespaces:
        return ()
    found = [each for each in scene.mounts if each.namespace is not None and each.namespace_pid is not None]
    alone = [each for each in found if not copies(each, scene.own_mounts)]
    return tuple(sorted(alone, key=lambda each: (str(each.namespace), -each.mountpoint.count("/"), -each.mount_id)))


def copies(mount: Mount, own: tuple[Mount, ...]) -> bool:
    """Whether a mount elsewhere is only the echo of one in `own`, which the kernel takes away with it.

    That is so when it is in the peer group of an own shared mount, or receives from it (mount_namespaces(7)). An
    echo that is in use keeps the own mount busy, so nothing is torn away.
    """
    groups = set(_GROUP.findall(mount.propagation))
    for candidate in own:
        if candidate.dev == mount.dev and candidate.root == mount.root:
            for kind, group in _GROUP.findall(candidate.propagation):
                if kind == "shared" and (("shared", group) in groups or ("master", group) in groups):
                    return True
    return False


def overlays(scene: Scene) -> Iterator[Finding]:
    """An overlay keeps the file systems of its layers alive though their mounts can be taken away."""
    places = [mount.mountpoint for mount in scene.own_mounts]
    for mount in scene.facts.mounts:
        if mount.fstype != "overlay":
            continue
        for option in mount.super_options.split(","):
            key, _, value = option.partition("=")
            if key.rstrip("+") not in ("lowerdir", "upperdir", "workdir", "datadir"):
                continue
            for layer in value.split(":"):
                if any(is_under(layer, place) for place in places):
                    text = f"The overlay at {mount.mountpoint} has a layer on the disk."
                    fix = f"umount {mount.mountpoint}, or stop the container that it belongs to"
                    yield Finding(Level.BLOCK, "overlay", mount.mountpoint, text, f"{key}={layer}", fix)


def invisible(scene: Scene) -> Iterator[Finding]:
    """A file system can live on without a mount that anybody sees: unmounted lazily, or in a hidden namespace."""
    names = {node.kname: node for node in scene.nodes}
    for kname in scene.facts.superblocks:
        node = names.get(kname)
        if node is None:
            continue
        numbers = {node.dev} | {dev for dev, behind in scene.facts.filesystem_devs.items() if node.dev in behind}
        if not any(mount.dev in numbers for mount in scene.mounts):
            text = f"A file system on {kname} is alive, but no mount of it can be seen."
            evidence = f"/sys/fs/*/{kname} exists; no mount namespace lists it: it was unmounted lazily, or is hidden"
            fix = "find the process that still uses it (open files, a hidden namespace) and end it"
            yield Finding(Level.BLOCK, "mounted-invisibly", kname, text, evidence, fix)


def swap(scene: Scene) -> Iterator[Finding]:
    """Swap on the disk, as a device or as a file, holds memory of running programs."""
    for area in scene.snapshot.swaps:
        if (area.dev is not None and area.dev not in scene.devs) or area in swapped_off(scene):
            continue
        if area.dev is None:
            text = f"It is not known where the swap area {area.path} lies."
        else:
            text = f"Swap is switched on in {area.path}, which is on the disk."
        evidence = f"/proc/swaps: {area.kind}, {area.used_bytes} bytes in use, on {area.dev or 'an unknown device'}"
        yield Finding(Level.BLOCK, "swap", area.path, text, evidence, f"swapoff {area.path}")


def swapped_off(scene: Scene) -> tuple[Swap, ...]:
    """The swap areas on a disk of the kernel that the plan can switch off: there is room for what is in them.

    Twice as much, as programs go on while the kernel reads it back.
    """
    memory = scene.facts.memory
    own = tuple(area for area in scene.snapshot.swaps if area.dev in scene.kernel_devs)
    if memory is None:
        return ()
    return own if memory.available_bytes > 2 * sum(area.used_bytes for area in own) else ()


def above(scene: Scene) -> Iterator[Finding]:
    """Devices built on the disk that no step of the plan closes."""
    on_file = {use.dev for use in scene.facts.loops}
    open_ = {dev for unit in scene.dismounted if scene.volume or not unit.kernel for dev in unit.devs}
    for node in scene.above:
        if node.dev in on_file or (node.dev not in open_ and node.kind in CLOSED):
            continue
        what, fix = _ABOVE.get(node.kind, ("a device", "take down what is built on it"))
        name = node.dm_name or node.kname
        text = f"{what[0].upper()}{what[1:]} stands on the disk: {name}."
        evidence = f"/sys/class/block: {node.kname} ({node.kind})"
        yield Finding(Level.BLOCK, "holder", node.kname, text, evidence, fix.format(name=name, kname=node.kname))


def loops(scene: Scene) -> Iterator[Finding]:
    """Loop devices made of files on the disk; file systems on them lose their ground."""
    for use in scene.facts.loops:
        if use.on in scene.devs:
            text = f"The loop device {use.kname} is made of a file on the disk: {use.file}."
            evidence = f"/sys/block/{use.kname}/loop/backing_file"
            yield Finding(Level.BLOCK, "loop", use.kname, text, evidence, f"losetup -d /dev/{use.kname}")


def users(scene: Scene) -> Iterator[Finding]:
    """Processes at work on the disk, each named."""
    ended = ended_first(scene)
    for user in scene.facts.users:
        subject = f"pid:{user.pid}"
        if user in ended:
            text = f"{user.command} (process {user.pid}) uses the disk and is ended first: {user.how} {user.path}."
            fix = "let it leave by itself, if what it does has to be finished"
            yield Finding(Level.WARN, "ended", subject, text, f"/proc/{user.pid}: {user.how} {user.path}", fix)
            continue
        text = f"{user.command} (process {user.pid}) uses the disk: {user.how} {user.path}."
        evidence = f"/proc/{user.pid}: {user.how} {user.path}"
        fix = f"end process {user.pid}, or let it leave"
        if user.command in UDEV:
            text = f"udev still works on events of the disk: its process {user.pid} has {user.path} open."
            fix = "wait for it: udevadm settle; then try again"
        yield Finding(Level.BLOCK, "open", subject, text, evidence, fix)


def ended_first(scene: Scene) -> tuple[User, ...]:
    """The processes that the plan ends, if the person wants that: not those on a bare device, which no mount shows."""
    users = scene.facts.users if scene.options.end_users else ()
    return tuple(user for user in users if user.started is not None and user.how != "open device")


def exports(scene: Scene) -> Iterator[Finding]:
    """What the kernel serves to other machines is used by them, and no process of this host shows it."""
    places = [mount.mountpoint for mount in scene.own_mounts]
    nodes = {f"/dev/{node.kname}" for node in scene.nodes}
    nodes |= {f"/dev/mapper/{node.dm_name}" for node in scene.above if node.dm_name}
    for export in scene.facts.exports:
        if export.path in nodes or any(is_under(export.path, place) for place in places):
            text = f"{export.path} is served to other machines ({export.kind})."
            fix = (
                f"exportfs -u CLIENT:{export.path}"
                if export.kind == "nfs"
                else f"take {export.name} out of {export.kind}"
            )
            evidence = f"{export.kind}: {export.name}"
            yield Finding(Level.BLOCK, "exported", f"{export.kind}:{export.name}", text, evidence, fix)


def system(scene: Scene) -> Iterator[Finding]:
    """The disk that this host or Mooring runs from is never removed; there is no way round this guard."""
    # a disk that keeps paths is no ground to try things on; of one with a volume, only that volume is touched
    devs = {dev for unit in scene.units for dev in unit.devs}
    for use in scene.facts.system:
        if use.dev in devs:
            text = f"This host needs the disk: {use.what} is on it."
            fix = "there is no safe way to remove it while this system runs"
            yield Finding(Level.BLOCK, "system-disk", use.what, text, f"{use.what} is on device {use.dev}", fix)
