"""What a practice target is made of: its disks, targets and portals, as one JSON file.

The file is the agreement between the range that writes it and the target process that serves it; it holds a CHAP
secret, so it is written with mode 0600.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from initiator.errors import BadInputError
from initiator.model import Portal

HARBOUR = "iqn.2026-11.io.mooring.practice:harbour"
LIGHTHOUSE = "iqn.2026-11.io.mooring.practice:lighthouse"
MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class DiskConfig:
    """One file-backed disk.

    Attributes:
        name: What a person and the faults call it.
        uuid: Its identity for life; the designator of VPD page 83h comes from it.
        path: The sparse file that holds its bytes; made when it is missing, never made smaller.
        size_bytes: A multiple of `block_bytes`.
        block_bytes: 512 or 4096.
        explicit_alua: True if initiators may order access states (SET TARGET PORT GROUPS).
    """

    name: str
    uuid: str
    path: str
    size_bytes: int
    block_bytes: int = 512
    explicit_alua: bool = False

    @property
    def naa(self) -> bytes:
        """Eight bytes: NAA 3h, locally assigned (SPC-4, 7.8.6.6.4), and 60 bits made from the uuid."""
        digest = hashlib.sha256(uuid.UUID(self.uuid).bytes).digest()
        return bytes([0x30 | digest[0] & 0x0F]) + digest[1:8]

    @property
    def wwid(self) -> str:
        """The same designator in the form that the model uses."""
        return f"naa.{self.naa.hex()}"

    @property
    def serial(self) -> str:
        """Unit serial number of VPD page 80h, printable ASCII."""
        return uuid.UUID(self.uuid).hex


@dataclasses.dataclass(frozen=True, slots=True)
class ChapConfig:
    """What an initiator must prove, and, if it asks, the target (RFC 7143, 12.1.3). Secrets stay out of every repr."""

    user: str
    secret: str = dataclasses.field(repr=False)
    target_user: str = ""
    target_secret: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class TargetConfig:
    """One target: `luns` maps a logical unit number to the name of a disk."""

    name: str
    luns: Mapping[int, str]
    alias: str = ""
    chap: ChapConfig | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RangeConfig:
    """Everything that one target process serves.

    Attributes:
        portals: Each is a portal group of its own, so that its ALUA state can differ; port 0 lets the kernel choose.
        control: Path of the control socket.
    """

    targets: tuple[TargetConfig, ...]
    disks: tuple[DiskConfig, ...]
    portals: tuple[Portal, ...]
    control: str

    def disk(self, name: str) -> DiskConfig:
        """The disk of that name.

        Raises:
            BadInputError: there is none.
        """
        for disk in self.disks:
            if disk.name == name:
                return disk
        raise BadInputError(
            f"there is no practice disk named {name!r}; there are {', '.join(d.name for d in self.disks)}"
        )

    def save(self, path: Path) -> None:
        """Write the file with mode 0600 and put it on stable storage."""
        document = dataclasses.asdict(self)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())


def load(path: Path) -> RangeConfig:
    """Read what `RangeConfig.save` wrote.

    Raises:
        BadInputError: the file cannot be read or lacks something; the text says what.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        config = _decode(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{path}: not a practice configuration ({type(error).__name__}: {error})") from error
    check(config)
    return config


def _decode(document: Mapping[str, Any]) -> RangeConfig:
    targets = tuple(
        TargetConfig(
            name=str(item["name"]),
            luns={int(lun): str(disk) for lun, disk in item["luns"].items()},
            alias=str(item.get("alias", "")),
            chap=None if item.get("chap") is None else ChapConfig(**item["chap"]),
        )
        for item in document["targets"]
    )
    return RangeConfig(
        targets=targets,
        disks=tuple(DiskConfig(**item) for item in document["disks"]),
        portals=tuple(Portal(**item) for item in document["portals"]),
        control=str(document["control"]),
    )


def check(config: RangeConfig) -> None:
    """Refuse a configuration that could not be served.

    Raises:
        BadInputError: naming the entry and the reason.
    """
    for disk in config.disks:
        if disk.block_bytes not in (512, 4096):
            raise BadInputError(f"disk {disk.name}: a block has 512 or 4096 bytes, not {disk.block_bytes}")
        if disk.size_bytes < disk.block_bytes or disk.size_bytes % disk.block_bytes:
            raise BadInputError(f"disk {disk.name}: {disk.size_bytes} bytes are not a whole number of blocks")
        try:
            uuid.UUID(disk.uuid)
        except ValueError as error:
            raise BadInputError(f"disk {disk.name}: {disk.uuid!r} is no uuid") from error
    for target in config.targets:
        for lun, name in target.luns.items():
            if not 0 <= lun < 16384:
                raise BadInputError(f"target {target.name}: LUN {lun} is not between 0 and 16383")
            config.disk(name)
    tags = [portal.group_tag for portal in config.portals]
    if not tags or None in tags or len(set(tags)) != len(tags):
        raise BadInputError("each practice portal needs a portal group tag of its own")


def standard(folder: Path, portals: tuple[Portal, ...], control: Path, secret: str) -> RangeConfig:
    """The range that `mooring practice` makes: two targets, three disks, fresh identities.

    Args:
        folder: Where the backing files will be.
        portals: With their portal group tags.
        control: Path of the control socket.
        secret: CHAP secret of the second target, at least 12 characters (RFC 7143, 9.2.1: 96 bits).
    """

    def disk(name: str, mib: int) -> DiskConfig:
        return DiskConfig(name, str(uuid.uuid4()), str(folder / f"{name}.img"), mib * MIB)

    return RangeConfig(
        targets=(
            TargetConfig(HARBOUR, {0: "data", 1: "logs"}, alias="practice harbour"),
            TargetConfig(LIGHTHOUSE, {0: "vault"}, alias="practice lighthouse", chap=ChapConfig("keeper", secret)),
        ),
        disks=(disk("data", 256), disk("logs", 128), disk("vault", 128)),
        portals=portals,
        control=str(control),
    )
