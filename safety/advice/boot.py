"""Starting up and shutting down: what logs in and mounts, in which order, and what logs out under a mounted disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from initiator.host.hostfiles import FstabEntry
from initiator.host.nodes import NodeRecord
from initiator.model import Disk, Severity, Source, Volume
from safety.advice.rule import Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("boot")

_NETWORK = ("_netdev", "x-systemd.requires=iscsi", "x-systemd.requires=open-iscsi", "x-systemd.after=remote-fs-pre")
_LOGIN_UNITS = ("open-iscsi.service", "iscsi.service")
_ON = ("enabled", "enabled-runtime", "static", "alias", "generated", "indirect")
_NOT_AT_BOOT = ("noauto", "x-systemd.automount")
_LATE = frozenset(("remote-fs-pre.target", *_LOGIN_UNITS))


def _entry(host: Host, volume: Volume) -> FstabEntry | None:
    """The line of fstab that mounts a volume."""
    for entry in host.facts.fstab or ():
        kind, _, value = entry.spec.partition("=")
        value = value.strip('"')
        same = (kind == "UUID" and value == volume.uuid) or (kind == "LABEL" and value == volume.label)
        if entry.mountpoint == volume.mountpoint or same:
            return entry
    return None


def _in_fstab(host: Host) -> Iterator[tuple[Volume, FstabEntry]]:
    found = ((volume, _entry(host, volume)) for volume in host.volumes)
    return ((volume, entry) for volume, entry in found if entry is not None)


def _of_initramfs(volume: Volume, options: Collection[str] = ()) -> bool:
    """Whether the initramfs mounts it: systemd orders such a mount by itself, also at shutdown (systemd.mount(5))."""
    return volume.mountpoint in ("/", "/usr") or "x-initrd.mount" in options


def _targets(host: Host, disk: Disk) -> tuple[str, ...]:
    """Of all its paths: some arrays have a target for each port."""
    over = {path.session for path in host.paths(disk)}
    found = {session.target for session in host.snapshot.sessions if session.id in over}
    return tuple(sorted(found or {disk.target or ""}))


def _no_fstab(host: Host) -> Iterator[Unsure]:
    if host.facts.fstab is None and host.volumes:
        yield Unsure("/etc/fstab", host.facts.why("fstab"))


@FAMILY.rule(
    "fstab-netdev",
    Severity.BAD,
    "fstab mounts an iSCSI volume like a local disk",
    "Without _netdev the boot waits for the disk before there is a network, and stops in emergency mode. At shutdown"
    " the network can go while the file system still writes.",
    "add _netdev,nofail to its options in /etc/fstab, then: systemctl daemon-reload",
)
def fstab_netdev(host: Host) -> Iterator[Answer]:
    """The options of each line that mounts one of our volumes."""
    yield from _no_fstab(host)
    for volume, entry in _in_fstab(host):
        if _of_initramfs(volume, entry.options):
            continue
        if not any(option.startswith(_NETWORK) for option in entry.options):
            yield Hit(volume.mountpoint, f"/etc/fstab: {entry.spec} with {','.join(entry.options)}", about=volume.id)


@FAMILY.rule(
    "startup-manual",
    Severity.WARN,
    "fstab mounts a volume at boot whose target is not logged in to at boot",
    "The boot waits a minute and a half for a disk that nobody brings, and then goes on without it or stops.",
    "mooring startup TARGET automatic, or noauto in /etc/fstab",
)
def startup_manual(host: Host) -> Iterator[Answer]:
    """node.startup of every record of the target."""
    yield from _no_fstab(host)
    disks = {disk.id: disk for disk in host.disks if disk.source is Source.KERNEL}
    for volume, entry in _in_fstab(host):
        if any(option.startswith(_NOT_AT_BOOT) for option in entry.options):
            continue
        for targets in sorted({_targets(host, disks[key]) for key in volume.disks if key in disks}):
            yield from _not_at_boot(host, volume, targets)


def _not_at_boot(host: Host, volume: Volume, targets: Iterable[str]) -> Iterator[Answer]:
    """That none of a disk's targets is logged in to at boot."""
    if host.facts.records is None:
        yield Unsure(volume.mountpoint, f"the start-up of {', '.join(targets)}: {host.facts.why('records')}")
        return
    nodes = host.facts.records.nodes
    modes = {name: {each.startup or "unknown" for each in nodes if each.target == name} for name in targets}
    if any(found & {"automatic", "onboot"} for found in modes.values()):
        return
    for target, found in modes.items():
        evidence = f"{target}: node.startup {', '.join(sorted(found)) or 'without a record'}"
        yield Hit(volume.mountpoint, evidence, command("mooring", "startup", target, "automatic"), volume.id)


