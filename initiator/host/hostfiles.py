"""How this host's iSCSI is set up: fstab, iscsid.conf, the initiator's name, and who may read the secrets. Read only.

Secrets are looked at to compare them and are gone when the function returns: nothing here gives one away.
"""

from __future__ import annotations

import dataclasses
import hmac
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from initiator.host import sysfs
from initiator.host.files import read_some
from initiator.host.mounts import unescape
from initiator.host.nodes import Records, parse_settings
from initiator.names import clean

_LARGEST = 1 << 18
_NAME = re.compile(r"^[ \t]*InitiatorName[ \t]*=[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_SECRET = re.compile(r"^[ \t]*([\w.\[\]]*password(?:_in)?)[ \t]*=[ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class FstabEntry:
    """One line of fstab(5)."""

    spec: str
    """`/dev/…`, `UUID=…`, `LABEL=…`."""
    mountpoint: str
    fstype: str
    options: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class InitiatorFile:
    """open-iscsi's initiatorname.iscsi."""

    name: str
    written_at: float
    """Unix time."""
    machine_since: float | None
    """When this machine got its id (/etc/machine-id): a clone gets a new one at its first boot."""


@dataclasses.dataclass(frozen=True, slots=True)
class SecretFile:
    """A file in which CHAP secrets lie."""

    path: str
    mode: int
    """The permission bits."""
    same_both_ways: tuple[str, ...] = ()
    """Which pairs of settings have one secret for both directions, by the name of the one for this host."""


def read_fstab(root: Path = Path("/")) -> tuple[FstabEntry, ...]:
    """The entries of fstab; empty where there is no such file.

    Raises:
        OSError: it may not be read.
    """
    return tuple(parse_fstab(read_some(f"{sysfs.base(root)}/etc/fstab", _LARGEST)))


def parse_fstab(text: str) -> Iterator[FstabEntry]:
    """The lines that name a file system; a line with too few words is none."""
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 3 and not words[0].startswith("#"):
            options = words[3] if len(words) > 3 else "defaults"
            yield FstabEntry(unescape(words[0]), unescape(words[1]), words[2], tuple(options.split(",")))


def read_daemon_settings(root: Path = Path("/")) -> dict[str, str]:
    """The settings of iscsid.conf without secrets; empty where there is no such file.

    Raises:
        OSError: it may not be read.
    """
    return parse_settings(read_some(f"{sysfs.base(root)}/etc/iscsi/iscsid.conf", _LARGEST))


def read_initiator(root: Path = Path("/")) -> InitiatorFile | None:
    """Under which name open-iscsi logs in, as it stands in the file; None where no name stands there.

    Raises:
        OSError: it may not be read.
    """
    base = sysfs.base(root)
    path = f"{base}/etc/iscsi/initiatorname.iscsi"
    found = _NAME.search(read_some(path, _LARGEST))
    return (
        InitiatorFile(clean(found[1], 300), os.stat(path).st_mtime, _since(f"{base}/etc/machine-id")) if found else None
    )


def read_secrets(records: Records, root: Path = Path("/")) -> tuple[SecretFile, ...]:
    """The files of open-iscsi that hold a secret.

    Raises:
        OSError: one may not be read.
    """
    paths = [f"{sysfs.base(root)}/etc/iscsi/iscsid.conf"]
    paths += [record.path for record in records.nodes]
    paths += [record.path for record in records.discoveries if os.path.isfile(record.path)]
    return tuple(_secret_files(dict.fromkeys(paths)))


def _secret_files(paths: Iterable[str]) -> Iterator[SecretFile]:
    for path in paths:
        given = dict(_SECRET.findall(read_some(path, _LARGEST)))
        if given:
            both = ((name, value, given.get(f"{name}_in")) for name, value in given.items())
            same = tuple(name for name, value, back in both if back is not None and _equal(value, back))
            yield SecretFile(path, stat.S_IMODE(os.stat(path).st_mode), same)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def _since(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError as error:
        if error.errno in sysfs.GONE or error.errno in sysfs.REFUSED:
            return None
        raise
