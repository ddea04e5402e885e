"""A program that sits in a practice volume: what most often stands in the way of a removal, to be practised on."""

from __future__ import annotations

import contextlib
import subprocess

import psutil

from initiator.errors import BadInputError, RefusedError
from initiator.practice.record import Kind, Recorder, boot_id

SECONDS = 3600
"""It ends by itself after this long, whatever becomes of the range."""
_NAME = "sitter"
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those that this process started: they have to be waited for, or they stay as zombies."""


def sit(book: Recorder, disk: str) -> int:
    """Start a program whose working folder is the volume of a disk; gives its process id.

    Raises:
        RefusedError: one sits already, or there is no range.
        BadInputError: the disk has no volume.
    """
    found = book.load()
    if found is None:
        raise RefusedError("there is no practice range", code="not-running", fix="mooring practice")
    if _sitting(book) is not None:
        raise RefusedError(
            "a program sits in a practice volume already", code="busy", fix="mooring practice busy --end"
        )
    points = {thing.text("disk"): thing.name for thing in found.of(Kind.MOUNT)}
    if disk not in points:
        raise BadInputError(f"{disk!r} has no volume", fix=f"there is: {', '.join(sorted(points)) or 'none'}")
    book.add(Kind.PROCESS, _NAME)
    argv = ["sleep", str(SECONDS)]
    null = subprocess.DEVNULL
    child = subprocess.Popen(argv, cwd=points[disk], stdin=null, stdout=null, stderr=null, start_new_session=True)
    _children[child.pid] = child
    book.done(Kind.PROCESS, _NAME, pid=child.pid, started=str(psutil.Process(child.pid).create_time()), disk=disk)
    return child.pid


def rise(book: Recorder) -> bool:
    """End the program that sits in a volume; False where none does."""
    found = _sitting(book)
    if found is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        found.kill()
        found.wait(5)
    if child := _children.pop(found.pid, None):
        child.wait(5)
    book.forget(Kind.PROCESS, _NAME)
    return True


def _sitting(book: Recorder) -> psutil.Process | None:
    """The very process of the record, if it lives: its id alone may be somebody else's by now."""
    found = book.load()
    thing = found.find(Kind.PROCESS, _NAME) if found is not None and found.boot == boot_id() else None
    pid = thing.details.get("pid") if thing is not None else None
    if thing is None or not isinstance(pid, int):
        return None
    try:
        process = psutil.Process(pid)
        return process if str(process.create_time()) == thing.text("started") else None
    except psutil.NoSuchProcess:
        return None
