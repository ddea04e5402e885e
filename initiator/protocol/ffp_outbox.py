"""What waits to be sent on one connection: a list of buffers for `sendmsg`, with the digests already in it."""

from __future__ import annotations

from initiator.protocol.digest import crc32c, wire

VECTORS = 1024
"""IOV_MAX of Linux: `sendmsg` takes no longer list."""

_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Outbox:
    """PDUs as buffers in the order of the wire. Payloads are not copied: a view stays here until the socket took it.

    Attributes:
        vectors: The buffers that were not sent yet.
        gone: How many buffers have left since the connection was made.
    """

    __slots__ = ("_data_digest", "_header_digest", "gone", "vectors")

    def __init__(self, *, header_digest: bool, data_digest: bool) -> None:
        self._header_digest = header_digest
        self._data_digest = data_digest
        self.vectors: list[bytes | memoryview] = []
        self.gone = 0

    @property
    def tail(self) -> int:
        """What `gone` will be when everything that waits now has left."""
        return self.gone + len(self.vectors)

    def add(self, header: bytes, data: memoryview | bytes | None = None) -> None:
        """Queue one PDU: a header of 48 bytes (its length field already set) and its data segment."""
        vectors = self.vectors
        vectors.append(header + wire(crc32c(header)) if self._header_digest else header)
        if data:
            vectors.append(data)
            padding = _PADDING[len(data) & 3]
            if padding:
                vectors.append(padding)
            if self._data_digest:
                crc = crc32c(data)
                if padding:
                    crc = crc32c(padding, crc)
                vectors.append(wire(crc))

    def take(self) -> list[bytes | memoryview]:
        """The next buffers to send, at most as many as one `sendmsg` takes."""
        vectors = self.vectors
        return vectors if len(vectors) <= VECTORS else vectors[:VECTORS]

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of what `take` gave."""
        vectors = self.vectors
        if count >= sum(map(len, vectors)):
            self.gone += len(vectors)
            vectors.clear()
            return
        for index, vector in enumerate(vectors):
            size = len(vector)
            if count < size:
                if count:
                    vectors[index] = memoryview(vector)[count:]
                del vectors[:index]
                self.gone += index
                return
            count -= size

    def detach(self, buffer: memoryview) -> None:
        """Copy what still waits of the memory behind `buffer`, because its owner gets it back now."""
        owner = buffer.obj
        for index, vector in enumerate(self.vectors):
            if isinstance(vector, memoryview) and vector.obj is owner:
                self.vectors[index] = bytes(vector)
