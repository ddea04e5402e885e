"""What the end of a command means for the request behind it: the whole error policy of a disk, as a pure function."""

from __future__ import annotations

import dataclasses
import enum
import errno

from initiator.model import Access
from initiator.protocol.ffp_task import Task
from initiator.scsi.commands import Status
from initiator.scsi.errors import ScsiFormatError
from initiator.scsi.sense import Key, Sense, explain, parse_sense


class Kind(enum.IntEnum):
    """What a request does."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    ZERO = 4


class Action(enum.Enum):
    """What to do next."""

    DONE = "done"
    FAIL = "fail"
    """Answer the request with the verdict's errno, now."""
    AGAIN = "again"
    """Send it again, a bounded number of times."""
    ATTENTION = "attention"
    """A unit attention told us something; act on it and send again, a bounded number of times."""
    BACK_OFF = "back off"
    """The target is short of something; send it again a little later, for a bounded time."""
    ACCESS = "access"
    """The port group of this path does not serve now; use another path, for a bounded time."""
    PATH = "path"
    """The logical unit cannot be reached over this path; use another one, for a bounded time."""
    TRANSPORT = "transport"
    """There is no answer at all; use another path, for a bounded time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one finished command."""

    action: Action
    errno: int = 0
    """What the request is answered with if it is not, or cannot be, sent again."""
    text: str = ""
    sense: Sense | None = None
    access: Access | None = None
    """The access state that the sense reports."""
    timeout: bool = False


DONE = Verdict(Action.DONE)
_OPTIONAL = (Kind.FLUSH, Kind.DISCARD, Kind.ZERO)
_ACCESS = {0x040A: Access.TRANSITIONING, 0x040B: Access.STANDBY, 0x040C: Access.UNAVAILABLE}
_UNSUPPORTED = (0x20, 0x24, 0x26)
_COUNTED_ERRORS = ("service-delivery", "rejected", "missing-data")


def judge(kind: Kind, task: Task) -> Verdict:
    """Say what the end of `task` means for a request of `kind`."""
    if task.error is not None:
        text = str(task.error)
        if task.error.code in _COUNTED_ERRORS:
            return Verdict(Action.AGAIN, errno.EIO, text)
        return Verdict(Action.TRANSPORT, errno.EIO, text, timeout=task.error.code == "timeout")
    status = task.status
    if status == Status.GOOD:
        return _judge_residual(kind, task)
    if status == Status.CHECK_CONDITION:
        try:
            sense = parse_sense(task.sense)
        except ScsiFormatError as error:
            return Verdict(Action.AGAIN, errno.EIO, f"CHECK CONDITION, {error}")
        return _judge_sense(kind, task, sense)
    text = explain(-1 if status is None else status)
    if status in (Status.BUSY, Status.TASK_SET_FULL, Status.ACA_ACTIVE):
        return Verdict(Action.BACK_OFF, errno.EIO, text)
    if status == Status.TASK_ABORTED:
        return Verdict(Action.AGAIN, errno.EIO, text)
    if status == Status.RESERVATION_CONFLICT:
        # Another initiator holds the unit; sending again, here or elsewhere, would fight that decision (SPC-4, 5.13).
        return Verdict(Action.FAIL, errno.EBADE, text)
    return Verdict(Action.FAIL, errno.EIO, text)


def _judge_residual(kind: Kind, task: Task) -> Verdict:
    # More or fewer bytes than asked for mean that data are missing or that the block length is not what we believe.
    if kind in (Kind.READ, Kind.WRITE):
        buffer = task.data_in if kind is Kind.READ else task.data_out
        wrong = task.residual or (len(buffer) if buffer is not None else 0) - task.received - task.sent
    else:
        wrong = max(task.residual, 0)
    if wrong:
        return Verdict(
            Action.AGAIN, errno.EIO, f"GOOD, but {abs(wrong)} bytes {'missing' if wrong > 0 else 'too many'}"
        )
    return DONE


def _judge_sense(kind: Kind, task: Task, sense: Sense) -> Verdict:
    text = sense.explain()
    key = sense.key
    if sense.deferred:
        # It is about an earlier command; this one was not executed (SPC-4, 4.5.7).
        return Verdict(Action.ATTENTION, errno.EIO, text, sense)
    if key == Key.RECOVERED_ERROR or (key == Key.NO_SENSE and sense.code == 0 and kind is not Kind.FLUSH):
        end = _judge_residual(kind, task)
        return end if end.action is not Action.DONE else Verdict(Action.DONE, 0, text, sense)
    if key == Key.UNIT_ATTENTION:
        return Verdict(Action.ATTENTION, errno.EIO, text, sense)
    if key == Key.NOT_READY:
        return _judge_not_ready(text, sense)
    if key == Key.ILLEGAL_REQUEST:
        if sense.asc == 0x25:
            return Verdict(Action.PATH, errno.EIO, text, sense)
        unsupported = kind in _OPTIONAL and sense.asc in _UNSUPPORTED
        return Verdict(Action.FAIL, errno.EOPNOTSUPP if unsupported else errno.EIO, text, sense)
    if key == Key.DATA_PROTECT:
        if sense.code == 0x2707:
            return Verdict(Action.FAIL, errno.ENOSPC, text, sense)
        return Verdict(Action.FAIL, errno.EIO if kind is Kind.READ else errno.EROFS, text, sense)
    if key in (Key.ABORTED_COMMAND, Key.HARDWARE_ERROR, Key.NO_SENSE):
        return Verdict(Action.AGAIN, errno.EIO, text, sense)
    # MEDIUM ERROR and the rest: the target has tried all it can; trying again only keeps the caller waiting.
    return Verdict(Action.FAIL, errno.EIO, text, sense)


def _judge_not_ready(text: str, sense: Sense) -> Verdict:
    access = _ACCESS.get(sense.code)
    if access is not None:
        return Verdict(Action.ACCESS, errno.EIO, text, sense, access)
    if sense.asc == 0x3A:
        return Verdict(Action.FAIL, errno.EIO, text, sense)
    if sense.code in (0x0401, 0x0407, 0x0409):
        return Verdict(Action.BACK_OFF, errno.EIO, text, sense)
    return Verdict(Action.PATH, errno.EIO, text, sense)
