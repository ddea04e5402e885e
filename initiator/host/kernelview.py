"""What the kernel's files say, in the words of the model: pure functions from raw attributes to sessions and states."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from initiator.host import attributes
from initiator.host.attributes import Raw
from initiator.host.iscsi import KernelConnection, KernelSession
from initiator.host.luns import Lun
from initiator.host.multipath import MapPath
from initiator.host.nodes import NodeRecord
from initiator.model import (
    Access,
    Connection,
    DiskState,
    MapState,
    PathState,
    Portal,
    Session,
    SessionState,
    Source,
    TcpInfo,
)
from initiator.names import DEFAULT_PORT, clean
from initiator.scsi import inquiry

LONGEST = 256
_STATES = {"LOGGED_IN": SessionState.LOGGED_IN, "FAILED": SessionState.FAILED, "FREE": SessionState.FREE}
_DIGESTS = {"0": "None", "1": "CRC32C"}
_ANSWERS = {"0": "No", "1": "Yes"}
_NEGOTIATED_ON_CONNECTION: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "HeaderDigest": ("header_digest", _DIGESTS),
    "DataDigest": ("data_digest", _DIGESTS),
    "MaxRecvDataSegmentLength": ("max_recv_dlength", {}),
    "MaxXmitDataSegmentLength": ("max_xmit_dlength", {}),
}
_NEGOTIATED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "FirstBurstLength": ("first_burst_len", {}),
    "MaxBurstLength": ("max_burst_len", {}),
    "ImmediateData": ("immediate_data", _ANSWERS),
    "InitialR2T": ("initial_r2t", _ANSWERS),
    "MaxOutstandingR2T": ("max_outstanding_r2t", {}),
}
_DETAILS = {
    "interface": "ifacename",
    "target_state": "target_state",
    "recovery_timeout_s": "recovery_tmo",
    "abort_timeout_s": "abort_tmo",
    "lun_reset_timeout_s": "lu_reset_tmo",
    "target_reset_timeout_s": "tgt_reset_tmo",
    "chap_user_in": "username_in",
    "boot_target": "boot_target",
}
_ACCESS = {access.value.encode(): access for access in Access}
WORKING = (PathState.ACTIVE, PathState.STANDBY)


class Identity(NamedTuple):
    """What a LUN answers to INQUIRY, and how the kernel names it."""

    kind: str
    vendor: str | None
    product: str | None
    revision: str | None
    wwid: str | None
    """As the kernel writes it: `naa.…`, `eui.…`, `t10.…`; made fit for a screen."""


@functools.lru_cache(maxsize=1 << 13)
def said(value: str | None, limit: int = LONGEST) -> str | None:
    """A text of a target or a file, fit for a screen; None where nothing is left of it."""
    return (clean(value, limit).strip() or None) if value else None


@functools.lru_cache(maxsize=1 << 13)
def address(text: str | None) -> str | None:
    """An IP address in its shortest form; the kernel writes IPv6 in full. Anything else only cleaned."""
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text.strip("[]"))) if ":" in text else said(text)
    except ValueError:
        return said(text)


def portal(values: Mapping[str, str], prefix: str = "", tag: str | None = None) -> Portal | None:
    """Where a connection leads; None where the kernel does not say."""
    return _portal(values.get(f"{prefix}address"), values.get(f"{prefix}port", ""), tag)


@functools.lru_cache(maxsize=1 << 13)
def _portal(place: str | None, port: str, tag: str | None) -> Portal | None:
    host = address(place)
    if host is None:
        return None
    number = int(tag) if tag is not None and tag.isdigit() else None
    return Portal(host, int(port) if port.isdigit() and int(port) < 65536 else DEFAULT_PORT, number)


def short_name(target: str) -> str:
    """The part of a target's name that people use."""
    return target.rpartition(":")[2] or target


def session_id(sid: int) -> str:
    """The id of session `sid`."""
    return f"kernel:s:{sid}"


def sid_of(session: Session) -> int:
    """The kernel's number of one of its sessions."""
    return int(session.id.removeprefix("kernel:s:"))


def session_of(record: NodeRecord, sessions: Iterable[Session]) -> Session | None:
    """The session that came from a node record; None where there is none."""
    place = str(record.portal)
    for session in sessions:
        if (session.source, session.target) != (Source.KERNEL, record.target):
            continue
        if session.details.get("interface", "default") != record.interface:
            continue
        if place in (session.details.get("persistent_portal"), str(session.portal)):
            return session
    return None


