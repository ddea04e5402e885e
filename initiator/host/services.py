"""Which of systemd's units have to do with iSCSI, what is ordered after what, and who listens on which address."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from initiator.errors import MooringError
from initiator.host.run import run
from initiator.names import clean

UNITS = (
    "iscsid.service",
    "iscsid.socket",
    "iscsi.service",
    "open-iscsi.service",
    "multipathd.service",
    "multipathd.socket",
    "remote-fs.target",
)
"""open-iscsi.service logs in and out on Debian and Ubuntu, iscsi.service elsewhere."""
_DEADLINE = 10.0
"""Seconds; systemctl takes some of them on a machine that is busy."""


class ServicesError(MooringError):
    """systemd does not answer."""

    code = "systemd"


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """One unit."""

    name: str
    enabled: str
    """enabled, disabled, static, masked, alias, …"""
    active: str
    """active, inactive, failed, …"""
    before: frozenset[str] = frozenset()
    """The units that are started after it and stopped before it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Automount:
    """One automount unit of systemd."""

    unit: str
    where: str
    active: str
    """active, inactive, failed, …"""


class Listener(NamedTuple):
    """One TCP socket that waits for connections."""

    address: str
    """`0.0.0.0` or `::` for all of this host's addresses."""
    port: int
    program: str | None
    """None where only root may know."""


def read_units() -> tuple[dict[str, Unit], dict[str, frozenset[str]]]:
    """The units of `UNITS` that are installed, and for each mount what it is ordered after.

    Raises:
        ServicesError: systemctl is not there, or systemd does not run.
        Stuck: it hangs.
    """
    units = _blocks(_show([*UNITS], "Id,LoadState,UnitFileState,ActiveState,Before"))
    found = {}
    for values in units:
        if values.get("LoadState") == "loaded":
            name = values.get("Id", "")
            before = frozenset(values.get("Before", "").split())
            found[name] = Unit(name, values.get("UnitFileState", ""), values.get("ActiveState", ""), before)
    mounts = _blocks(_show(["*.mount"], "Where,After"))
    return found, {
        values["Where"]: frozenset(values.get("After", "").split()) for values in mounts if "Where" in values
    }


def read_automounts() -> tuple[Automount, ...]:
    """The automount units that are loaded.

    Raises:
        ServicesError: systemctl is not there, or systemd does not run.
        Stuck: it hangs.
    """
    found = _blocks(_show(["*.automount"], "Id,Where,ActiveState"))
    return tuple(Automount(each["Id"], each["Where"], each.get("ActiveState", "")) for each in found if "Where" in each)


def _show(patterns: list[str], properties: str) -> str:
    done = run(["systemctl", "show", "--no-pager", f"--property={properties}", "--", *patterns], _DEADLINE)
    if done.returncode != 0:
        raise ServicesError(f"systemctl: {clean(done.stderr.strip() or f'ended with {done.returncode}', 200)}")
    return done.stdout


def _blocks(text: str) -> Iterator[Mapping[str, str]]:
    """The objects in the output of `systemctl show`: `Key=value` lines, an empty line between two units."""
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        if values:
            yield values


def read_listeners() -> tuple[Listener, ...]:
    """The listening TCP sockets of this network namespace, each once.

    Raises:
        OSError: the kernel does not let us look.
    """
    import psutil

    names: dict[int, str | None] = {}
    found = set()
    for each in psutil.net_connections(kind="tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr:
            found.add(Listener(each.laddr.ip, each.laddr.port, _program(each.pid, names)))
    return tuple(sorted(found, key=lambda one: (one.port, one.address, one.program or "")))


def _program(pid: int | None, names: dict[int, str | None]) -> str | None:
    import psutil

    if pid is None:
        return None
    if pid not in names:
        try:
            names[pid] = clean(psutil.Process(pid).name(), 40)
        except psutil.Error:
            names[pid] = None
    return names[pid]
