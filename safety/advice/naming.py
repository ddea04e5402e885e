"""Names: of this host, of its targets, and of what is on their disks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from initiator.errors import BadInputError
from initiator.host.kernelview import short_name
from initiator.model import Disk, Severity, Volume
from initiator.names import clean, parse_name
from safety.advice.rule import Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("naming")

LONG = 80
"""Characters that still fit into one line of a terminal."""
_MADE_UP = (
    "iqn.1993-08.org.debian:01:",
    "iqn.2004-10.com.ubuntu:01:",
    "iqn.1994-05.com.redhat:",
    "iqn.1996-04.de.suse:01:",
    "iqn.2005-03.org.open-iscsi:",
    "iqn.2016-04.com.open-iscsi:",
    "iqn.1987-05.com.cisco:01.",
)
"""How names begin that a distribution's package or iscsi-iname makes up."""
_EMPTY_WORDS = re.compile(
    r"(new|local|iscsi|my)?[ _-]*(lun|disk|drive|volume|vol|data|storage|untitled|test|san|nas|label|noname)[ _-]*\d*",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]{3,}|\d{3,}")
_COMMON = frozenset(("lun", "disk", "iscsi", "target", "vol", "volume", "data", "storage", "the", "store", "san"))
_EDIT_NAME = "edit /etc/iscsi/initiatorname.iscsi, enter the new name at the target, then systemctl restart iscsid"


def _initiators(host: Host) -> list[str]:
    """Every name under which this host logs in, or would."""
    names = [session.initiator for session in host.snapshot.sessions if session.initiator]
    if host.facts.initiator is not None:
        names.insert(0, host.facts.initiator.name)
    return list(dict.fromkeys(names))


def _targets(host: Host) -> list[str]:
    records = host.facts.records.nodes if host.facts.records else ()
    names = [session.target for session in host.snapshot.sessions] + [record.target for record in records]
    return list(dict.fromkeys(names))


def _unknown_name(host: Host) -> Iterator[Unsure]:
    refused = any(problem.source == "initiator" for problem in host.facts.problems)
    if not _initiators(host) and (refused or host.snapshot.sessions):
        yield Unsure("this host's name", host.facts.why("initiator"))


def _unknown_targets(host: Host) -> Iterator[Unsure]:
    if host.facts.records is None:
        yield Unsure("targets without a session", host.facts.why("records"))


@FAMILY.rule(
    "initiator-invalid",
    Severity.WARN,
    "The initiator's name is no valid iSCSI name",
    "Targets decide by this name what the host may see. One that breaks the rules (RFC 7143, 4.2.7) is refused by some"
    " arrays and cut short or changed by others, so that access lists do not match.",
    _EDIT_NAME,
)
def initiator_invalid(host: Host) -> Iterator[Answer]:
    """Parses each name of this host."""
    yield from _unknown_name(host)
    for name in _initiators(host):
        try:
            parse_name(name)
        except BadInputError as error:
            yield Hit(clean(name), str(error))


@FAMILY.rule(
    "target-invalid",
    Severity.NOTE,
    "A target's name is no valid iSCSI name",
    "Other initiators may refuse it, and tools disagree about how to write it. Underscores are the usual reason.",
    "rename the target on the storage, then discover it again",
)
def target_invalid(host: Host) -> Iterator[Answer]:
    """Parses the name of each target that is known here."""
    yield from _unknown_targets(host)
    for name in _targets(host):
        try:
            parse_name(name)
        except BadInputError as error:
            yield Hit(clean(name), str(error))


@FAMILY.rule(
    "upper-case",
    Severity.WARN,
    "A name has upper-case letters",
    "iSCSI names are lower case (RFC 3722). Some systems fold them and some compare letter by letter, so the same name"
    " is one name here and another there, and an access list that looks right does not match.",
    "write the name in lower case, here and on the storage",
)
def upper_case(host: Host) -> Iterator[Answer]:
    """Looks at initiator and targets."""
    yield from _unknown_name(host)
    for name in (*_initiators(host), *_targets(host)):
        if name != name.lower():
            yield Hit(clean(name), f"in lower case it would be {clean(name.lower())}")


@FAMILY.rule(
    "name-long",
    Severity.NOTE,
    "A name is too long to be read",
    f"A name of more than {LONG} characters does not fit into a line: people compare only its beginning, and take one"
    " disk for another.",
    "give it a short name: iqn., date, domain, then one or two words",
)
def name_long(host: Host) -> Iterator[Answer]:
    """Counts."""
    yield from _unknown_name(host)
    for name in (*_initiators(host), *_targets(host)):
        if len(name) > LONG:
            yield Hit(clean(name, LONG), f"{len(name)} characters")


