"""What a disk needs of a session, and nothing more: the seam between the multipath device and the sessions below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from initiator.model import SessionState
from initiator.protocol.ffp_task import Task
from initiator.scsi.sense import Sense


class Answered(Protocol):
    """The answer of `SessionLike.execute`."""

    @property
    def status(self) -> int:
        """SCSI status."""

    @property
    def sense(self) -> bytes:
        """Sense data, empty without."""

    @property
    def data(self) -> bytes | bytearray | memoryview:
        """What was read, cut to what really arrived."""


class Executor(Protocol):
    """Something that can run one SCSI command; raises IscsiError when there is no SCSI status."""

    async def execute(
        self, lun: int | bytes, cdb: bytes, data_out: memoryview | None, read_length: int, patience: float, /
    ) -> Answered:
        """Run one command at a LUN number or field and wait for its end, at most `patience` seconds."""


class SessionLike(Protocol):
    """A session as the device sees it. Callbacks run in the session's own loop turn."""

    on_state: Callable[[Any], None] | None
    on_lost: Callable[[Any, Sequence[Task]], None] | None
    on_sense: Callable[[Any, bytes, Sense], None] | None

    @property
    def state(self) -> SessionState:
        """Only LOGGED_IN takes commands."""

    @property
    def reason(self) -> str | None:
        """Why it is not logged in."""

    @property
    def suspect(self) -> bool:
        """True while something is outstanding and the target is silent."""

    def submit(self, task: Task) -> None:
        """Send a command; `task.done` is called once, unless `on_lost` hands the task back."""
