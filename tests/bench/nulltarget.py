"""A target that does next to nothing, as fast as Python goes: what is left is the speed of the initiator.

Every read gives the same bytes with status in the last Data-In, every write is taken without being kept. It runs in a
process of its own, one blocking connection at a time.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
from multiprocessing.connection import Connection
from types import TracebackType

from initiator.model import Portal
from initiator.protocol import text
from initiator.protocol.digest import crc32c
from initiator.protocol.keys import Offer, Params, Side
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import BHS, DATA_OUT, LoginRequest, LoginResponse, decode, frame_length, padded

BLOCKS = 256 << 11
SEGMENT = 1 << 20
WINDOW = 512

_DATA_IN = struct.Struct(">BBxBI8sIIIIIIII")
_RESPONSE = struct.Struct(">BBBBI8sIIIIIIII")
_R2T = struct.Struct(">BBxxI8sIIIIIIII")
_NO_TAG = 0xFFFFFFFF


class NullTarget:
    """The process; a context manager that gives its portal."""

    def __enter__(self) -> Portal:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        return Portal("127.0.0.1", mine.recv(), 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def serve(pipe: Connection) -> None:
    """Accept connections one after another; tell the port through the pipe."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        while True:
            sock, _ = server.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    Nexus(sock).run()
                except ConnectionError:
                    continue


