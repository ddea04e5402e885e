"""Mounts a volume read-only to look into it, and takes away what that left: the edge around `safety.look`.

While a volume is looked into, the kernel takes its device for read-only (BLKROSET), because a mount with `ro` can still
write (see `initiator.host.helper.look`). A note beside the folder says that this was Mooring, so that it ends with the
mount, whoever unmounts it: `sweep`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from initiator import inventory, places
from initiator.engine.client import EngineClient
from initiator.errors import MooringError, OutcomeUnknownError, RefusedError
from initiator.host import mounts as mounts_
from initiator.host import sysfs, usage
from initiator.host.contents import read_contents
from initiator.host.helper_calls import pinned_mounts
from initiator.host.mounts import Mount
from initiator.host.run import CannotRun, HelperFailed, Stuck, run_helper
from initiator.model import Snapshot
from safety import look
from safety.evidence import read_facts
from safety.findings import Finding
from safety.look import FLAGS, Ground, Look
from safety.scene import view
from safety.world import NotProven

SECONDS = 30.0
"""For the mount, and for each other call that can hang."""
_NOTE = ".json"
_GONE = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ESTALE})


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What was found out before anything is done."""

    ground: Ground
    look: Look | None
    findings: tuple[Finding, ...]
    """What forbids it; empty where `look` is not None."""


def prepare(wanted: Callable[[Snapshot], Ground], engine: EngineClient, root: Path = Path("/")) -> Prepared:
    """Read the host, and the device only if nothing else forbids it.

    Args:
        wanted: Finds what to look into.
        engine: The engine's client.
        root: Where `proc` and `sys` are.

    Raises:
        BadInputError: there is no such thing.
        MooringError: what lies on the device cannot be told.
    """
    snapshot = inventory.read(root, engine)
    ground = wanted(snapshot)
    extent = ground.extent(snapshot)
    findings = look.against(view(snapshot, read_facts(root, extent), extent))
    if findings:
        return Prepared(ground, None, findings)
    return Prepared(ground, *look.order(ground, read_contents(ground.device)))


def carry_out(wanted: Look, seconds: float = SECONDS) -> Mount:
    """Mount it in a new folder; gives the mount as the kernel shows it.

    Raises:
        RefusedError: somebody uses the device, or is looking into another one just now.
        OutcomeUnknownError: the mount hangs.
        MooringError: the kernel does not mount it, or not as it was told to.
    """
    with _alone() as alone:
        if not alone:
            raise RefusedError("Another volume is being mounted to look into it, or is taken away.", fix="try again")
        _sweep()
        folder = _folder(wanted.folder)
        _mount(wanted, folder, seconds)
        return _proven(wanted, folder)


def _mount(wanted: Look, folder: Path, seconds: float) -> None:
    major, minor = map(int, wanted.dev.split(":"))
    node = {"source": wanted.device, "device": os.makedev(major, minor), "sequence": wanted.diskseq}
    # Whoever is killed from here on leaves a note that is true: a device that is read-only already stays so.
    ours = sysfs.read_int(f"/sys/class/block/{os.path.basename(wanted.device)}/ro") != 1
    _write(folder, {"dev": wanted.dev, "ours": ours, "node": node})
    try:
        request = {**node, "target": str(folder), "fstype": wanted.fstype, "data": wanted.data}
        if run_helper("look", request, seconds).value:
            _write(folder, {"dev": wanted.dev, "ours": False, "node": node})  # it was read-only before, and stays so
    except HelperFailed as error:
        _note(folder).unlink()
        folder.rmdir()
        if error.errno == errno.EBUSY:
            text = f"{wanted.device} is in use: the kernel refuses to let it be opened exclusively."
            raise RefusedError(text, fix="a mount in a hidden namespace, or a device above it, holds it") from error
        raise MooringError(f"The kernel does not mount {wanted.device}: {error}.", fix="dmesg says why") from error
    except Stuck as error:
        if error.left_behind:
            _write(folder, {"dev": wanted.dev, "ours": ours, "node": node, "child": error.pid})
        fix = f"look whether it is mounted at {folder} now, and why {wanted.device} does not answer"
        raise OutcomeUnknownError(str(error), code=error.code, fix=fix) from error


