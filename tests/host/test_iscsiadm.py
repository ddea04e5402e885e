"""Orders to iscsiadm: what is asked, how it is judged, what is refused, and where secrets go."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from initiator.errors import BadInputError, MooringError, NotPermittedError, OutcomeUnknownError, RefusedError
from initiator.host import database, turn
from initiator.host.chaprecord import Credentials
from initiator.host.database import DatabaseError
from initiator.host.iscsiadm import Found, Iscsiadm
from initiator.host.knock import knock
from initiator.host.outcome import ActionFailed
from initiator.host.run import Finished
from initiator.model import Portal
from tests.host.fakeiscsiadm import CHAP, PORTAL, RECORD, TARGET, FakeIscsiadm
from tests.host.kerneltree import KernelTree


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
    assert [call[-1] for call in tool.calls] == ["nonpersistent", "new", "--login"]
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


@pytest.mark.parametrize("code", [2, 32])
def test_a_logout_waits_for_an_iscsid_that_was_just_started(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree, code: int
) -> None:
    """It takes up the kernel's sessions one after another, and knows none of those that wait."""
    tree.session(7)
    tool.code, tool.works = code, False

    def takes_it_up() -> None:
        if len(tool.calls) == 3:
            tool.code, tool.works = 0, True

    tool.during = takes_it_up
    orders.logout(7)
    assert tool.calls == [["-m", "session", "-r", "7", "-u"]] * 3


def test_a_disk_that_comes_while_a_logout_waits_forbids_it(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree
) -> None:
    tree.session(7)
    tool.code, tool.works = 32, False

    def comes() -> None:
        tree.lun(7, 0, kind=0, kname="sda")

    tool.during = comes
    with pytest.raises(RefusedError) as caught:
        orders.logout(7)
    assert (caught.value.code, len(tool.calls)) == ("attached", 1)


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


def test_whoever_waits_too_long_learns_for_whom(tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path) -> None:
    ticks = iter(range(0, 100_000, 50))
    tree.session(7)
    lock = tmp_path / "lock"
    orders = Iscsiadm(tree.root, tool, euid=0, lock=lock, sleep=lambda _: None, monotonic=lambda: float(next(ticks)))
    with (
        turn.turn(lock, "log in to\x1b[2J somewhere", 1.0, time.monotonic, time.sleep),
        pytest.raises(MooringError, match=rf"process {os.getpid()} has to log in to.* somewhere") as caught,
    ):
        orders.rescan(7)
    assert (caught.value.code, tool.calls) == ("busy", [])
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("order", ["login", "logout", "rescan", "startup", "discover"])
def test_an_iscsiadm_that_hangs_is_reported_with_what_it_waits_for(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree, order: str
) -> None:
    tree.session(8)
    tree.record(TARGET, "10.9.1.2,3260,1")
    tool.stuck = True
    calls: dict[str, Callable[[], object]] = {
        "login": lambda: orders.login(TARGET, PORTAL),
        "logout": lambda: orders.logout(8),
        "rescan": lambda: orders.rescan(8),
        "startup": lambda: orders.set_startup(TARGET, PORTAL, "manual"),
        "discover": lambda: orders.discover(PORTAL),
    }
    with pytest.raises(OutcomeUnknownError, match=r"process 4711.*iscsid's answer \(in unix_stream_read_generic\)"):
        calls[order]()


# --- why a login failed ---


def failed_login(tool: FakeIscsiadm, orders: Iscsiadm, code: int, chap: Credentials | None = None) -> ActionFailed:
    tool.works, tool.code = False, code
    tool.stderr = (
        f"iscsiadm: Could not login to [iface: default, target: {TARGET}, portal: 10.9.1.2,3260].\n"
        f"iscsiadm: initiator reported error ({code} - some words)\n"
    )
    with pytest.raises(ActionFailed) as caught:
        orders.login(TARGET, PORTAL, chap=chap)
    assert f"({code} - some words)" not in str(caught.value).split("iscsiadm: ")[0]
    assert f"{code} - some words" in str(caught.value)
    return caught.value