def to_session(
    found: KernelSession,
    luns: Iterable[int],
    records: Iterable[NodeRecord],
    tcp: TcpInfo | None = None,
    boot: bool = False,
    link: str | None = None,
) -> Session:
    """One session as the model has it."""
    values = found.attributes
    first = found.connections[0].attributes if found.connections else {}
    tag = values.get("tpgt")
    persistent = portal(first, "persistent_", tag)
    place = portal(first, "", tag) or persistent or Portal("unknown")
    target = said(values.get("targetname")) or "unknown"
    return Session(
        id=session_id(found.sid),
        name=f"{short_name(target)}@{place}",
        state=_STATES.get(values.get("state", ""), SessionState.UNKNOWN),
        source=Source.KERNEL,
        target=target,
        portal=place,
        initiator=said(values.get("initiatorname")) or said(found.iscsi_host.get("initiatorname")),
        alias=said(values.get("targetalias")),
        isid=said(values.get("isid")),
        tsih=_number(values.get("tsid")),
        tpgt=_number(tag),
        chap_user=said(values.get("username")),
        connections=tuple(_connection(each, found, tcp) for each in found.connections),
        negotiated=_negotiated(
            tuple([first.get(name) for name, _ in _NEGOTIATED_ON_CONNECTION.values()]),
            tuple([values.get(name) for name, _ in _NEGOTIATED.values()]),
        ),
        luns=tuple(sorted(luns)),
        reason=session_reason(found),
        link=link,
        details=_details(found, first, persistent, tuple(records), boot),
    )


@functools.lru_cache(maxsize=1 << 10)
def _negotiated(of_connection: tuple[str | None, ...], of_session: tuple[str | None, ...]) -> Mapping[str, str]:
    """The same object for all sessions that have agreed on the same."""
    found = {}
    tables = (_NEGOTIATED_ON_CONNECTION, of_connection), (_NEGOTIATED, of_session)
    for table, values in tables:
        for (key, (_, words)), value in zip(table.items(), values, strict=True):
            if value is not None and (text := said(words.get(value, value))) is not None:
                found[key] = text
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None


def session_reason(found: KernelSession) -> str | None:
    """Why a session is not simply logged in."""
    values = found.attributes
    state = values.get("state")
    after = values.get("recovery_tmo", "")
    limit = f" for {after} s at most" if after.isdigit() else ""
    if state == "FAILED":
        return f"the connection is lost; commands wait{limit}"
    if state == "FREE":
        return f"recovery was given up{f' after {after} s' if after.isdigit() else ''}; commands fail at once"
    if state is None:
        return "the kernel does not tell its state"
    if state != "LOGGED_IN":
        return f"the kernel calls its state {clean(state, 40)}"
    if values.get("target_state") in ("UNBOUND", "UNBINDING"):
        return "its LUNs have been taken away: somebody logs out, or a logout was not finished"
    bad = [each for each in found.connections if each.attributes.get("state") not in (None, "up")]
    return f"its connection is {clean(bad[0].attributes['state'], 40)}" if bad else None


def _connection(each: KernelConnection, found: KernelSession, tcp: TcpInfo | None) -> Connection:
    values = each.attributes
    local = address(values.get("local_ipaddr")) or address(found.iscsi_host.get("ipaddress"))
    peer = portal(values)
    local_port = _number(values.get("local_port"))
    near = "unknown" if local is None else str(Portal(local, local_port or 0))
    return Connection(
        id=f"kernel:c:{found.sid}:{each.cid}",
        name=f"{near} - {peer or 'unknown'}",
        state=said(values.get("state")) or "unknown",
        cid=each.cid,
        local_host=local,
        local_port=local_port,
        peer_host=peer.host if peer else None,
        peer_port=peer.port if peer else None,
        header_digest=_DIGESTS.get(values.get("header_digest", "")),
        data_digest=_DIGESTS.get(values.get("data_digest", "")),
        tcp=tcp,
    )


def _details(
    found: KernelSession,
    connection: Mapping[str, str],
    persistent: Portal | None,
    records: tuple[NodeRecord, ...],
    boot: bool,
) -> dict[str, str]:
    values, host = found.attributes, found.iscsi_host
    told = [(name, values.get(key)) for name, key in _DETAILS.items()]
    told += (
        ("transport", found.scsi_host.get("proc_name", "").removeprefix("iscsi_")),
        ("host", str(found.host)),
        ("host_state", found.scsi_host.get("state")),
        ("persistent_portal", str(persistent) if persistent else None),
        ("ip_address", address(host.get("ipaddress"))),
        ("hardware_address", host.get("hwaddress")),
        ("net_device", host.get("netdev")),
        ("ping_interval_s", connection.get("recv_tmo")),
        ("ping_timeout_s", connection.get("ping_tmo")),
        ("startup", ", ".join(dict.fromkeys([record.startup or "unknown" for record in records]))),
        ("record", ", ".join([record.path for record in records])),
        ("boot", "yes" if boot else None),
    )
    return {name: text for name, value in told if value and (text := said(value)) is not None}


# --- LUNs ---


def identity(fixed: Raw) -> Identity:
    """Who a LUN says it is."""
    inquiry = fixed.get("inquiry", b"")
    if len(inquiry) >= 36:
        kind, vendor, product, revision = _inquiry(inquiry[:36])
    else:
        kind = _kind(attributes.number(fixed.get("type")))
        vendor, product, revision = (said(attributes.text(fixed.get(name))) for name in ("vendor", "model", "rev"))
    return Identity(kind, vendor, product, revision, said(attributes.text(fixed.get("wwid"))))


