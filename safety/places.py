"""Where journals and locks of removals are."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection
from pathlib import Path

from initiator import places
from initiator.errors import MooringError, RefusedError
from safety.journal import Unfinished, process_start, unfinished


def journal_dir() -> Path:
    """The folder of the journals, with mode 0700."""
    folder = places.state_dir() / "journal"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def new_journal(folder: Path, digest: str, now: float) -> Path:
    """A name for a new journal that sorts by time. The file is not made here."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    stem, number = f"{stamp}-{digest[:8]}", 0
    while (path := folder / (f"{stem}-{number}.jsonl" if number else f"{stem}.jsonl")).exists():
        number += 1
    return path


class DiskLock:
    """The lock of one disk: whoever holds it, and nobody else, removes the disk. It dies with its process."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.lock"
        self._fd = -1

    def take(self, pid: int | None = None) -> None:
        """Take it now, or not at all.

        Args:
            pid: The process to name in the lock file, so that others can say who holds it.

        Raises:
            RefusedError: another process holds it.
            MooringError: the lock file cannot be made.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise MooringError(f"{self.path}: {error.strerror}", code="lock") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            who = f" by process {holder}" if holder.isdigit() and process_start(int(holder)) is not None else ""
            text = f"Another removal of this disk is under way{who}."
            raise RefusedError(text, code="second-runner", fix="wait for it: mooring watch") from error
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{pid or os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it back; the file stays, because removing it would let two processes hold different ones."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> DiskLock:
        if self._fd < 0:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_removals(folder: Path, keys: Collection[str], *, but: Path | None = None) -> list[Unfinished]:
    """The removals of disks with these keys that are under way or unfinished, and journals that nobody can read.

    Args:
        folder: The folder of the journals.
        keys: `Identity.key()` of the disks.
        but: A journal to leave out: the asker's own.
    """
    known = unfinished(folder)
    return [entry for entry in known if (not entry.keys or set(keys) & set(entry.keys)) and entry.path != but]
