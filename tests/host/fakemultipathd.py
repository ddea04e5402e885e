"""A multipathd that answers as it is told: well, slowly, never, with garbage, or half; its own socket, no maps."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

MAP: Mapping[str, Any] = {
    "name": "mpatha",
    "uuid": "360014050000000000000000000000000",
    "sysfs": "dm-0",
    "failback": "immediate",
    "queueing": "12 chk",
    "paths": 2,
    "write_prot": "rw",
    "dm_st": "active",
    "features": "1 queue_if_no_path",
    "hwhandler": "1 alua",
    "action": "create",
    "path_faults": 0,
    "vend": "LIO-ORG",
    "prod": "FILEIO",
    "rev": "4.0",
    "switch_grp": 0,
    "map_loads": 1,
    "total_q_time": 0,
    "q_timeouts": 0,
}
PATH: Mapping[str, Any] = {
    "dev": "sdb",
    "dev_t": "8:16",
    "dm_st": "active",
    "dev_st": "running",
    "chk_st": "ready",
    "checker": "tur",
    "pri": 50,
    "host_wwnn": "[undef]",
    "target_wwnn": "iqn.2026-11.io.mooring.lab:two",
    "host_wwpn": "[undef]",
    "target_wwpn": "[undef]",
    "host_adapter": "10.9.1.1",
    "lun_hex": "0x0000000000000000",
    "marginal_st": "normal",
}
Group = Sequence[Mapping[str, Any]]


def maps_json(
    maps: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[Group]], states: Sequence[str] | None = None
) -> str:
    """What `show maps json` prints: multipathd's own layout, with nothing escaped.

    Args:
        maps: The fields of each map.
        groups: For each map its path groups, each with its paths.
        states: `dm_st` of the first, second, … group of every map; all active when None.
    """
    texts = []
    for fields, its_groups in zip(maps, groups, strict=True):
        lines = [_line(key, value, 6) for key, value in fields.items()]
        members = []
        for number, paths in enumerate(its_groups, 1):
            state = "active" if states is None else states[number - 1]
            head = [
                _line("selector", "service-time 0", 9),
                _line("pri", 50, 9),
                _line("dm_st", state, 9),
                _line("marginal_st", "normal", 9),
                _line("group", number, 9),
            ]
            inner = "\n         },{\n".join(_fields(path, 12) for path in paths)
            members.append("".join(head) + f'         "paths": [{{\n{inner}\n         }}]')
        joined = "\n      },{\n".join(members)
        texts.append("".join(lines) + f'      "path_groups": [{{\n{joined}\n      }}]')
    body = "\n   },{\n".join(texts)
    inside = f"[{{\n{body}\n   }}]" if texts else "[]"
    return f'{{\n   "major_version": 0,\n   "minor_version": 1,\n   "maps": {inside}\n}}\n'


def _line(key: str, value: Any, indent: int) -> str:
    shown = value if isinstance(value, int) else f'"{value}"'
    return f'{" " * indent}"{key}" : {shown},\n'


def _fields(fields: Mapping[str, Any], indent: int) -> str:
    return "".join(_line(key, value, indent) for key, value in fields.items()).rstrip(",\n")


Answer = Callable[[str], bytes | None]
"""Gives the answer to a command; None for silence until `FakeMultipathd.release`."""


class FakeMultipathd:
    """Serves connections in threads of its own until it is closed.

    Args:
        root: The host's folder; the socket is in `run` there.
        maps: The answer to `show maps json`.
        paths: The answer to `show paths raw format …`.
    """

    def __init__(self, root: Path, maps: str = "", paths: str = "") -> None:
        self.maps = maps
        self.paths = paths
        self.commands: list[str] = []
        self.answer: Answer = self.usual
        self.cut: int | None = None
        """Bytes of an answer, header included, after which it hangs up."""
        self._released = threading.Event()
        path = root / "run/multipathd.socket"
        path.parent.mkdir(exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def usual(self, command: str) -> bytes | None:
        """As a healthy one."""
        return (self.maps if command.startswith("show maps") else self.paths).encode("utf-8", "surrogateescape")

    def silent(self, command: str) -> bytes | None:
        """As one that holds its lock."""
        return None

    def release(self) -> None:
        """Whoever waits for an answer gets it now."""
        self.answer = self.usual
        self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, struct.error):
            while True:
                (size,) = struct.unpack("@N", connection.recv(8, socket.MSG_WAITALL))
                command = connection.recv(size, socket.MSG_WAITALL).rstrip(b"\0").decode()
                self.commands.append(command)
                answer = self.answer(command)
                if answer is None:
                    self._released.wait(30)
                    answer = self.usual(command) or b""
                data = struct.pack("@N", len(answer) + 1) + answer + b"\0"
                connection.sendall(data[: self.cut])
                if self.cut is not None:
                    return

    def close(self) -> None:
        """Nothing listens any more, as after `systemctl stop`."""
        self._released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for thread in self._threads:
            thread.join(5)
