"""`mooring read`, `write` and `image` over sessions of their own, on a host that may have the disk attached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from initiator import inventory
from initiator.practice.target import Target
from tests.host.kerneltree import KernelTree, naa
from tests.practice.conftest import MIB, OPEN, target
from tui import cli
from tui.commands import data
from tui.exits import Exit

__all__ = ["target"]

SIZE = 8 * MIB


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelTree:
    """The host that the commands look at; it is in a folder, and without a session of its kernel."""
    made = KernelTree(tmp_path / "host")
    monkeypatch.setattr(data, "snapshot", lambda: inventory.read(made.root))
    return made


async def mooring(target: Target, command: str, *more: str, name: str = OPEN) -> int:
    where = str(target.config.portals[0]).partition(",")[0]
    return await asyncio.to_thread(cli.main, [command, name, "--portal", where, *more])


async def write(target: Target, file: Path, *more: str, name: str = OPEN) -> int:
    return await mooring(target, "write", "--input", str(file), "--confirm", name, *more, name=name)


@pytest.fixture
def tea(tmp_path: Path) -> Path:
    file = tmp_path / "tea"
    file.write_bytes(os.urandom(MIB + 700))
    return file


def held(target: Target, length: int = SIZE) -> bytes:
    return target.server.units["data"].store.read(0, length)


async def test_a_free_unit_is_written_beside_other_disks_of_the_host(
    target: Target, tree: KernelTree, tea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.session(7, target=OPEN)
    tree.lun(7, 1, kname="sda", digits=naa(1))
    assert await write(target, tea) == Exit.DONE
    written = tea.read_bytes()
    assert held(target, len(written)) == written
    assert f"wrote {len(written)} bytes at 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", [OPEN, OPEN.upper()])
async def test_what_the_kernel_has_attached_is_not_written(
    target: Target, tree: KernelTree, tea: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    tree.session(7, target=OPEN)
    tree.lun(7, 0, kname="sda", digits=naa(1))
    assert await write(target, tea, name=name) == Exit.REFUSED
    assert held(target) == bytes(SIZE)
    said = capsys.readouterr().err
    assert "LUN 0 is attached here as /dev/sda" in said
    assert "-> mooring remove sda" in said


async def test_it_is_known_under_another_name_of_its_target(
    target: Target, tree: KernelTree, tea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = next(disk for disk in target.config.disks if disk.name == "data")
    tree.session(7, target="iqn.2026-11.io.mooring.test:twin")
    tree.lun(7, 5, kname="sdb", digits=own.wwid.removeprefix("naa."))
    assert await write(target, tea) == Exit.REFUSED
    assert held(target) == bytes(SIZE)
    assert "attached here as /dev/sdb, by another way" in capsys.readouterr().err


async def test_a_host_that_cannot_be_read_is_no_free_host(
    target: Target, tree: KernelTree, tea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.session(7, target=OPEN)
    (tree.root / "sys/class/iscsi_session/session7").unlink()
    (tree.root / "sys/class/iscsi_session/session7").symlink_to("../nowhere")
    assert await write(target, tea) == Exit.REFUSED
    assert held(target) == bytes(SIZE)
    assert "what this host has attached is not known: session7" in capsys.readouterr().err


async def test_a_file_that_does_not_fit_is_refused_before_its_first_byte(
    target: Target, tea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await write(target, tea, "--offset", "7M") == Exit.USAGE
    assert await write(target, tea, "--offset", "9M") == Exit.USAGE
    assert held(target) == bytes(SIZE)
    assert f"{tea} has {MIB + 700} bytes: at {7 * MIB} the disk of {SIZE} bytes has room for {MIB}" in (
        capsys.readouterr().err
    )
    tea.write_bytes(b"")
    assert await write(target, tea, "--offset", "9M") == Exit.USAGE
    assert await write(target, tea, "--offset", "8M") == Exit.DONE


@pytest.fixture
def feed(tmp_path: Path) -> Callable[[bytes], Path]:
    """A named pipe with some bytes coming out of it."""

    def made(content: bytes) -> Path:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        def pour() -> None:
            with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
                file.write(content)

        threading.Thread(target=pour, daemon=True).start()
        return pipe

    return made


async def test_a_stream_that_turns_out_too_long_says_how_much_is_written(
    target: Target, feed: Callable[[bytes], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = os.urandom(3 * MIB)
    assert await write(target, feed(content), "--offset", "6M") == Exit.STOPPED
    assert held(target) == bytes(6 * MIB) + content[: 2 * MIB]
    assert f"{2 * MIB} bytes are written, and no more" in capsys.readouterr().err


async def test_a_stream_whose_first_piece_is_too_long_changes_nothing(
    target: Target, feed: Callable[[bytes], Path]
) -> None:
    assert await write(target, feed(bytes(700)), "--offset", str(SIZE - 512)) == Exit.USAGE
    assert held(target) == bytes(SIZE)


async def in_a_process(target: Target, *words: str, stdout: int, largest: int | None = None) -> tuple[int | None, str]:
    """A command whose stdout is this descriptor, and whose files grow no larger; its exit code and what it said."""

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    where = str(target.config.portals[0]).partition(",")[0]
    argv = [sys.executable, "-m", "tui.cli", words[0], OPEN, "--portal", where, *words[1:]]
    child = await asyncio.create_subprocess_exec(*argv, stdout=stdout, stderr=asyncio.subprocess.PIPE, preexec_fn=limit)
    _, said = await child.communicate()
    return child.returncode, said.decode()


async def test_a_reader_that_goes_away_is_nobodys_fault(target: Target) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert await in_a_process(target, "read", stdout=writer) == (Exit.ERROR, "")
    finally:
        os.close(writer)


async def test_an_output_that_takes_no_more_is_named(target: Target) -> None:
    with open("/dev/full", "wb") as full:
        code, said = await in_a_process(target, "read", stdout=full.fileno())
    assert (code, said) == (Exit.ERROR, "mooring: cannot write the standard output: No space left on device\n")


@pytest.mark.parametrize("words", [("read", "--output"), ("image",)])
async def test_a_file_that_cannot_grow_is_named(target: Target, tmp_path: Path, words: tuple[str, ...]) -> None:
    content = os.urandom(3 * MIB)
    target.server.units["data"].store.write(0, content)
    out = tmp_path / "out"
    ran = await in_a_process(target, *words, str(out), stdout=asyncio.subprocess.DEVNULL, largest=2 * MIB)
    assert ran == (Exit.ERROR, f"mooring: cannot write {out}: File too large\n")
    assert out.read_bytes() == content[: 2 * MIB]


async def test_an_image_has_every_byte_and_the_holes(target: Target, tmp_path: Path) -> None:
    content = os.urandom(MIB)
    target.server.units["data"].store.write(3 * MIB, content)
    out = tmp_path / "out"
    assert await mooring(target, "image", str(out)) == Exit.DONE
    assert out.read_bytes() == held(target)
    assert out.stat().st_blocks * 512 <= 2 * MIB


async def test_an_input_that_cannot_be_read_is_named(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert await write(target, Path("/proc/self/mem")) == Exit.ERROR
    assert "cannot read /proc/self/mem: Input/output error" in capsys.readouterr().err
    assert held(target) == bytes(SIZE)
