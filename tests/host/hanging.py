"""A file system that takes questions and never answers: what a volume looks like whose disk has died."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
import time
from pathlib import Path
from typing import Self

from initiator.engine.kernel import abort, abort_path, mounted_at

_INIT = 26


class HangingMount:
    """A FUSE mount whose server answers the handshake and nothing else, until it is closed.

    A question that the server has read and not answered makes its process sleep uninterruptibly: not even SIGKILL
    wakes it. Closing the server's descriptor aborts the connection and wakes all of them with an error.
    """

    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self.asked = threading.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"hanging", os.fsencode(mountpoint), b"fuse.hanging", ctypes.c_ulong(0), options) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._shake_hands()
        self._thread = threading.Thread(target=self._swallow, daemon=True)
        self._thread.start()

    def _shake_hands(self) -> None:
        request = os.read(self._fuse, 1 << 17)
        _, opcode, unique = struct.unpack_from("=IIQ", request)
        assert opcode == _INIT
        body = struct.pack("=IIIIHHIIHH8I", 7, 31, 4096, 0, 8, 8, 1 << 16, 1, 16, 0, *[0] * 8)
        os.write(self._fuse, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)

    def _swallow(self) -> None:
        while True:
            try:
                os.read(self._fuse, 1 << 17)
            except OSError:
                return  # the connection was aborted
            self.asked.set()

    def close(self) -> None:
        """Aborts the connection and unmounts."""
        mounted = mounted_at(str(self.mountpoint))
        assert mounted is not None
        assert abort(abort_path(mounted.dev)), "the connection could not be ended"
        self._thread.join(10)
        os.close(self._fuse)
        deadline = time.monotonic() + 10
        while self._libc.umount2(os.fsencode(self.mountpoint), 8) != 0:  # until those who hung have let go
            assert ctypes.get_errno() == errno.EBUSY
            assert time.monotonic() < deadline, f"{self.mountpoint} stays busy"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
