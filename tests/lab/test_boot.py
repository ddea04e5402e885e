"""The guest is what the scenarios believe it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import termios
import threading

import pytest

from tests.lab.machine import Machine
from tests.lab.shell import attach


def test_the_guest_has_the_kernel_parts_that_this_is_about(guest: Machine) -> None:
    guest.run("modprobe -a iscsi_tcp dm-multipath target_core_mod iscsi_target_mod target_core_file loop fuse")
    ran = guest.run(
        "ls -d /sys/module/{iscsi_tcp,dm_multipath,iscsi_target_mod}; systemctl is-active iscsid multipathd"
    )
    modules = ["/sys/module/dm_multipath", "/sys/module/iscsi_target_mod", "/sys/module/iscsi_tcp"]
    assert ran.out.split() == [*modules, "active", "active"]


def test_mooring_is_installed_from_the_checkout(guest: Machine) -> None:
    assert guest.mooring("--version", cold=True).out.startswith("mooring ")


@pytest.mark.timeout(600)
def test_a_shell_has_a_terminal_of_its_own(guest: Machine) -> None:
    """As `make lab-shell` gives it: with the size of the window, and an end."""
    window, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    shown = bytearray()

    def person() -> None:
        while b"lab:" not in shown:
            shown.extend(os.read(window, 4096))
        os.write(window, b"stty size; tty; mooring --version; exit\r")
        with contextlib.suppress(OSError):  # the other side is closed
            while True:
                shown.extend(os.read(window, 4096))

    typing = threading.Thread(target=person)
    typing.start()
    attach(guest, its, its)
    os.close(its)
    typing.join()
    os.close(window)
    text = shown.decode()
    assert "33 101" in text, text
    assert "/dev/hvc0" in text, text
    assert "mooring " in text.rpartition("/dev/hvc0")[2], text
