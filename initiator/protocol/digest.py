"""CRC32C, the digest of iSCSI (RFC 7143, 13.1).

The `crc32c` package runs at memory speed on the processor's own instruction. Where it has no wheel, `crcmod` gives the
same sums about fifty times slower: good enough for header digests, so data digests are not offered then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What the protocol reads bytes from."""

DIGEST_BYTES = 4
SUM = struct.Struct("<I")
"""A sum as it follows a header or a data segment: least significant byte first."""


def _choose() -> tuple[Callable[..., int], bool]:
    try:
        import crc32c as package
    except ImportError:
        from initiator.protocol.digest_slow import crc32c as slow

        return slow, False
    return package.crc32c, bool(package.hardware_based)


crc32c: Callable[..., int]
"""`crc32c(data, value=0) -> int`: the sum of `data`, carried on from `value`, the sum of what came before."""

HARDWARE: bool
"""True where the sum costs next to nothing, so that data digests are worth offering."""

crc32c, HARDWARE = _choose()


wire = SUM.pack
"""`wire(value) -> bytes`: the four bytes of a sum."""
