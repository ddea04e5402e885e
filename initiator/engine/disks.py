"""The disks that the engine has made block devices: making them, taking them back, and what a dead engine left."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from initiator.engine import attach, attached, book, kernel, report
from initiator.engine.attached import Attachment, Unit
from initiator.engine.crew import Crew, Member
from initiator.engine.kernel import AttachError
from initiator.engine.rpc import EngineError
from initiator.errors import MooringError, RefusedError
from initiator.model import Severity

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Dead:
    """What is left of a disk that nothing serves any more."""

    attachment: Attachment
    reason: str


class Disks:
    """All attached disks of one supervisor, and the list of them on disk.

    Args:
        runtime: the engine's folder.
        tell: takes an event: subject, text, severity.
    """

    def __init__(self, runtime: Path, tell: Callable[[str, str, Severity], None]) -> None:
        self.dead: list[Dead] = []
        self.awaited: list[Attachment] = []
        """Disks of an engine that is gone, whose workers have not reported yet."""
        self.crew: Crew
        self._runtime = runtime
        self._tell = tell
        self._lock = asyncio.Lock()
        self._folder = f"{os.path.realpath(runtime)}/{attached.FOLDER_NAME}"

    def save(self, needed: bool = False) -> None:
        """Write the list, with everything that is or may be there.

        Raises:
            OSError: it cannot be written and is `needed`, since something is about to be made.
        """
        living = [
            dataclasses.replace(
                member.attachment, worker=member.process.pid, worker_started=attached.started(member.process.pid)
            )
            for member in self.crew.members
            if member.attachment is not None
        ]
        try:
            attached.save(self._runtime, (*living, *self.awaited, *(dead.attachment for dead in self.dead)))
        except OSError as error:
            if needed:
                raise
            self._tell("engine", f"the list of attached disks cannot be written: {error.strerror}", Severity.BAD)

    def names(self) -> set[str]:
        """Names that are taken."""
        living = [member.attachment for member in self.crew.members if member.attachment is not None]
        return {each.name for each in (*living, *self.awaited, *(dead.attachment for dead in self.dead))}

    def bury(self, attachment: Attachment, reason: str) -> None:
        """A disk is dead from now on."""
        self.dead.append(Dead(attachment, reason))
        self.save()

    # Attaching.

    async def attach(self, member: Member, lun: int, name: str | None, read_only: bool) -> Attachment:
        """Make one logical unit of a worker without a disk a block device.

        Raises:
            NotPermittedError: not root. RefusedError: it is attached already, or the name is taken.
            AttachError: it did not work; what was made was taken back.
        """
        kernel.need_root()
        async with self._lock, member.lock:
            if member.attachment is not None:
                raise RefusedError(f"{member.title} uses these sessions already", code="attached")
            unit = report.from_json(Unit, await member.call("open", 60.0, lun=lun, read_only=read_only))
            attachment = self._plan(member, unit, name)
            member.attachment = attachment
            try:
                self.save(needed=True)
                await self._expose(member)
            except (MooringError, OSError) as error:
                await self._withdraw(member)
                if isinstance(error, OSError):
                    raise AttachError(f"{attachment.name} could not be attached: {error.strerror}") from error
                raise
            assert member.attachment is not None
            self._tell(attachment.disk, f"{attachment.name} is attached as {member.attachment.device}", Severity.NOTE)
            return member.attachment

    def _plan(self, member: Member, unit: Unit, wanted: str | None) -> Attachment:
        target = member.config.target
        disk = attached.disk_id(unit.wwid, target, unit.lun)
        for other in self.crew.members:
            if other.attachment is not None and other.attachment.disk == disk:
                raise RefusedError(
                    f"this disk is attached already, as {other.attachment.name}", code="attached", fix="mooring list"
                )
        for dead in self.dead:
            if dead.attachment.disk == disk:
                raise RefusedError(
                    f"a dead block device of this disk is still there, as {dead.attachment.name}",
                    code="dead",
                    fix="unmount what is on it and take it away first: mooring list",
                )
        name = attached.check_name(wanted or attached.default_name(target, unit.lun))
        if name in self.names():
            raise RefusedError(f"there is a disk called {name} already", code="name-taken", fix="give it another name")
        place = f"{self._folder}/{name}"
        return Attachment(disk, name, target, unit, place, f"{place}/{name}", boot=attached.boot_id())

    async def _expose(self, member: Member) -> None:
        """FUSE mount, server, loop device; in the list before each is made."""
        attachment = member.attachment
        assert attachment is not None
        unit = attachment.unit
        mounted = attach.mount_file(self._runtime, attachment.name, unit.block_bytes, unit.read_only)
        member.fuse_fds = (mounted.fd, book.create())
        attachment = dataclasses.replace(attachment, mount_dev=mounted.dev, offline=False)
        member.attachment = attachment
        self.save()
        await member.call("serve", 30.0, member.fuse_fds, attachment=report.to_json(attachment))
        loop = await attach.attach_loop(attachment.file, unit.size_bytes, unit.block_bytes, unit.read_only)
        attachment = dataclasses.replace(attachment, device=loop.device, dev=loop.dev, diskseq=loop.diskseq)
        member.attachment = attachment
        self.save()
        await member.call("remember", 10.0, attachment=report.to_json(attachment))

    async def _withdraw(self, member: Member, keep: Attachment | None = None) -> None:
        """Take back what `_expose` made, as far as it came; what cannot be taken back is a dead disk."""
        attachment, member.attachment = member.attachment, keep
        fds, member.fuse_fds = member.fuse_fds, None  # its end is no news
        assert attachment is not None
        try:
            try:
                await attach.take_away(attachment)
            except MooringError:
                await attach.abort(attachment)
                await attach.take_away(attachment)
        except MooringError as error:
            self.dead.append(Dead(attachment, f"attaching it failed, and taking that back too: {error}"))
        with contextlib.suppress(EngineError):
            await member.call("unserve", 10.0, forget=keep is None)
            if keep is not None:
                await member.call("gate", 20.0, closed=True)
        for fd in fds or ():
            os.close(fd)
        self.save()

    # Taking back.

    async def offline(self, member: Member) -> list[str]:
        """Close the disk for commands and take its FUSE file away; its loop device has to be gone before.

        Raises:
            RefusedError: something stands on it still; nothing was changed.
            EngineError: the last flush failed, or the outcome is not known.
        """
        async with member.lock:
            attachment = _attachment(member)
            if attachment.offline:
                return [f"{attachment.name} is offline already"]
            if loops := attach.loops_of(attachment.file):
                raise RefusedError(
                    f"{', '.join(loops)} still stands on {attachment.name}",
                    code="attached",
                    fix=f"mooring remove {attachment.name}",
                )
            answer = await member.call("flush", 90.0)
            if answer["status"] != 0:
                raise EngineError(
                    f"the target did not flush {attachment.name}: {answer['explain']}",
                    code="flush",
                    fix="the disk is still usable: attach it again with mooring undo, and look for lost writes",
                )
            evidence = [f"SYNCHRONIZE CACHE: {answer['explain']}"]
            await member.call("gate", 20.0, closed=True)
            return evidence + await self._take_file(member, attachment)

    async def _take_file(self, member: Member, attachment: Attachment) -> list[str]:
        fds, member.fuse_fds = member.fuse_fds, None
        try:
            await attach.unmount(attachment.mountpoint, attachment.mount_dev)
        except MooringError:
            member.fuse_fds = fds
            await member.call("gate", 20.0, closed=False)
            raise
        gone = dataclasses.replace(attachment, offline=True, device=None, dev=None, diskseq=None)
        member.attachment = gone
        self.save()
        with contextlib.suppress(EngineError):  # a worker that died meanwhile is replaced by one that is offline too
            await member.call("unserve", 10.0)
            await member.call("remember", 10.0, attachment=report.to_json(gone))
        for fd in fds or ():
            os.close(fd)
        evidence = [f"{attachment.mountpoint} is not mounted (mountinfo)"]
        if attachment.mount_dev is not None and not await attach.connection_gone(attachment.mount_dev):
            await attach.abort(attachment)
            evidence.append("a copy of the mount in another namespace was cut off")
        self._tell(attachment.disk, f"{attachment.name} is offline", Severity.NOTE)
        return [*evidence, "its FUSE connection is closed", "the engine takes no commands for it"]

    async def online(self, member: Member) -> Attachment:
        """The undo of `offline`.

        Raises:
            AttachError: it did not work; the disk is offline still.
        """
        async with self._lock, member.lock:
            attachment = _attachment(member)
            if not attachment.offline:
                return attachment
            try:
                await self._expose(member)
            except (MooringError, OSError):
                await self._withdraw(member, keep=attachment)
                raise
            self._tell(attachment.disk, f"{attachment.name} is online again", Severity.NOTE)
            return _attachment(member)

    # What is left of the dead.

    async def cleanup(self, dead: Dead) -> list[str]:
        """Take away the loop device and the FUSE mount of a dead disk, if nobody uses them.

        Raises:
            RefusedError: somebody does. AttachError: something did not go.
        """
        async with self._lock:
            if strangers := self._strangers():
                raise RefusedError(
                    f"process {strangers[0]} may serve {dead.attachment.name} still; it does not report to this engine",
                    code="unknown",
                    fix=f"look at it; if it is stuck for good, end it: kill -9 {strangers[0]}",
                )
            await attach.abort(dead.attachment)
            evidence = await attach.take_away(dead.attachment)
            self.dead.remove(dead)
            self.save()
        self._tell(dead.attachment.disk, f"what was left of {dead.attachment.name} is gone", Severity.NOTE)
        return evidence

    def _strangers(self) -> list[int]:
        """Workers of this folder that do not belong to this engine."""
        own = {member.process.pid for member in self.crew.members}
        wanted = (b"--runtime", os.fsencode(os.path.realpath(self._runtime)))
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                if int(entry) not in own and wanted in itertools.pairwise(words):
                    found.append(int(entry))
        return found

    def adopted(self, attachment: Attachment) -> None:
        """A worker has reported with this disk."""
        self.awaited = [each for each in self.awaited if each.disk != attachment.disk]

    def recall(self) -> None:
        """Read the list that the last engine left; those of its workers that live may report still."""
        try:
            found = attached.load(self._runtime)
        except MooringError as error:
            log.error("%s", error)
            found = ()
        boot = attached.boot_id()
        for attachment in (each for each in found if each.boot == boot):
            if _still_runs(attachment):
                self.awaited.append(attachment)
            else:
                self._examine(attachment)
        self._find_unknown()

    async def settle(self) -> None:
        """The time for reports is over: what nobody serves is dead, and frozen workers must not hold anybody up."""
        waiting, self.awaited = self.awaited, []
        for attachment in waiting:
            if _still_runs(attachment) and attachment.worker is not None:
                self._tell(attachment.disk, f"the worker for {attachment.name} does not report; killed", Severity.BAD)
                await attach.abort(attachment)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(attachment.worker, signal.SIGKILL)
            self._examine(attachment)
        self.save()

    def _examine(self, attachment: Attachment) -> None:
        """A disk that nobody serves: is anything of it left?"""
        mount = kernel.mounted_at(attachment.mountpoint)
        if attach.loops_of(attachment.file) or (mount is not None and mount.dev == attachment.mount_dev):
            self.dead.append(Dead(attachment, "the engine that served it ended"))

    def _find_unknown(self) -> None:
        """Loop devices and mounts in our folder that are in no list."""
        known = {dead.attachment.file for dead in self.dead}
        known |= {attachment.file for attachment in self.awaited}
        files: dict[str, str | None] = dict.fromkeys(attached.loops_below(self._folder).values())
        for mount in kernel.own_mounts():
            if mount.fstype.startswith("fuse") and mount.mountpoint.startswith(f"{self._folder}/"):
                files[f"{mount.mountpoint}/{os.path.basename(mount.mountpoint)}"] = mount.dev
        for file in sorted(files.keys() - known):
            name = os.path.basename(file)
            unit = Unit(0, None, (), 0, 0)
            found = Attachment(f"engine:d:{name}", name, "", unit, os.path.dirname(file), file, files[file])
            self.dead.append(Dead(found, "it is in no list of the engine"))


def _attachment(member: Member) -> Attachment:
    if member.attachment is None:
        raise RefusedError("it is not attached", code="not-attached")
    return member.attachment


def _still_runs(attachment: Attachment) -> bool:
    if attachment.worker is None or attachment.worker_started is None:
        return False
    return attached.started(attachment.worker) == attachment.worker_started
