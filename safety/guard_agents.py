"""Guards for whoever else has to do with a disk: other hosts, and programs of this one that would bring it back."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.host.mounts import is_under
from safety.facts import Entry
from safety.findings import Finding, Level
from safety.scene import Scene

_OWNERS = (
    ("/var/lib/kubelet", "the kubelet", "drain the node, or delete the pod that uses the volume"),
    ("/var/lib/containers/storage", "Podman", "podman volume rm, or stop the container that uses it"),
    ("/var/lib/docker", "Docker", "docker volume rm, or stop the container that uses it"),
    ("/var/lib/nova", "OpenStack's compute service", "detach the volume from its server"),
    ("/var/lib/cinder", "OpenStack's volume service", "detach the volume there"),
    ("/run/pve", "Proxmox", "disable the storage there"),
    ("/mnt/pve", "Proxmox", "disable the storage there"),
    ("/rhev/data-center", "oVirt", "put the storage domain into maintenance"),
)


def owners(scene: Scene) -> Iterator[Finding]:
    """Somebody who manages a mount by a program of his own brings it back within seconds."""
    for mount in scene.mounts:
        for place, who, fix in _OWNERS:
            if is_under(mount.mountpoint, place):
                text = f"{mount.mountpoint} belongs to {who}, which would mount it again."
                yield Finding(Level.BLOCK, "owner", mount.mountpoint, text, f"it lies under {place}", fix)


def cluster(scene: Scene) -> Iterator[Finding]:
    """Pacemaker starts again, here or elsewhere, what stops without its leave."""
    names = _names(scene)
    for each in scene.facts.cluster:
        if each.value in names or each.value.rstrip("/") in names:
            text = f"Pacemaker's resource {each.id} manages {each.value} and would bring it back, here or elsewhere."
            seen = f"{each.agent}: {each.setting}={each.value}"
            fix = f"pcs resource disable {each.id} (or: crm resource stop {each.id}), then look again"
            yield Finding(Level.BLOCK, "owner", each.id, text, seen, fix)


def _names(scene: Scene) -> set[str]:
    """All by which a configuration may name what is removed."""
    found = {mount.mountpoint for mount in scene.own_mounts} | {mount.source for mount in scene.own_mounts}
    found |= {f"/dev/{node.kname}" for node in scene.nodes}
    found |= {f"/dev/mapper/{node.dm_name}" for node in scene.nodes if node.dm_name}
    for group in scene.volume_groups:
        found |= {group.name, *(f"/dev/{name}" for name in group.active)}
    return found | {session.target for session in scene.sessions if session.id in scene.named or scene.whole}


def autofs(scene: Scene) -> Iterator[Finding]:
    """autofs mounts again at the next access; the units of systemd are stopped by the plan."""
    own = {mount.mountpoint for mount in scene.own_mounts}
    parents = {place.rpartition("/")[0] or "/" for place in own}
    for mount in scene.facts.mounts:
        if mount.namespace is not None or mount.fstype != "autofs":
            continue
        if "pgrp=1" in mount.super_options.split(","):  # systemd itself
            continue
        if mount.mountpoint in own or (mount.mountpoint in parents and "indirect" in mount.super_options):
            text = f"autofs manages {mount.mountpoint}: any access mounts the file system again."
            fix = "take it out of the map of autofs and reload autofs, or stop autofs"
            yield Finding(Level.BLOCK, "owner", mount.mountpoint, text, f"autofs, mount {mount.mount_id}", fix)


def automounts(scene: Scene) -> Iterator[Finding]:
    """Units of systemd that would mount it again at the next access; the plan masks them until it is undone."""
    own = {mount.mountpoint for mount in scene.own_mounts}
    for each in scene.facts.automounts:
        if each.where in own and each.active == "active":
            text = f"The automount at {each.where} is stopped and masked until the next boot."
            yield Finding(Level.NOTE, "automount", each.where, text, f"{each.unit} is {each.active}")
    known = {each.where for each in scene.facts.automounts}
    for mount in scene.facts.mounts:
        there = mount.namespace is None and mount.fstype == "autofs" and mount.mountpoint in own - known
        if there and "pgrp=1" in mount.super_options.split(","):
            text = f"{mount.mountpoint} is an automount point of systemd, and no unit of it can be found."
            fix = f"systemctl stop the automount unit of {mount.mountpoint}"
            yield Finding(Level.BLOCK, "automount", mount.mountpoint, text, f"autofs, mount {mount.mount_id}", fix)


def entries(scene: Scene) -> Iterator[Finding]:
    """The next boot looks for what is gone, waits for it and, without `nofail`, does not go on."""
    for entry in scene.facts.entries:
        if scene.volume:
            yield from _mounted_again(scene, entry)
        elif _meant(scene, entry) and "noauto" not in entry.options:
            what = entry.name if entry.name.startswith("/") or entry.file.endswith("crypttab") else entry.spec
            stops = "" if "nofail" in entry.options else "; without nofail it stops in an emergency shell"
            text = f"{entry.file} still names {what}: the next boot will wait for it{stops}."
            seen = f"{entry.spec} {entry.name}"
            yield Finding(Level.WARN, "boot-entry", f"{entry.file}:{entry.name}", text, seen, f"edit {entry.file}")


def _mounted_again(scene: Scene, entry: Entry) -> Iterator[Finding]:
    """The disk stays, so the next boot finds it and mounts it, as ever."""
    if entry.file.endswith("fstab") and _meant(scene, entry) and "noauto" not in entry.options:
        text = f"{entry.file} names {entry.name}: the next boot mounts it again."
        yield Finding(Level.NOTE, "boot-entry", f"{entry.file}:{entry.name}", text, f"{entry.spec} {entry.name}")


def _meant(scene: Scene, entry: Entry) -> bool:
    mappings = {node.dm_name for node in scene.nodes if node.kind == "crypt"}
    if entry.file.endswith("crypttab"):
        return entry.name in mappings
    kind, _, value = entry.spec.partition("=")
    own = {mount.mountpoint for mount in scene.own_mounts}
    volumes = [volume for volume in scene.snapshot.volumes if volume.dev in scene.devs]
    same = (kind == "UUID" and any(volume.uuid == value.strip('"') for volume in volumes)) or (
        kind == "LABEL" and any(volume.label == value.strip('"') for volume in volumes)
    )
    return entry.name in own or same or entry.spec in _names(scene)


def registrations(scene: Scene) -> Iterator[Finding]:
    """Persistent reservations: this host's own are somebody's on it, and other hosts go on without us."""
    facts = scene.facts.kernel
    if facts is None:
        return
    names = {unit.disk.id: unit.disk.name for unit in scene.whole}
    initiators = {session.initiator for session in scene.sessions if session.initiator}
    for disk, found in facts.registrations:
        if disk not in names:
            continue
        ours = [each for each in found if each.initiator is None or each.initiator in initiators]
        others = [each for each in found if each not in ours]
        if ours:
            holds = "holds a reservation of" if any(each.holder for each in ours) else "is registered with"
            text = f"This host {holds} {names[disk]} (persistent reservations): a cluster or a fence relies on it."
            seen = ", ".join(f"key {each.key:#x} of {each.initiator or 'an unnamed initiator'}" for each in ours)
            fix = f"have the cluster release it; by hand: sg_persist --out --register --param-rk={ours[0].key:#x}"
            yield Finding(Level.BLOCK, "reserved", disk, text, seen, fix)
        elif others:
            hosts = ", ".join(dict.fromkeys(str(each.initiator) for each in others))
            text = f"Other hosts use {names[disk]} too, by their registrations: {hosts}."
            seen = ", ".join(f"key {each.key:#x}" for each in others)
            yield Finding(Level.NOTE, "other-hosts", disk, text, seen)