@FAMILY.rule(
    "initiator-cloned",
    Severity.BAD,
    "The initiator's name comes from the image that this machine was cloned from",
    "A distribution makes up a name once, when open-iscsi is installed. A machine that was cloned afterwards has the"
    " same name as all its sisters: the target takes them for one host, lets all of them at the same disks, and two"
    " hosts that mount one file system destroy it.",
    "iscsi-iname makes a new one; " + _EDIT_NAME,
)
def initiator_cloned(host: Host) -> Iterator[Answer]:
    """A distribution's name that is older than this machine's own identity."""
    found = host.facts.initiator
    if found is None:
        if any(problem.source == "initiator" for problem in host.facts.problems):
            yield Unsure("this host's name", host.facts.why("initiator"))
        return
    if not found.name.startswith(_MADE_UP):
        return
    if found.machine_since is None:
        yield Unsure(found.name, "/etc/machine-id, which tells the age of this machine, cannot be read")
    elif found.written_at < found.machine_since - 60:
        hours = (found.machine_since - found.written_at) / 3600
        evidence = f"initiatorname.iscsi is {hours:.0f} hours older than /etc/machine-id"
        yield Hit(found.name, evidence)


@FAMILY.rule(
    "initiator-shared",
    Severity.BAD,
    "Another host is known by this host's name",
    "The target takes both for one initiator. It lets both write to the same disks, and each login can end the other's"
    " session.",
    "give one of the two another name: " + _EDIT_NAME,
)
def initiator_shared(host: Host) -> Iterator[Answer]:
    """Registrations under our name, by a session that is not ours.

    LIO tells only the first half of an ISID. iscsi_tcp shows the ISIDs of its own sessions nowhere, so that with one
    of those nobody can say whose a registration under our name is.
    """
    asked = host.facts.registrations
    names = set(_initiators(host))
    ours = {session.isid.lower() for session in host.snapshot.sessions if session.isid}
    blind = {session.initiator for session in host.snapshot.sessions if not session.isid}
    for disk in host.disks:
        if asked is None or disk.id not in asked:
            yield Unsure(disk.name, host.not_asked(disk))
            continue
        for each in asked[disk.id]:
            if each.initiator not in names or each.isid is None:
                continue
            if any(own.startswith(each.isid.lower()) for own in ours):
                continue
            if blind & {each.initiator, None}:
                yield Unsure(disk.name, f"the kernel does not tell whether {each.isid} is a session of this host")
            else:
                yield Hit(each.initiator or "", f"{disk.name} is registered by its session {each.isid}", about=disk.id)


@FAMILY.rule(
    "initiator-two-names",
    Severity.NOTE,
    "This host logs in under more than one name",
    "A host is one iSCSI node (RFC 7143, 4.2.7). With two names it counts as two hosts at the storage: access has to be"
    " granted twice, and reservations of one name lock out the other.",
    "use the name in /etc/iscsi/initiatorname.iscsi everywhere; look for iface.initiatorname in /etc/iscsi/ifaces",
)
def initiator_two_names(host: Host) -> Iterator[Answer]:
    """Counts them, whatever their case."""
    yield from _unknown_name(host)
    names = {name.lower(): name for name in _initiators(host)}
    if len(names) > 1:
        yield Hit("this host", ", ".join(clean(name) for name in sorted(names.values())))


@FAMILY.rule(
    "target-twice",
    Severity.BAD,
    "Two targets are known by one name",
    "A target's name has to be unique in the world: it is what login, access lists and multipath go by. If two arrays"
    " have the same one, a path can lead to another disk than its neighbour.",
    "rename one of the targets on the storage, log out of it, and discover it again",
)
def target_twice(host: Host) -> Iterator[Answer]:
    """Names that differ only in case, and one name that shows different disks under one LUN."""
    yield from _unknown_targets(host)
    by_name = defaultdict(list)
    for name in _targets(host):
        by_name[name.lower()].append(name)
    for written in by_name.values():
        if len(written) > 1:
            yield Hit(clean(written[0]), f"written in {len(written)} ways: {', '.join(map(clean, written))}")
    by_unit: dict[tuple[str, int], dict[str, Disk]] = defaultdict(dict)
    of_disk = {disk.id: disk for disk in host.disks}
    for path in host.snapshot.paths:
        session, disk = host.sessions.get(path.session), of_disk.get(path.disk)
        if session is not None and disk is not None and disk.wwid is not None:
            by_unit[session.target, path.lun].setdefault(disk.wwid, disk)
    for (target, lun), seen in by_unit.items():
        if len(seen) > 1:
            which = ", ".join(f"{disk.name} ({wwid})" for wwid, disk in seen.items())
            yield Hit(clean(target), f"LUN {lun} of it is {which}")


