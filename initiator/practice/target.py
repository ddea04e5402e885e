"""`python -m initiator.practice.target`: the process that serves a practice range, and its control socket."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from initiator.errors import MooringError
from initiator.practice import config as configs
from initiator.practice import faults
from initiator.practice.control import LINE_LIMIT, PracticeError
from initiator.practice.server import Server
from initiator.practice.switchboard import Switchboard

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_CREDENTIALS = struct.Struct("3i")
_IDLE_SECONDS = 60.0


class Target:
    """A server with its control socket.

    Args:
        config: What to serve. A portal with port 0 gets one from the kernel.
        listeners: Listening sockets in the order of the portals; None to make them here.
        again: It takes the place of a target that was killed. The page cache has kept what that one was given, so
            initiators are told of a lost nexus and not of a power failure.
    """

    def __init__(
        self, config: configs.RangeConfig, listeners: Sequence[socket.socket] | None = None, again: bool = False
    ) -> None:
        sockets = list(listeners) if listeners is not None else [_listen(portal) for portal in config.portals]
        pairs = zip(config.portals, sockets, strict=True)
        portals = tuple(replace(portal, port=sock.getsockname()[1]) for portal, sock in pairs)
        self.config = replace(config, portals=portals)
        self.server = Server(self.config, sockets, again)
        self.board = Switchboard(self.server)
        self.stopped = asyncio.Event()
        self._control: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the portals and the control socket."""
        self.server.open()
        path = Path(self.config.control)
        path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            self._control = await asyncio.start_unix_server(self._serve, path, limit=LINE_LIMIT)
        finally:
            os.umask(old)

    async def close(self) -> None:
        """End every session and give the files back."""
        if self._control is not None:
            self._control.close()
            await self._control.wait_closed()
            Path(self.config.control).unlink(missing_ok=True)
        self.server.close()
        await asyncio.sleep(0)

    # --- the control socket -----------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
            if _trusted(writer.get_extra_info("socket")):
                while line := await asyncio.wait_for(reader.readline(), _IDLE_SECONDS):
                    writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            number, method, params = request.get("id"), request["method"], dict(request.get("params") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return {"id": None, "error": {"code": "bad-message", "message": "a request was not understood", "fix": ""}}
        try:
            return {"id": number, "result": self._call(method, params)}
        except MooringError as error:
            return {"id": number, "error": {"code": error.code, "message": str(error), "fix": error.fix}}

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "status":
                return self.board.status()
            case "faults":
                return [{"name": fault.name, "usage": fault.usage, "text": fault.text} for fault in faults.FAULTS]
            case "fault":
                args = [str(arg) for arg in params.get("args") or ()]
                disks = [disk.name for disk in self.config.disks]
                return self.board.apply(faults.parse(str(params.get("name")), args, self.config.portals, disks))
            case "stop":
                self.stopped.set()
                return {"stopping": True}
        raise PracticeError(f"there is no method {method!r}", code="bad-input")


def _listen(portal: Any) -> socket.socket:
    family = socket.AF_INET6 if ":" in portal.host else socket.AF_INET
    return socket.create_server((portal.host, portal.port), family=family, backlog=128)


def _trusted(sock: Any) -> bool:
    """True for a peer of the same user, or root."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(packed)
    return uid in (0, os.geteuid())


async def _run(config: configs.RangeConfig, listeners: Sequence[socket.socket] | None, again: bool) -> None:
    target = Target(config, listeners, again)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, target.stopped.set)
    await target.start()
    try:
        await target.stopped.wait()
    finally:
        await target.close()


def _keep_memory() -> None:
    """Let the C library keep freed buffers: else each megabyte read is mapped, zeroed and unmapped (mallopt(3))."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in every C library; it doubles the speed of large transfers in glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code is 0, or 1 when the range cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m initiator.practice.target", description="serve a practice range")
    parser.add_argument("--config", required=True, type=Path, help="what to serve (see initiator.practice.config)")
    parser.add_argument("--fds", default="", help="inherited listening sockets, in the order of the portals")
    parser.add_argument("--again", action="store_true", help="it takes the place of a target that was killed")
    options = parser.parse_args(argv)
    _keep_memory()
    try:
        config = configs.load(options.config)
        fds = [int(number) for number in options.fds.split(",") if number]
        listeners = [socket.socket(fileno=fd) for fd in fds] or None
        asyncio.run(_run(config, listeners, options.again))
    except (MooringError, OSError) as error:
        print(f"practice target: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
