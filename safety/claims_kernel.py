"""Claims on the paths of a disk, held from "unused" to "deleted", and the way from the claim on a map to these."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from initiator.host import kernelview
from initiator.host.run import Helper, HelperFailed, close_all
from safety.claims import DeviceClaim, number, sequence_number
from safety.world import Busy, StepError
from safety.world_kernel import Route

_PATIENCE_S = 3.0
"""Seconds for udev, or whoever else looks at a device in passing, to be done with it."""
_LOCK_S = 20.0
"""Seconds for udev to be done with the events that an unmount or swapoff has caused: on a busy host they take long."""
_FOLDER = "/sys/class/scsi_device/{}/device"


@dataclasses.dataclass(slots=True)
class DevicePathClaim:
    """One path. The kernel releases it when the process ends, however it ends.

    Attributes:
        route: The path.
        fd: Open exclusively: no mount, no swap, no map, no array.
        lock_fd: Open with flock(LOCK_EX): udev, and what listens to it, keeps away.
        state_fd, delete_fd: The attributes of this very device; when it is gone they answer ENODEV, whoever has its
            name by then.
    """

    route: Route
    fd: int
    lock_fd: int
    state_fd: int
    delete_fd: int

    @property
    def held(self) -> bool:
        """Whether the descriptor is still open on the claimed device."""
        if self.fd < 0:
            return False
        try:
            return number(os.fstat(self.fd).st_rdev) == self.route.dev
        except OSError:
            return False

    def close(self) -> None:
        """Give it up."""
        close_all((self.fd, self.lock_fd, self.state_fd, self.delete_fd))
        self.fd = self.lock_fd = self.state_fd = self.delete_fd = -1


def take(routes: Sequence[Route], deadline: float) -> tuple[DevicePathClaim, ...]:
    """Claim every path, or none.

    Raises:
        Busy: something holds one.
        StepError: one is another device now.
    """
    with Helper() as helper:
        return _claim(helper, "claim_all", {"patience": _PATIENCE_S}, routes, deadline)


def hand_over(claim: DeviceClaim, uuid: str, routes: Sequence[Route], deadline: float) -> tuple[DevicePathClaim, ...]:
    """Have a claimed map vanish with its claim, and its paths claimed before it does.

    The paths are locked against udev first. A child that has the last descriptor of the map then takes the paths out of
    it, opens them exclusively, and closes the map, which is marked to go with its last opener. The exclusive descriptor
    keeps everybody from mounting the map; somebody who takes a path in that moment is met by the exclusive open, and
    the map gets its paths back. A map without a path that works has nothing to hand over: it only goes.

    Raises:
        Busy: somebody else has the map open, or took a path.
        StepError: the kernel said no.
    """
    try:
        with Helper((claim.fd,)) as helper:
            helper.start(deadline)
            _alone(helper, uuid, deadline)
            last, claim.fd = claim.fd, -1
            close_all((last,))
            if not routes:
                helper.call("dm_remove", {"uuid": uuid, "deferred": True}, deadline)
                return ()
            return _claim(helper, "hand_over", {"fd": last, "uuid": uuid, "patience": _PATIENCE_S}, routes, deadline)
    except HelperFailed as error:
        raise StepError(f"The map cannot be handed over: {error}.", code="kernel-said-no") from error
    finally:
        if claim.fd >= 0:
            close_all((claim.fd,))
            claim.fd = -1


def _alone(helper: Helper, uuid: str, deadline: float) -> None:
    """Wait until nobody but us has the map open: it would not go before they do."""
    end = time.monotonic() + _PATIENCE_S
    while (openers := helper.call("dm_open_count", {"uuid": uuid}, deadline).value) != 1:
        if time.monotonic() > end:
            text = f"The map is open {openers - 1} more times."
            raise Busy(text, fix="find who has it open (fuser, lsof) and end it, then try again")
        time.sleep(0.02)


def _claim(
    helper: Helper, operation: str, given: Mapping[str, Any], routes: Sequence[Route], deadline: float
) -> tuple[DevicePathClaim, ...]:
    with contextlib.ExitStack() as undo:
        attributes = []
        for route in routes:
            attributes.append(_attributes(route))
            undo.callback(close_all, attributes[-1])
        locks: list[int] = []
        undo.callback(lambda: close_all(locks))
        for route in routes:
            path = f"/dev/{route.kname}"
            with _said(path):
                locks += helper.call("open_locked", {"path": path, "patience": _LOCK_S}, deadline).fds
        names = [f"/dev/{route.kname}" for route in routes]
        with _said(", ".join(names)):
            fds = list(helper.call(operation, {**given, "paths": names}, deadline).fds)
        undo.callback(close_all, fds)
        for route, fd in zip(routes, fds, strict=True):
            _same(route, fd)
        undo.pop_all()
        return tuple(
            DevicePathClaim(route, fd, lock, state, delete)
            for route, fd, lock, (state, delete) in zip(routes, fds, locks, attributes, strict=True)
        )


def _attributes(route: Route) -> tuple[int, int]:
    """The `state` and `delete` attributes of a path, opened; it is the planned one.

    Raises:
        StepError: it is gone, or another one.
    """
    fds: list[int] = []
    try:
        folder = os.open(_FOLDER.format(route.hctl), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, access in (("state", os.O_RDWR), ("delete", os.O_WRONLY)):
                fds.append(os.open(name, access | os.O_CLOEXEC, dir_fd=folder))
            check(route, folder)
        finally:
            os.close(folder)
    except OSError as error:
        close_all(fds)
        raise StepError(f"Path {route.hctl}: {error.strerror}.", code="gone") from error
    except StepError:
        close_all(fds)
        raise
    return fds[0], fds[1]


def check(route: Route, folder: int) -> None:
    """Make sure that an open sysfs folder is that of the planned path.

    Raises:
        StepError: it is another one's.
        OSError: it is going away.
    """
    found = (kernelview.said(read_attribute(folder, "wwid")), read_attribute(folder, f"block/{route.kname}/diskseq"))
    if found != (route.wwid, str(route.diskseq)):
        text = f"Path {route.hctl} is another device now: {found[0]}, sequence number {found[1]}."
        raise StepError(text, code="identity-changed", fix="look at it again, then make a new plan")


def read_attribute(folder: int, name: str) -> str:
    """An attribute in an open sysfs folder.

    Raises:
        OSError: it is going away.
    """
    handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(handle, 4096).decode("utf-8", "replace").strip()
    finally:
        os.close(handle)


def _same(route: Route, fd: int) -> None:
    dev, sequence = number(os.fstat(fd).st_rdev), sequence_number(fd)
    if dev != route.dev or (sequence is not None and sequence != route.diskseq):
        text = f"/dev/{route.kname} leads to device {dev}, sequence number {sequence}, not to the planned one."
        raise StepError(text, code="identity-changed")


@contextlib.contextmanager
def _said(names: str) -> Iterator[None]:
    try:
        yield
    except HelperFailed as error:
        if error.errno == errno.EWOULDBLOCK:
            text = f"{names} cannot be claimed: udev, or a tool that writes partitions, has its lock: {error}."
            raise Busy(text, fix="udevadm settle, then resume") from error
        if error.errno == errno.EBUSY:
            fix = "a mount in a hidden namespace, a map, an array or another program holds it"
            raise Busy(f"{names} cannot be claimed: {error}.", fix=fix) from error
        raise StepError(f"{names} cannot be claimed: {error}.", code="kernel-said-no") from error
