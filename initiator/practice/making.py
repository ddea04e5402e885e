"""The making of a range, step by step; each step stands in the record before it is done."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from initiator.engine.client import EngineClient
from initiator.errors import RefusedError
from initiator.practice import config as configs
from initiator.practice import volumes
from initiator.practice.process import TargetProcess, listeners, listeners_on
from initiator.practice.record import Kind, Record, Recorder

Say = Callable[[str], None]
"""Takes one sentence for the person who waits."""


def make_folder(book: Recorder, wanted: Path | None) -> Path:
    """The folder of the range, empty and private; begins the record.

    A folder that was there before stays after the end: it is not the range's own.

    Raises:
        RefusedError: there is something in the folder that was asked for, or it cannot be made.
    """
    base = (
        Path(tempfile.gettempdir(), f"mooring-practice-{secrets.token_hex(4)}") if wanted is None else wanted.absolute()
    )
    if "\n" in str(base):
        raise RefusedError("a folder with a line break in its name is not used", code="bad-input")
    try:
        if base.exists():
            if not base.is_dir() or any(base.iterdir()):
                raise RefusedError(f"{base} is not an empty folder; a range is only made in one", code="not-empty")
            book.begin(base, base / "range.json")
            return base
        book.begin(base, base / "range.json")
        book.add(Kind.FOLDER, str(base))
        base.mkdir(mode=0o700)
    except OSError as error:
        raise RefusedError(f"{base}: {error.strerror}", code="not-permitted") from error
    book.done(Kind.FOLDER, str(base))
    return base


def serve(book: Recorder, base: Path, control: Path, say: Say) -> configs.RangeConfig:
    """Write the configuration and start the target."""
    with listeners() as (sockets, portals):
        built = configs.standard(base, portals, control, secrets.token_hex(12))
        for path in (base / "range.json", *(Path(disk.path) for disk in built.disks), base / "target.log"):
            book.add(Kind.FILE, str(path))
        built.save(base / "range.json")
        book.add(Kind.PROCESS, "target")
        say(f"starting the target on {' and '.join(map(str, portals))}")
        process = TargetProcess.start(base / "range.json", base / "target.log", sockets)
        book.done(Kind.PROCESS, "target", pid=process.pid, started=process.started)
    process.wait_ready(control)
    return built


def log_in(book: Recorder, built: configs.RangeConfig, engine: EngineClient, say: Say) -> None:
    """Sessions over every portal, without block devices."""
    for target in built.targets:
        say(f"logging in to {target.name} over {len(built.portals)} portals")
        book.add(Kind.SESSIONS, target.name)
        engine.call("login", timeout=30.0, **_login_args(built, target))
        book.done(Kind.SESSIONS, target.name)


def attach(book: Recorder, built: configs.RangeConfig, engine: EngineClient, say: Say) -> None:
    """Make every disk a block device, over every portal."""
    for target in built.targets:
        for _, name in sorted(target.luns.items()):
            volumes.write_token(built.disk(name))
            say(f"attaching {name} over {len(built.portals)} portals")
            attach_one(book, built, name, engine)


def attach_one(book: Recorder, built: configs.RangeConfig, name: str, engine: EngineClient) -> None:
    """Make one disk a block device, over every portal."""
    disk = built.disk(name)
    target, lun = next((each, lun) for each in built.targets for lun, disk in each.luns.items() if disk == name)
    book.add(Kind.ATTACH, name, wwid=disk.wwid, target=target.name, lun=lun)
    engine.call("attach", timeout=60.0, lun=lun, name=name, **_login_args(built, target))
    book.done(Kind.ATTACH, name, **volumes.identify(disk, engine).details())


def make_volumes(book: Recorder, built: configs.RangeConfig, engine: EngineClient, say: Say) -> None:
    """A file system with a few files on some of the disks."""
    for name in volumes.MOUNTED:
        disk = built.disk(name)
        device = volumes.identify(disk, engine)
        volumes.prove(disk, device)
        say(f"making an ext4 file system on {name} ({device.path})")
        book.add(Kind.FILESYSTEM, name, device=device.path)
        volumes.make_filesystem(device, name)
        book.done(Kind.FILESYSTEM, name)
        point = Path(disk.path).parent / "volumes" / name
        book.add(Kind.FOLDER, str(point.parent))
        book.add(Kind.FOLDER, str(point))
        point.mkdir(mode=0o755, parents=True, exist_ok=True)
        say(f"mounting {name} on {point}")
        book.add(Kind.MOUNT, str(point), device=device.path, dev=device.dev, disk=name)
        volumes.mount(device, point)
        book.done(Kind.MOUNT, str(point))
        volumes.fill(point, name)


def _login_args(built: configs.RangeConfig, target: configs.TargetConfig) -> dict[str, object]:
    args: dict[str, object] = {"target": target.name, "portals": [str(portal) for portal in built.portals]}
    if target.chap is not None:
        args |= {"chap_user": target.chap.user, "chap_secret": target.chap.secret}
    return args


def serve_again(book: Recorder, found: Record, control: Path) -> None:
    """Start the target of the record once more, on the same portals."""
    config = Path(found.config)
    with listeners_on(configs.load(config).portals) as sockets:
        book.add(Kind.PROCESS, "target")
        process = TargetProcess.start(config, config.parent / "target.log", sockets, again=True)
        book.done(Kind.PROCESS, "target", pid=process.pid, started=process.started)
    process.wait_ready(control)
