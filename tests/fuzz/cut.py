"""Fuzzed bytes, taken apart."""

from __future__ import annotations


class Cut:
    """Takes pieces from the front of the bytes; where nothing is left, zeroes come."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def word(self) -> int:
        """The next four bytes as a number."""
        return int.from_bytes(self.take(4).ljust(4, b"\0"), "big")

    def take(self, count: int) -> bytes:
        """At most `count` bytes."""
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece

    def some(self) -> bytes:
        """A piece whose length is in front of it."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
