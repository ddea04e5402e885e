"""Removals of a real loop device with a real ext4, by the real runner in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from initiator.engine.client import EngineClient
from initiator.errors import RefusedError
from safety import claims, runner
from safety.effects import Host
from safety.findings import blocks
from safety.journal import EXIT, Journal, Kind, Mark, Outcome, Record, boot_id, follow, read, unfinished
from safety.places import DiskLock, new_journal
from safety.plan import Options, Plan
from safety.prepare import prepare
from safety.scope import Reach, Scope, disks
from safety.work import Secrets
from safety.world import Busy
from tests.safety.conftest import Range
from tests.safety.fakeengine import WWID

pytestmark = pytest.mark.root


def to_the_end(path: Path) -> Record:
    return list(follow(path))[-1]


def loop_status(device: str, name: str) -> str | None:
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/{name}").read_text().strip()
    except OSError:
        return None


def wait_for(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"


@contextmanager
def child(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process that says `ready` and then waits for its standard input to close."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(process)
        yield process
    finally:
        process.communicate()


def refused(here: Range, code: str, *words: str) -> Plan:
    """The plan is blocked by this code, the text names these words, and the runner does not start."""
    plan = here.plan()
    found = [finding for finding in blocks(plan.findings) if finding.code == code]
    assert found, [finding.code for finding in plan.findings]
    for word in words:
        assert any(word in finding.text for finding in found), found
    with pytest.raises(RefusedError):
        runner.start(plan)
    assert here.mounted()
    return plan


def test_a_mounted_disk_is_removed_and_every_byte_is_there(here: Range) -> None:
    checksum = here.fill()
    plan = here.plan()
    assert not plan.blocked, plan.findings
    device = str(here.engine.device)
    end = to_the_end(runner.start(plan))
    assert end.outcome is Outcome.DONE, end
    assert "safe to pull" in end.text
    assert not here.mounted()
    assert loop_status(device, "backing_file") != str(here.image)
    assert here.sessions() == 0
    assert here.engine.flushes == 2
    assert here.checksum_in_image() == checksum
    assert unfinished(here.journals) == []


def test_a_removal_that_is_done_can_be_undone(here: Range) -> None:
    checksum = here.fill()
    path = runner.start(here.plan())
    assert to_the_end(path).outcome is Outcome.DONE
    assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE
    assert here.mounted()
    assert here.checksum() == checksum
    assert here.sessions() == 2
    assert "noatime" in Path("/proc/self/mountinfo").read_text().split(str(here.mountpoint))[1].splitlines()[0]
    with pytest.raises(RefusedError):
        runner.undo(path)
    with pytest.raises(RefusedError):
        runner.resume(path)


def test_a_shell_in_the_mount_is_named(here: Range) -> None:
    with child("sh", "-c", f"cd {here.mountpoint} && echo ready && read x") as process:
        refused(here, "open", "sh", str(process.pid))


def test_a_shell_in_the_mount_is_ended_when_a_person_chose_so(here: Range) -> None:
    checksum = here.fill()
    scope = Scope(Reach.DISKS, (f"engine:d:{WWID}",), "data")
    with child("sh", "-c", f"cd {here.mountpoint} && echo ready && read x") as process:
        plan = prepare(scope, here.client, Options(watch_s=0.2, end_users=True))
        assert [step.kind for step in plan.steps if step.phase == "stop"] == ["end-users"]
        end = to_the_end(runner.start(plan))
        assert process.wait(10) == -signal.SIGTERM
    assert end.outcome is Outcome.DONE, end
    assert here.checksum_in_image() == checksum


def test_an_open_file_is_named(here: Range) -> None:
    here.fill()
    with (here.mountpoint / "file").open("rb"):
        refused(here, "open", str(os.getpid()), "file")


def test_a_raw_opener_is_named_and_cannot_be_overlooked(here: Range) -> None:
    fd = os.open(str(here.engine.device), os.O_RDONLY)
    try:
        refused(here, "open", str(os.getpid()), str(here.engine.device))
    finally:
        os.close(fd)


def test_a_swap_file_is_named(here: Range) -> None:
    swap = here.mountpoint / "swap"
    swap.write_bytes(bytes(8 << 20))
    swap.chmod(0o600)
    subprocess.run(["mkswap", str(swap)], check=True, capture_output=True)
    done = subprocess.run(["swapon", str(swap)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs a kernel that swaps on files: {done.stderr}")
    try:
        refused(here, "swap", str(swap))
    finally:
        subprocess.run(["swapoff", str(swap)], check=True)


def test_a_loop_device_on_a_file_inside_is_named(here: Range) -> None:
    inner = here.mountpoint / "inner"
    inner.write_bytes(bytes(1 << 20))
    done = subprocess.run(["losetup", "--find", "--show", str(inner)], check=True, capture_output=True, text=True)
    try:
        refused(here, "loop", str(inner))
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_mount_in_a_second_namespace_is_named(here: Range) -> None:
    with child("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready && read x") as process:
        plan = refused(here, "mounted-elsewhere", str(here.mountpoint))
        evidence = " ".join(finding.evidence + finding.fix for finding in plan.findings)
        assert str(process.pid) in evidence


def test_a_mount_in_a_second_namespace_goes_too_when_a_person_chose_so(here: Range) -> None:
    checksum = here.fill()
    scope = Scope(Reach.DISKS, (f"engine:d:{WWID}",), "data")
    with child("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready && read x") as process:
        plan = prepare(scope, here.client, Options(watch_s=0.2, other_namespaces=True))
        assert not plan.blocked, plan.findings
        end = to_the_end(runner.start(plan))
        assert end.outcome is Outcome.DONE, end
        assert str(here.mountpoint) not in Path(f"/proc/{process.pid}/mountinfo").read_text()
        assert process.poll() is None
    assert here.checksum_in_image() == checksum


def test_a_file_system_mounted_inside_is_named(here: Range) -> None:
    inner = here.mountpoint / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)
    try:
        refused(here, "mount-inside", str(inner))
    finally:
        subprocess.run(["umount", str(inner)], check=True)


def test_a_lazily_unmounted_file_system_is_found(here: Range) -> None:
    here.fill()
    file = (here.mountpoint / "file").open("rb")
    try:
        subprocess.run(["umount", "--lazy", str(here.mountpoint)], check=True)
        codes = {finding.code for finding in blocks(here.plan().findings)}
        assert {"mounted-invisibly", "open"} <= codes
        with pytest.raises(Busy):
            claims.take(str(here.engine.device), _dev(here), None, 10.0)
    finally:
        file.close()


def _dev(here: Range) -> str:
    rdev = os.stat(str(here.engine.device)).st_rdev
    return claims.number(rdev)


def test_bind_mounts_and_nested_mounts_go_deepest_first_and_come_back(here: Range, tmp_path: Path) -> None:
    checksum = here.fill()
    (here.mountpoint / "sub").mkdir()
    (here.mountpoint / "sub" / "name").write_text("kept")
    bind = tmp_path / "bind"
    bind.mkdir()
    subprocess.run(["mount", "--bind", str(here.mountpoint / "sub"), str(bind)], check=True)
    try:
        path = runner.start(here.plan())
        assert to_the_end(path).outcome is Outcome.DONE
        assert not bind.is_mount()
        assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE
        assert (bind / "name").read_text() == "kept"
        assert here.checksum() == checksum
    finally:
        subprocess.run(["umount", str(bind)], check=False)


def test_a_folder_of_the_disk_that_is_mounted_alone_comes_back(here: Range, tmp_path: Path) -> None:
    (here.mountpoint / "sub").mkdir()
    (here.mountpoint / "sub" / "name").write_text("kept")
    alone = tmp_path / "alone"
    alone.mkdir()
    subprocess.run(["mount", "--bind", str(here.mountpoint / "sub"), str(alone)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro,nosuid", str(alone)], check=True)
    subprocess.run(["umount", str(here.mountpoint)], check=True)
    try:
        path = runner.start(here.plan())
        assert to_the_end(path).outcome is Outcome.DONE
        assert to_the_end(runner.undo(path)).outcome is Outcome.UNDONE
        assert (alone / "name").read_text() == "kept"
        lines = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
        assert len(lines) == 1
        assert {"ro", "nosuid"} <= set(lines[0].split()[5].split(","))
    finally:
        subprocess.run(["umount", str(alone)], check=False)


def test_a_disk_without_a_mount_is_removed(here: Range) -> None:
    subprocess.run(["umount", str(here.mountpoint)], check=True)
    end = to_the_end(runner.start(here.plan()))
    assert end.outcome is Outcome.DONE


def test_the_claim_keeps_everybody_out_and_the_seal_leaves_no_gap(here: Range) -> None:
    """What the design stands on, seen on this kernel."""
    device = str(here.engine.device)
    subprocess.run(["umount", str(here.mountpoint)], check=True)
    claim = claims.take(device, _dev(here), claims_sequence(device), 10.0)
    mount = ["mount", device, str(here.mountpoint)]
    assert subprocess.run(mount, check=False, capture_output=True).returncode != 0
    claims.fsync(claim, 10.0)
    other = os.open(device, os.O_RDONLY)
    assert claims.seal(claim, 10.0) is False
    assert loop_status(device, "autoclear") == "0"
    os.close(other)
    assert claims.seal(claim, 10.0) is True
    assert loop_status(device, "autoclear") == "1"
    assert loop_status(device, "backing_file") == str(here.image)
    with pytest.raises(OSError, match="No such device or address"):
        os.open(device, os.O_RDONLY)
    assert subprocess.run(mount, check=False, capture_output=True).returncode != 0
    claims.release(claim, 10.0)
    assert not claim.held
    assert not here.engine.attached


def claims_sequence(device: str) -> int:
    return int(Path(f"/sys/block/{Path(device).name}/diskseq").read_text())


def test_a_claim_is_refused_on_another_device_under_the_same_name(here: Range) -> None:
    subprocess.run(["umount", str(here.mountpoint)], check=True)
    device = str(here.engine.device)
    with pytest.raises(Exception, match="another device"):
        claims.take(device, _dev(here), claims_sequence(device) + 1, 10.0)
    with pytest.raises(Exception, match="leads to device"):
        claims.take(device, "7:9999", None, 10.0)
    claims.release(claims.take(device, _dev(here), claims_sequence(device), 10.0), 10.0)


def test_a_second_runner_is_refused(here: Range) -> None:
    plan = here.plan()
    here.journals.mkdir(exist_ok=True)
    with DiskLock(here.journals, plan.keys[0]):
        with pytest.raises(RefusedError, match=f"process {os.getpid()}"):
            runner.start(plan)
        path = new_journal(here.journals, plan.digest, 0.0)
        with Journal.create(path, boot=boot_id()) as journal:
            runner.write_plan(journal, plan)
        argv = [sys.executable, "-m", "safety.runner", "--journal", str(path)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == EXIT[Outcome.REFUSED]
        assert "under way" in done.stderr
        assert len(read(path)) == 1
    assert here.mounted()


def die(here: Range, step: str, mark: Mark, when: str) -> Path:
    """Run a removal whose runner is killed at one record."""
    plan = here.plan()
    assert not plan.blocked, plan.findings
    folder = runner.journal_dir()
    path = new_journal(folder, plan.digest, 0.0)
    with Journal.create(path, boot=boot_id()) as journal:
        runner.write_plan(journal, plan)
    argv = [sys.executable, "-m", "tests.safety.mortal_runner", str(path), "run", step, mark, when]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr
    return path


def work(path: Path, mode: str) -> int:
    host = Host(EngineClient(), path)
    try:
        return runner.work(path, mode, lambda _: host)
    finally:
        host.close()


STEPS = ["unmount-1", "claim", "fsync", "flush", "detach", "release", "offline", "logout-1", "logout-2", "watch"]
DEATHS = [(step, Mark.VERIFIED, "before") for step in STEPS] + [
    (step, Mark.STARTED, "after") for step in ("unmount-1", "detach", "offline")
]


@pytest.mark.parametrize(("step", "mark", "when"), DEATHS)
def test_killed_at_a_step_it_can_be_resumed(here: Range, step: str, mark: Mark, when: str) -> None:
    checksum = here.fill()
    path = die(here, step, mark, when)
    assert [entry.disk for entry in unfinished(here.journals)] == ["data"]
    assert work(path, "resume") == 0, read(path)[-1]
    assert read(path)[-1].outcome is Outcome.DONE
    assert not here.mounted()
    assert here.sessions() == 0
    assert here.checksum_in_image() == checksum


@pytest.mark.parametrize(("step", "mark", "when"), DEATHS)
def test_killed_at_a_step_it_can_be_undone(here: Range, step: str, mark: Mark, when: str) -> None:
    checksum = here.fill()
    path = die(here, step, mark, when)
    assert work(path, "undo") == 0, read(path)[-1]
    assert here.mounted()
    assert here.checksum() == checksum
    assert here.sessions() == 2
    again = here.plan()
    assert not again.blocked, again.findings
    (here.mountpoint / "new").write_text("works")


def test_an_unfinished_removal_forbids_a_new_one(here: Range) -> None:
    path = die(here, "claim", Mark.VERIFIED, "before")
    found = blocks(here.plan().findings)
    assert [finding.code for finding in found] == ["unfinished"]
    assert path.name in found[0].evidence


def test_the_runner_lives_on_when_its_starter_dies(here: Range) -> None:
    checksum = here.fill()
    here.journals.mkdir(exist_ok=True)
    script = (
        "import os, signal\n"
        "from initiator.engine.client import EngineClient\n"
        "from safety import runner\n"
        "from safety.plan import Options\n"
        "from safety.prepare import prepare\n"
        "from safety.scope import Reach, Scope\n"
        f"scope = Scope(Reach.DISKS, ('engine:d:{WWID}',), 'data')\n"
        "plan = prepare(scope, EngineClient(), Options(watch_s=0.5))\n"
        "print(runner.start(plan), flush=True)\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    starter = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    assert starter.returncode == -signal.SIGKILL
    assert to_the_end(Path(starter.stdout.strip())).outcome is Outcome.DONE
    assert here.checksum_in_image() == checksum


def test_a_secret_goes_through_a_pipe_and_nowhere_else(here: Range) -> None:
    here.engine.secret = "open sesame"
    here.engine.change(chap_user="admin")
    path = runner.start(here.plan())
    assert to_the_end(path).outcome is Outcome.DONE
    end = to_the_end(runner.undo(path))
    assert end.outcome is Outcome.STOPPED
    assert end.data["code"] == "secret-needed"
    assert to_the_end(runner.undo(path, Secrets("open sesame"))).outcome is Outcome.UNDONE
    for file in here.journals.iterdir():
        assert "sesame" not in file.read_text()


def test_an_engine_that_dies_before_the_flush_stops_it_and_nothing_is_lost(here: Range) -> None:
    checksum = here.fill()

    def before(method: str) -> None:
        if method == "flush":
            here.engine.silent.add("flush")

    here.engine.before = before
    plan = here.plan()
    from dataclasses import replace

    from initiator import inventory
    from safety.evidence import read_facts
    from safety.plan import make

    options = replace(plan.options, flush_deadline_s=1.0)
    snapshot = inventory.read(engine=here.client)
    scope = disks(snapshot.disks[0])
    plan = make(snapshot, read_facts(Path("/"), scope.on(snapshot)), scope, options)
    path = runner.start(plan)
    end = to_the_end(path)
    assert end.outcome is Outcome.UNKNOWN
    here.engine.before = lambda method: None
    here.engine.silent.clear()
    assert work(path, "undo") == 0
    assert here.checksum() == checksum
    assert any(record.kind is Kind.STEP and record.mark is Mark.FAILED for record in read(path))
