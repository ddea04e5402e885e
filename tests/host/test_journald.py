"""Entries for the system's journal, as a socket of the test receives them."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from initiator.host.journald import encode, send


def test_fields_on_one_line_and_on_several() -> None:
    assert encode({"MESSAGE": "a disk", "PRIORITY": "2"}) == b"MESSAGE=a disk\nPRIORITY=2\n"
    assert encode({"MESSAGE": "a\nb"}) == b"MESSAGE\n" + struct.pack("<Q", 3) + b"a\nb\n"


@pytest.mark.parametrize("name", ["", "message", "A=B", "A\nB", "_HIDDEN", "9X", "X" * 65])
def test_names_that_journald_would_ignore(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a field"):
        encode({name: "x"})


def test_an_entry_arrives_as_one_datagram(tmp_path: Path) -> None:
    place = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(place)
        send({"MESSAGE": "Disk data is down."}, place)
        assert journal.recv(1000) == b"MESSAGE=Disk data is down.\n"


def test_without_a_journal_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        send({"MESSAGE": "x"}, str(tmp_path / "none"))
