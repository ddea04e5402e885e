"""LIO, the kernel's target, set up through configfs: `lio.py make < spec.json`, `lio.py clear`.

A specification is `{"disks": {NAME: {"size": BYTES, "serial": TEXT}}, "targets": {IQN: {"luns": [NAME],
"portals": ["ADDRESS:PORT"], "chap": [USER, SECRET], "mutual": [USER, SECRET], "digests": "CRC32C"}}}`; the last three
may be left out. `IQN,TAG` is another portal group than 1, and `luns` may be `{NUMBER: NAME}`. Run it with
`nsenter --net=…` to have the portals in that network namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path("/sys/kernel/config/target")
STORE = Path("/lab")


def make(spec: dict[str, Any]) -> None:
    """Every disk and target of the specification."""
    subprocess.run(["modprobe", "-a", "target_core_mod", "target_core_file", "iscsi_target_mod"], check=True)
    STORE.mkdir(exist_ok=True)
    # where LIO writes reservations down: without the folder it refuses each registration
    Path((ROOT / "dbroot").read_text().strip(), "pr").mkdir(parents=True, exist_ok=True)
    (ROOT / "iscsi").mkdir(exist_ok=True)
    disks = {name: _disk(number, name, disk) for number, (name, disk) in enumerate(spec["disks"].items())}
    for name, target in spec["targets"].items():
        iqn, _, tag = name.partition(",")
        _target(ROOT / "iscsi" / iqn / f"tpgt_{tag or 1}", target, disks)


def _disk(number: int, name: str, disk: dict[str, Any]) -> Path:
    file = STORE / f"{name}.img"
    if not file.exists():
        with open(file, "wb") as empty:
            empty.truncate(disk["size"])
    store = ROOT / f"core/fileio_{number}" / name
    store.mkdir(parents=True)
    write(store / "control", f"fd_dev_name={file},fd_dev_size={disk['size']}")
    # Without a serial of its own each disk would have the same page 83h, and multipath would join them.
    write(store / "wwn/vpd_unit_serial", disk["serial"])
    write(store / "enable", "1")
    write(store / "attrib/emulate_write_cache", str(int(disk.get("write_cache", True))))
    return store


def _target(group: Path, target: dict[str, Any], disks: dict[str, Path]) -> None:
    group.mkdir(parents=True)
    luns = target["luns"]
    for number, name in luns.items() if isinstance(luns, dict) else enumerate(luns):
        add_lun(group, number, disks[name])
    for portal in target["portals"]:
        (group / "np" / portal).mkdir()
    attributes = {
        "authentication": int("chap" in target),
        "demo_mode_write_protect": 0,
        "generate_node_acls": 1,
        "cache_dynamic_acls": 1,
    }
    for name, value in attributes.items():
        write(group / "attrib" / name, str(value))
    for name, words in (("userid", target.get("chap")), ("userid_mutual", target.get("mutual"))):
        if words:
            write(group / "auth" / name, words[0])
            write(group / "auth" / name.replace("userid", "password"), words[1])
    if "digests" in target:
        write(group / "param/HeaderDigest", target["digests"])
        write(group / "param/DataDigest", target["digests"])
    write(group / "enable", "1")


def add_lun(group: Path, number: int, store: Path) -> None:
    """A disk at a LUN of a portal group."""
    lun = group / f"lun/lun_{number}"
    lun.mkdir()
    os.symlink(store, lun / "disk")


def remove_lun(group: Path, number: int) -> None:
    """What is at a LUN goes, whoever uses it."""
    lun = group / f"lun/lun_{number}"
    for link in [path for path in lun.iterdir() if path.is_symlink()]:
        link.unlink()
    lun.rmdir()


def clear(targets: str = "*", disks: str = "*") -> None:
    """Take away every target and disk whose name matches; the files stay."""
    for group in ROOT.glob(f"iscsi/{targets}/tpgt_*"):
        write(group / "enable", "0")
        for lun in group.glob("lun/lun_*"):
            remove_lun(group, int(lun.name.removeprefix("lun_")))
        for portal in list((group / "np").iterdir()):
            portal.rmdir()
        group.rmdir()
        if not list(group.parent.glob("tpgt_*")):
            group.parent.rmdir()
    for store in ROOT.glob(f"core/fileio_*/{disks}"):
        if store.is_dir() and (store / "enable").exists():
            for port_group in store.glob("alua/*"):
                if port_group.name != "default_tg_pt_gp":
                    port_group.rmdir()
            store.rmdir()
            if not any(path.is_dir() for path in store.parent.iterdir()):
                store.parent.rmdir()


def write(path: Path, text: str) -> None:
    """One value into one file of configfs; a line break would become part of a CHAP name or secret."""
    path.write_text(text, encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make(json.load(sys.stdin))
    elif sys.argv[1:] == ["clear"]:
        clear()
    else:
        sys.exit(__doc__)