def test_a_wrong_secret_is_called_that_and_not_kept(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    record = tree.record(TARGET, "10.9.1.2,3260,1", **{
        "node.session.auth.authmethod": "CHAP", "node.session.auth.username": "old",
        "node.session.auth.password": "the-right-one",
    })  # fmt: skip
    before = record.read_text()
    error = failed_login(tool, orders, 24, CHAP)
    assert "wrong CHAP user or secret: the target refused those of harry" in str(error)
    assert CHAP.secret not in str(error)
    assert record.read_text() == before
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_a_record_that_somebody_else_changed_meanwhile_is_left_to_them(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree
) -> None:
    record = tree.record(TARGET, "10.9.1.2,3260,1")

    def meanwhile() -> None:
        if "--login" in tool.calls[-1]:
            record.write_text(record.read_text().replace("node.startup = manual", "node.startup = onboot"))

    tool.during = meanwhile
    failed_login(tool, orders, 24, CHAP)
    assert "node.startup = onboot" in record.read_text()
    assert f"node.session.auth.password = {CHAP.secret}" in record.read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "the target asks for CHAP and this host has no credentials"),
        (
            {"node.session.auth.authmethod": "CHAP", "node.session.auth.username": "old"},
            "refused those in the node record, of old",
        ),
    ],
)
def test_refused_credentials_of_the_record(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree, settings: dict[str, str], words: str
) -> None:
    tree.record(TARGET, "10.9.1.2,3260,1", **settings)
    error = failed_login(tool, orders, 24)
    assert words in str(error)
    assert "--chap-user" in error.fix


def test_a_target_that_the_portal_does_not_offer_was_not_found(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree
) -> None:
    tool.offers = "iqn.2026-11.io.mooring.lab:other"
    with pytest.raises(MooringError, match=r"target not found.*it offers iqn.2026-11.io.mooring.lab:other") as caught:
        orders.login(TARGET, PORTAL)
    assert caught.value.code == "target-not-found"
    assert [call[-1] for call in tool.calls] == ["nonpersistent"], "iscsid was not sent after it for two minutes"
    tree.record(TARGET, "10.9.1.2,3260,1")
    for code in (8, 19):
        assert "target not found" in str(failed_login(tool, orders, code)), "it was there when it was discovered"
    tool.offers = TARGET
    assert "refused the login for good" in str(failed_login(tool, orders, 19))


def test_a_record_that_was_made_for_a_login_that_failed_goes_again(
    orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree
) -> None:
    failed_login(tool, orders, 19)
    assert [call[-1] for call in tool.calls if call[-1] in ("new", "delete")] == ["new", "delete"]
    assert not (tree.root / RECORD).exists()


def test_a_portal_that_cannot_be_reached_is_not_even_tried(
    tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path
) -> None:
    silent = Iscsiadm(tree.root, tool, euid=0, lock=tmp_path / "lock", knock=lambda portal: "it is silent")
    for order in (lambda: silent.login(TARGET, PORTAL), lambda: silent.discover(PORTAL)):
        with pytest.raises(MooringError, match="the portal cannot be reached: it is silent") as caught:
            order()
        assert caught.value.code == "portal-silent"
    assert tool.calls == []
    tree.record(TARGET, "10.9.1.2,3260,1", "bnx2i.00", **{"iface.transport_name": "bnx2i"})
    tool.works, tool.code = False, 8
    with pytest.raises(ActionFailed, match="did not get through"):
        silent.login(TARGET, PORTAL, "bnx2i.00")
    with pytest.raises(ActionFailed, match="did not get through"):
        silent.login(TARGET, PORTAL, "bound-to-eth7")


def test_knocking_at_a_real_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert knock(Portal("127.0.0.1", server.getsockname()[1])) == ""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert "nothing listens" in knock(Portal("127.0.0.1", deaf.getsockname()[1]))


@pytest.mark.parametrize(("tries", "each", "deadline"), [("8", "15", 150.0), ("20", "15", 330.0), ("99", "99", 600.0)])
def test_a_login_gets_as_long_as_its_record_says(
    tree: KernelTree, tool: FakeIscsiadm, tmp_path: Path, tries: str, each: str, deadline: float
) -> None:
    deadlines = {}

    def note(argv: Sequence[str], seconds: float) -> Finished:
        deadlines[argv[-1]] = seconds
        return tool(argv, seconds)

    tree.record(TARGET, "10.9.1.2,3260,1", **{
        "node.session.initial_login_retry_max": tries, "node.conn[0].timeo.login_timeout": each,
    })  # fmt: skip
    Iscsiadm(tree.root, note, euid=0, lock=tmp_path / "lock").login(TARGET, PORTAL)
    assert deadlines["--login"] == deadline


def test_rescan_tells_what_grew(orders: Iscsiadm, tree: KernelTree) -> None:
    tree.session(7)
    tree.lun(7, 0, kname="sda", size=1 << 28)
    assert orders.rescan(7).resized == (("sda", 1 << 28, 1 << 29),)


def test_a_failed_discovery_keeps_no_secret(orders: Iscsiadm, tool: FakeIscsiadm, tree: KernelTree) -> None:
    made = tree.write("etc/iscsi/send_targets/10.9.1.2,3260/st_config", "discovery.startup = manual\n# END RECORD\n")
    tool.during = lambda: setattr(tool, "code", 24 if "-D" in tool.calls[-1] else 0)
    with pytest.raises(ActionFailed):
        orders.discover(PORTAL, CHAP)
    assert CHAP.secret not in made.read_text()
