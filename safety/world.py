"""What a removal reads and does, as one thin interface.

The steps know nothing else of the outside. `safety.effects.Host` is the real one; the tests put a simulated host in
its place and let the runner die at every record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from initiator.errors import MooringError, OutcomeUnknownError
from initiator.host.mounts import Mount
from initiator.model import Snapshot
from safety.facts import Facts
from safety.scope import Extent

if TYPE_CHECKING:
    from safety.world_kernel import KernelWorld


class StepError(MooringError):
    """A step cannot be done; the removal stops before it or in it, and nothing is guessed."""

    code = "step"


class NotProven(StepError):  # noqa: N818 - says what happened
    """A step was done, but what should be seen afterwards is not seen."""

    code = "not-proven"


class Busy(StepError):  # noqa: N818 - says what happened
    """Somebody uses what a step wanted to take away."""

    code = "busy"


class Unreadable(OutcomeUnknownError):  # noqa: N818 - says what happened
    """What a step needs to see cannot be read, so nobody knows."""

    code = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class LoopState:
    """What the kernel says of one loop device."""

    kname: str
    backing_file: str | None
    """None: it is made of nothing, any more or yet."""
    autoclear: bool
    diskseq: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a TCP connection."""

    local_host: str
    local_port: int
    peer_host: str
    peer_port: int


class Claim(Protocol):
    """An exclusive open of a block device, kept from `unused` to `detached`."""

    @property
    def held(self) -> bool:
        """Whether the descriptor is still open and still on the claimed device."""


class World(Protocol):
    """Reads and effects. Everything that can hang has a deadline in seconds and runs in a child."""

    @property
    def kernel(self) -> KernelWorld:
        """What only disks of the kernel's initiator need."""

    def snapshot(self) -> Snapshot:
        """The host as it is now."""

    def facts(self, snapshot: Snapshot, extent: Extent) -> Facts:
        """What the guards need beyond the snapshot."""

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of every namespace.

        Raises:
            Unreadable: some namespace could not be read.
        """

    def superblocks(self) -> tuple[str, ...]:
        """Kernel names of devices with a living superblock."""

    def loop(self, dev: str) -> LoopState | None:
        """The loop device with this `major:minor`; None if the kernel has none.

        Raises:
            Unreadable: sysfs does not answer.
        """

    def connections(self) -> tuple[Ends, ...]:
        """The established TCP connections of this host, as far as they can belong to an iSCSI session.

        Raises:
            Unreadable: the kernel does not tell.
        """

    def trouble(self, kname: str) -> tuple[str, ...]:
        """What the kernel's log says of errors on a device, since this world was made."""

    def on_top(self, mountpoint: str, mount_id: int, deadline: float) -> bool:
        """Whether the path leads to this very mount, and not to one that covers it."""

    def syncfs(self, mountpoint: str, deadline: float) -> None:
        """Write back a whole file system; raises HelperFailed for an error it had since anybody asked last."""

    def unmount(self, mountpoint: str, deadline: float) -> None:
        """Unmount what is on top at a path: never lazily, never by force; raises Busy."""

    def unmount_in(self, pid: int, namespace: str, mountpoint: str, deadline: float) -> None:
        """As `unmount`, in the mount namespace of a process, if it still is in this one; raises Busy, or StepError."""

    def mount(self, arguments: Sequence[str], deadline: float) -> None:
        """Run mount(8) with these arguments."""

    def terminate(self, pid: int, started: int) -> None:
        """Ask a process to end (SIGTERM), if it is the one that was started then."""

    def alive(self, pid: int, started: int) -> bool:
        """Whether the process that was started then is still there."""

    def masked(self, unit: str) -> bool:
        """Whether a unit of systemd is masked until the next boot."""

    def systemctl(self, arguments: Sequence[str], deadline: float) -> None:
        """Give systemd an order; raises StepError with what it said."""

    def scratch(self) -> str:
        """An empty folder on which something can be mounted for a moment."""

    def claim(self, device: str, dev: str, diskseq: int | None, deadline: float) -> Claim:
        """Open a block device exclusively; raises Busy, or StepError when it is another device."""

    def fsync(self, claim: Claim, deadline: float) -> None:
        """Write back what the device has in memory."""

    def seal(self, claim: Claim, deadline: float) -> bool:
        """Flush once more and detach the loop device as soon as the claim is closed.

        Returns:
            True if nobody else has it open, so that no further open can succeed; False if somebody has, in which case
            it stays as it was.
        """

    def release(self, claim: Claim, deadline: float) -> None:
        """Close the claim."""

    def wake(self) -> None:
        """Start the engine if it ended, so that it finds again what its workers still hold.

        Raises:
            EngineError: it does not come up.
        """

    def engine(self, method: str, timeout: float, params: Mapping[str, Any]) -> Any:
        """Ask the engine; raises EngineError, EngineNotRunning, EngineSilent."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""
