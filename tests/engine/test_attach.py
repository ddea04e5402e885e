"""A served file as a block device, and what is left when that does not work."""

from __future__ import annotations

import asyncio
import dataclasses
import mmap
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from initiator.engine import attach, attached, detach, kernel
from initiator.engine.attached import Attachment, Unit
from initiator.engine.book import Book, create
from initiator.engine.fuse import FuseServer, Pool
from initiator.engine.kernel import AttachError
from initiator.errors import BadInputError, MooringError, RefusedError
from tests.engine.memory import MemoryBackend
from tests.until import until

SIZE = 8 << 20
pytestmark = pytest.mark.root


class Served:
    def __init__(self, made: attach.Mounted, server: FuseServer, backend: MemoryBackend) -> None:
        self.made = made
        self.server = server
        self.backend = backend

    @property
    def file(self) -> str:
        return self.made.file

    async def loop(self, read_only: bool = False) -> attach.Loop:
        return await attach.attach_loop(self.file, SIZE, self.backend.block_bytes, read_only)

    def attachment(self) -> Attachment:
        unit = Unit(0, None, (), SIZE, self.backend.block_bytes)
        return Attachment("engine:d:x", "disk", "iqn.x:y", unit, self.made.mountpoint, self.file, self.made.dev)


@asynccontextmanager
async def serving(folder: Path, block: int = 512, read_only: bool = False) -> AsyncIterator[Served]:
    runtime = folder / "runtime"
    backend = MemoryBackend(folder / "medium", SIZE, block, read_only)
    made = attach.mount_file(runtime, "disk", block, read_only)
    server = FuseServer(made.fd, "disk", backend, Pool(8), Book(create()), lambda: None)
    server.start()
    served = Served(made, server, backend)
    try:
        yield served
    finally:
        kernel.abort(kernel.abort_path(made.dev))
        server.stop()
        os.close(made.fd)
        await attach.take_away(served.attachment())


def sysfs(device: str, name: str) -> str:
    return Path("/sys/block", os.path.basename(device), name).read_text().strip()


@pytest.mark.parametrize("block", [512, 4096])
async def test_a_block_device_with_direct_io_comes_up(own_folders: Path, block: int) -> None:
    async with serving(own_folders, block) as served:
        loop = await served.loop()
        assert sysfs(loop.device, "loop/dio") == "1"
        assert sysfs(loop.device, "queue/logical_block_size") == str(block)
        assert (loop.dev, str(loop.diskseq)) == (sysfs(loop.device, "dev"), sysfs(loop.device, "diskseq"))
        assert attach.loops_of(served.file) == [loop.device]
        await attach.detach_all(served.file)
        assert attach.loops_of(served.file) == []
        await until(lambda: served.server.opens == 0)
        await attach.unmount(served.made.mountpoint, served.made.dev)
        assert kernel.mounted_at(served.made.mountpoint) is None


async def test_large_requests_are_never_cut_inside_a_block(own_folders: Path) -> None:
    """Direct I/O from memory that begins inside a page, on blocks of 4096 bytes."""
    data = os.urandom(3 << 20)

    def use(device: str) -> bytes:
        memory = mmap.mmap(-1, (3 << 20) + 4096)
        view = memoryview(memory)[512 : 512 + (3 << 20)]
        view[:] = data
        handle = os.open(device, os.O_RDWR | os.O_DIRECT)
        try:
            assert os.pwritev(handle, [view], 4096) == 3 << 20
            view[:] = bytes(3 << 20)
            assert os.preadv(handle, [view], 4096) == 3 << 20
            return bytes(view)
        finally:
            os.close(handle)

    async with serving(own_folders, 4096) as served:
        loop = await served.loop()
        assert await asyncio.to_thread(use, loop.device) == data
        assert served.server.errors == 0
        assert served.backend.memory[4096 : 4096 + (3 << 20)] == data


async def test_a_read_only_disk_stays_so(own_folders: Path) -> None:
    async with serving(own_folders, read_only=True) as served:
        loop = await served.loop(read_only=True)
        assert sysfs(loop.device, "ro") == "1"
        done = await asyncio.to_thread(subprocess.run, ["mkfs.ext4", "-q", "-F", loop.device], capture_output=True)
        assert done.returncode != 0
        assert not any(name == "write" for name, _, _ in served.backend.calls)


