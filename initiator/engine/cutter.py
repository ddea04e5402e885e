"""Cuts requests into commands that the target takes: its limits, our limits, and what its geometry asks for."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.engine.errand import Clock
from initiator.engine.pieces import Finish, Piece
from initiator.engine.probe import LunInfo
from initiator.engine.verdict import Kind
from initiator.scsi import commands
from initiator.scsi.parameters import Capacity

_ZERO_BYTES = 1 << 20
_MOST_UNMAP_BLOCKS = 1 << 22
"""A command must end within its time; a target that takes any length gets this much at once."""
_MOST_SAME_BLOCKS = 0xFFFF


class Cutter:
    """Makes the pieces of large requests. Offsets and lengths are in bytes, multiples of the block length.

    Attributes:
        most: The longest transfer, in bytes.
    """

    def __init__(self, info: LunInfo, capacity: Capacity, most: int, clock: Clock) -> None:
        """`most`: the longest transfer that we want, in bytes."""
        self._block = capacity.block_bytes
        self._limits = info.limits
        self._clock = clock
        allowed = info.limits.maximum_transfer * self._block if info.limits is not None else 0
        self.most = max(min(allowed or most, most) // self._block, 1) * self._block

    def read(self, offset: int, into: memoryview, finish: Finish) -> Iterator[Piece]:
        """Reads."""
        for at, size in _parts(0, len(into), self.most):
            cdb = commands.read((offset + at) // self._block, size // self._block)
            yield Piece(Kind.READ, cdb, self._clock(), finish, size, None, into[at : at + size])

    def write(self, offset: int, data: memoryview, finish: Finish) -> Iterator[Piece]:
        """Writes."""
        for at, size in _parts(0, len(data), self.most):
            yield self._write(offset + at, data[at : at + size], finish)

    def zeroes(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        """Writes of zeroes, all from one small buffer."""
        most = max(min(self.most, _ZERO_BYTES), self._block)
        zeroes = memoryview(bytes(min(most, length)))
        for at, size in _parts(offset, length, most):
            yield self._write(at, zeroes[:size], finish)

    def _write(self, offset: int, data: memoryview, finish: Finish) -> Piece:
        cdb = commands.write(offset // self._block, len(data) // self._block)
        return Piece(Kind.WRITE, cdb, self._clock(), finish, len(data), data)

    def unmap(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        """UNMAP, one range in each."""
        most = self._limits.maximum_unmap_blocks if self._limits is not None else _MOST_UNMAP_BLOCKS
        for lba, blocks in _parts(offset // self._block, length // self._block, min(most, _MOST_UNMAP_BLOCKS)):
            cdb, data = commands.unmap([(lba, blocks)])
            yield Piece(Kind.DISCARD, cdb, self._clock(), finish, data_out=memoryview(data))

    def same(self, offset: int, length: int, finish: Finish) -> Iterator[Piece]:
        """WRITE SAME(16) of zeroes."""
        told = self._limits.maximum_write_same if self._limits is not None else 0
        most = min(told or _MOST_SAME_BLOCKS, _MOST_SAME_BLOCKS)
        for lba, blocks in _parts(offset // self._block, length // self._block, most):
            cdb, data = commands.write_same16_zero(lba, blocks, self._block)
            yield Piece(Kind.ZERO, cdb, self._clock(), finish, data_out=memoryview(data))


def _parts(start: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a range into `(start, length)` parts of at most `most`."""
    for at in range(0, length, most):
        yield start + at, min(most, length - at)
