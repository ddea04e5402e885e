"""CRC32C by crcmod: the fallback without the crc32c package, and the independent witness in tests."""

from __future__ import annotations

import crcmod

from initiator.protocol.digest import Buffer

_POLYNOMIAL = 0x11EDC6F41
_function = crcmod.mkCrcFun(_POLYNOMIAL, initCrc=0, rev=True, xorOut=0xFFFFFFFF)


def crc32c(data: Buffer, value: int = 0) -> int:
    """CRC32C of `data`, carried on from `value`, the sum of what came before."""
    return int(_function(data, value))
