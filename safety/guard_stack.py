"""Guards for what stands on disks of the kernel's initiator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from initiator.host import block
from safety.facts_kernel import KernelFacts
from safety.findings import Finding, Level
from safety.guard_use import swapped_off
from safety.scene import Scene


def groups(scene: Scene) -> Iterator[Finding]:
    """A volume group is deactivated as a whole, so all of it has to be on this disk.

    A removal that is resumed may have taken the group's other disks away already: those are missing, and nothing of
    the group is active.
    """
    facts = _facts(scene)
    if facts is None:
        return
    devs = own_devices(scene, facts)
    for group in scene.volume_groups:
        outside = [dev for dev in group.devices if dev not in devs]
        begun = scene.resuming and not group.active and not any(outside)
        if outside and not begun:
            text = f"The volume group {group.name} also has physical volumes on other disks."
            seen = f"physical volumes on {_places(outside)}"
            fix = _together(scene, outside) or "move its data off this disk: pvmove, vgreduce"
            yield Finding(Level.BLOCK, "vg-spans", group.name, text, seen, fix)
        else:
            what = ", ".join(group.active) or "nothing of it is active"
            yield Finding(Level.NOTE, "closed", group.name, f"The volume group {group.name} is deactivated.", what)
    yield from _namesakes(facts, scene)
    known = {group.uuid for group in scene.volume_groups}
    for node in scene.above:
        if node.kind == "lvm" and (node.dm_uuid or "").removeprefix("LVM-")[:32] not in known:
            text = f"The group of the LVM volume {node.dm_name or node.kname} is not known."
            fix = f"look at: lvs; dmsetup info {node.dm_name}"
            yield Finding(Level.BLOCK, "lvm-unknown", node.kname, text, node.dm_uuid or "no UUID", fix)


def _namesakes(facts: KernelFacts, scene: Scene) -> Iterator[Finding]:
    """LVM closes no group by a name that two have, wherever they are; what is given up is closed without LVM."""
    every = () if scene.abandon else facts.groups
    for name in sorted({group.name for group in scene.volume_groups}):
        same = [group for group in every if group.name == name]
        if len(same) > 1:
            text = f"{'Two' if len(same) == 2 else len(same)} volume groups are called {name}: LVM closes none by name."
            seen = "; ".join(f"{each.uuid} on {_places(each.devices)}" for each in same)
            yield Finding(Level.BLOCK, "vg-twice", name, text, seen, "rename one of them: vgrename UUID NAME")


def _places(devs: Iterable[str]) -> str:
    return ", ".join(dev or "a missing one" for dev in devs)


def arrays(scene: Scene) -> Iterator[Finding]:
    """An array is stopped as a whole; to take one of its members is to degrade it."""
    facts = _facts(scene)
    if facts is None:
        return
    nodes = {node.kname: node for node in scene.snapshot.block}
    for array in facts.arrays:
        if array.members and all(name in nodes and nodes[name].dev in scene.left for name in array.members):
            continue
        outside = [name for name in array.members if name not in nodes or nodes[name].dev not in scene.devs]
        state = f"{array.level}, {array.state}, degraded {array.degraded}, sync {array.sync}"
        if outside:
            text = f"The array {array.kname} also has members on other disks; without this one it would be degraded."
            seen = f"members {', '.join(array.members)}; {state}"
            fix = _together(scene, [nodes[name].dev if name in nodes else "" for name in outside])
            fix = fix or f"mdadm /dev/{array.kname} --fail and --remove the member, or stop the array"
            yield Finding(Level.BLOCK, "md-spans", array.kname, text, seen, fix)
        elif array.degraded is None or array.state is None:
            text = f"The state of the array {array.kname} cannot be read."
            yield Finding(Level.BLOCK, "md-unknown", array.kname, text, state, f"mdadm --detail /dev/{array.kname}")
        elif array.degraded:
            text = f"The array {array.kname} is degraded; stopped now, it may not start again."
            fix = f"repair it first: mdadm --detail /dev/{array.kname}"
            yield Finding(Level.BLOCK, "md-degraded", array.kname, text, state, fix)
        elif array.sync not in ("idle", None, "none"):
            text = f"The array {array.kname} is being synchronised or checked."
            yield Finding(Level.BLOCK, "md-busy", array.kname, text, state, "wait for it: cat /proc/mdstat")
        else:
            yield Finding(Level.NOTE, "closed", array.kname, f"The array {array.kname} is stopped.", state)


def encrypted(scene: Scene) -> Iterator[Finding]:
    """The key goes with the mapping."""
    if _facts(scene) is None:
        return
    for node in scene.above:
        name = node.dm_name or node.kname
        if node.kind == "crypt":
            text = f"The encrypted volume {name} is closed; only its passphrase or key opens it again."
            fix = f"have the passphrase of {name} at hand if this may have to be taken back"
            yield Finding(Level.WARN, "crypt-key", name, text, node.dm_uuid or "", fix)
        elif node.kind == "part" and node.parent is None:
            yield Finding(
                Level.NOTE, "closed", name, f"The partition {name} of the map is removed with it.", node.kname
            )


def spanning(scene: Scene) -> Iterator[Finding]:
    """A file system over several disks loses a part of itself with one of them."""
    if _facts(scene) is None:
        return
    for number, behind in scene.facts.filesystem_devs.items():
        outside = sorted(set(behind) - scene.devs)
        if outside and scene.devs.intersection(behind):
            places = [mount.mountpoint for mount in scene.mounts if mount.dev == number]
            text = f"The file system at {', '.join(places) or 'an unseen place'} also lies on other disks."
            seen = f"devices {', '.join(behind)}"
            fix = _together(scene, outside) or "btrfs device remove"
            yield Finding(Level.BLOCK, "fs-spans", number, text, seen, fix)


def swaps(scene: Scene) -> Iterator[Finding]:
    """Swap areas that the plan switches off."""
    for area in swapped_off(scene):
        text = f"The swap area {area.path} is switched off."
        yield Finding(Level.NOTE, "swapped", area.path, text, f"/proc/swaps: {area.kind}")


def _together(scene: Scene, outside: Iterable[str]) -> str:
    """How to take away all disks that something lies on; empty where one of them is not known."""
    names = [unit.disk.name for unit in scene.units]
    for dev in outside:
        for disk in scene.snapshot.disks:
            if disk.dev is not None and dev in block.above(scene.snapshot.block, (disk.dev,)):
                names.append(disk.name)
                break
        else:
            return ""
    return f"remove them together: mooring remove {' '.join(dict.fromkeys(names))}"


def own_devices(scene: Scene, facts: KernelFacts) -> set[str]:
    """Device numbers of the disks, of their paths and of all that stands on them."""
    return {*scene.devs, *(path.dev for path in facts.paths if path.dev)}


def _facts(scene: Scene) -> KernelFacts | None:
    return scene.facts.kernel
