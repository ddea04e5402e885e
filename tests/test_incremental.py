"""Reading what has changed gives what reading everything gives, whatever has changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from initiator.host import watched
from initiator.inventory import Inventory
from initiator.model import Snapshot
from tests.host.kerneltree import KernelTree, big, naa

SESSION_CHANGES = {
    "state": ("LOGGED_IN", "FAILED", "FREE"),
    "recovery_tmo": ("5", "120"),
    "target_state": ("SCANNED", "UNBOUND"),
}
LUN_CHANGES = {
    "state": ("running", "offline", "blocked", "transport-offline"),
    "access_state": ("active/optimized", "standby", "unavailable"),
}


def settled(snapshot: Snapshot) -> Snapshot:
    """Without what only somebody can know who has read before."""
    paths = tuple(
        dataclasses.replace(path, since=None, latency_us=None, failures=None, reads=path.reads)
        for path in snapshot.paths
    )
    return dataclasses.replace(snapshot, paths=paths, taken_at=0.0)


def from_scratch(root: Path) -> Snapshot:
    with Inventory(root, addresses={}) as inventory:
        return settled(inventory.read())


class Host(RuleBasedStateMachine):
    """A host with up to a few sessions. Nothing is read in turn, so what is not followed is never seen."""

    descriptors = 1 << 10

    @initialize(kernel=st.sampled_from([(5, 10), (6, 12)]))
    def start(self, kernel: tuple[int, int]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "host"
        self.tree = KernelTree(root, kernel)
        self.inventory = Inventory(root, addresses={}, turn=0)
        self.inventory._descriptors.left = self.descriptors
        self.count = 0
        self.sessions: set[int] = set()
        self.luns: dict[str, tuple[int, str | None]] = {}
        """By address the session and the kernel name."""
        self.maps: list[str] = []
        for sid in (1, 2):
            self.login(sid)
        self.add_lun(1, 0, True)

    def bury(self, path: str) -> None:
        """Takes a link away without giving its inode to the next one: the kernel does not either."""
        self.count += 1
        grave = self.tree.root / "grave"
        grave.mkdir(exist_ok=True)
        os.rename(self.tree.root / path, grave / str(self.count))

    def write_partitions(self) -> None:
        disks = [kname for _, kname in self.luns.values() if kname is not None]
        sizes = [(self.tree.root / f"sys/class/block/{kname}/size").read_text() for kname in disks]
        lines = [f"   8  0  {int(size) // 2} {kname}\n" for size, kname in zip(sizes, disks, strict=True)]
        self.tree.write("proc/partitions", "".join(["major minor  #blocks  name\n\n", *lines]))

    def add_lun(self, sid: int, lun: int, disk: bool) -> None:
        hctl = f"{sid}:0:0:{lun}"
        if sid not in self.sessions or hctl in self.luns:
            return
        self.count += 1
        kname = f"sd{chr(97 + self.count // 26 % 26)}{chr(97 + self.count % 26)}" if disk else None
        self.tree.lun(
            sid, lun, kname=kname, dev=f"8:{self.count}", digits=naa(lun), kind=0 if disk else 12, diskseq=self.count
        )
        self.luns[hctl] = (sid, kname)
        self.write_partitions()

    # --- what can happen ---

    @rule(sid=st.integers(1, 3))
    def login(self, sid: int) -> None:
        if sid not in self.sessions:
            self.count += 1
            self.tree.session(sid, address=f"10.9.{sid}.{self.count % 250}", local=f"10.9.{sid}.1")
            self.sessions.add(sid)

    @rule(sid=st.integers(1, 3))
    def logout(self, sid: int) -> None:
        if sid in self.sessions:
            for hctl in [hctl for hctl, (owner, _) in self.luns.items() if owner == sid]:
                self.vanish(hctl)
            self.sessions.discard(sid)
            for kind, name in (
                ("iscsi_session", f"session{sid}"),
                ("iscsi_connection", f"connection{sid}:0"),
                ("iscsi_host", f"host{sid}"),
                ("scsi_host", f"host{sid}"),
            ):
                self.bury(f"sys/class/{kind}/{name}")
            shutil.rmtree(self.tree.root / f"sys/devices/platform/host{sid}")

    @rule(sid=st.integers(1, 3))
    def login_again_at_once(self, sid: int) -> None:
        self.logout(sid)
        self.login(sid)

    @rule(sid=st.integers(1, 3), lun=st.integers(0, 2), disk=st.booleans())
    def lun(self, sid: int, lun: int, disk: bool) -> None:
        self.add_lun(sid, lun, disk)

    @precondition(lambda self: bool(self.luns))
    @rule(data=st.data(), again=st.booleans(), disk=st.booleans())
    def lun_goes(self, data: st.DataObject, again: bool, disk: bool) -> None:
        hctl = data.draw(st.sampled_from(sorted(self.luns)))
        sid, _ = self.luns[hctl]
        self.vanish(hctl)
        if again:
            self.add_lun(sid, int(hctl.rpartition(":")[2]), disk)

    def vanish(self, hctl: str) -> None:
        sid, kname = self.luns.pop(hctl)
        self.bury(f"sys/class/scsi_device/{hctl}")
        if kname is not None:
            for name in os.listdir(self.tree.root / f"sys/class/block/{kname}/holders"):
                (self.tree.root / f"sys/class/block/{name}/slaves/{kname}").rmdir()
            self.bury(f"sys/class/block/{kname}")
            self.tree._stats.pop(kname)
            self.tree._write_stats()
        shutil.rmtree(self.tree.root / f"sys/devices/platform/host{sid}/session{sid}/target{sid}:0:0/{hctl}")
        self.write_partitions()

    @precondition(lambda self: bool(self.sessions))
    @rule(data=st.data())
    def session_changes(self, data: st.DataObject) -> None:
        sid = data.draw(st.sampled_from(sorted(self.sessions)))
        name = data.draw(st.sampled_from(sorted(SESSION_CHANGES)))
        if (self.tree.root / f"sys/class/iscsi_session/session{sid}/{name}").exists():
            self.tree.attribute(f"iscsi_session/session{sid}/{name}", data.draw(st.sampled_from(SESSION_CHANGES[name])))

    @precondition(lambda self: bool(self.sessions))
    @rule(data=st.data(), port=st.integers(1024, 65535), digest=st.sampled_from("01"))
    def new_tcp_connection(self, data: st.DataObject, port: int, digest: str) -> None:
        """A login after a lost connection negotiates anew."""
        sid = data.draw(st.sampled_from(sorted(self.sessions)))
        self.tree.attribute(f"iscsi_connection/connection{sid}:0/local_port", f"{port}")
        before = (self.tree.root / f"sys/class/iscsi_connection/connection{sid}:0/header_digest").read_text().strip()
        if before != digest:
            other = port + 1 if port < 65535 else 1024
            self.tree.attribute(f"iscsi_connection/connection{sid}:0/header_digest", digest)
            self.tree.attribute(f"iscsi_session/session{sid}/first_burst_len", str(port))
            self.tree.attribute(f"iscsi_connection/connection{sid}:0/local_port", f"{self.count}{other}"[-5:])
            self.tree.attribute(f"iscsi_session/session{sid}/state", "LOGGED_IN")
            self.count += 1

    @precondition(lambda self: bool(self.luns))
    @rule(data=st.data())
    def lun_changes(self, data: st.DataObject) -> None:
        hctl = data.draw(st.sampled_from(sorted(self.luns)))
        name = data.draw(st.sampled_from(sorted(LUN_CHANGES)))
        self.tree.attribute(f"scsi_device/{hctl}/device/{name}", data.draw(st.sampled_from(LUN_CHANGES[name])))

    @precondition(lambda self: any(kname for _, kname in self.luns.values()))
    @rule(data=st.data(), what=st.sampled_from(("cache", "counters", "size", "ro", "map")), number=st.integers(1, 9))
    def disk_changes(self, data: st.DataObject, what: str, number: int) -> None:
        disks = sorted((kname, hctl) for hctl, (_, kname) in self.luns.items() if kname)
        kname, hctl = data.draw(st.sampled_from(disks))
        held = os.listdir(self.tree.root / f"sys/class/block/{kname}/holders")
        if what == "cache":
            kind = "write back" if number % 2 else "write through"
            self.tree.attribute(f"scsi_device/{hctl}/device/scsi_disk/{hctl}/cache_type", kind)
        elif what == "counters":
            self.tree.counters(kname, number * 100, number, number)
        elif what == "ro" and not held:  # of a device that is held it is read in turn
            self.tree.attribute(f"block/{kname}/ro", f"{number % 2}")
        elif what == "size":
            self.tree.attribute(f"block/{kname}/size", f"{number * 2048}")
            self.write_partitions()
        elif what == "map" and not held:
            wwid = f"3{naa(int(hctl.rpartition(':')[2]))}"
            if not any(name == wwid for name in self.maps):
                self.maps.append(wwid)
                self.tree.map(f"mpath{len(self.maps)}", wwid, (kname,))

    @rule(startup=st.sampled_from(("manual", "automatic")), sid=st.integers(1, 3))
    def record(self, startup: str, sid: int) -> None:
        if sid in self.sessions:
            place = self.tree.root / f"sys/class/iscsi_connection/connection{sid}:0/address"
            portal = f"{place.read_text().strip()},3260,1"
            name = "iqn.2026-11.io.mooring.lab:two"
            self.tree.record(name, portal, **{"node.startup": startup, "node.leading_login": "x" * self.count})

    # --- what has to hold ---

    @invariant()
    def as_from_scratch(self) -> None:
        if hasattr(self, "inventory"):
            found, expected = settled(self.inventory.read()), from_scratch(self.tree.root)
            for field in dataclasses.fields(Snapshot):
                assert getattr(found, field.name) == getattr(expected, field.name), field.name

    @invariant()
    def unchanged_is_the_same(self) -> None:
        if hasattr(self, "inventory"):
            first, second = self.inventory.read(), self.inventory.read()
            for one, two in (
                (first.sessions, second.sessions),
                (first.paths, second.paths),
                (first.disks, second.disks),
            ):
                assert one is two
            assert (first.maps is second.maps, first.block is second.block) == (True, True)

    def teardown(self) -> None:
        if hasattr(self, "inventory"):
            self.inventory.close()
            self.folder.cleanup()


class PoorHost(Host):
    """The same where hardly any descriptor may be kept."""

    descriptors = 3


# Shrinking a failure takes longer than a test may; the steps are printed as they are.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TestHost = Host.TestCase
TestHost.settings = settings(max_examples=12, stateful_step_count=16, deadline=None, phases=_PHASES)
TestPoorHost = PoorHost.TestCase
TestPoorHost.settings = settings(max_examples=6, stateful_step_count=16, deadline=None, phases=_PHASES)


def test_kept_descriptors_stay_within_bounds_and_are_given_back(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 8, 64)
    before = set(os.listdir("/proc/self/fd"))
    with Inventory(tree.root, addresses={}) as inventory:
        inventory._descriptors.left = 100
        for _ in range(3):
            inventory.read()
        assert inventory._descriptors.left == 0
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 101
    assert set(os.listdir("/proc/self/fd")) - before == set()


def test_a_change_on_a_large_host_makes_few_objects(tmp_path: Path) -> None:
    tree = big(tmp_path / "host", 8, 64)
    with Inventory(tree.root, addresses={}, turn=0) as inventory:
        first = inventory.read()
        inventory.read()
        tree.attribute("scsi_device/3:0:0:2/device/state", "offline")
        second = inventory.read()
        for before, after, count in (
            (first.sessions, second.sessions, 0),
            (first.paths, second.paths, 1),
            (first.disks, second.disks, 1),
            (first.block, second.block, 0),
        ):
            assert sum(was is not now for was, now in zip(before, after, strict=True)) == count


@pytest.mark.parametrize("share", [1, 4])
def test_everything_is_looked_at_in_so_many_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(watched, "FEW", 4)
    names = [f"attribute{number}" for number in range(10)]
    for name in names:
        (tmp_path / name).write_text("old\n")
    watch = watched.Watch(watched.Descriptors(5), share)
    for name in names:
        watch.follow(name, str(tmp_path), [name], {name: b"old\n"})
    assert [watch.changed() for _ in range(share)] == [set()] * share
    for name in names:
        (tmp_path / name).write_text("new\n")
    seen = [watch.changed() for _ in range(share)]
    assert set().union(*seen) == set(names)
    assert max(len(part) for part in seen) == -(-len(names) // share)
    watch.close()
