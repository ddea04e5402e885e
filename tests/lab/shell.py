"""A terminal in the guest: `make lab-shell`. Whatever runs there, the dashboard too, has the whole window."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Iterator
from typing import Any

from tests.lab.machine import Machine

_END = b"\x1b]the lab's shell has ended\x07"
"""An operating system command that no terminal knows; the guest prints it when its shell has ended."""
_SHELL = r"""
systemctl mask --quiet --runtime --now serial-getty@hvc0.service
setsid -c bash -c '
    stty sane rows {rows} cols {columns}
    cd /root; export TERM="{term}" PATH=/opt/mooring/bin:$PATH PS1="lab:\w# " HOME=/root LANG=C.UTF-8
    bash --norc -i
    printf "\033]the lab\x27s shell has ended\007"
' <>/dev/hvc0 >&0 2>&1 &
"""
_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789-"


def shell(machine: Machine) -> bool:
    """A shell on this process's own terminal; the last line before it says how to leave."""
    print("a shell in the lab: `sh /opt/lab/cables.sh make` lays cables, `mooring` shows the dashboard, `exit` leaves")
    attach(machine, 0, 1)
    return True


def attach(machine: Machine, keys: int, screen: int) -> None:
    """Run a shell in the guest until it ends.

    Args:
        machine: The guest.
        keys: Descriptor of a terminal that is read from.
        screen: Descriptor of a terminal that is written to; its size is that of the shell's.
    """
    with _connected(machine) as line, _raw(keys), _resized(machine, screen):
        columns, rows = os.get_terminal_size(screen)
        name = os.environ.get("TERM", "")
        term = name if name and set(name) <= set(_NAMES) else "xterm"
        machine.run(_SHELL.replace("{rows}", str(rows)).replace("{columns}", str(columns)).replace("{term}", term))
        pending = b""
        while True:
            ready, _, _ = select.select([line.fileno(), keys], [], [])
            if keys in ready:
                line.sendall(os.read(keys, 4096))
            if line.fileno() in ready:
                pending += line.recv(1 << 16)
                shown, ended, _ = pending.partition(_END)
                keep = 0 if ended else _begun(shown)
                _write(screen, shown[: len(shown) - keep])
                if ended:
                    return
                pending = shown[len(shown) - keep :]


def _begun(text: bytes) -> int:
    """How many of the last bytes may be the beginning of the end."""
    return next((size for size in range(min(len(_END) - 1, len(text)), 0, -1) if text.endswith(_END[:size])), 0)


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]


@contextlib.contextmanager
def _connected(machine: Machine) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(machine.terminal))
        yield line


@contextlib.contextmanager
def _raw(keys: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl+C too."""
    before = termios.tcgetattr(keys)
    tty.setraw(keys)
    try:
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(machine: Machine, screen: int) -> Iterator[None]:
    """The shell's terminal gets the size of this one, whenever it changes."""

    def tell(*_: Any) -> None:
        columns, rows = os.get_terminal_size(screen)
        machine.run(f"stty -F /dev/hvc0 rows {rows} cols {columns}", check=False)

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