def _proven(wanted: Look, folder: Path) -> Mount:
    """The mount, if it is what was wanted; one that is not is taken away again."""
    rows = mounts_.parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    found = next((mount for mount in reversed(rows) if mount.mountpoint == str(folder)), None)
    if found is None:
        raise NotProven(f"{wanted.device} was mounted at {folder}, and nothing is mounted there.")
    wrong = differs(wanted, found)
    if not wrong and sysfs.read_int(f"/sys/class/block/{os.path.basename(wanted.device)}/ro") != 1:
        wrong = "its device can be written to"
    if not wrong:
        return found
    run_helper("umount", {"path": str(folder)}, SECONDS)
    _sweep()
    raise NotProven(f"{wanted.device} was mounted otherwise than it was to be: {wrong}. It is unmounted again.")


def differs(wanted: Look, found: Mount) -> str:
    """What of a mount is not as it was wanted, in words; empty where all is."""
    own, shared = found.options.split(","), found.super_options.split(",")
    lacking = [word for word in FLAGS if word not in own] + (["ro"] if "ro" not in shared else [])
    if lacking:
        return f"without {', '.join(dict.fromkeys(lacking))}"
    anonymous = found.dev.startswith("0:") and found.source == wanted.device  # a btrfs
    return "" if found.dev == wanted.dev or anonymous else f"it is on device {found.dev}, not {wanted.dev}"


def sweep() -> None:
    """Let every device be written to again that was looked into and is not mounted any more; take its folder away.

    For after an unmount, by whomever. One that somebody looks into just now, or that does not answer, is left to the
    next time.
    """
    if any(_notes()):
        with _alone() as alone:
            if alone:
                _sweep()


def _sweep() -> None:
    notes = sorted(_notes())
    rows = read_mounts() if notes else ()
    for note in notes:
        with contextlib.suppress(CannotRun, HelperFailed, Stuck):
            _leave(note, rows)


def _leave(note: Path, rows: Iterable[Mount]) -> None:
    """Nothing is done while a mount of it is left in any namespace.

    The folder may carry that of another namespace, which would be taken away lazily with it, and its file system could
    write.
    """
    told: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    source = told["node"]["source"]
    mounted = any(mount.dev == told["dev"] or mount.source == source for mount in rows)
    if mounted or usage.living_superblocks(Path("/"), [os.path.basename(source)]):
        return
    if "child" in told and os.path.exists(f"/proc/{told['child']}"):
        return  # a mount that hangs may still come to its end
    try:
        if told["ours"]:
            run_helper("look_away", told["node"], SECONDS)
    except HelperFailed as error:
        if error.errno not in _GONE:
            raise
    note.unlink()
    with contextlib.suppress(OSError):
        note.with_suffix("").rmdir()


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether nobody else is at it: who lets a device be written to must not meet who is about to mount it."""
    handle = os.open(places.look_dir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _notes() -> Iterator[Path]:
    return places.look_path().glob(f"*{_NOTE}")


def read_mounts() -> tuple[Mount, ...]:
    """The mounts of every namespace, as far as they can be read."""
    return mounts_.read_mounts(threads=True, pinned=pinned_mounts)[0]


def _note(folder: Path) -> Path:
    return folder.parent / (folder.name + _NOTE)


def _write(folder: Path, told: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    new = folder.parent / f"{folder.name}.new"
    new.write_text(json.dumps(told), encoding="utf-8")
    new.replace(_note(folder))


def _folder(name: str) -> Path:
    """A new folder, or an empty one on which nothing is mounted."""
    taken = {mount.mountpoint for mount in read_mounts()}
    for number in range(1, 1000):
        folder = places.look_dir() / (name if number == 1 else f"{name}-{number}")
        if str(folder) in taken or _note(folder).exists():
            continue
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise MooringError(f"There are too many folders called {name}.", fix=f"clear {places.look_dir()}")
