"""The real kernel, as the steps of a kernel disk's removal see it."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from initiator.errors import BadInputError, MooringError
from initiator.host import block, blockreader
from initiator.host import mounts as mounts_
from initiator.host.chaprecord import Credentials
from initiator.host.iscsiadm import Iscsiadm
from initiator.host.multipathd import Multipathd, MultipathdError
from initiator.host.nodes import read_records
from initiator.host.run import HelperFailed, Stuck, run, run_helper
from initiator.host.scsipaths import Paths, Traffic, read_paths, read_traffic
from initiator.host.stacks import udev_properties
from initiator.model import BlockNode, Swap
from initiator.names import clean
from initiator.scsi.commands import synchronize_cache10
from safety import claims_kernel
from safety.claims import DeviceClaim
from safety.claims_kernel import DevicePathClaim
from safety.evidence import read_openers
from safety.facts import User
from safety.world import Busy, Claim, StepError, Unreadable
from safety.world_kernel import Answer, Door, PathClaim, Route

_TELL_S = 10.0
_FOLDER = "/sys/class/scsi_device/{}/device"


class KernelHost:
    """The kernel of this machine. Implements `safety.world_kernel.KernelWorld`."""

    def __init__(self) -> None:
        self._orders = Iscsiadm()

    # Reading.

    def paths(self) -> Paths:
        """Every session and path of the kernel."""
        return read_paths()

    def nodes(self) -> tuple[BlockNode, ...]:
        """Every block device."""
        nodes, problems = blockreader.read_block()
        if problems:
            raise Unreadable(f"The block devices cannot be read: {problems[0].subject}: {problems[0].reason}.")
        return nodes

    def swaps(self) -> tuple[Swap, ...]:
        """The swap areas that are switched on."""
        areas, problems = block.read_swaps(Path("/"), self.nodes(), mounts_.read_mounts()[0])
        if problems:
            raise Unreadable(f"The swap areas cannot be read: {problems[0].reason}.")
        return areas

    def array_uuids(self) -> Mapping[str, str]:
        """The UUID of each md array, by its kernel name, as udev noted it."""
        found = {node.kname: udev_properties(node.dev).get("MD_UUID") for node in self.nodes() if node.kind == "md"}
        return {kname: uuid for kname, uuid in found.items() if uuid}

    def traffic(self, route: Route) -> Traffic | None:
        """Counters of a path."""
        return read_traffic(route.hctl)

    def openers(self, routes: Sequence[Route]) -> tuple[User, ...]:
        """The processes that have the device of a path open."""
        return read_openers(Path("/"), {route.dev for route in routes})

    def startup(self, door: Door) -> str | None:
        """`node.startup` of a session's record."""
        found = read_records(Path("/")).of(door.target, door.portal, door.interface)
        words = {record.startup or "unknown" for record in found}
        return None if not words else ", ".join(sorted(words))

    # Acting.

    def set_startup(self, door: Door, value: str) -> None:
        """Set `node.startup` of a session's record."""
        try:
            self._orders.set_startup(door.target, door.portal, value, door.interface)
        except BadInputError as error:
            raise StepError(str(error), code="no-record", fix=error.fix) from error

    def swap_off(self, path: str, deadline: float) -> None:
        """Switch a swap area off."""
        run_helper("swapoff", {"path": path}, deadline)

    def swap_on(self, path: str, deadline: float) -> None:
        """Switch a swap area on."""
        run_helper("swapon", {"path": path}, deadline)

    def command(self, argv: Sequence[str], deadline: float) -> None:
        """Run a tool of LVM, dm-crypt or md."""
        done = run(argv, deadline)
        if done.returncode != 0:
            reason = clean(done.stderr.strip(), 300) or f"exit status {done.returncode}"
            raise StepError(f"{' '.join(argv)}: {reason}", code="tool")

    def remove_map(self, uuid: str, deadline: float) -> None:
        """Remove a device mapper device that nobody has open."""
        try:
            run_helper("dm_remove", {"uuid": uuid, "deferred": False}, deadline)
        except HelperFailed as error:
            if error.errno == errno.EBUSY:
                raise Busy(f"{uuid} is in use.") from error
            raise

    def claim_paths(self, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        """Claim every path, or none."""
        return claims_kernel.take(routes, deadline)

    def hand_over(self, claim: Claim, uuid: str, routes: Sequence[Route], deadline: float) -> tuple[PathClaim, ...]:
        """Have the claimed map vanish, and claim its paths in the same moment."""
        if not isinstance(claim, DeviceClaim):
            raise StepError("This claim was not made by this host.")
        return claims_kernel.hand_over(claim, uuid, routes, deadline)

    def forget(self, route: Route) -> bool:
        """Tell multipathd to let go of a path."""
        return self._tell(f"del path {route.kname}", refused=False)

    def remember(self, route: Route) -> bool:
        """Tell multipathd of a path; that it says no is for the caller to see in what comes of it."""
        return self._tell(f"add path {route.kname}", refused=True)

    def queue(self, name: str, *, on: bool) -> None:
        """Tell multipathd whether a map may queue; whether it does is for the caller to see."""
        self._tell(f"{'restorequeueing' if on else 'disablequeueing'} map {name}", refused=True)

    def _tell(self, command: str, *, refused: bool) -> bool:
        with Multipathd() as daemon:
            try:
                return daemon.order(command, _TELL_S) is not None
            except MultipathdError:
                return refused

    def fsync_path(self, claim: PathClaim, deadline: float) -> None:
        """Write back what the path's own device has in memory."""
        fd = _real(claim).fd
        run_helper("fsync", {"fd": fd}, deadline, pass_fds=(fd,))

    def synchronize(self, claim: PathClaim, deadline: float) -> Answer:
        """One SYNCHRONIZE CACHE over a path; the kernel's own limit ends it before the child's."""
        fd = _real(claim).fd
        given = {"fd": fd, "cdb": synchronize_cache10(), "seconds": deadline * 0.8}
        return Answer(*run_helper("sg_io", given, deadline, pass_fds=(fd,)).value)

    def offline(self, claim: PathClaim, deadline: float) -> None:
        """Set a path offline through the descriptor that was opened with the claim."""
        fd = _real(claim).state_fd
        run_helper("write_attribute", {"fd": fd, "text": "offline\n"}, deadline, pass_fds=(fd,))

    def online(self, route: Route, deadline: float) -> None:
        """Set a path running that is offline."""
        self._write(route, "state", "running\n", ("offline",), deadline)

    def delete(self, claim: PathClaim | None, route: Route, deadline: float) -> None:
        """Delete a path."""
        if claim is None:
            self._write(route, "delete", "1", ("offline", "transport-offline"), deadline)
            return
        fd = _real(claim).delete_fd
        run_helper("write_attribute", {"fd": fd, "text": "1"}, deadline, pass_fds=(fd,))

    def _write(self, route: Route, name: str, text: str, states: Collection[str], deadline: float) -> None:
        """Write an attribute of a path that nobody has claimed, after making sure which path it is.

        Everything goes through one open folder, so that another device with the same name cannot be hit.
        """
        try:
            folder = os.open(_FOLDER.format(route.hctl), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                claims_kernel.check(route, folder)
                found = claims_kernel.read_attribute(folder, "state")
                handle = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StepError(f"Path {route.hctl}: {error.strerror}.", code="gone") from error
        try:
            if found not in states:
                raise StepError(
                    f"Path {route.hctl} is {found}, not {' or '.join(states)}.", code="changed", fix="resume, or undo"
                )
            run_helper("write_attribute", {"fd": handle, "text": text}, deadline, pass_fds=(handle,))
        finally:
            os.close(handle)

    def let_go(self, claims: Sequence[PathClaim]) -> None:
        """Close claims of paths; nothing was written through them, so nothing can wait."""
        for claim in claims:
            _real(claim).close()

    def logout(self, sid: int) -> None:
        """Log out of a session that has no disk."""
        self._orders.logout(sid)

    def login(self, door: Door, user: str | None, secret: str | None) -> None:
        """Log in to a session again."""
        chap = Credentials(user, secret) if user and secret else None
        try:
            self._orders.login(door.target, door.portal, door.interface, chap)
        except Stuck:
            raise
        except MooringError as error:
            raise StepError(
                str(error), code="login", fix=error.fix or "bring the portal back, then undo again"
            ) from error

    def rescan(self, sid: int) -> None:
        """Have the kernel look for the logical units of a session."""
        self._orders.rescan(sid)


def _real(claim: PathClaim) -> DevicePathClaim:
    if not isinstance(claim, DevicePathClaim):
        raise StepError("This claim was not made by this host.")
    return claim
