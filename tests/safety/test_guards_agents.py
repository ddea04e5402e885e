"""Guards for other hosts and for programs that would bring a disk back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from initiator.host.agents import Resource
from initiator.host.mounts import Mount
from initiator.host.services import Automount
from initiator.model import Snapshot, Volume, VolumeState
from initiator.scsi.reservations import Registration
from safety.facts import Entry, Facts, Memory
from safety.findings import Finding, Level, blocks
from safety.guards import check
from tests.safety.simparts import AUTOFS, DISK, SCOPE, TARGET
from tests.safety.test_guards_kernel import facts, kernel, quiet

HOST, OTHER = "iqn.2026-11.example:host", "iqn.2026-11.example:other"


def ask(situation: tuple[Snapshot, Facts]) -> dict[str, Finding]:
    return {each.code: each for each in check(*situation, SCOPE)}


def with_mount(mount: Mount) -> dict[str, Any]:
    return {"mounts": (*quiet()[1].mounts, mount)}


def test_a_resource_of_pacemaker_forbids_it_and_says_how_to_stop_it() -> None:
    for setting, value in (("directory", "/mnt/data"), ("device", "/dev/mapper/mpatha"), ("target", TARGET)):
        resource = Resource("storage-fs", "ocf:heartbeat:Filesystem", setting, value)
        found = ask(facts(cluster=(resource,))(quiet()))["owner"]
        assert (found.level, found.subject) == (Level.BLOCK, "storage-fs")
        assert "pcs resource disable storage-fs" in found.fix
    elsewhere = Resource("other", "ocf:heartbeat:Filesystem", "directory", "/srv")
    assert "owner" not in ask(facts(cluster=(elsewhere,))(quiet()))


def test_autofs_forbids_it_and_an_automount_of_systemd_is_masked_by_the_plan() -> None:
    theirs = dataclasses.replace(AUTOFS, super_options="rw,fd=5,pgrp=812,direct")
    assert ask(facts(**with_mount(theirs))(quiet()))["owner"].level is Level.BLOCK
    parent = dataclasses.replace(theirs, mountpoint="/mnt", super_options="rw,fd=5,pgrp=812,indirect")
    assert ask(facts(**with_mount(parent))(quiet()))["owner"].level is Level.BLOCK
    assert ask(facts(**with_mount(AUTOFS))(quiet()))["automount"].level is Level.BLOCK
    unit = Automount("mnt-data.automount", "/mnt/data", "active")
    assert ask(facts(**with_mount(AUTOFS), automounts=(unit,))(quiet()))["automount"].level is Level.NOTE


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (Entry("/etc/fstab", "UUID=abc", "/mnt/data", ("_netdev",)), True),
        (Entry("/etc/fstab", "/dev/mapper/mpatha", "/somewhere", ()), True),
        (Entry("/etc/fstab", 'UUID="abc"', "/somewhere", ()), True),
        (Entry("/etc/fstab", "UUID=abc", "/mnt/data", ("noauto",)), False),
        (Entry("/etc/fstab", "UUID=other", "/srv", ()), False),
        (Entry("/etc/crypttab", "UUID=abc", "vault"), False),
    ],
)
def test_what_the_next_boot_would_look_for_is_told(entry: Entry, told: bool) -> None:
    snapshot, seen = quiet()
    volume = Volume("v", "v", VolumeState.MOUNTED, "/mnt/data", "ext4", "/dev/mapper/mpatha", "253:3", uuid="abc")
    found = ask((dataclasses.replace(snapshot, volumes=(volume,)), dataclasses.replace(seen, entries=(entry,))))
    assert ("boot-entry" in found) is told
    assert not blocks(tuple(found.values()))


def test_a_registration_of_this_host_forbids_it_and_those_of_others_are_told() -> None:
    snapshot, seen = quiet()
    sessions = tuple(dataclasses.replace(each, initiator=HOST) for each in snapshot.sessions)
    now = dataclasses.replace(snapshot, sessions=sessions), seen
    own, other = Registration(0x1, HOST, holder=True), Registration(0x2, OTHER)
    found = ask(kernel(registrations=((DISK, (own, other)),))(now))
    assert found["reserved"].level is Level.BLOCK
    assert "sg_persist" in found["reserved"].fix
    found = ask(kernel(registrations=((DISK, (other,)),))(now))
    assert found["other-hosts"].level is Level.NOTE
    assert OTHER in found["other-hosts"].text
    unnamed = dataclasses.replace(other, initiator=None)
    assert ask(kernel(registrations=((DISK, (unnamed,)),))(now))["reserved"].level is Level.BLOCK


def test_memory_that_is_short_and_waited_for_forbids_an_unmount() -> None:
    short = Memory(100 << 30, 1 << 30, 50.0)
    assert ask(facts(memory=short)(quiet()))["memory-pressure"].level is Level.BLOCK
    assert ask(facts(memory=dataclasses.replace(short, stalled_percent=0.0))(quiet()))["memory-pressure"].level is (
        Level.WARN
    )