@FAMILY.rule(
    "fstab-engine",
    Severity.WARN,
    "fstab mounts a disk that Mooring's engine attaches",
    "The engine starts when a person asks for it, not at boot: the boot waits for a disk that nobody attaches.",
    "add noauto to its line in /etc/fstab",
)
def fstab_engine(host: Host) -> Iterator[Answer]:
    """Volumes on the engine's disks."""
    yield from _no_fstab(host)
    engine = {disk.id for disk in host.disks if disk.source is Source.ENGINE}
    for volume, entry in _in_fstab(host):
        if engine.intersection(volume.disks) and not any(option.startswith(_NOT_AT_BOOT) for option in entry.options):
            yield Hit(volume.mountpoint, f"/etc/fstab: {entry.spec} with {','.join(entry.options)}", about=volume.id)


@FAMILY.rule(
    "login-unit",
    Severity.WARN,
    "Nothing logs in at boot",
    "Records say that sessions are to be made at boot, but the unit that does it is not enabled. After the next reboot"
    " the disks are missing.",
    "systemctl enable open-iscsi.service (Debian, Ubuntu) or iscsi.service (elsewhere)",
)
def login_unit(host: Host) -> Iterator[Answer]:
    """Records for the boot, against the units that use them."""
    if host.facts.records is None:
        yield Unsure("node records", host.facts.why("records"))
        return
    automatic = [record for record in host.facts.records.nodes if record.startup == "automatic"]
    if not automatic:
        return
    units = host.facts.units
    if units is None:
        yield Unsure("open-iscsi's units", host.facts.why("units"))
    elif not any(units[name].enabled in _ON for name in _LOGIN_UNITS if name in units):
        seen = ", ".join(f"{name} {units[name].enabled}" for name in _LOGIN_UNITS if name in units) or "no such unit"
        yield Hit(f"{len(automatic)} records", f"node.startup automatic; {seen}")


@FAMILY.rule(
    "multipathd-unit",
    Severity.WARN,
    "multipathd is not started at boot",
    "There are maps now, but after a reboot their disks appear path by path, without failover, under other names.",
    "systemctl enable multipathd.service",
)
def multipathd_unit(host: Host) -> Iterator[Answer]:
    """Maps of the kernel, against the unit that makes them."""
    if not any(each.source is Source.KERNEL and each.paths for each in host.snapshot.maps):
        return
    units = host.facts.units
    if units is None:
        yield Unsure("multipathd.service", host.facts.why("units"))
    elif not any(units[name].enabled in _ON for name in ("multipathd.service", "multipathd.socket") if name in units):
        unit = units.get("multipathd.service")
        yield Hit("multipathd.service", unit.enabled if unit else "not installed as a unit")


