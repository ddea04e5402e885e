"""Builds small trees of proc, sys, dev and run, as the kernel and udev write them, for readers that take a root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MOUNT_NS = "mnt:[4026531840]"


class Tree:
    """A host in a folder. Everything that is not built is absent, as on a kernel without it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("proc", "sys/class/block", "sys/class/net"):
            (root / folder).mkdir(parents=True)
        self.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        self.process("self", mountinfo="")

    def write(self, path: str, text: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def link(self, path: str, target: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        place.symlink_to(target)

    # --- block ---

    def block(
        self,
        kname: str,
        dev: str,
        size: int = 1 << 30,
        *,
        parent: str | None = None,
        diskseq: int | None = None,
        ro: bool = False,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        place = f"sys/devices/virtual/block/{parent}/{kname}" if parent else f"sys/devices/virtual/block/{kname}"
        major, minor = dev.split(":")
        event = f"MAJOR={major}\nMINOR={minor}\nDEVNAME={kname}\nDEVTYPE={'partition' if parent else 'disk'}\n"
        self.write(f"{place}/uevent", event + (f"DISKSEQ={diskseq}\n" if diskseq else ""))
        self.write(f"{place}/dev", f"{dev}\n")
        self.write(f"{place}/size", f"{size // 512}\n")
        self.write(f"{place}/ro", f"{int(ro)}\n")
        (self.root / place / "holders").mkdir()
        if parent:
            self.write(f"{place}/partition", "1\n")
        else:
            (self.root / place / "slaves").mkdir()
        for name, text in (attributes or {}).items():
            self.write(f"{place}/{name}", f"{text}\n")
        self.link(f"sys/class/block/{kname}", os.path.relpath(self.root / place, self.root / "sys/class/block"))

    def stack(self, upper: str, lower: str) -> None:
        """`upper` holds `lower`."""
        (self.root / "sys/class/block" / lower / "holders" / upper).mkdir()
        (self.root / "sys/class/block" / upper / "slaves" / lower).mkdir()

    # --- processes ---

    def process(
        self,
        pid: int | str,
        *,
        comm: str = "sh",
        uid: int = 0,
        mountinfo: str | None = None,
        namespace: str = MOUNT_NS,
        fds: Mapping[int, tuple[str, int]] | None = None,
        cwd: str = "/",
        root: str = "/",
        exe: str = "/bin/sh",
        maps: str = "",
    ) -> None:
        place = f"proc/{pid}"
        self.write(f"{place}/comm", f"{comm}\n")
        self.write(f"{place}/status", f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        self.write(f"{place}/maps", maps)
        own = self.root / "proc/self/mountinfo"
        self.write(f"{place}/mountinfo", own.read_text() if mountinfo is None else mountinfo)
        for name, target in (("ns/mnt", namespace), ("cwd", cwd), ("root", root), ("exe", exe)):
            self.link(f"{place}/{name}", target)
        (self.root / place / "fd").mkdir(exist_ok=True)
        (self.root / place / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        for number, (target, mount_id) in (fds or {}).items():
            self.link(f"{place}/fd/{number}", target)
            self.write(f"{place}/fdinfo/{number}", f"pos:\t0\nflags:\t0100000\nmnt_id:\t{mount_id}\nino:\t1\n")

    def mounts(self, *lines: str) -> None:
        """The own namespace."""
        self.write("proc/self/mountinfo", "".join(f"{line}\n" for line in lines))

    # --- links ---

    def net(self, name: str, *, flags: int = 0x1003, kind: int = 1, **attributes: str) -> None:
        place = f"sys/class/net/{name}"
        values = {
            "carrier": "1",
            "carrier_changes": "2",
            "mtu": "1500",
            "operstate": "up",
            "ifindex": "2",
            "iflink": "2",
        }
        values |= {"flags": hex(flags), "type": str(kind), "uevent": f"INTERFACE={name}\nIFINDEX=2"}
        values |= {f"statistics/{key}": "0" for key in ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors")}
        for key, text in (values | attributes).items():
            self.write(f"{place}/{key}", f"{text}\n")
