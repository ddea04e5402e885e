"""What the removal of a disk of the kernel's initiator reads and does, as one thin interface.

`safety.effects_kernel.KernelHost` is the real one; the tests put a simulated kernel in its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from initiator.host.scsipaths import Paths, ScsiPath, Traffic
from initiator.model import BlockNode, Portal, Swap
from safety.facts import User
from safety.world import Claim


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One path of the plan: which logical unit, over which session."""

    hctl: str
    kname: str
    dev: str
    diskseq: int
    wwid: str | None

    @classmethod
    def of(cls, path: ScsiPath) -> Self:
        """The route that a path is now."""
        return cls(path.hctl, path.kname or "", path.dev or "", path.diskseq or 0, path.wwid)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(**data)

    def same(self, path: ScsiPath) -> bool:
        """Whether a path is this one still, and not another that got its name."""
        return (path.hctl, path.diskseq, path.wwid) == (self.hctl, self.diskseq, self.wwid)


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """How a session is reached: enough to know it again and to log in again."""

    sid: int
    target: str
    host: str
    port: int
    interface: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(**data)

    @property
    def portal(self) -> Portal:
        """Where the target listens."""
        return Portal(self.host, self.port)


class PathClaim(Claim, Protocol):
    """A path's device opened exclusively and locked against udev, with its `state` and `delete` attributes open."""

    @property
    def route(self) -> Route:
        """The path."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one SCSI command."""

    status: int
    host: int
    driver: int
    sense: bytes


class KernelWorld(Protocol):
    """Reads and effects. Everything that can hang has a deadline in seconds and runs in a child."""

    # Reading.

    def paths(self) -> Paths:
        """Every session and path of the kernel.

        Raises:
            Unreadable: sysfs does not answer.
        """

    def nodes(self) -> tuple[BlockNode, ...]:
        """Every block device.

        Raises:
            Unreadable: sysfs does not answer.
        """

    def swaps(self) -> tuple[Swap, ...]:
        """The swap areas that are switched on.

        Raises:
            Unreadable: the kernel does not tell.
        """

    def array_uuids(self) -> Mapping[str, str]:
        """The UUID of each md array, by its kernel name."""

    def traffic(self, route: Route) -> Traffic | None:
        """Counters of a path; None if it is gone."""

    def openers(self, routes: Sequence[Route]) -> tuple[User, ...]:
        """The processes that have the device of a path open, or one of its partitions; not this one, for its claims.

        Raises:
            Unreadable: a process could not be looked at.
        """

    def startup(self, door: Door) -> str | None:
        """`node.startup` of a session's record; None if it has none."""

    # Acting.

    def set_startup(self, door: Door, value: str) -> None:
        """Set `node.startup` of a session's record."""

    def swap_off(self, path: str, deadline: float) -> None:
        """Switch a swap area off."""

    def swap_on(self, path: str, deadline: float) -> None:
        """Switch a swap area on."""

    def command(self, argv: Sequence[str], deadline: float) -> None:
        """Run a tool of LVM, dm-crypt or md; raises StepError with what it said."""

    def remove_map(self, uuid: str, deadline: float) -> None:
        """Remove a device mapper device that nobody has open; raises Busy."""

    def claim_paths(self, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        """Claim every path, or none; raises Busy."""

    def hand_over(self, claim: Claim, uuid: str, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        """Have the claimed map vanish as its claim is closed, and claim its paths in the same moment.

        Afterwards the claim on the map is closed, whatever came of it.
        """

    def forget(self, route: Route) -> bool:
        """Tell multipathd to let go of a path; False if there is no multipathd or it does not know the path."""

    def remember(self, route: Route) -> bool:
        """Tell multipathd of a path; False if there is no multipathd."""

    def queue(self, name: str, *, on: bool) -> None:
        """Tell multipathd whether a map may queue while it has no path."""

    def fsync_path(self, claim: PathClaim, deadline: float) -> None:
        """Write back what the path's own device has in memory."""

    def synchronize(self, claim: PathClaim, deadline: float) -> Answer:
        """One SYNCHRONIZE CACHE over a path."""

    def offline(self, claim: PathClaim, deadline: float) -> None:
        """Set a path offline through the descriptor that was opened with the claim."""

    def online(self, route: Route, deadline: float) -> None:
        """Set a path running that is offline."""

    def delete(self, claim: PathClaim | None, route: Route, deadline: float) -> None:
        """Delete a path; without a claim (resumed, or dead) only one that is offline and still the same."""

    def let_go(self, claims: Sequence[PathClaim]) -> None:
        """Close claims of paths."""

    def logout(self, sid: int) -> None:
        """Log out of a session that has no disk."""

    def login(self, door: Door, user: str | None, secret: str | None) -> None:
        """Log in to a session again."""

    def rescan(self, sid: int) -> None:
        """Have the kernel look for the logical units of a session."""