@FAMILY.rule(
    "unmount-order",
    Severity.BAD,
    "At shutdown the session can end before the volume is unmounted",
    "systemd takes a mount that was made by hand, or without _netdev, for a local one and does not order it against the"
    " logout. If the logout comes first, what was not yet written is lost.",
    "mount it by /etc/fstab with _netdev; until then unmount it by hand before each shutdown",
)
def unmount_order(host: Host) -> Iterator[Answer]:
    """What systemd itself says each mount is ordered after; no unit logs the engine's sessions out."""
    kernel = {disk.id for disk in host.disks if disk.source is Source.KERNEL}
    for volume in host.snapshot.volumes:  # of one file system each mount, for each is unmounted by itself
        if volume.namespace is not None or not kernel.intersection(volume.disks) or _of_initramfs(volume):
            continue
        after = host.facts.mounts_after.get(volume.mountpoint) if host.facts.mounts_after is not None else None
        if after is None:
            known = host.facts.mounts_after is not None
            yield Unsure(volume.mountpoint, "systemd has no unit for it" if known else host.facts.why("units"))
        elif not after & _LATE:
            yield Hit(volume.mountpoint, "its mount unit is not ordered after remote-fs-pre.target", about=volume.id)


@FAMILY.rule(
    "safe-logout",
    Severity.WARN,
    "open-iscsi logs out of sessions whose disks are mounted",
    "iscsiadm asks nobody before it logs out. With safe_logout it refuses while a device of the session is mounted,"
    " used as swap or part of something else.",
    "iscsid.safe_logout = Yes in /etc/iscsi/iscsid.conf, then: systemctl restart iscsid",
)
def safe_logout(host: Host) -> Iterator[Answer]:
    """iscsid.conf, where there are sessions of the kernel."""
    if not any(session.source is Source.KERNEL for session in host.snapshot.sessions):
        return
    if host.facts.daemon is None:
        yield Unsure("/etc/iscsi/iscsid.conf", host.facts.why("daemon"))
    elif host.facts.daemon.get("iscsid.safe_logout", "No").lower() != "yes":
        set_to = host.facts.daemon.get("iscsid.safe_logout", "not set, which is No")
        yield Hit("/etc/iscsi/iscsid.conf", f"iscsid.safe_logout {set_to}")


@FAMILY.rule(
    "discoveryd",
    Severity.WARN,
    "iscsid discovers by itself and logs in to what it finds",
    "Whatever a target decides to show next week then appears as a disk here, unasked, and a session that was ended on"
    " purpose comes back.",
    "use_discoveryd = No in that discovery record, then: systemctl restart iscsid",
)
def discoveryd(host: Host) -> Iterator[Answer]:
    """Discovery records."""
    if host.facts.records is None:
        yield Unsure("discovery records", host.facts.why("records"))
        return
    for record in host.facts.records.discoveries:
        for name, value in record.settings.items():
            if name.endswith("use_discoveryd") and value.lower() == "yes":
                yield Hit(record.address, f"{name} = {value} in {record.path}")


@FAMILY.rule(
    "scan-auto",
    Severity.NOTE,
    "Every LUN that a target shows becomes a disk of this host",
    "With node.session.scan = auto a LUN that was mapped to this host by mistake appears at once, and so does every new"
    " snapshot of a volume with the same label and UUID. With manual you choose when to look (mooring rescan).",
    "iscsiadm -m node -T TARGET -o update -n node.session.scan -v manual",
)
def scan_auto(host: Host) -> Iterator[Answer]:
    """Records of targets that this host uses; auto is what open-iscsi does unless told otherwise."""
    if host.facts.records is None:
        yield Unsure("node records", host.facts.why("records"))
        return
    seen: dict[str, NodeRecord] = {}
    for record in host.facts.records.nodes:
        if record.settings.get("node.session.scan", "auto") != "manual":
            seen.setdefault(record.target, record)
    for target, record in seen.items():
        value = record.settings.get("node.session.scan", "not set, which is auto")
        fix = command(
            *["iscsiadm", "-m", "node", "-o", "update", "-n", "node.session.scan", "-v", "manual", "-T"], target
        )
        yield Hit(target, f"node.session.scan {value}", fix)
