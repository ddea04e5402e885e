"""Which processes use a file system or a block device; runs inside the helper child, never in the caller's process.

Reading another process can hang: its `maps` waits for a lock that it may hold while it waits for a dead disk, and
a lookup through `cwd` asks a dead NFS server. So every process is announced before it is read: when the child has to be
given up, the last announcement names the culprit.

Nothing is decided by a path's text. An open file's `fdinfo` names its mount, and what that does not tell comes from
statx(2) with AT_STATX_DONT_SYNC, which answers from memory and asks neither a disk nor a FUSE server. Text decides
only in a recorded tree (`root` is not `/`), where there is nothing else.

Not to be seen by anybody: files registered with io_uring, and descriptors on their way through a socket.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_OF_A_KIND = 10
_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000
_AT_NO_AUTOMOUNT = 0x800
_STATX_BASIC_AND_MNT_ID = 0x17FF
_BLOCK, _CHARACTER, _KIND_MASK = 0o060000, 0o020000, 0o170000


def scan(
    root: str, wanted: set[str], mounts: dict[int, tuple[str, str, bool]], skip: list[int]
) -> Iterator[tuple[object, ...]]:
    """Looks at every process and thread.

    Args:
        root: Prefix of `/proc`: empty, or the folder of a recorded tree.
        wanted: `major:minor` of block devices, `cmajor:minor` of their generic ones (sg, bsg), and the device numbers
            of their file systems in mountinfo.
        mounts: By mount id, of every namespace: device number, mount point, and whether asking can hang (NFS …).
        skip: Processes to leave out.

    Yields:
        `("at", pid, comm)` before each process; `("use", pid, comm, user, kind, what, path)` for each use, kind being
        file, cwd, root, exe, map or device; `("refused", pid, comm)` where even root may not look.
    """
    place = _Live() if root == "" else _Recorded(root, mounts)
    for entry in sorted(filter(str.isdigit, os.listdir(f"{root}/proc")), key=int):
        pid = int(entry)
        if pid == os.getpid() or pid in skip:
            continue
        process = _Process(f"{root}/proc/{entry}", wanted, mounts, place)
        yield ("at", pid, process.comm)
        counts: dict[str, int] = {}
        for kind, what, path in process.uses():
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] <= _MOST_OF_A_KIND:
                yield ("use", pid, process.comm, process.user(), kind, what, path)
        if process.refused:
            yield ("refused", pid, process.comm)


class _Live:
    """Where a magic link of procfs leads, from the kernel."""

    def __init__(self) -> None:
        import ctypes

        self._buffer = ctypes.create_string_buffer(256)
        self._statx = ctypes.CDLL(None, use_errno=True).statx
        self._errno = ctypes.get_errno

    def __call__(self, path: str) -> tuple[int, str, str | None]:
        """Mount id, device number of the file system, and of the device if the file is a node of one."""
        flags = _AT_STATX_DONT_SYNC | _AT_NO_AUTOMOUNT
        if self._statx(_AT_FDCWD, os.fsencode(path), flags, _STATX_BASIC_AND_MNT_ID, self._buffer) != 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        raw = self._buffer.raw

        def number(at: int, size: int = 4) -> int:
            return int.from_bytes(raw[at : at + size], sys.byteorder)

        # struct statx (linux/stat.h): stx_mode at 28, stx_rdev at 128, stx_dev at 136, stx_mnt_id at 144
        sign = {_BLOCK: "", _CHARACTER: "c"}.get(number(28, 2) & _KIND_MASK)
        device = None if sign is None else f"{sign}{number(128)}:{number(132)}"
        return number(144, 8), f"{number(136)}:{number(140)}", device


class _Recorded:
    """Where a link in a recorded tree leads, by its text."""

    def __init__(self, root: str, mounts: dict[int, tuple[str, str, bool]]) -> None:
        self._root = root
        self._points = sorted(
            ((point, ident) for ident, (_, point, _) in mounts.items()), key=lambda item: len(item[0])
        )
        self._mounts = mounts

    def __call__(self, path: str) -> tuple[int, str, str | None]:
        target = os.readlink(path)
        found = (0, "0:0")
        for point, ident in self._points:
            if target == point or target.startswith(point.rstrip("/") + "/"):
                found = (ident, self._mounts[ident][0])
        device = None
        if target.startswith("/dev/"):
            for kind, sign in (("block", ""), ("scsi_generic", "c"), ("bsg", "c")):
                try:
                    with open(f"{self._root}/sys/class/{kind}/{os.path.basename(target)}/dev") as number:
                        device = sign + number.read().strip()
                except OSError:
                    continue
        return (*found, device)


class _Process:
    """One process while it is looked at."""

    def __init__(
        self, folder: str, wanted: set[str], mounts: dict[int, tuple[str, str, bool]], place: _Live | _Recorded
    ) -> None:
        self._folder = folder
        self._wanted = wanted
        self._mounts = mounts
        self._place = place
        self.refused = False
        self.comm = (self._read("comm") or "").strip()

    def user(self) -> str:
        """The user's name, or number where it has none."""
        lines = (self._read("status") or "").splitlines()
        uid = next((line.split()[1] for line in lines if line.startswith("Uid:")), "")
        try:
            import pwd

            return pwd.getpwuid(int(uid)).pw_name
        except (KeyError, ValueError, ImportError):
            return uid

    def uses(self) -> Iterator[tuple[str, str, str]]:
        """`(kind, what, path)` of everything wanted that the process or one of its threads holds."""
        leader = self._list("fd")
        yield from self._files("fd", leader)
        yield from self._link("exe", "exe")
        yield from self._link("cwd", "cwd")
        yield from self._link("root", "root")
        yield from self._maps()
        threads = self._list("task")
        for thread in threads if len(threads) > 1 else []:
            # threads normally share all this with the leader; one that has unshared it is a user of its own
            yield from self._link("cwd", f"task/{thread}/cwd")
            yield from self._link("root", f"task/{thread}/root")
            files = self._list(f"task/{thread}/fd")
            if files != leader:
                yield from self._files(f"task/{thread}/fd", files)

    def _files(self, folder: str, numbers: list[str]) -> Iterator[tuple[str, str, str]]:
        for number in numbers:
            path = self._readlink(f"{folder}/{number}")
            if path is None or not path.startswith("/"):
                continue  # sockets, pipes and the like have no file system
            mount_id = self._mount_id(f"{folder}info/{number}")
            dev, _, can_hang = self._mounts.get(mount_id, (None, "", False))
            if dev in self._wanted:
                yield ("file", f"fd {number}", path)
            elif not can_hang:
                yield from self._node(f"{folder}/{number}", f"fd {number}", path, dev is None)

    def _node(self, link: str, what: str, path: str, unknown_mount: bool) -> Iterator[tuple[str, str, str]]:
        found = self._asked(link)
        if found is None:
            return
        _, dev, device = found
        if device in self._wanted:
            yield ("device", what, path)
        elif unknown_mount and dev in self._wanted:
            yield ("file", what, path)  # of a file system that was unmounted lazily

    def _link(self, kind: str, link: str) -> Iterator[tuple[str, str, str]]:
        path = self._readlink(link)
        found = self._asked(link) if path is not None else None
        if path is None or found is None:
            return
        mount_id, dev, _ = found
        if self._mounts.get(mount_id, (dev, "", False))[0] in self._wanted:
            yield (kind, kind, path)

    def _maps(self) -> Iterator[tuple[str, str, str]]:
        seen = set()
        for line in (self._read("maps") or "").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) < 6 or fields[4] == "0":
                continue
            span, _, _, device, _, path = fields
            major, _, minor = device.partition(":")
            if path in seen:
                continue
            if f"{int(major, 16)}:{int(minor, 16)}" in self._wanted:
                seen.add(path)
                yield ("map", "map", path)
            elif path.startswith("/dev/"):
                seen.add(path)
                yield from self._node(f"map_files/{span}", "map", path, False)

    def _asked(self, link: str) -> tuple[int, str, str | None] | None:
        try:
            return self._place(f"{self._folder}/{link}")
        except PermissionError:
            self._forbidden(link)
        except OSError:
            pass
        return None

    def _readlink(self, name: str) -> str | None:
        try:
            return os.readlink(f"{self._folder}/{name}")
        except PermissionError:
            self._forbidden(name)
        except OSError:
            pass
        return None

    def _mount_id(self, name: str) -> int:
        lines = (self._read(name) or "").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("mnt_id:")), -1)

    def _read(self, name: str) -> str | None:
        try:
            with open(f"{self._folder}/{name}", errors="surrogateescape") as text:
                return text.read()
        except PermissionError:
            self._forbidden(name)
        except OSError:
            pass
        return None

    def _list(self, name: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._folder}/{name}"))
        except PermissionError:
            self._forbidden(name)
        except OSError:
            pass
        return []

    def _forbidden(self, name: str) -> None:
        """Linux answers EACCES for a link of a task that has just ended, too (proc_fd_access_allowed)."""
        task = f"{self._folder}/{'/'.join(name.split('/')[:2])}" if name.startswith("task/") else self._folder
        try:
            os.lstat(task)
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError:
            pass
        self.refused = True