@functools.lru_cache(maxsize=256)
def _inquiry(data: bytes) -> tuple[str, str | None, str | None, str | None]:
    """Type, vendor, product and revision in standard INQUIRY data (SPC-4, 6.6.2)."""
    vendor, product, revision = (
        said(data[at:end].decode("latin-1").strip()) for at, end in ((8, 16), (16, 32), (32, 36))
    )
    return _kind(data[0] & 0x1F), vendor, product, revision


def _kind(number: int | None) -> str:
    return "unknown" if number is None else inquiry.kind(number)


def access(raw: Raw) -> Access:
    """The asymmetric access state of a path."""
    return _ACCESS.get(raw.get("access_state", b"").strip(), Access.UNKNOWN)


class Verdict(NamedTuple):
    """Whether a path carries I/O, and why not."""

    state: PathState
    reason: str | None = None
    in_use: bool = False


_HELD_BACK = ("blocked", "quiesce", "created-blocked")
_GOING = ("cancel", "deleted")
_SESSION_REASONS = {
    SessionState.FAILED: "its session has lost the connection",
    SessionState.FREE: "the recovery of its session was given up",
}
_BAD_CHECKS = ("faulty", "shaky", "i/o timeout", "disconnected")


def path_verdict(lun: Lun, session: SessionState, in_map: bool, path: MapPath | None) -> Verdict:
    """Weighs what SCSI, the session and the map say of one path; the worst word counts.

    Args:
        lun: The LUN.
        session: The state of its session.
        in_map: Whether a multipath map stands on it.
        path: What is known of it in that map; None where nobody answered.
    """
    told = None if path is None else (path.dm_st, path.chk_st, path.in_use)
    return _verdict(lun.state, session, access(lun.changing), in_map, told)


@functools.lru_cache(maxsize=1 << 10)
def _verdict(
    state: str | None,
    session: SessionState,
    kind: Access,
    in_map: bool,
    told: tuple[str | None, str | None, bool] | None,
) -> Verdict:
    """Remembered, because of thousands of paths nearly all say the same."""
    lost = _SESSION_REASONS.get(session)
    if state is None:
        return Verdict(PathState.UNKNOWN, "the kernel does not tell the state of the device")
    if state == "offline":
        return Verdict(PathState.OFFLINE, "the device is set offline: every command fails")
    if state in _GOING:
        return Verdict(PathState.OFFLINE, "the device is being removed")
    if state == "transport-offline":
        return Verdict(PathState.FAILED, lost or "the transport has given it up")
    if state in _HELD_BACK:
        return Verdict(PathState.FAILED, f"{lost or 'its commands are held back'}; commands wait")
    if lost is not None:
        return Verdict(PathState.FAILED, lost)
    if session is not SessionState.LOGGED_IN or state not in ("running", "created"):
        return Verdict(PathState.UNKNOWN, f"the device is {clean(state, 40)} and the session {session}")
    if not in_map:
        return _by_access(kind, True)
    if told is None:
        return Verdict(PathState.UNKNOWN, "nobody tells what the multipath map does with it")
    dm_st, chk_st, in_use = told
    if dm_st == "failed":
        why = f"the checker says {chk_st}" if chk_st not in (None, "ready") else "an I/O error, or by hand"
        return Verdict(PathState.FAILED, f"the multipath map has failed it: {why}")
    if chk_st in _BAD_CHECKS:
        return Verdict(PathState.FAILED, f"multipathd's checker says {chk_st}")
    if dm_st is None:
        return Verdict(PathState.UNKNOWN, "multipathd does not tell what the map does with it")
    return _by_access(kind, in_use)


def _by_access(kind: Access, in_use: bool) -> Verdict:
    if kind in (Access.UNAVAILABLE, Access.OFFLINE):
        return Verdict(PathState.FAILED, f"its target port group is {kind}")
    if kind in (Access.STANDBY, Access.TRANSITIONING) or not in_use:
        return Verdict(PathState.STANDBY, None)
    return Verdict(PathState.ACTIVE, None, True)


def disk_state(states: Collection[PathState], attached: bool) -> DiskState:
    """What the states of a disk's paths make of it."""
    if not attached:
        return DiskState.AVAILABLE
    working = working_of(states)
    if working == len(states) > 0:
        return DiskState.ATTACHED
    if working:
        return DiskState.DEGRADED
    if PathState.UNKNOWN in states:
        return DiskState.UNKNOWN
    if states and all(state is PathState.OFFLINE for state in states):
        return DiskState.OFFLINE
    return DiskState.NO_PATH


def map_state(states: Collection[PathState], suspended: bool | None) -> MapState:
    """What the states of a map's paths make of it."""
    if suspended:
        return MapState.SUSPENDED
    working = working_of(states)
    if working == len(states) > 0:
        return MapState.OK
    if working:
        return MapState.DEGRADED
    return MapState.UNKNOWN if PathState.UNKNOWN in states else MapState.NO_PATH


def working_of(states: Iterable[PathState]) -> int:
    """How many of them can carry I/O."""
    return len([state for state in states if state in WORKING])