@pytest.fixture
def indirect_losetup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A losetup that does not ask for direct I/O, as on a kernel that does not give it."""
    real = subprocess.run(["which", "losetup"], capture_output=True, text=True, check=True).stdout.strip()
    script = tmp_path / "losetup"
    script.write_text(
        f'#!/bin/sh\nfor a do shift; [ "$a" = --direct-io=on ] || set -- "$@" "$a"; done\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("indirect_losetup")
async def test_a_loop_device_without_direct_io_is_refused_and_taken_back(own_folders: Path) -> None:
    async with serving(own_folders) as served:
        with pytest.raises(AttachError, match="did not give it direct I/O"):
            await served.loop()
        assert attach.loops_of(served.file) == []


async def test_a_losetup_that_fails_leaves_nothing(own_folders: Path) -> None:
    async with serving(own_folders) as served:
        served.backend.size_bytes = 0
        with pytest.raises(MooringError):
            await served.loop()
        assert attach.loops_of(served.file) == []


async def test_a_device_in_use_is_not_detached(own_folders: Path, tmp_path: Path) -> None:
    async with serving(own_folders) as served:
        loop = await served.loop()
        await asyncio.to_thread(subprocess.run, ["mkfs.ext4", "-q", "-F", loop.device], check=True)
        where = tmp_path / "mnt"
        where.mkdir()
        await asyncio.to_thread(subprocess.run, ["mount", loop.device, str(where)], check=True)
        try:
            with pytest.raises(RefusedError, match="in use") as caught:
                await attach.detach_loop(loop.device, served.file)
            assert caught.value.code == "busy"
            assert attach.loops_of(served.file) == [loop.device]
            await asyncio.to_thread((where / "file").write_text, "still works")
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", str(where)], check=True)
        await attach.detach_loop(loop.device, served.file)
        assert attach.loops_of(served.file) == []


async def test_only_the_own_file_is_detached(own_folders: Path, tmp_path: Path) -> None:
    """A loop number may be another file's by now."""
    other = tmp_path / "other"
    other.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", str(other)], capture_output=True, text=True, check=True)
    device = made.stdout.strip()
    try:
        done = subprocess.run(
            ["python3", "-I", "-S", detach.__file__, device, "/somewhere/else"], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert attached.backing_file(device) == str(other)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


async def test_a_mount_with_an_open_file_is_not_taken_away(own_folders: Path) -> None:
    async with serving(own_folders) as served:
        handle = await asyncio.to_thread(os.open, served.file, os.O_RDONLY)
        try:
            with pytest.raises(RefusedError, match="is open") as caught:
                await attach.unmount(served.made.mountpoint, served.made.dev)
            assert caught.value.code == "busy"
        finally:
            await asyncio.to_thread(os.close, handle)
        await attach.unmount(served.made.mountpoint, served.made.dev)
        assert not Path(served.made.mountpoint).exists()


async def test_nothing_is_mounted_over_a_leftover(own_folders: Path) -> None:
    async with serving(own_folders) as served:
        with pytest.raises(AttachError, match="still mounted"):
            attach.mount_file(own_folders / "runtime", "disk", 512, False)
        assert kernel.mounted_at(served.made.mountpoint) is not None


async def test_a_connection_is_known_to_be_gone(own_folders: Path) -> None:
    async with serving(own_folders) as served:
        assert Path(kernel.abort_path(served.made.dev) or "").exists()
        await attach.unmount(served.made.mountpoint, served.made.dev)
        assert await attach.connection_gone(served.made.dev)


def test_the_list_of_attached_disks_survives_and_is_private(tmp_path: Path) -> None:
    unit = Unit(1, "naa.6", ("naa.6",), SIZE, 512)
    one = Attachment("engine:d:naa.6", "data", "iqn.x:y", unit, "/run/d", "/run/d/data", boot=attached.boot_id())
    assert attached.load(tmp_path) == ()
    attached.save(tmp_path, (one, dataclasses.replace(one, name="logs")))
    assert [each.name for each in attached.load(tmp_path)] == ["data", "logs"]
    assert stat.S_IMODE((tmp_path / attached.FILE_NAME).stat().st_mode) == 0o600
    (tmp_path / attached.FILE_NAME).write_text("{")
    with pytest.raises(MooringError, match="cannot be read"):
        attached.load(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "a\n", "ä", "x" * 65, "a\0"])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        attached.check_name(name)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("iqn.2026-11.io.mooring.practice:harbour", "harbour-lun0"),
        ("iqn.2026-11.io.mooring", "iqn.2026-11.io.mooring-lun0"),
        ("iqn.2026-11.io.x:a:b/../c", "b-..-c-lun0"),
        ("iqn.2026-11.io.x:///", "disk-lun0"),
        ("iqn.2026-11.io.x:" + "n" * 200, "n" * 48 + "-lun0"),
    ],
)
def test_a_disk_without_a_name_gets_one_that_can_be_used(target: str, name: str) -> None:
    assert attached.default_name(target, 0) == name
    assert attached.check_name(name) == name
