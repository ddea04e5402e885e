"""What lies on a block device, by its own first blocks: asked for only when a person wants to look into it.

blkid(8) knows the signatures of members of LVM, md, LUKS and bcache, of swap and of file systems, and says when there
are several. It is told to look itself (`-p`): what udev noted may be of yesterday. Whatever reads a device can hang.
"""

from __future__ import annotations

import dataclasses
import re

from initiator.errors import MooringError
from initiator.host.run import Stuck, run, run_helper
from initiator.names import clean

_SECONDS = 20.0
_NOTHING, _SEVERAL = 2, 8
"""Exit codes of `blkid -p`."""
_ESCAPED = re.compile(r"\\(.)")


class ContentsError(MooringError):
    """What lies on a device cannot be told."""

    code = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What a device carries."""

    type: str | None = None
    """As blkid calls it: `ext4`, `LVM2_member`, `swap`; None where there is nothing that it knows."""
    usage: str | None = None
    """`filesystem`, `raid`, `crypto`, `other`."""
    label: str | None = None
    uuid: str | None = None
    table: str | None = None
    """Kind of the partition table, if it has one."""
    several: bool = False
    """Whether signatures of several things were found."""
    devices: int | None = None
    """How many devices the file system lies on, where it says so (btrfs)."""


def read_contents(device: str) -> Contents:
    """Look at the first blocks of a device, in children with a deadline; needs root.

    Raises:
        ContentsError: blkid does not tell.
        CannotRun: there is no blkid.
        HelperFailed: the device cannot be read.
    """
    try:
        done = run(["blkid", "-p", "-o", "export", device], _SECONDS)
    except Stuck as error:  # nothing was begun that could have an outcome
        raise ContentsError(f"{device} cannot be read: {error}", code=error.code, fix=error.fix) from error
    if done.returncode not in (0, _NOTHING, _SEVERAL):
        reason = clean(done.stderr.strip(), 200) or f"exit status {done.returncode}"
        raise ContentsError(f"blkid does not tell what is on {device}: {reason}", fix=f"blkid -p {device}")
    if done.returncode == _SEVERAL:
        return Contents(several=True)
    found = parse(done.stdout)
    if found.type != "btrfs":
        return found
    # num_devices of the superblock at 64 KiB (linux/btrfs_tree.h), little endian
    told: bytes = run_helper("read_at", {"path": device, "offset": 0x10088, "length": 8}, _SECONDS).value
    return dataclasses.replace(found, devices=int.from_bytes(told, "little"))


def parse(text: str) -> Contents:
    """Read what `blkid -p -o export` prints."""
    pairs = (line.partition("=") for line in text.splitlines())
    told = {key: clean(_ESCAPED.sub(r"\1", value), 200) for key, _, value in pairs}
    return Contents(
        type=told.get("TYPE"),
        usage=told.get("USAGE"),
        label=told.get("LABEL"),
        uuid=told.get("UUID"),
        table=told.get("PTTYPE"),
    )
