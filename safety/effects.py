"""The real host, as the steps see it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initiator import places
from initiator.engine.client import EngineClient
from initiator.host import blockreader, sysfs
from initiator.host import mounts as mounts_
from initiator.host.helper_calls import pinned_mounts
from initiator.host.mounts import Mount
from initiator.host.run import HelperFailed, run, run_helper
from initiator.host.tcp import list_tcp
from initiator.host.usage import living_superblocks
from initiator.inventory import Inventory
from initiator.model import Snapshot
from initiator.names import clean
from safety import claims, looking
from safety.claims import DeviceClaim
from safety.evidence import read_facts
from safety.facts import Facts
from safety.journal import process_start
from safety.scope import Extent
from safety.world import Busy, Claim, Ends, LoopState, StepError, Unreadable

if TYPE_CHECKING:
    from safety.effects_kernel import KernelHost

_NOT_OPEN = frozenset({"closing", "last-ack", "time-wait", "close", "listen", "new-syn-received"})
"""States of TCP in which nothing is sent any more, or not yet. One that we do not know counts as open."""
_TROUBLE = re.compile(r"\berror|\blost\b|corrupt|\bfail|shutdown|abort", re.IGNORECASE)
_HARMLESS = re.compile(
    r"(operation not supported|critical target) error, .* op 0x[0-9a-f]+:\((WRITE_ZEROES|DISCARD|SECURE_ERASE)\)"
)
"""The device does not know a shortcut, or not for so much at once: the kernel then writes the zeroes itself, as ext4
has it do after a first mount, and a discard promises nothing. No data was to be written by it."""


class Host:
    """This machine and the engine on it. Implements `safety.world.World`.

    Args:
        engine: The engine's client.
        own_journal: The journal of the runner that asks, so that it does not take itself for another one.
    """

    def __init__(self, engine: EngineClient, own_journal: Path | None = None) -> None:
        self._engine = engine
        self._own_journal = own_journal
        self._inventory = Inventory(engine=engine)
        self._kernel_log = KernelLog()
        self._kernel: KernelHost | None = None

    @property
    def kernel(self) -> KernelHost:
        """What only disks of the kernel's initiator need; not imported for those of the engine."""
        if self._kernel is None:
            from safety.effects_kernel import KernelHost

            self._kernel = KernelHost()
        return self._kernel

    def close(self) -> None:
        """End the helper child and close the kernel's log."""
        self._inventory.close()
        self._kernel_log.close()

    def snapshot(self) -> Snapshot:
        """The host as it is now."""
        return self._inventory.read()

    def facts(self, snapshot: Snapshot, extent: Extent) -> Facts:
        """What the guards need beyond the snapshot."""
        return read_facts(Path("/"), extent, own_journal=self._own_journal)

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of every namespace."""
        rows, problems = mounts_.read_mounts(threads=True, pinned=pinned_mounts)
        if problems:
            first = problems[0]
            raise Unreadable(f"The mounts cannot be read whole: {first.subject}: {first.reason}.")
        return rows

    def superblocks(self) -> tuple[str, ...]:
        """Kernel names of devices with a living superblock."""
        nodes, problems = blockreader.read_block()
        if problems:
            raise Unreadable(f"The block devices cannot be read: {problems[0].subject}: {problems[0].reason}.")
        return living_superblocks(Path("/"), [node.kname for node in nodes])

    def loop(self, dev: str) -> LoopState | None:
        """The loop device with this `major:minor`."""
        try:
            kname = os.path.basename(os.readlink(f"/sys/dev/block/{dev}"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"/sys/dev/block/{dev}: {error.strerror}.") from error
        folder = f"/sys/block/{kname}"
        sequence = sysfs.read_int(f"{folder}/diskseq")
        backing = _attribute(f"{folder}/loop/backing_file")
        return LoopState(kname, backing, _attribute(f"{folder}/loop/autoclear") == "1", sequence)

    def connections(self) -> tuple[Ends, ...]:
        """The open TCP connections of this host."""
        try:
            seen = list_tcp()
        except OSError as error:
            raise Unreadable(f"The TCP connections cannot be read: {error}.") from error
        return tuple(
            Ends(one.local.host, one.local.port, one.peer.host, one.peer.port)
            for one in seen
            if one.info.state not in _NOT_OPEN
        )

    def trouble(self, kname: str) -> tuple[str, ...]:
        """What the kernel's log says of errors on a device, since this object was made."""
        return self._kernel_log.errors(kname)

    def on_top(self, mountpoint: str, mount_id: int, deadline: float) -> bool:
        """Whether the path leads to this very mount."""
        answer = run_helper("statvfs", {"mounts": [(mountpoint, mount_id)]}, deadline).value
        return bool(answer) and answer[0][0] == mount_id and answer[0][1] != 0

    def syncfs(self, mountpoint: str, deadline: float) -> None:
        """Write back a whole file system."""
        run_helper("syncfs", {"path": mountpoint}, deadline)

    def unmount(self, mountpoint: str, deadline: float) -> None:
        """Unmount what is on top at a path."""
        try:
            run_helper("umount", {"path": mountpoint}, deadline)
        except HelperFailed as error:
            if error.errno == errno.EBUSY:
                raise Busy(f"{mountpoint} is in use.") from error
            raise
        looking.sweep()

    def unmount_in(self, pid: int, namespace: str, mountpoint: str, deadline: float) -> None:
        """Unmount in the mount namespace of a process."""
        try:
            run_helper("umount_in", {"pid": pid, "namespace": namespace, "path": mountpoint}, deadline)
        except HelperFailed as error:
            if error.errno == errno.EBUSY:
                raise Busy(f"{mountpoint} is in use in the mount namespace of process {pid}.") from error
            raise StepError(f"{mountpoint} in the mount namespace of process {pid}: {error}.", code="umount") from error
        looking.sweep()

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        """Run mount(8)."""
        done = run(["mount", *arguments], deadline)
        if done.returncode != 0:
            reason = clean(done.stderr.strip(), 300) or f"exit status {done.returncode}"
            raise StepError(f"mount {' '.join(arguments)}: {reason}.", code="mount")

    def terminate(self, pid: int, started: int) -> None:
        """Ask a process to end; through a descriptor of it, so that no other one can be hit."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if process_start(pid) == started:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)

    def alive(self, pid: int, started: int) -> bool:
        """Whether the process that was started then is still there."""
        return process_start(pid) == started

    def masked(self, unit: str) -> bool:
        """Whether a unit of systemd is masked until the next boot (systemctl(1), mask --runtime)."""
        try:
            return os.readlink(f"/run/systemd/system/{unit}") == "/dev/null"
        except OSError:
            return False

    def systemctl(self, arguments: Sequence[str], deadline: float) -> None:
        """Give systemd an order."""
        done = run(["systemctl", *arguments], deadline)
        if done.returncode != 0:
            reason = clean(done.stderr.strip(), 300) or f"exit status {done.returncode}"
            raise StepError(f"systemctl {' '.join(arguments)}: {reason}.", code="systemd")

    def scratch(self) -> str:
        """An empty folder in Mooring's own runtime folder."""
        folder = places.runtime_dir() / "undo"
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    def claim(self, device: str, dev: str, diskseq: int | None, deadline: float) -> Claim:
        """Open a block device exclusively."""
        return claims.take(device, dev, diskseq, deadline)

    def fsync(self, claim: Claim, deadline: float) -> None:
        """Write back what the device has in memory."""
        claims.fsync(_real(claim), deadline)

    def seal(self, claim: Claim, deadline: float) -> bool:
        """Detach the loop device under the claim."""
        return claims.seal(_real(claim), deadline)

    def release(self, claim: Claim, deadline: float) -> None:
        """Close the claim."""
        claims.release(_real(claim), deadline)

    def wake(self) -> None:
        """Start the engine if there is none."""
        self._engine.ensure()

    def engine(self, method: str, timeout: float, params: Mapping[str, Any]) -> Any:
        """Ask the engine."""
        return self._engine.call(method, timeout, **params)

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class KernelLog:
    """The kernel's messages from now on (/dev/kmsg); silent where it may not be read: it is evidence against only."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._lines: list[str] = []
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)

    def errors(self, kname: str) -> tuple[str, ...]:
        """Messages that speak of an error on a block device or one of its partitions, oldest first."""
        self._read()
        name = re.compile(rf"(?<![\w-]){re.escape(kname)}(p\d+)?(?![\w-])") if kname else None
        told = (line for line in self._lines if name and name.search(line))
        return tuple(line for line in told if _TROUBLE.search(line) and not _HARMLESS.search(line))

    def _read(self) -> None:
        while self._fd >= 0:
            try:
                record = os.read(self._fd, 8192)
            except BrokenPipeError:
                continue  # messages were overwritten before they were read; the next read goes on after them
            except OSError:
                return
            if not record:
                return
            text = record.decode(errors="replace").partition(";")[2].splitlines()
            self._lines += [clean(text[0], 300)] if text else []

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _attribute(path: str) -> str | None:
    """A sysfs attribute that is absent while the loop device is made of nothing.

    Raises:
        Unreadable: it is there and cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.ENOENT):
            return None
        raise Unreadable(f"{path}: {error.strerror}.") from error


def _real(claim: Claim) -> DeviceClaim:
    if not isinstance(claim, DeviceClaim):
        raise StepError("This claim was not made by this host.")
    return claim
