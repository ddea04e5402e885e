"""The engine's own objects as those of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from initiator.engine.attached import Route, Unit, WorkerConfig, default_name, disk_id
from initiator.engine.device import Device
from initiator.engine.probe import LunInfo
from initiator.engine.selector import DevicePath
from initiator.engine.session import EngineSession
from initiator.host.tcp import parse_tcp_info
from initiator.model import Connection, Disk, DiskState, Path, PathState, Session, SessionState, Source
from initiator.names import clean
from initiator.protocol.keys import CRC32C, NONE
from initiator.scsi.commands import WELL_KNOWN

_LONGEST = 255


def session_id(number: int) -> str:
    """The id of the session over route `number`."""
    return f"engine:s:{number}"


def short_name(target: str) -> str:
    """The part of a target's name that people use."""
    return target.rpartition(":")[2] or target


def unit_of(info: LunInfo, read_only: bool) -> Unit:
    """Who a logical unit is, as it is kept for later."""
    size, block = (info.capacity.size_bytes, info.capacity.block_bytes) if info.capacity is not None else (0, 0)
    return Unit(
        lun=info.lun,
        wwid=info.wwid,
        designators=info.names,
        size_bytes=size,
        block_bytes=block,
        read_only=read_only or bool(info.write_protected),
        write_cache=info.write_cache,
        thin=info.capacity.thin if info.capacity is not None else None,
        vendor=_clean(info.standard.vendor),
        product=_clean(info.standard.product),
        revision=_clean(info.standard.revision),
        serial=_clean(info.serial),
    )


def session(
    config: WorkerConfig, route: Route, source: EngineSession, luns: Sequence[LunInfo], well_known: Iterable[int]
) -> Session:
    """One session. A target that owes an answer and is silent shows as failed at once, not when it is given up."""
    params = source.params
    state = SessionState.FAILED if source.suspect else source.state
    return Session(
        id=session_id(route.number),
        name=f"{short_name(config.target)}@{source.portal}",
        state=state,
        source=Source.ENGINE,
        target=config.target,
        portal=source.portal,
        initiator=config.initiator,
        alias=_clean(params.target_alias) if params is not None else None,
        isid=route.isid,
        tsih=source.tsih or None,
        tpgt=params.target_portal_group_tag if params is not None else None,
        chap_user=config.chap_user,
        connections=_connections(route, source),
        negotiated={name: clean(value, _LONGEST) for name, value in params.as_text().items()} if params else {},
        luns=tuple(info.lun for info in luns),
        reason=_clean(source.reason),
        reconnects=source.reconnects,
        details={**_mutual(config), **_units(luns, well_known), **_details(source)},
    )


def _mutual(config: WorkerConfig) -> dict[str, str]:
    """The name that the target has to prove, under the word that the kernel's sessions have for it."""
    return {} if config.chap_target_user is None else {"chap_user_in": config.chap_target_user}


def _units(luns: Iterable[LunInfo], well_known: Iterable[int]) -> dict[str, str]:
    """Logical units that are no disks: doors of an array, and those that every target could have."""
    doors = {
        f"lun {info.lun}": f"{info.kind}: {_clean(info.standard.vendor)} {_clean(info.standard.product)}"
        for info in luns
        if info.standard.qualifier == 0 and not info.present
    }
    return {**doors, **{f"lun {lun}": WELL_KNOWN.get(lun, "well known") for lun in well_known}}


def _details(source: EngineSession) -> dict[str, str]:
    """What has gone through, over all connections of the session and over the one it has now."""
    total, now = source.counters, source.connection_counters
    return {
        name.name: f"{getattr(total, name.name)} ({getattr(now, name.name)} over this connection)"
        for name in dataclasses.fields(total)
    }


def _connections(route: Route, source: EngineSession) -> tuple[Connection, ...]:
    local, peer, params = source.local_address, source.peer_address, source.params
    if local is None or peer is None:
        return ()
    tcp = source.tcp_info()
    return (
        Connection(
            id=f"engine:c:{route.number}",
            name=f"{local[0]}:{local[1]} - {peer[0]}:{peer[1]}",
            state="suspect" if source.suspect else "up",
            local_host=local[0],
            local_port=local[1],
            peer_host=peer[0],
            peer_port=peer[1],
            header_digest=CRC32C if params is not None and params.header_digest else NONE,
            data_digest=CRC32C if params is not None and params.data_digest else NONE,
            tcp=parse_tcp_info(tcp) if tcp is not None else None,
        ),
    )


def path_id(number: int, lun: int) -> str:
    """The id of the path to one LUN over one session."""
    return f"engine:p:{number}:{lun}"


def browsed_path(config: WorkerConfig, route: Route, source: EngineSession, info: LunInfo) -> Path:
    """A path that carries no I/O: the disk is only seen over it."""
    works = source.state is SessionState.LOGGED_IN and not source.suspect
    return Path(
        id=path_id(route.number, info.lun),
        name=f"{short_name(config.target)}@{source.portal} lun {info.lun}",
        state=PathState.ACTIVE if works else PathState.FAILED,
        disk=disk_id(info.wwid, config.target, info.lun),
        session=session_id(route.number),
        lun=info.lun,
        access=info.access,
        reason=None if works else _clean(source.reason),
    )


def used_path(config: WorkerConfig, route: Route, source: EngineSession, disk: str, path: DevicePath) -> Path:
    """A path of an opened disk."""
    return Path(
        id=path_id(route.number, path.info.lun),
        name=f"{short_name(config.target)}@{source.portal} lun {path.info.lun}",
        state=path.state,
        disk=disk,
        session=session_id(route.number),
        lun=path.info.lun,
        access=path.access,
        in_use=path.in_use,
        since=path.since,
        latency_us=path.latency_us,
        in_flight=path.in_flight,
        reads=path.reads,
        writes=path.writes,
        read_bytes=path.read_bytes,
        write_bytes=path.write_bytes,
        errors=path.errors,
        timeouts=path.timeouts,
        failures=path.failures,
        reason=_clean(path.reason),
    )


def disk(config: WorkerConfig, info: LunInfo, paths: Iterable[Path], device: Device | None) -> Disk:
    """One logical unit; what changes is taken from the opened device where there is one."""
    unit = unit_of(info, False)
    own, name = disk_id(info.wwid, config.target, info.lun), default_name(config.target, info.lun)
    return dataclasses.replace(
        unit.as_disk(own, name, config.target),
        state=DiskState.AVAILABLE,
        size_bytes=device.size_bytes if device is not None else unit.size_bytes if info.usable else None,
        paths=tuple(sorted(path.id for path in paths)),
        read_only=unit.read_only if device is None else device.read_only,
        write_cache=unit.write_cache if device is None else device.write_cache,
        kind=info.kind,
        unflushed=None if device is None else device.unflushed,
        reason="requests wait because no path works" if device is not None and device.queueing else None,
    )


def _clean(text: str | None) -> str | None:
    return clean(text, _LONGEST) if text is not None else None
