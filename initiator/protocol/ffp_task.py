"""What goes through a session in the full feature phase: tasks, task management, and the events that come back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from initiator.protocol.errors import IscsiError
from initiator.protocol.keys import Params
from initiator.protocol.pdu import NO_TAG

GOOD = 0x00
CHECK_CONDITION = 0x02


class TaskError(IscsiError):
    """A task ended without a SCSI status. The code says why.

    `service-delivery` (the target answered with an iSCSI response other than "completed", 11.4.3), `timeout`,
    `aborted`, `rejected` (11.17), `missing-data`, `outcome-unknown` (the connection broke and the command may not be
    sent twice), `replacement-timeout`, `closed`.
    """

    code = "task"


class Task:
    """One SCSI command on its way through a session.

    The caller fills in the request and owns the buffers; they must not be touched between `submit` and `done`. Neither
    buffer is read or written after `done` was called.

    Attributes:
        lun: The eight bytes of the LUN field.
        cdb: Up to 16 bytes.
        data_out: What is written, or None. At most one of the two buffers is given.
        data_in: Where what is read goes, or None; its length is the expected data transfer length.
        done: Called exactly once, from inside the session's own loop turn; must not block and must not raise.
        deadline: Time on the session's clock after which the task is aborted, or None.
        idempotent: False if the command must never be sent twice (RFC 7143, 7.15).
        status: SCSI status, or None if there was none; then `error` says why.
        sense: Sense data without its length field.
        residual: Bytes that were not moved though they were expected (underflow), or, negative, bytes that the target
            had beyond the buffer (overflow).
        received: Bytes placed into `data_in`.
        sent: Bytes of `data_out` handed to the target.
        response: The iSCSI response code; 0 is "completed at target".
        error: Why there is no status.
        sent_at: When the command was put into the send queue, None while it waits for the command window.
        finished_at: When the answer was read.
    """

    __slots__ = (
        "cdb",
        "cmd_sn",
        "data_in",
        "data_out",
        "data_sn",
        "deadline",
        "done",
        "error",
        "finished_at",
        "idempotent",
        "itt",
        "lun",
        "pieces",
        "r2t_sn",
        "received",
        "residual",
        "response",
        "sense",
        "sent",
        "sent_at",
        "status",
        "tail",
        "verdict",
    )

    def __init__(
        self,
        lun: bytes,
        cdb: bytes,
        done: Callable[[Task], None],
        *,
        data_out: memoryview | None = None,
        data_in: memoryview | None = None,
        deadline: float | None = None,
        idempotent: bool = True,
    ) -> None:
        self.lun = lun
        self.cdb = cdb
        self.done = done
        self.data_out = data_out
        self.data_in = data_in
        self.deadline = deadline
        self.idempotent = idempotent
        self.finished_at = 0.0
        # What `reset` does, without the call: a task is made for every read and write.
        self.status: int | None = None
        self.sent_at: float | None = None
        self.error: IscsiError | None = None
        self.verdict: IscsiError | None = None
        self.pieces: Pieces | None = None
        self.sense = b""
        self.residual = self.received = self.sent = self.response = 0
        self.itt = self.cmd_sn = self.data_sn = self.r2t_sn = self.tail = 0

    def reset(self) -> None:
        """Forget everything that happened to the task, so that it can be sent again on another connection."""
        self.status = self.sent_at = self.error = self.verdict = self.pieces = None
        self.sense = b""
        self.residual = self.received = self.sent = self.response = 0
        self.itt = self.cmd_sn = self.data_sn = self.r2t_sn = self.tail = 0

    @property
    def good(self) -> bool:
        """True if the target reported GOOD and every expected byte was moved."""
        if self.error is not None or self.status != GOOD or self.residual > 0:
            return False
        if self.data_in is not None:
            return self.received == len(self.data_in)
        return self.data_out is None or self.sent == len(self.data_out)

    def __repr__(self) -> str:
        return f"<Task {self.cdb[:1].hex()} lun={self.lun.hex()} status={self.status} error={self.error!r}>"


class Pieces:
    """Which byte ranges of a buffer have arrived, for transfers that need not be in order (13.18, 13.19)."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> bool:
        """Note the range; False if it overlaps one that is already there."""
        if start == end:
            return True
        if any(start < other_end and other_start < end for other_start, other_end in self._ranges):
            return False
        before = [pair for pair in self._ranges if pair[1] == start]
        after = [pair for pair in self._ranges if pair[0] == end]
        for pair in before + after:
            self._ranges.remove(pair)
        self._ranges.append((before[0][0] if before else start, after[0][1] if after else end))
        return True


@dataclasses.dataclass(slots=True, eq=False)
class Management:
    """One task management request (RFC 7143, 11.5).

    Attributes:
        function: 1 abort task, 2 abort task set, 5 logical unit reset, 6 target warm reset, …
        lun: The eight bytes of the LUN field.
        hanging: For whose sake it is made, by task tag; a stronger function follows when this one fails.
        done: Told when the answer is there, or when none will come.
        task: The task that ABORT TASK or QUERY TASK is about.
        tag: The task tag that `task` had then. Its owner may send the same object again under another.
        ref_cmd_sn: The CmdSN that it had.
        itt: Its own task tag, since it was sent last.
        cmd_sn: Tasks from before this CmdSN are affected.
        deadline: When it counts as not answered; never before it was sent, and not twice.
        until: Until when it is sent again if the target cannot take it.
        response: The answer (11.6.1), or None if there was none: rejected, or the connection was lost.
    """

    function: int
    lun: bytes
    _: dataclasses.KW_ONLY
    hanging: dict[int, Task]
    done: Callable[[Management], None] | None = None
    task: Task | None = None
    tag: int = NO_TAG
    ref_cmd_sn: int = 0
    itt: int = NO_TAG
    cmd_sn: int = 0
    deadline: float = math.inf
    until: float = math.inf
    response: int | None = None


@dataclasses.dataclass(slots=True)
class Counters:
    """What went through a connection since it was made: commands that ended, and their payload in bytes.

    `r2ts_early` are those that the target was not to send yet (MaxOutstandingR2T, 13.17).
    """

    commands: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    r2ts: int = 0
    r2ts_early: int = 0
    pings: int = 0
    aborts: int = 0
    timeouts: int = 0
    rejects: int = 0

    def since(self, earlier: Counters) -> Counters:
        """What was counted after `earlier`."""
        names = (field.name for field in dataclasses.fields(self))
        return Counters(**{name: getattr(self, name) - getattr(earlier, name) for name in names})


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    """A ping was answered after `seconds`."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class AsyncEvent:
    """The target said something on its own (RFC 7143, 11.9)."""

    event: int
    vendor_code: int
    parameter1: int
    parameter2: int
    parameter3: int
    lun: bytes
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """The target did not take a PDU (RFC 7143, 11.17)."""

    reason: int
    bhs: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedOut:
    """The answer to a logout (RFC 7143, 11.15): 0 done, 1 no such CID, 2 recovery not supported, 3 cleanup failed."""

    response: int
    time2wait: int
    time2retain: int


@dataclasses.dataclass(frozen=True, slots=True)
class TextAnswer:
    """A text exchange is complete; `error` says why it is not."""

    data: bytes
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Negotiated:
    """A negotiation has ended: `params` are in force now; `error` says why they are the old ones."""

    params: Params
    error: str | None = None


Event = Pong | AsyncEvent | Rejected | LoggedOut | TextAnswer | Negotiated
