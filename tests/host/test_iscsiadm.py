"""Orders to iscsiadm: what is asked, how it is judged, what is refused, and where secrets go."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from initiator.errors import BadInputError, NotPermittedError, OutcomeUnknownError, RefusedError
from initiator.host import database
from initiator.host.database import DatabaseError
from initiator.host.iscsiadm import ActionFailed, Credentials, Found, Iscsiadm
from initiator.host.run import Finished, Stuck
from initiator.model import Portal
from tests.host.kerneltree import KernelTree

TARGET = "iqn.2026-11.io.mooring.lab:two"
PORTAL = Portal("10.9.1.2")
RECORD = f"etc/iscsi/nodes/{TARGET}/10.9.1.2,3260,1/default"
CHAP = Credentials("harry", "sekret\\1$(x)secret", "tgt", "mutualsekret1")


class FakeIscsiadm:
    """Does to the tree what iscsiadm does to a host."""

    def __init__(self, tree: KernelTree) -> None:
        self.tree = tree
        self.calls: list[list[str]] = []
        self.code = 0
        self.works = True
        self.stderr = ""
        self.stuck = False
        self.during: Callable[[], None] = lambda: None

    def __call__(self, argv: Sequence[str], deadline: float) -> Finished:
        assert argv[0] == "iscsiadm"
        assert deadline > 0
        self.calls.append(list(argv[1:]))
        self.during()
        if self.stuck:
            raise Stuck("iscsiadm", 1, "", deadline, False)
        out = self._do(list(argv[1:])) if self.works else ""
        return Finished(self.code, out, self.stderr, 0.0)

    def _do(self, words: list[str]) -> str:
        if words[:2] == ["-m", "discoverydb"] and "-D" not in words:
            self.tree.write(
                "etc/iscsi/send_targets/10.9.1.2,3260/st_config", "discovery.startup = manual\n# END RECORD\n"
            )
        elif words[1] in ("discovery", "discoverydb"):
            self.tree.record(TARGET, "10.9.1.2,3260,1")
            self.tree.record(TARGET, "fd09:1::2,3260,1")
            return f"10.9.1.2:3260,1 {TARGET}\n[fd09:1::2]:3260,1 {TARGET}\n"
        elif "--login" in words:
            self.tree.session(7)
        elif words[-2:] == ["-o", "new"]:
            self.tree.record(TARGET, "10.9.1.2,3260,1")
        elif "-u" in words:
            sid = words[words.index("-r") + 1]
            (self.tree.root / f"sys/class/iscsi_session/session{sid}").unlink()
        elif "update" in words and words[-3] == "node.startup":
            path = self.tree.root / RECORD
            path.write_text(path.read_text().replace("node.startup = manual", f"node.startup = {words[-1]}"))
        elif "--rescan" in words:
            self.tree.lun(7, 5, kname="sdq", dev="65:0")
        return ""


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    return KernelTree(tmp_path / "host")


@pytest.fixture
def tool(tree: KernelTree) -> FakeIscsiadm:
    return FakeIscsiadm(tree)


@pytest.fixture
def orders(tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path) -> Iscsiadm:
    return Iscsiadm(tree.root, tool, euid=0, lock=tmp_path / "lock")


def test_only_root(tree: KernelTree, tool: FakeIscsiadm) -> None:
    with pytest.raises(NotPermittedError):
        Iscsiadm(tree.root, tool, euid=1000).rescan(1)
    assert tool.calls == []


# --- discovery ---


def test_discovery_makes_records_and_deletes_none(orders: Iscsiadm, tool: FakeIscsiadm) -> None:
    found = orders.discover(PORTAL)
    assert found == (Found(TARGET, Portal("10.9.1.2", 3260, 1)), Found(TARGET, Portal("fd09:1::2", 3260, 1)))
    assert tool.calls == [["-m", "discovery", "-t", "sendtargets", "-p", "10.9.1.2:3260", "-o", "new"]]


def test_discovery_with_chap_has_no_secret_on_a_command_line(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree
) -> None:
    orders.discover(PORTAL, CHAP)
    assert not any("sekret" in word for call in tool.calls for word in call)
    config = (tree.root / "etc/iscsi/send_targets/10.9.1.2,3260/st_config").read_text()
    assert f"discovery.sendtargets.auth.password = {CHAP.secret}\n" in config
    assert "discovery.sendtargets.auth.authmethod = CHAP\n" in config
    assert tool.calls[-1][-3:] == ["-D", "-o", "new"]


def test_a_discovery_that_changes_a_startup_is_an_error(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1", **{"node.startup": "automatic"})
    with pytest.raises(Exception, match=r"changed node\.startup"):
        orders.discover(PORTAL)


def test_a_failed_discovery_says_why(orders: Iscsiadm, tool: FakeIscsiadm) -> None:
    tool.code, tool.works = 24, False
    tool.stderr = "iscsiadm: Login failed to \x1b[31mauthenticate\n"
    with pytest.raises(ActionFailed, match="credentials") as caught:
        orders.discover(PORTAL)
    assert caught.value.exit_code == 24
    assert "\x1b" not in str(caught.value)


# --- login ---


def test_login_is_judged_by_the_session(orders: Iscsiadm, tool: FakeIscsiadm) -> None:
    session = orders.login(TARGET, PORTAL)
    assert session.sid == 7
    assert [call[-1] for call in tool.calls] == ["new", "--login"]
    tool.code, tool.works = 15, False
    assert orders.login(TARGET, PORTAL).sid == 7


def test_an_exit_code_of_zero_without_a_session_is_a_failure(
    tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path
) -> None:
    ticks = iter(range(1, 1000))
    orders = Iscsiadm(tree.root, tool, euid=0, lock=tmp_path / "lock", monotonic=lambda: float(next(ticks)))
    tree.record(TARGET, "10.9.1.2,3260,1")
    tool.works = False
    with pytest.raises(ActionFailed, match="login to"):
        orders.login(TARGET, PORTAL)


def test_a_login_that_does_not_end_is_unknown(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1")
    tool.stuck = True
    with pytest.raises(OutcomeUnknownError):
        orders.login(TARGET, PORTAL)


def test_chap_goes_into_the_record_and_nowhere_else(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    kept = tree.record(TARGET, "10.9.1.2,3260,1", **{"node.session.auth.username": "old", "node.startup": "onboot"})
    orders.login(TARGET, PORTAL, chap=CHAP)
    text = kept.read_text()
    assert f"node.session.auth.password = {CHAP.secret}\n" in text
    assert "node.session.auth.username = harry\n" in text
    assert "node.session.auth.authmethod = CHAP\n" in text
    assert "node.session.auth.password_in = mutualsekret1\n" in text
    assert "node.startup = onboot\n" in text
    assert text.rstrip().endswith("# END RECORD")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not any("sekret" in word for call in tool.calls for word in call)
    assert "sekret" not in repr(CHAP)
    assert sorted(path.name for path in (tree.root / "etc/iscsi").iterdir()) == ["nodes"]
    assert not (tree.root / "run/lock/iscsi/lock.write").exists()


@pytest.mark.parametrize("secret", ["", "two\nnode.startup = automatic", " x", "x ", "a\x00b", "y" * 300])
def test_a_secret_that_a_record_cannot_hold_is_refused_and_not_shown(
    orders: Iscsiadm, tree: KernelTree, secret: str
) -> None:
    record = tree.record(TARGET, "10.9.1.2,3260,1")
    before = record.read_text()
    with pytest.raises(BadInputError) as caught:
        orders.login(TARGET, PORTAL, chap=Credentials("harry", secret))
    assert record.read_text() == before
    assert not secret.strip() or secret not in str(caught.value)


@pytest.mark.parametrize(("target", "interface"), [("--help", "default"), (TARGET, "-x"), (TARGET, "a/b"), ("x", "y")])
def test_nothing_can_be_taken_for_an_option(orders: Iscsiadm, tool: FakeIscsiadm, target: str, interface: str) -> None:
    with pytest.raises(BadInputError):
        orders.login(target, PORTAL, interface)
    assert tool.calls == []


# --- logout ---


def test_a_session_without_disks_is_logged_out(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.session(7)
    tree.lun(7, 0, kind=12)
    orders.logout(7)
    assert tool.calls == [["-m", "session", "-r", "7", "-u"]]


@pytest.mark.parametrize("kind", [0, 1, 5])
def test_a_session_with_a_disk_is_never_logged_out(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree, kind: int
) -> None:
    tree.session(7)
    tree.lun(7, 0, kind=kind, kname="sda" if kind == 0 else None)
    with pytest.raises(RefusedError) as caught:
        orders.logout(7)
    assert (caught.value.code, tool.calls) == ("attached", [])
    assert "mooring remove" in caught.value.fix


def test_what_cannot_be_read_is_a_no(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.session(7)
    tree.session(8)
    shutil.rmtree(tree.root / "sys/devices/platform/host8/session8/iscsi_session")
    with pytest.raises(RefusedError) as caught:
        orders.logout(7)
    assert (caught.value.code, tool.calls) == ("unknown", [])


@pytest.mark.parametrize("how", ["ibft", "record"])
def test_a_session_that_this_host_boots_from_stays(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree, how: str
) -> None:
    tree.session(7)
    if how == "ibft":
        tree.write("sys/firmware/ibft/target0/target-name", f"{TARGET}\n")
    else:
        tree.record(TARGET, "10.9.1.2,3260,1", **{"node.startup": "onboot"})
    with pytest.raises(RefusedError) as caught:
        orders.logout(7)
    assert (caught.value.code, tool.calls) == ("boot", [])


def test_a_logout_after_which_the_session_is_still_there_failed(
    tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path
) -> None:
    ticks = iter(range(1, 1000))
    orders = Iscsiadm(tree.root, tool, euid=0, lock=tmp_path / "lock", monotonic=lambda: float(next(ticks)))
    tree.session(7)
    tool.works = False
    with pytest.raises(ActionFailed):
        orders.logout(7)
    tool.code, tool.works = 32, True
    orders.logout(7)
    with pytest.raises(BadInputError):
        orders.logout(9)


# --- start-up, rescan ---


def test_startup_gives_what_it_was(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1")
    assert orders.set_startup(TARGET, PORTAL, "automatic") == "manual"
    assert [call[-3:] for call in tool.calls] == [
        ["node.startup", "-v", "automatic"],
        ["node.conn[0].startup", "-v", "automatic"],
    ]


def test_startup_that_did_not_change_is_a_failure(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1")
    tool.works = False
    with pytest.raises(ActionFailed):
        orders.set_startup(TARGET, PORTAL, "automatic")
    with pytest.raises(BadInputError, match="start-up"):
        orders.set_startup(TARGET, PORTAL, "sometimes")
    with pytest.raises(BadInputError, match="no record"):
        orders.set_startup(TARGET, Portal("10.9.9.9"), "manual")


def test_rescan_tells_what_is_new(orders: Iscsiadm, tree: KernelTree) -> None:
    tree.session(7)
    tree.lun(7, 0, kname="sda")
    assert orders.rescan(7).appeared == ("7:0:0:5",)


# --- one at a time ---


def test_one_order_at_a_time(tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path) -> None:
    tree.session(7)
    tool.works = False
    inside = threading.Event()
    second_waits = threading.Event()
    running: list[int] = []
    most: list[int] = []

    def during() -> None:
        running.append(1)
        most.append(len(running))
        inside.set()
        assert second_waits.wait(10)
        running.pop()

    tool.during = during
    orders = Iscsiadm(tree.root, tool, euid=0, lock=tmp_path / "lock", sleep=lambda _: second_waits.set())
    threads = [threading.Thread(target=orders.rescan, args=(7,)) for _ in range(2)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(10)
    assert (len(tool.calls), max(most)) == (2, 1)


def test_the_databases_own_lock_is_respected(tree: KernelTree) -> None:
    ticks = iter(range(1000))
    with (
        database.locked(tree.root),
        pytest.raises(DatabaseError, match="another iscsiadm") as caught,
        database.locked(tree.root, 3, monotonic=lambda: float(next(ticks)), sleep=lambda _: None),
    ):
        pytest.fail("two hold the lock")
    assert "rm " in caught.value.fix
    with database.locked(tree.root):
        assert (tree.root / "run/lock/iscsi/lock.write").exists()
    assert not (tree.root / "run/lock/iscsi/lock.write").exists()


def test_a_record_that_is_torn_or_a_link_is_not_written(tree: KernelTree) -> None:
    torn = tree.write(RECORD, "# BEGIN RECORD\nnode.startup = manual\n")
    with pytest.raises(DatabaseError, match="complete"):
        database.change_record(str(torn), {"a": "b"}, tree.root)
    torn.unlink()
    torn.symlink_to("/etc/hostname")
    with pytest.raises(DatabaseError, match="read"):
        database.change_record(str(torn), {"a": "b"}, tree.root)
    with pytest.raises(DatabaseError, match="no database"):
        database.change_record(str(tree.root / "elsewhere"), {"a": "b"}, tree.root)
