"""Drives a script of questions (probe.py) over a session by callback, beside the I/O of a disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from initiator.engine.lower import SessionLike
from initiator.engine.probe import Answer, Ask, Script
from initiator.errors import MooringError
from initiator.protocol.errors import ConnectionLost, IscsiError, LocalProtocolError
from initiator.protocol.ffp_task import Task
from initiator.scsi.errors import ScsiFormatError, UnitError
from initiator.scsi.repeatable import may_be_repeated

T = TypeVar("T")

Schedule = Callable[[float, Callable[[], None]], object]
"""`(seconds, function)`: call the function once, that much later."""
Clock = Callable[[], float]


class Errand(Generic[T]):
    """One script on its way. Ends by calling `finish` exactly once: with the result, or with the error."""

    __slots__ = ("_clock", "_finish", "_lun", "_patience", "_schedule", "_script", "_session", "over")

    def __init__(
        self,
        session: SessionLike,
        lun: bytes,
        script: Script[T],
        finish: Callable[[T | None, MooringError | None], None],
        *,
        clock: Clock,
        schedule: Schedule,
        patience: float = 10.0,
    ) -> None:
        self._session = session
        self._lun = lun
        self._script = script
        self._finish = finish
        self._clock = clock
        self._schedule = schedule
        self._patience = patience
        self.over = False

    def start(self) -> None:
        """Send the first command."""
        self._step(None)

    def cancel(self) -> None:
        """Forget about it: nothing more is sent, `finish` is not called."""
        self.over = True
        self._script.close()

    def abort(self, error: MooringError) -> None:
        """Stop asking and finish with an error."""
        if not self.over:
            self._end(None, error)

    def _step(self, answer: Answer | None) -> None:
        try:
            ask = next(self._script) if answer is None else self._script.send(answer)
        except StopIteration as end:
            self._end(end.value, None)
        except (UnitError, ScsiFormatError) as error:
            self._end(None, error)
        else:
            if ask.delay:
                self._schedule(ask.delay, lambda: self._send(ask))
            else:
                self._send(ask)

    def _send(self, ask: Ask) -> None:
        if self.over:
            return
        room = memoryview(bytearray(ask.read_length)) if ask.read_length else None
        task = Task(
            self._lun,
            ask.cdb,
            self._answered,
            data_out=memoryview(ask.data) if ask.data else None,
            data_in=room,
            deadline=self._clock() + self._patience,
            idempotent=may_be_repeated(ask.cdb),
        )
        try:
            self._session.submit(task)
        except LocalProtocolError as error:
            self._end(None, ConnectionLost(f"the session takes no commands: {error}"))

    def _answered(self, task: Task) -> None:
        if self.over:
            return
        if task.error is not None:
            self._end(None, task.error)
        elif task.status is None:
            self._end(None, IscsiError("the command ended without a status"))
        else:
            data = bytes(task.data_in[: task.received]) if task.data_in is not None else b""
            self._step(Answer(task.status, task.sense, data))

    def _end(self, result: T | None, error: MooringError | None) -> None:
        self.over = True
        self._script.close()
        self._finish(result, error)
