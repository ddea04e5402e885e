"""For every rule: a host on which it fires, and one on which it cannot know. On `advice_host` itself all are silent."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from initiator.fabric import Neighbour, Nic, Route
from initiator.host.hostfiles import FstabEntry, InitiatorFile, SecretFile
from initiator.host.lundetails import LunDetail
from initiator.host.nicsettings import Arp, Pause
from initiator.host.segments import Segment
from initiator.host.services import Listener
from initiator.model import Access, PathState, Portal, Problem, Snapshot, Source
from initiator.scsi.reservations import Registration
from safety.advice.facts import Facts
from tests.safety import advice_host as host
from tests.safety.advice_host import DISK, NUMBERS, TARGET, US, WWID


class Changed(NamedTuple):
    """What is other than on the well-built host: fields of the snapshot and of the facts."""

    snapshot: dict[str, Any]
    facts: dict[str, Any]

    def build(self) -> tuple[Snapshot, Facts]:
        return host.snapshot(**self.snapshot), host.facts(**self.facts)


class Case(NamedTuple):
    fires: Changed
    unknown: Changed
    subject: str
    """What the finding has to be about."""


def facts(**changes: Any) -> Changed:
    return Changed({}, changes)


def seen(**changes: Any) -> Changed:
    return Changed(changes, {})


def paths(**changes: Any) -> Changed:
    """Both paths changed."""
    return seen(paths=tuple(host.path(number, **changes) for number in NUMBERS))


def first_path(**changes: Any) -> Changed:
    return seen(paths=(host.path(1, **changes), host.path(2)))


def sessions(**changes: Any) -> Changed:
    return seen(sessions=tuple(host.session(number, **changes) for number in NUMBERS))


def first_session(**changes: Any) -> Changed:
    return seen(sessions=(host.session(1, **changes), host.session(2)))


def details(**changes: str | None) -> Changed:
    """The first session with other details; None takes one away."""
    found = {**host.session(1).details, **changes}
    return first_session(details={name: value for name, value in found.items() if value is not None})


def first_link(**changes: Any) -> Changed:
    return seen(links=(host.link(1, **changes), host.link(2)))


def volume(**changes: Any) -> Changed:
    return seen(volumes=(host.volume(**changes),))


def disk(**changes: Any) -> Changed:
    return seen(disks=(host.disk(**changes),))


def map_(**changes: Any) -> Changed:
    return seen(maps=(host.map_(**changes),))


def records(*more: Any, **changes: Any) -> Changed:
    return facts(records=host.records(*more, **changes))


def first_record(**settings: str) -> Changed:
    plain = host.records()
    return facts(records=dataclasses.replace(plain, nodes=(host.record(1, **settings), host.record(2))))


def fabric(**changes: Any) -> Changed:
    return facts(fabric=host.fabric(**changes))


def both(one: Changed, other: Changed) -> Changed:
    return Changed({**one.snapshot, **other.snapshot}, {**one.facts, **other.facts})


def engine() -> Changed:
    """The disk held by Mooring's engine, as far as the file system table is concerned."""
    return disk(source=Source.ENGINE)


SAME_NET = {"eth1": Nic(("10.9.1.0/24",)), "eth2": Nic(("10.9.1.0/24",))}
LOOSE = both(disk(map=None, multipath=False), both(paths(map=None), seen(maps=())))
"""The paths of the disk, not joined."""
SINGLE = both(
    disk(map=None, multipath=False, device="/dev/sdb", paths=("kernel:p:1:0:0:0",)),
    seen(maps=(), paths=(host.path(1, map=None),), sessions=(host.session(1),)),
)
"""The disk with its first path only."""
NO_RECORDS = facts(records=None)
NO_REGISTRATIONS = facts(registrations={})
NO_SECRETS = facts(secrets=None)
NO_NAME = both(sessions(initiator=None), facts(initiator=None))
NO_LABEL = volume(label=None, uuid=None)
VLAN = host.link(1, id="link:eth1", kind="vlan", lower=("bond0",))
BOND = (VLAN, host.link(5, id="link:bond0", name="bond0", kind="bond", lower=("eth8",)), host.link(8), host.link(2))
THIRD = host.path(1, id="kernel:p:3:0:0:0", name="sdd")
OTHER_DISK = host.disk(id="kernel:d:other", name="other", wwid="naa.6001405000000002", paths=("kernel:p:2:0:0:0",))
OTHER_TARGET = "iqn.2026-11.com.example:other"

