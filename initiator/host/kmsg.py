"""What the kernel has told of sessions and paths in its log, with the time: for whoever was not there to see it.

The log is a ring in the kernel; what it has lost nobody can know. Reading it needs root (kernel.dmesg_restrict).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from initiator.model import Event, Severity

PLACE = "/dev/kmsg"
_RECORD = 8192
"""One read gives one record, and none is longer (Documentation/ABI/testing/dev-kmsg)."""
_LINE = re.compile(rb"^\d+,\d+,(\d+),[^;]*;(.*)")
_KINDS = (
    (re.compile(r"\bconnection(\d+):\d+: detected conn error \((\d+)\)"), "lost"),
    (re.compile(r"\bsession(\d+): session recovery timed out after (\d+) secs"), "given-up"),
    (re.compile(r"\bdevice-mapper: multipath: (?:\S+: )?Failing path (\d+:\d+)\."), "failed"),
    (re.compile(r"\bdevice-mapper: multipath: (?:\S+: )?Reinstating path (\d+:\d+)\."), "reinstated"),
    (re.compile(r"\bsd (\d+:\d+:\d+:\d+): \[\w+\] Attached SCSI "), "attached"),
)
_CAUSES = {
    "1001": "data came out of order",
    "1005": "the target sent an unknown opcode",
    "1008": "the target broke the protocol",
    "1011": "the connection failed",
    "1014": "a header digest was wrong",
    "1015": "a data digest was wrong",
    "1019": "nothing could be sent",
    "1020": "it was closed",
    "1021": "the SCSI layer gave it up after commands without an answer",
    "1022": "a ping was not answered in time",
}
"""enum iscsi_err (scsi/iscsi_if.h)."""


class Told(NamedTuple):
    """One line that matters."""

    at: float
    """Unix time."""
    kind: str
    """`lost`, `given-up`: a session; `failed`, `reinstated`: a path of a map; `attached`: a disk, by whatever bus."""
    what: str
    """The number of the session, `major:minor` of the path, or `H:C:T:L` of the disk."""
    code: str = ""


def parse(record: bytes, boot: float) -> Told | None:
    """One record of /dev/kmsg; None for what is about something else.

    Args:
        record: As the kernel gives it.
        boot: Unix time at which the kernel's clock began.
    """
    found = _LINE.match(record)
    if found is None:
        return None
    text = found[2].split(b"\n")[0].decode("utf-8", "replace")
    for pattern, kind in _KINDS:
        if (line := pattern.search(text)) is not None:
            code = line[2] if line.re.groups > 1 else ""
            return Told(boot + int(found[1]) / 1e6, kind, line[1], code)
    return None


def read_kmsg(place: str = PLACE, clock: Callable[[], float] = time.time) -> tuple[Told, ...]:
    """Everything that the ring still has, oldest first.

    Raises:
        OSError: it may not be read.
    """
    with Log(place, clock) as log:
        return log.fresh()


class Log:
    """The kernel's log, read on and on.

    Args:
        place: The device.
        clock: Unix time.

    Raises:
        OSError: it may not be read.
    """

    def __init__(self, place: str = PLACE, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def fresh(self) -> tuple[Told, ...]:
        """What has been told since the last call, at first everything that the ring still has; oldest first."""
        boot = self._clock() - time.clock_gettime(time.CLOCK_MONOTONIC)
        found = []
        while True:
            try:
                record = os.read(self._handle, _RECORD)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:  # overwritten while we read; the next read goes on after the gap
                    raise
                continue
            if not record:
                break
            if (told := parse(record, boot)) is not None:
                found.append(told)
        return tuple(found)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class News:
    """What the kernel tells, as events; nothing where its log may not be read.

    Args:
        since: Unix time; what was told before is no news.
        open_: Opens the log.
    """

    def __init__(self, since: float, open_: Callable[[], Log] = Log) -> None:
        self._since = since
        try:
            self._log: Log | None = open_()
        except OSError:
            self._log = None

    def __call__(self) -> tuple[Event, ...]:
        """What is new since the last call."""
        return () if self._log is None else events(told for told in self._log.fresh() if told.at >= self._since)

    def close(self) -> None:
        """Lets go of the log."""
        if self._log is not None:
            self._log.close()


def reinstated(told: Iterable[Told]) -> dict[str, float]:
    """When each path came back into its map last, by `major:minor`; nothing of one that has failed again since."""
    found: dict[str, float] = {}
    for line in told:
        if line.kind == "reinstated":
            found[line.what] = line.at
        elif line.kind == "failed":
            found.pop(line.what, None)
    return found


def events(told: Iterable[Told]) -> tuple[Event, ...]:
    """The lines as events, in words for a person; that a disk appeared is an event of the reading that sees it."""
    return tuple(_event(line) for line in told if line.kind != "attached")


def _event(line: Told) -> Event:
    if line.kind == "lost":
        cause = _CAUSES.get(line.code, f"error {line.code}")
        text = f"The kernel says: session {line.what} lost its connection, {cause}."
        return Event(line.at, "kernel", f"kernel:s:{line.what}", text, Severity.BAD)
    if line.kind == "given-up":
        text = f"The kernel says: recovery of session {line.what} was given up after {line.code} s."
        return Event(line.at, "kernel", f"kernel:s:{line.what}", text, Severity.BAD)
    if line.kind == "failed":
        text = f"The kernel says: the multipath map has failed path {line.what}."
        return Event(line.at, "kernel", line.what, text, Severity.WARN)
    return Event(line.at, "kernel", line.what, f"The kernel says: path {line.what} is back in its map.", Severity.NOTE)
