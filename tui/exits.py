"""Exit codes, and the one place that writes to stderr: stdout is data, stderr is narration."""

from __future__ import annotations

import enum
import os
import sys

from initiator.errors import MooringError, OutcomeUnknownError, RefusedError
from initiator.names import clean


class Exit(enum.IntEnum):
    """What the exit code of a command tells a script."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    REFUSED = 3
    """A guard said no; nothing was changed."""
    STOPPED = 4
    """Stopped part-way; the journal of a removal is kept, `mooring resume` and `mooring undo` take it from there."""
    NOT_PERMITTED = 5
    UNKNOWN = 6
    """Something was begun and nobody can say whether it happened."""


_BY_CODE = {
    "bad-input": Exit.USAGE,
    "refused": Exit.REFUSED,
    "attached": Exit.REFUSED,
    "not-permitted": Exit.NOT_PERMITTED,
    "outcome-unknown": Exit.UNKNOWN,
    "silent": Exit.UNKNOWN,
    "stopped": Exit.STOPPED,
}


def exit_for(error: MooringError) -> Exit:
    """The exit code that an error's `code` stands for, or else its kind."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, RefusedError):
        return Exit.REFUSED
    return Exit.UNKNOWN if isinstance(error, OutcomeUnknownError) else Exit.ERROR


def say(*lines: str) -> None:
    """Tell the person something on stderr; control characters of outside strings do not get through."""
    for line in lines:
        print("\n".join(clean(part) for part in line.split("\n")), file=sys.stderr, flush=True)


def say_error(error: MooringError) -> None:
    """Tell what went wrong and the way out."""
    say(f"mooring: {error}")
    if error.fix:
        say(f"  -> {error.fix}")


def let_go_of_pipes() -> None:
    """Have what nobody reads any more go nowhere: Python would complain at its end, and with another exit code."""
    import contextlib
    import select

    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):  # it stands on no descriptor
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if poll.poll(0):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
