"""Writing into open-iscsi's database without iscsiadm: only for what must not stand on a command line.

iscsiadm takes the value of a setting as an argument, where every user of the host can read it (/proc/PID/cmdline), and
from nowhere else. So secrets are written into the record file itself: under iscsiadm's own lock, with mode 0600 from
the first byte, complete or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from initiator.errors import BadInputError, MooringError
from initiator.host import sysfs
from initiator.host.nodes import DATABASES
from initiator.stable import sync_folder

LOCK_FOLDER = "run/lock/iscsi"
_LOCK = "lock"
_TAKEN = "lock.write"
"""iscsiadm's lock is a hard link with this name to `lock`; it waits for 30 s while somebody has it."""
_STEP = 0.01
_END = "# END RECORD"
_LONGEST = 255


class DatabaseError(MooringError):
    """A record cannot be changed."""

    code = "iscsi-database"


@contextlib.contextmanager
def locked(
    root: Path = Path("/"),
    patience: float = 10.0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds iscsiadm's own lock.

    Raises:
        DatabaseError: somebody else holds it for too long, or died with it.
    """
    folder = f"{sysfs.base(root)}/{LOCK_FOLDER}"
    taken = f"{folder}/{_TAKEN}"
    os.makedirs(folder, mode=0o770, exist_ok=True)
    os.close(os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    until = monotonic() + patience
    while True:
        try:
            os.link(f"{folder}/{_LOCK}", taken)
            break
        except FileExistsError as error:
            if monotonic() >= until:
                raise DatabaseError(
                    f"another iscsiadm has held its database for {patience:g} s",
                    fix=f"if no iscsiadm runs any more, it died: rm {taken}",
                ) from error
        sleep(_STEP)
    try:
        yield
    finally:
        os.unlink(taken)


def check_value(what: str, value: str) -> None:
    """Refuses a value that a line of a record cannot hold.

    Raises:
        BadInputError: it would be read as something else. The value itself is not in the text.
    """
    if not value or value != value.strip() or not value.isprintable() or len(value.encode()) > _LONGEST:
        raise BadInputError(
            f"the {what} cannot be written into a node record",
            fix=f"it may have up to {_LONGEST} printable characters, without spaces at its ends",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A record file before and after it was changed; both have secrets in them."""

    path: str
    before: str = dataclasses.field(repr=False)
    after: str = dataclasses.field(repr=False)


def change_record(path: str, changes: Mapping[str, str], root: Path = Path("/")) -> Change:
    """Sets `changes` in one record file; the caller holds the lock.

    Raises:
        DatabaseError: the file is not a record, or cannot be written.
    """
    for name, value in changes.items():
        check_value(name, value)
    _database(path, root)
    before = _read(path)
    after = changed(before, changes)
    _replace(path, after, root)
    return Change(path, before, after)


def undo(change: Change, root: Path = Path("/")) -> bool:
    """Makes a record what it was before a change; the caller holds the lock.

    Returns:
        Whether it did: not if somebody else has changed the record since.
    """
    if _read(change.path) != change.after:
        return False
    _replace(change.path, change.before, root)
    return True


def _replace(path: str, text: str, root: Path) -> None:
    """The new file is written beside the database's folders, where nobody takes it for a record, and renamed over."""
    temporary = f"{_database(path, root)}/.mooring-{secrets.token_hex(8)}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with contextlib.ExitStack() as undo:
            undo.callback(os.unlink, temporary)
            with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
            undo.pop_all()
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise DatabaseError(f"{path} cannot be written: {error.strerror}") from error


def _database(path: str, root: Path) -> str:
    for base in DATABASES:
        folder = f"{sysfs.base(root)}/{base}"
        if path.startswith(f"{folder}/"):
            return folder
    raise DatabaseError(f"{path} is in no database of open-iscsi")


def _read(path: str) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, encoding="utf-8", errors="surrogateescape") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            text = file.read()
    except OSError as error:
        raise DatabaseError(f"{path} cannot be read: {error.strerror}") from error
    if _END not in text:
        raise DatabaseError(f"{path} is no complete record", fix="delete it and discover the target anew")
    return text


def changed(text: str, changes: Mapping[str, str]) -> str:
    """A record's text with other values; a setting that is not there yet is added at the end."""
    for name, value in changes.items():
        line = f"{name} = {value}"
        pattern = re.compile(rf"^{re.escape(name)}[ \t]*=.*$", re.MULTILINE)
        if pattern.search(text):
            text = pattern.sub(lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        else:
            text = text.replace(_END, f"{line}\n{_END}", 1)
    return text