@FAMILY.rule(
    "unrelated",
    Severity.NOTE,
    "Target, disk and volume have names that have nothing to do with each other",
    "When all three share a word, everybody sees at once which cable belongs to which files. When they do not, somebody"
    " will one day remove the wrong one.",
    "name them alike, for instance target …:mail, alias mail (multipath.conf), label mail (e2label, xfs_admin -L)",
)
def unrelated(host: Host) -> Iterator[Answer]:
    """Words that a volume shares with its target or its map, where the target has this one disk only."""
    of_target = defaultdict(list)
    for disk in host.disks:
        of_target[disk.target].append(disk)
    disks = {disk.id: disk for disk in host.disks}
    for volume in host.volumes:
        found = [disks[key] for key in volume.disks if key in disks]
        if len(found) != 1 or found[0].target is None:
            yield Unsure(volume.name, "it is not certain which one target it is on")
            continue
        disk, target = found[0], found[0].target
        if volume.label is not None and len(of_target[target]) == 1:
            theirs = _words(short_name(target)) | _words(disk.name)
            own = _words(volume.label)
            if own and theirs and not any(one in other or other in one for one in own for other in theirs):
                evidence = f"target {clean(short_name(target))}, disk {disk.name}, label {clean(volume.label)}"
                yield Hit(volume.mountpoint, evidence, about=volume.id)


def _words(name: str) -> set[str]:
    return {word for word in _WORD.findall(name.lower()) if word not in _COMMON}


def _label_known(volume: Volume) -> bool:
    """udev notes label and UUID together; where it has noted neither, nobody has looked."""
    return volume.label is not None or volume.uuid is not None


def _unknown_label(volume: Volume) -> Unsure:
    return Unsure(volume.mountpoint, "udev has noted neither a label nor a UUID of it")


_LABELLERS = {
    "ext2": "e2label {} NAME",
    "ext3": "e2label {} NAME",
    "ext4": "e2label {} NAME",
    "xfs": "unmounted: xfs_admin -L NAME {}",
}
_BY_LABEL = "; where /etc/fstab mounts it by its label, first change that to UUID="


def _label_fix(volume: Volume) -> str:
    """The command for this file system, with a name to choose; nothing where it is not known."""
    if volume.fstype == "btrfs":  # while it is mounted its place has to be named
        fix = f"{command('btrfs', 'filesystem', 'label', volume.mountpoint)} NAME"
    else:
        fix = _LABELLERS.get(volume.fstype, "").format(command(volume.device))
    return fix + _BY_LABEL if fix and volume.label else fix


@FAMILY.rule(
    "label-missing",
    Severity.NOTE,
    "A volume has no label",
    "Device names change from boot to boot. A label says what is on the volume, on every host that ever sees the disk.",
    "ext4: e2label DEVICE NAME; XFS (unmounted): xfs_admin -L NAME DEVICE",
)
def label_missing(host: Host) -> Iterator[Answer]:
    """A UUID and no label."""
    for volume in host.volumes:
        if not _label_known(volume):
            yield _unknown_label(volume)
        elif not volume.label:
            yield Hit(volume.mountpoint, f"{volume.device} has a UUID and no label", _label_fix(volume), volume.id)


@FAMILY.rule(
    "label-meaningless",
    Severity.NOTE,
    "A volume's label says nothing",
    "“LUN0001” or “data” can be anything. In an emergency somebody has to know what is on a disk from its label alone.",
    "name it after what is on it, for instance mail or payroll-db: e2label DEVICE NAME, xfs_admin -L NAME DEVICE",
)
def label_meaningless(host: Host) -> Iterator[Answer]:
    """Labels that a tool or a tired person gave."""
    for volume in host.volumes:
        if not _label_known(volume):
            yield _unknown_label(volume)
        elif volume.label and (_EMPTY_WORDS.fullmatch(volume.label) or not re.search(r"[^\W\d_]{2}", volume.label)):
            yield Hit(volume.mountpoint, f"label {clean(volume.label)}", _label_fix(volume), volume.id)


@FAMILY.rule(
    "label-twice",
    Severity.BAD,
    "Two volumes have the same label",
    "What is mounted by label (fstab, /dev/disk/by-label) is then whichever of the two appears first, and that can be"
    " another one after the next boot.",
    "give one of them another label, and mount by UUID",
)
def label_twice(host: Host) -> Iterator[Answer]:
    """Every mounted file system of the host counts, not only those on our disks."""
    seen: dict[str, Volume] = {}
    ours = {volume.id for volume in host.volumes}
    for volume in host.volumes:
        if not _label_known(volume):
            yield _unknown_label(volume)
    for volume in host.snapshot.volumes:
        if not volume.label:
            continue
        other = seen.setdefault(volume.label, volume)
        if (other.uuid, other.dev) != (volume.uuid, volume.dev) and (other.id in ours or volume.id in ours):
            if other.uuid is not None and other.uuid == volume.uuid:
                continue  # one file system on several devices, as btrfs has
            evidence = f"{clean(volume.label)} is on {other.device} and on {volume.device}"
            yield Hit(volume.mountpoint, evidence, about=volume.id)