CASES: dict[str, Case] = {
    # --- naming ---
    "naming/initiator-invalid": Case(facts(initiator=InitiatorFile("host7", 500.0, 400.0)), NO_NAME, "host7"),
    "naming/target-invalid": Case(first_session(target="iqn.2026-11.com.example:a_b"), NO_RECORDS, "a_b"),
    "naming/upper-case": Case(sessions(initiator=US.upper()), NO_NAME, US.upper()),
    "naming/name-long": Case(first_session(target=TARGET + "-x" * 30), NO_NAME, TARGET),
    "naming/initiator-cloned": Case(
        facts(initiator=InitiatorFile("iqn.1993-08.org.debian:01:abc", 500.0, 90000.0)),
        facts(initiator=InitiatorFile("iqn.1993-08.org.debian:01:abc", 500.0, None)),
        "iqn.1993-08",
    ),
    "naming/initiator-shared": Case(
        facts(registrations={DISK: (Registration(1, US, "00023d999999"),)}), NO_REGISTRATIONS, US
    ),
    "naming/initiator-two-names": Case(first_session(initiator="iqn.2026-11.com.example:x"), NO_NAME, "this host"),
    "naming/target-twice": Case(
        seen(disks=(host.disk(), OTHER_DISK), paths=(host.path(1), host.path(2, disk=OTHER_DISK.id))),
        NO_RECORDS,
        TARGET,
    ),
    "naming/unrelated": Case(volume(label="payroll"), disk(target=None), "/srv/mail"),
    "naming/label-missing": Case(volume(label=None), NO_LABEL, "/srv/mail"),
    "naming/label-meaningless": Case(volume(label="LUN0001"), NO_LABEL, "/srv/mail"),
    "naming/label-twice": Case(
        seen(volumes=(host.volume(), host.volume(id="v2", uuid="other", dev="8:1", disks=(), mount_id=9))),
        NO_LABEL,
        "/srv/mail",
    ),
    # --- network ---
    "network/bond": Case(seen(links=BOND), first_session(link=None), "mail@10.9.1.2:3260"),
    "network/one-link": Case(paths(link="link:eth1"), first_path(link=None), "mail"),
    "network/one-subnet": Case(fabric(nics=SAME_NET), fabric(nics={}), "mail"),
    "network/one-switch": Case(
        fabric(neighbours={"eth1": Neighbour("a", "left"), "eth2": Neighbour("a", "left")}),
        fabric(neighbours={}),
        "mail",
    ),
    "network/unequal-links": Case(first_link(speed_mbps=1000), first_link(speed_mbps=None), "mail"),
    "network/half-duplex": Case(first_link(duplex="half"), first_link(duplex=None), "eth1"),
    "network/mixed-cards": Case(
        first_link(driver="r8169"),
        both(seen(links=(host.link(1, driver=None), host.link(2, driver=None))), fabric(nics={})),
        "mail",
    ),
    "network/many-active": Case(
        seen(paths=(host.path(1), host.path(2), THIRD)),
        seen(paths=(host.path(1), host.path(2), dataclasses.replace(THIRD, state=PathState.UNKNOWN, in_use=False))),
        "mail",
    ),
    "network/mtu-differs": Case(first_link(mtu=1500), first_link(mtu=None), "mail"),
    "network/same-subnet-arp": Case(
        both(fabric(nics=SAME_NET), facts(arp={"eth1": Arp(1, 0, 0), "eth2": Arp(1, 0, 0)})),
        both(fabric(nics=SAME_NET), facts(arp={})),
        "eth1",
    ),
    "network/default-route": Case(facts(default_links=frozenset({"eth1"})), facts(default_links=None), "eth1"),
    "network/routed": Case(
        fabric(routes={("10.9.1.1", "10.9.1.2"): Route("eth1", "10.9.1.254")}), fabric(routes={}), "mail@10.9.1.2:3260"
    ),
    "network/services": Case(facts(listeners=(Listener("0.0.0.0", 445, "smbd"),)), facts(listeners=None), "SMB"),
    "network/other-listeners": Case(
        facts(listeners=(Listener("10.9.2.1", 9100, "exporter"),)), facts(listeners=None), "port 9100"
    ),
    "network/jumbo-blocked": Case(
        facts(segments={host.connection(number).id: Segment(9000, 1448) for number in NUMBERS}),
        facts(segments=None),
        "mail@10.9.1.2:3260",
    ),
    "network/flow-control": Case(
        facts(pauses={"eth1": Pause(rx=False, tx=False), "eth2": Pause(rx=True, tx=True)}), facts(pauses={}), "eth1"
    ),
    "network/scope": Case(records(host.record(3, host="fe80::7")), NO_RECORDS, TARGET),
    # --- multipath ---
    "multipath/one-path": Case(
        map_(total=1, active=1, paths=("kernel:p:1:0:0:0",)), map_(total=1, active=0, paths=()), "mail"
    ),
    "multipath/not-joined": Case(LOOSE, both(LOOSE, disk(map=None, multipath=None, volumes=())), "mail"),
    "multipath/queue-forever": Case(map_(queueing="on"), map_(queueing=None, details={}), "mail"),
    "multipath/timers": Case(details(recovery_timeout_s="120"), details(recovery_timeout_s=None), "mail@10.9.1.2:3260"),
    "multipath/wwid-mismatch": Case(
        facts(
            luns={
                host.path(1).id: LunDetail("running", WWID, True, "alua"),
                host.path(2).id: LunDetail("running", "naa.6001405000000002", True, "alua"),
            }
        ),
        facts(luns={}),
        "mail",
    ),
    "multipath/find-multipaths": Case(SINGLE, both(SINGLE, facts(multipath=None)), "mail"),
    "multipath/no-alua": Case(
        facts(luns={host.path(number).id: LunDetail("running", WWID, True, None) for number in NUMBERS}),
        paths(access=Access.UNKNOWN),
        "sdb",
    ),
    "multipath/session-twice": Case(
        seen(sessions=(host.session(1), host.session(2), host.session(1, id="kernel:s:3"))),
        first_session(portal=Portal("unknown")),
        "mail@10.9.1.2:3260",
    ),
    "multipath/round-robin-unequal": Case(
        both(map_(policy="round-robin 0"), first_link(speed_mbps=1000)), map_(policy=None), "mail"
    ),
    "multipath/daemon-off": Case(facts(multipath={}), facts(multipath=None), "multipathd"),
    # --- boot ---
    "boot/fstab-netdev": Case(
        facts(fstab=(FstabEntry("LABEL=mail-spool", "/srv/mail", "ext4", ("defaults",)),)),
        facts(fstab=None),
        "/srv/mail",
    ),
    "boot/startup-manual": Case(
        facts(records=dataclasses.replace(host.records(), nodes=(host.record(1, node__startup="manual"),))),
        NO_RECORDS,
        "/srv/mail",
    ),
    "boot/fstab-engine": Case(engine(), facts(fstab=None), "/srv/mail"),
    "boot/login-unit": Case(
        facts(units={"open-iscsi.service": host.unit("open-iscsi.service", "disabled")}),
        facts(units=None),
        "2 records",
    ),
    "boot/multipathd-unit": Case(facts(units={}), facts(units=None), "multipathd.service"),
    "boot/unmount-order": Case(
        facts(mounts_after={"/srv/mail": frozenset({"system.slice"})}), facts(mounts_after={}), "/srv/mail"
    ),
    "boot/safe-logout": Case(facts(daemon={}), facts(daemon=None), "/etc/iscsi/iscsid.conf"),
    "boot/discoveryd": Case(
        records(discoveries=(host.discovery(discovery__sendtargets__use_discoveryd="Yes"),)),
        NO_RECORDS,
        "10.9.1.2,3260",
    ),
    "boot/scan-auto": Case(first_record(node__session__scan="auto"), NO_RECORDS, TARGET),
    # --- data ---
    "data/shared-lun": Case(
        facts(registrations={DISK: (Registration(1, "iqn.2026-11.com.example:host8", None),)}),
        NO_REGISTRATIONS,
        "mail",
    ),
    "data/write-cache": Case(disk(write_cache=True), disk(write_cache=None), "mail"),
    "data/digests-off": Case(
        first_link(rx_errors=7),
        first_session(connections=(host.connection(1, data_digest=None),)),
        "mail@10.9.1.2:3260",
    ),
    # --- security ---
    "security/chap-missing": Case(
        both(first_session(chap_user=None), first_record(node__session__auth__authmethod="None")),
        both(first_session(chap_user=None), NO_RECORDS),
        "mail@10.9.1.2:3260",
    ),
    "security/chap-one-way": Case(
        details(chap_user_in=None), both(first_session(chap_user=None), NO_RECORDS), "mail@10.9.1.2:3260"
    ),
    "security/chap-weak": Case(first_record(node__session__auth__chap_algs="MD5"), NO_RECORDS, "mail@10.9.1.2:3260"),
    "security/same-secret": Case(
        facts(secrets=(SecretFile("/x", 0o600, ("node.session.auth.password",)),)), NO_SECRETS, "/x"
    ),
    "security/secrets-readable": Case(facts(secrets=(SecretFile("/x", 0o644),)), NO_SECRETS, "/x"),
    "security/discovery-open": Case(
        records(discoveries=(host.discovery(discovery__sendtargets__auth__authmethod="None"),)),
        NO_RECORDS,
        "10.9.1.2,3260",
    ),
    "security/other-network": Case(
        both(records(host.record(3, host="10.1.1.2")), facts(ways={"10.1.1.2": "eth9"})), facts(ways=None), TARGET
    ),
    # --- leftovers ---
    "leftovers/orphan-map": Case(map_(total=0, paths=()), map_(total=1, paths=()), "mail"),
    "leftovers/dead-path": Case(
        first_path(state=PathState.FAILED, since=1.0),
        first_path(state=PathState.UNKNOWN),
        "sdb",
    ),
    "leftovers/transport-offline": Case(
        facts(luns={host.path(number).id: LunDetail("transport-offline", WWID, True, "alua") for number in NUMBERS}),
        facts(luns={}),
        "sdb",
    ),
    "leftovers/session-empty": Case(
        first_session(luns=()),
        both(first_session(luns=()), seen(problems=(Problem("iscsi", "session1", "may not be read"),))),
        "mail@10.9.1.2:3260",
    ),
    "leftovers/record-idle": Case(records(host.record(3, target=OTHER_TARGET)), NO_RECORDS, OTHER_TARGET),
}
