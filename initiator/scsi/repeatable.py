"""Which commands may be sent again when nobody can say whether they were done (RFC 7143, 7.15)."""

from __future__ import annotations

_QUESTIONS = {
    0x00: "TEST UNIT READY",
    0x03: "REQUEST SENSE",
    0x12: "INQUIRY",
    0x1A: "MODE SENSE(6)",
    0x25: "READ CAPACITY(10)",
    0x37: "READ DEFECT DATA(10)",
    0x4D: "LOG SENSE",
    0x5A: "MODE SENSE(10)",
    0x5E: "PERSISTENT RESERVE IN",
    0x9E: "SERVICE ACTION IN(16)",
    0xA0: "REPORT LUNS",
    0xA3: "MAINTENANCE IN",
    0xB7: "READ DEFECT DATA(12)",
}
_DISK = {
    0x28: "READ(10)",
    0x2A: "WRITE(10)",
    0x2E: "WRITE AND VERIFY(10)",
    0x2F: "VERIFY(10)",
    0x34: "PRE-FETCH(10)",
    0x35: "SYNCHRONIZE CACHE(10)",
    0x41: "WRITE SAME(10)",
    0x42: "UNMAP",
    0x88: "READ(16)",
    0x8A: "WRITE(16)",
    0x8E: "WRITE AND VERIFY(16)",
    0x8F: "VERIFY(16)",
    0x90: "PRE-FETCH(16)",
    0x91: "SYNCHRONIZE CACHE(16)",
    0x93: "WRITE SAME(16)",
    0xA8: "READ(12)",
    0xAA: "WRITE(12)",
}
"""Each names its blocks, so that it does the same twice. The codes of six-byte reads and writes are a tape's too, where
each moves on."""


def may_be_repeated(cdb: bytes) -> bool:
    """True if sending the command a second time changes nothing; a command that is not known may not be repeated.

    COMPARE AND WRITE, PERSISTENT RESERVE OUT, START STOP UNIT and whatever moves a tape are among those.
    """
    return bool(cdb) and (cdb[0] in _QUESTIONS or cdb[0] in _DISK)
