"""One SCSI command from sending to its end, for callers that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from initiator.engine.session_config import Completed
from initiator.protocol.ffp_task import Task, TaskError
from initiator.scsi.commands import encode_lun
from initiator.scsi.repeatable import may_be_repeated


async def run(
    submit: Callable[[Task], None],
    lun: int | bytes,
    cdb: bytes,
    data_out: memoryview | bytes | None,
    read_length: int,
    patience: float,
) -> Completed:
    """Submit a command and wait for its end; see `EngineSession.execute`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    buffer = bytearray(read_length)

    def done(_: Task) -> None:
        if not future.done():
            future.set_result(None)

    task = Task(
        lun if isinstance(lun, bytes) else encode_lun(lun),
        cdb,
        done,
        data_out=None if data_out is None else memoryview(data_out),
        data_in=memoryview(buffer) if read_length else None,
        deadline=loop.time() + patience,
        idempotent=may_be_repeated(cdb),
    )
    submit(task)
    await future
    if task.error is not None:
        raise task.error
    if task.status is None:
        raise TaskError("the command ended without a status")
    return Completed(task.status, task.sense, buffer[: task.received], task.residual)