class Nexus:
    """One session."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(4 << 20)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._out: list[bytes | memoryview] = []
        self._stat_sn = 1
        self._exp_cmd_sn = 1
        self._canned = memoryview(bytes(range(256)) * (SEGMENT // 256))
        self._digests: dict[int, bytes] = {}
        self._writes: dict[int, list[int]] = {}

    def run(self) -> None:
        """Serve until the initiator goes."""
        self._params = self._log_in()
        self._header_digest = 4 if self._params.header_digest else 0
        self._data_digest = 4 if self._params.data_digest else 0
        while self._receive():
            position = self._parse()
            self._view[: self._filled - position] = self._view[position : self._filled]
            self._filled -= position
            out = self._out
            while out:
                sent = self._sock.sendmsg(out[:1024])
                while out and sent >= len(out[0]):
                    sent -= len(out.pop(0))
                if sent:
                    out[0] = memoryview(out[0])[sent:]

    def _receive(self) -> bool:
        count = self._sock.recv_into(self._view[self._filled :])
        self._filled += count
        return count > 0

    def _log_in(self) -> Params:
        negotiation: Negotiation | None = None
        while True:
            bhs = self._exactly(48)
            ahs, length = frame_length(bhs)
            request = decode(bhs, self._exactly(ahs), self._exactly(padded(length))[:length])
            assert isinstance(request, LoginRequest)
            pairs = text.decode(request.data)
            if negotiation is None:
                offer = Offer(max_recv_data_segment_length=SEGMENT, initial_r2t=False)
                negotiation = Negotiation(offer, side=Side.TARGET)
                self._exp_cmd_sn = request.cmd_sn
            methods = [pair for pair in pairs if pair[0] == "AuthMethod"]
            security = request.csg == 0
            pairs = [pair for pair in pairs if pair not in methods]
            replies = negotiation.receive(pairs, security=security)
            replies += [("AuthMethod", "None")] if methods else []
            if security:
                replies += [("TargetPortalGroupTag", "1")]
            else:
                replies += negotiation.propose()
            final = request.transit and request.nsg == 3
            answer = LoginResponse(
                transit=request.transit,
                csg=request.csg,
                nsg=request.nsg,
                isid=request.isid,
                tsih=1 if final else 0,
                initiator_task_tag=request.initiator_task_tag,
                stat_sn=self._next_status(),
                exp_cmd_sn=self._exp_cmd_sn,
                max_cmd_sn=self._exp_cmd_sn + WINDOW,
                data=text.encode(replies),
            )
            self._sock.sendall(answer.encode())
            if final:
                return negotiation.params()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._sock.recv(count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    def _next_status(self) -> int:
        number = self._stat_sn
        self._stat_sn = (number + 1) & _NO_TAG
        return number

    def _parse(self) -> int:
        position, filled, buffer = 0, self._filled, self._buffer
        while filled - position >= 48:
            fields = BHS.unpack_from(buffer, position)
            length = fields[4] & 0xFFFFFF
            end = position + 48 + self._header_digest + padded(length) + (self._data_digest if length else 0)
            if end > filled:
                break
            opcode = fields[0] & 0x3F
            if opcode == 0x01:
                self._command(position, fields[1], length)
            elif opcode == 0x05:
                self._data_out(position)
            elif opcode == 0x00 and fields[6] != _NO_TAG:
                data = bytes(buffer[position + 48 + self._header_digest :][:length])
                self._add(
                    _RESPONSE.pack(0x20, 0x80, 0, 0, length, bytes(8), fields[6], _NO_TAG, *self._numbers(), 0, 0, 0)
                )
                self._payload(memoryview(data))
            elif opcode == 0x06:
                self._add(_RESPONSE.pack(0x26, 0x80, 0, 0, 0, bytes(8), fields[6], 0, *self._numbers(), 0, 0, 0))
            position = end
        return position

    def _numbers(self) -> tuple[int, int, int]:
        return self._next_status(), self._exp_cmd_sn, (self._exp_cmd_sn + WINDOW) & _NO_TAG

    def _command(self, position: int, flags: int, length: int) -> None:
        _, _, _, lun, tag, expected, cmd_sn, _, cdb = _COMMAND.unpack_from(self._buffer, position)
        self._exp_cmd_sn = (cmd_sn + 1) & _NO_TAG
        operation = cdb[0]
        if flags & 0x20:
            if flags & 0x80:
                self._writes[tag] = [length, expected, 0]
                self._go_on(tag, lun)
            else:
                self._writes[tag] = [min(expected, self._params.first_burst_length), expected, 0]
        elif operation in (0x28, 0x88):
            self._read(tag, expected)
        else:
            self._small(tag, expected, _small_data(operation, cdb))

    def _read(self, tag: int, expected: int) -> None:
        offset = number = 0
        step = min(SEGMENT, self._params.max_xmit_data_segment_length)
        while offset < expected:
            size = min(step, expected - offset)
            last = offset + size == expected
            stat_sn, exp_cmd_sn, max_cmd_sn = (
                self._numbers() if last else (0, self._exp_cmd_sn, self._exp_cmd_sn + WINDOW)
            )
            self._add(
                _DATA_IN.pack(
                    0x25,
                    0x81 if last else 0,
                    0,
                    size,
                    bytes(8),
                    tag,
                    _NO_TAG,
                    stat_sn,
                    exp_cmd_sn,
                    max_cmd_sn & _NO_TAG,
                    number,
                    offset,
                    0,
                )
            )
            self._payload(self._canned[:size])
            offset += size
            number += 1

    def _small(self, tag: int, expected: int, data: bytes) -> None:
        if not data:
            self._add(_RESPONSE.pack(0x21, 0x80, 0, 0, 0, bytes(8), tag, 0, *self._numbers(), 0, 0, 0))
            return
        data = data[:expected]
        flags, left = (0x83, expected - len(data)) if len(data) < expected else (0x81, 0)
        self._add(_DATA_IN.pack(0x25, flags, 0, len(data), bytes(8), tag, _NO_TAG, *self._numbers(), 0, 0, left))
        self._payload(memoryview(data))

    def _data_out(self, position: int) -> None:
        _, flags, _, lun, tag, *_ = DATA_OUT.unpack_from(self._buffer, position)
        if flags & 0x80:
            self._go_on(tag, lun)

    def _go_on(self, tag: int, lun: bytes) -> None:
        state = self._writes[tag]
        have, expected, r2t_sn = state
        if have == expected:
            del self._writes[tag]
            self._add(_RESPONSE.pack(0x21, 0x80, 0, 0, 0, bytes(8), tag, 0, *self._numbers(), r2t_sn, 0, 0))
            return
        size = min(self._params.max_burst_length, expected - have)
        maximum = (self._exp_cmd_sn + WINDOW) & _NO_TAG
        self._add(_R2T.pack(0x31, 0x80, 0, lun, tag, tag, self._stat_sn, self._exp_cmd_sn, maximum, r2t_sn, have, size))
        state[0] = have + size
        state[2] = r2t_sn + 1

    def _add(self, header: bytes) -> None:
        self._out.append(header)
        if self._header_digest:
            self._out.append(crc32c(header).to_bytes(4, "little"))

    def _payload(self, data: memoryview) -> None:
        self._out.append(data)
        padding = bytes(-len(data) & 3)
        if padding:
            self._out.append(padding)
        if self._data_digest and data:
            digest = self._digests.get(len(data))
            if digest is None or len(data) < 512:
                digest = self._digests[len(data)] = crc32c(bytes(data) + padding).to_bytes(4, "little")
            self._out.append(digest)


_COMMAND = struct.Struct(">BBxxI8sIIII16s")


def _small_data(operation: int, cdb: bytes) -> bytes:
    """What an initiator asks before it reads: INQUIRY, READ CAPACITY, REPORT LUNS."""
    if operation == 0x12:
        return bytes((0, 0, 5, 2, 31, 0, 0, 2)) + b"MOORING NULL            0001"
    if operation == 0x25:
        return struct.pack(">II", BLOCKS - 1, 512)
    if operation == 0x9E:
        return struct.pack(">QI20x", BLOCKS - 1, 512)
    if operation == 0xA0:
        return struct.pack(">I4xBB6x", 8, 0, 1)
    return b""
