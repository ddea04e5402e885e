"""Reads what the guards need to know of disks of the kernel's initiator, at the edge."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from initiator.errors import MooringError
from initiator.host import block, blockreader, kmsg, lundetails, sysfs
from initiator.host.multipathd import Daemon, Multipathd
from initiator.host.nodes import Records, read_records
from initiator.host.scsipaths import ScsiPath, ScsiSession, read_paths, read_traffic
from initiator.host.stacks import Array, VolumeGroup, read_array, read_groups, uses_lvm
from initiator.model import BlockNode, Problem
from initiator.scsi.reservations import Registration
from safety.facts_kernel import KernelFacts, Record
from safety.scope import Extent

_ISCSID = "@ISCSIADM_ABSTRACT_NAMESPACE"
_PATIENCE = 2.0
PATH = "kernel:p:"
"""How ids of paths of the kernel begin."""
SESSION = "kernel:s:"
"""And those of its sessions."""


def read_kernel_facts(root: Path, extent: Extent) -> tuple[KernelFacts, tuple[Problem, ...]]:
    """One reading of everything that concerns paths and sessions of the kernel; what could not be read is a problem."""
    found = read_paths(root)
    problems = list(found.problems)
    own = {each.removeprefix(PATH) for each in extent.path_ids}
    paths = tuple(path for path in found.paths if path.hctl in own)
    named = {each.id.removeprefix(SESSION) for each in extent.sessions}
    sids = {path.sid for path in paths} | {each.sid for each in found.sessions if str(each.sid) in named}
    sessions = tuple(each for each in found.sessions if each.sid in sids)
    nodes, block_problems = blockreader.read_block(root)
    records = read_records(root)
    problems += block_problems
    devs = {path.dev for path in paths if path.dev} | {part.disk.dev for part in extent.parts if part.disk.dev}
    registrations = _registrations(root, extent, paths, problems)
    groups = _groups(root, nodes, devs, problems)
    traffic = ((path.hctl, read_traffic(path.hctl, root)) for path in paths)
    return (
        KernelFacts(
            paths=paths,
            others=tuple(path for path in found.paths if path.sid in sids and path.hctl not in own),
            sessions=sessions,
            every_session=found.sessions,
            traffic=tuple((hctl, each) for hctl, each in traffic if each is not None),
            records=tuple(Record(each.sid, _startup(records, each)) for each in sessions),
            boot=_boot(records),
            discoveryd=_discoveryd(records),
            iscsid=_ISCSID in (sysfs.read_text(f"{sysfs.base(root)}/proc/net/unix") or ""),
            multipathd=_multipathd(root),
            groups=groups,
            arrays=_arrays(root, nodes, devs),
            back=_back(root, found.paths),
            registrations=registrations,
        ),
        tuple(problems),
    )


def _registrations(
    root: Path, extent: Extent, paths: Iterable[ScsiPath], problems: list[Problem]
) -> tuple[tuple[str, tuple[Registration, ...]], ...]:
    """Asks the disks over paths that are running; what is offline by now was asked before."""
    running = {f"{PATH}{path.hctl}" for path in paths if path.state == "running"}
    asked = [part.disk for part in extent.parts if any(path.id in running for path in part.paths)]
    if root != Path("/") or os.geteuid() != 0:
        return ()
    found, failed = lundetails.read_registrations(asked)
    problems += failed
    return tuple(found.items())


def _startup(records: Records, session: ScsiSession) -> str | None:
    """The start-up of the session's records; two that differ are a word that no record has, so nothing is assumed."""
    found = [record for portal in session.portals for record in records.of(session.target, portal, session.interface)]
    words = list(dict.fromkeys(record.startup or "unknown" for record in found))
    return None if not words else words[0] if len(words) == 1 else "several: " + ", ".join(words)


def _boot(records: Records) -> tuple[str, ...]:
    names = [target.name for target in records.boot]
    names += [record.target for record in records.nodes if record.startup == "onboot"]
    return tuple(dict.fromkeys(names))


def _discoveryd(records: Records) -> tuple[str, ...]:
    return tuple(
        f"{each.kind} {each.address}"
        for each in records.discoveries
        if each.settings.get(f"discovery.{'isns' if each.kind == 'isns' else 'sendtargets'}.use_discoveryd") == "Yes"
    )


def _back(root: Path, paths: Iterable[ScsiPath]) -> tuple[tuple[str, float], ...] | None:
    """From the log of the running kernel, a path that was only now attached too; a recorded tree has none."""
    if root != Path("/"):
        return ()
    try:
        told = kmsg.read_kmsg()
    except OSError:
        return None
    attached = {line.what: line.at for line in told if line.kind == "attached"}
    found = {path.dev: attached[path.hctl] for path in paths if path.dev is not None and path.hctl in attached}
    return tuple({**found, **kmsg.reinstated(told)}.items())


def _multipathd(root: Path) -> str:
    with Multipathd(root) as daemon:
        told = daemon.read(_PATIENCE)
    return str(told.daemon) if told.daemon in (Daemon.RUNNING, Daemon.ABSENT) else told.reason or str(told.daemon)


def _groups(root: Path, nodes: Iterable[BlockNode], devs: set[str], problems: list[Problem]) -> tuple[VolumeGroup, ...]:
    every = tuple(nodes)
    above = block.above(every, devs, {})
    if root != Path("/") or not uses_lvm([node for node in every if node.dev in above], root):
        return ()
    try:
        return read_groups()
    except MooringError as error:
        problems.append(Problem("lvm", "the volume groups", str(error)))
        return ()


def _arrays(root: Path, nodes: Iterable[BlockNode], devs: set[str]) -> tuple[Array, ...]:
    every = tuple(nodes)
    above = block.above(every, devs, {})
    return tuple(read_array(node, root) for node in every if node.kind == "md" and node.dev in above)
