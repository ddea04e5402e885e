"""A small host in values: one attached disk with two paths and one mounted file system."""

from __future__ import annotations

import dataclasses
from typing import Any

from initiator.host.mounts import Mount
from initiator.model import (
    BlockNode,
    Connection,
    Disk,
    DiskState,
    Link,
    LinkState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Snapshot,
    Source,
)
from safety.facts import Facts, Memory, SystemUse
from safety.scope import Reach, Scope

DISK = "engine:d:naa.5000000000000001"
SCOPE = Scope(Reach.DISKS, (DISK,), "data")
WWID = "naa.5000000000000001"
TARGET = "iqn.2026-11.example:store"
DEV = "7:3"
SIZE = 64 << 20
ROOT_MOUNT = Mount(1, 0, "254:0", "/", "/", "rw,relatime", "", "ext4", "/dev/vda", "rw")
DATA_MOUNT = Mount(40, 1, DEV, "/", "/mnt/data", "rw,relatime", "", "ext4", "/dev/loop3", "rw,errors=continue")


def session(number: int, **changes: Any) -> Session:
    host = f"127.0.0.{number}"
    plain = Session(
        id=f"engine:s:{number}",
        name=f"store@{host}:3260",
        state=SessionState.LOGGED_IN,
        source=Source.ENGINE,
        target=TARGET,
        portal=Portal(host, 3260),
        initiator="iqn.2026-11.example:host",
        connections=(Connection(f"engine:c:{number}", "0", "up", 0, host, 50000 + number, host, 3260),),
        luns=(0,),
        link="link:lo",
    )
    return dataclasses.replace(plain, **changes)


def path(number: int, **changes: Any) -> Path:
    plain = Path(
        id=f"engine:p:{number}",
        name=f"store@127.0.0.{number}:3260 LUN 0",
        state=PathState.ACTIVE,
        disk=DISK,
        session=f"engine:s:{number}",
        link="link:lo",
    )
    return dataclasses.replace(plain, **changes)


def disk(**changes: Any) -> Disk:
    plain = Disk(
        id=DISK,
        name="data",
        state=DiskState.ATTACHED,
        source=Source.ENGINE,
        wwid=WWID,
        size_bytes=SIZE,
        device="/dev/loop3",
        dev=DEV,
        diskseq=7,
        paths=("engine:p:1", "engine:p:2"),
        target=TARGET,
        lun=0,
        designators=(WWID,),
        serial="0001",
        block_bytes=512,
        write_cache=True,
        read_only=False,
    )
    return dataclasses.replace(plain, **changes)


def node(**changes: Any) -> BlockNode:
    plain = BlockNode(
        kname="loop3",
        dev=DEV,
        kind="loop",
        size_bytes=SIZE,
        read_only=False,
        backing_file="/run/mooring/disks/data/data",
        diskseq=7,
    )
    return dataclasses.replace(plain, **changes)


def snapshot(**changes: Any) -> Snapshot:
    plain = Snapshot(
        host="testhost",
        taken_at=1000.0,
        sessions=(session(1), session(2)),
        disks=(disk(),),
        paths=(path(1), path(2)),
        links=(Link("link:lo", "lo", LinkState.UP),),
        block=(
            BlockNode("vda", "254:0", "disk", 1 << 34, False),
            node(),
        ),
        engine="running",
    )
    return dataclasses.replace(plain, **changes)


def facts(**changes: Any) -> Facts:
    plain = Facts(
        mounts=(ROOT_MOUNT, DATA_MOUNT),
        superblocks=("loop3",),
        system=(SystemUse("/", "254:0"),),
        memory=Memory(8 << 30, 4 << 30, 0.0),
        filesystem_devs={DEV: (DEV,), "254:0": ("254:0",)},
    )
    return dataclasses.replace(plain, **changes)
