"""Flow control of real links, and ARP settings from a tree."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from initiator.host import nicsettings
from initiator.host.nicsettings import Arp, Pause
from tests.host.tree import Tree


def test_pauses_are_as_ethtool_prints_them() -> None:
    names = os.listdir("/sys/class/net")
    found = nicsettings.read_pauses(names)
    if shutil.which("ethtool") is None:
        assert "lo" not in found
        return
    for name in names:
        ran = subprocess.run(["ethtool", "-a", name], capture_output=True, text=True, check=False)
        words = dict(re.findall(r"^(RX|TX):\s+(on|off)", ran.stdout, re.MULTILINE))
        assert (name in found) == bool(words)
        if words:
            assert found[name] == Pause(words["RX"] == "on", words["TX"] == "on")


def test_the_drivers_answer_is_read_from_where_the_request_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel here has no card with pause frames: an ioctl that answers like one stands in for it."""

    def ioctl(channel: Any, request: int, data: bytes) -> int:
        import ctypes

        name, address = struct.unpack("@16sP16x", data)
        assert request == 0x8946
        if name.rstrip(b"\0") != b"eth1":
            raise OSError(95, "Operation not supported")
        told = (ctypes.c_uint32 * 4).from_address(address)
        assert told[0] == 0x12
        told[1], told[2], told[3] = 1, 1, 0
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert nicsettings.read_pauses(["eth1", "veth0"]) == {"eth1": Pause(rx=True, tx=False)}


def test_of_all_and_the_links_own_setting_the_higher_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    values = {"all": (0, 1, 2), "eth1": (2, 0, 0), "eth2": (1, 2, 0)}
    for name, numbers in values.items():
        for key, number in zip(("rp_filter", "arp_ignore", "arp_announce"), numbers, strict=True):
            tree.write(f"proc/sys/net/ipv4/conf/{name}/{key}", f"{number}\n")
    found = nicsettings.read_arp(["eth1", "eth2", "gone"], tree.root)
    assert found == {"eth1": Arp(2, 1, 2), "eth2": Arp(1, 2, 2)}
