"""Kernel events, so that a change is on screen at once. They only say "look again": polling stays the truth."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

import pyudev

SUBSYSTEMS = ("block", "net", "iscsi_session", "iscsi_connection", "iscsi_host", "scsi")
_QUIET = 0.02
"""Seconds of silence that end a burst of events."""
_LONGEST_BURST = 0.25
"""Seconds after which a burst is reported even if it goes on."""
_RTMGRP_LINK = 1


class Watch:
    """Calls back when something has changed in one of `SUBSYSTEMS`.

    The callback runs on the watch's own daemon thread, once for each burst of events, with the set of the subsystems'
    names; it has to return soon and may not raise. Events come straight from the kernel, so udevd need not run. A cable
    that is pulled makes no device event: rtnetlink tells of carriers, which counts as `net`.

    Args:
        changed: Called with the subsystems in which something happened.

    Raises:
        OSError: the kernel's events cannot be listened to (a container without its own network namespace rights).
    """

    def __init__(self, changed: Callable[[frozenset[str]], None]) -> None:
        self._changed = changed
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        for subsystem in SUBSYSTEMS:
            self._monitor.filter_by(subsystem)
        self._monitor.start()
        self._links = _link_messages()
        self._ended, self._end = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="mooring-kernel-events", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._monitor.fileno(), select.POLLIN)
        poll.register(self._links, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while True:
            ready = {handle for handle, _ in poll.poll()}
            if self._ended in ready:
                return
            burst = self._burst(poll)
            if burst is None:
                return
            if burst:
                self._changed(burst)

    def _burst(self, poll: select.poll) -> frozenset[str] | None:
        """Collects events until there is silence; None when the watch was closed meanwhile."""
        seen: set[str] = set()
        until = time.monotonic() + _LONGEST_BURST
        while time.monotonic() < until:
            # An overrun of the socket's buffer is an event as well: something has changed, we do not know what.
            try:
                for device in iter(functools.partial(self._monitor.poll, timeout=0), None):
                    seen.add(device.subsystem or "unknown")
                    if time.monotonic() > until:
                        return frozenset(seen)
                if _drained(self._links):
                    seen.add("net")
            except OSError:
                seen.update(SUBSYSTEMS)
            ready = {handle for handle, _ in poll.poll(_QUIET * 1000)}
            if self._ended in ready:
                return None
            if not ready:
                break
        return frozenset(seen)

    def close(self) -> None:
        """Ends the thread and waits for it, unless the callback is what closes."""
        if self._end < 0:
            return
        end, self._end = self._end, -1
        os.close(end)  # the other end becomes readable
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        self._links.close()
        with contextlib.suppress(OSError):
            os.close(self._ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _link_messages() -> socket.socket:
    """rtnetlink's messages about network interfaces (rtnetlink(7)); anybody may listen."""
    links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        links.bind((0, _RTMGRP_LINK))
    except OSError:
        links.close()
        raise
    links.setblocking(False)
    return links


def _drained(links: socket.socket) -> bool:
    """Throws away what has come: that it came is all that counts."""
    some = False
    with contextlib.suppress(BlockingIOError):
        while links.recv(1 << 16):
            some = True
    return some
