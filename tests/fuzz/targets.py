"""What can be fuzzed, by name: a function that takes bytes and raises only if something is wrong, and a few seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from initiator.protocol import isns
from initiator.protocol.pdu import LoginResponse, NopIn, ScsiResponse
from tests.fuzz import logins, parsers, sessions


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...] = (b"",)
    most: int = 1024
    """Longest input in bytes."""


_NAA = bytes.fromhex("010300083000000000000001")
_TEXT = b"HeaderDigest=CRC32C,None\0MaxBurstLength=0x40000\0InitialR2T=Yes\0CHAP_C=0b/9j+\0X-org.test=1~2\0"
_LIST = b"TargetName=iqn.2026-11.io.mooring:a\0TargetAddress=[::1]:3260,1\0TargetAddress=host,2\0"
_MOUNT = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"

_NODE = (
    isns.text(isns.Tag.NAME, "iqn.2026-11.io.mooring:a"),
    isns.DELIMITER,
    isns.number(isns.Tag.NODE_TYPE, 1),
    isns.address(isns.Tag.PORTAL_ADDRESS, "192.0.2.1"),
    isns.number(isns.Tag.PORTAL_PORT, 3260),
)

TARGETS: dict[str, Target] = {
    "pdu": Target(
        parsers.pdu,
        (
            b"\x07" + NopIn(stat_sn=1, exp_cmd_sn=1, max_cmd_sn=2, data=b"Mooring?").encode(),
            b"\x80" + LoginResponse(stat_sn=1, exp_cmd_sn=1, max_cmd_sn=2, data=_TEXT).encode(),
        ),
    ),
    "digest": Target(parsers.broken_digest, (b"\0\0\0\x30\0data",)),
    "text": Target(parsers.key_text, (_TEXT,)),
    "scsi": Target(parsers.scsi, (b"\x06" + _NAA, b"\x18\x70\0\5\0\0\0\0\x0a\0\0\0\0\x24\0\0\0\0\0"), 512),
    "host": Target(parsers.host, (b"\x01" + _MOUNT, b"\0node.name = a\nnode.conn[0].address = ::1\n")),
    "names": Target(parsers.outside_names, (b"iqn.2026-11.io.mooring:a", b"[fe80::1%eth0]:3260,1", b"512M"), 256),
    "lines": Target(parsers.lines, (b'\7{"id":1,"method":"status"}\n',)),
    "isns": Target(
        parsers.name_server,
        (
            b"\2\2" + bytes(4) + isns.encode_attributes(_NODE),
            b"\3" + isns.Message(isns.Function.SCN, 1, isns.encode_attributes(_NODE)).encode(isns.Flag.SERVER),
        ),
    ),
    "login": Target(logins.login, (b"\0\x20\1\1\1\1\1\1\x20\1\1\1", b"\2\0\x10AuthMethod=CHAP\0\0")),
    "discovery": Target(logins.discovery, (b"\1" + bytes((len(_LIST),)) + _LIST, b"\0\0\2\0\1\0")),
    "practice-login": Target(logins.practice_login, (b"\x0d\x15SessionType=Discovery\0",)),
    "session": Target(
        sessions.session,
        (
            # A read that is answered by a response; one whose data bring the status; a write with an R2T.
            b"\x08\1\1\x10\0\0\1\0\0\0\0\0\xff",
            b"\x08\1\1\4\0\0\0\0\x80" + bytes(128) + b"\1\0\0\xff",
            b"\x08\1\2\x40\3\xff\0\0\2\0\x40" + bytes(64) + b"\0\0\0\0\xff",
        ),
        2048,
    ),
    "garbage": Target(sessions.garbage, (b"\0" + ScsiResponse(stat_sn=1, exp_cmd_sn=1, max_cmd_sn=9).encode(),), 2048),
}
"""In the order in which they are run."""
_ORDER = tuple(TARGETS.values())


def everything(data: bytes) -> None:
    """All of them in one process: the first byte says which."""
    if data:
        _ORDER[data[0] % len(_ORDER)].run(data[1:])


ALL = Target(
    everything,
    tuple(bytes((number,)) + seed for number, target in enumerate(_ORDER) for seed in target.seeds),
    max(target.most for target in _ORDER) + 1,
)
