"""The layout of /dev/fuse messages, protocol 7.40 (linux/fuse.h), as far as one file needs them.

All integers are in the machine's own byte order.
"""

from __future__ import annotations

import enum
import struct

MAJOR = 7
MINOR = 40
ROOT_NODE = 1
FILE_NODE = 2

RESEND_UNIQUE = 1 << 63
"""Set in the number of a request that the kernel delivers for the second time (since 7.40)."""
NOTIFY_RESEND = 7
"""`error` of an out header with number 0 that asks for every unanswered request again (kernel 6.9)."""


class Op(enum.IntEnum):
    """Requests that have an answer of their own here; everything else is refused as not implemented."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45


INIT_ASYNC_READ = 1 << 0
INIT_BIG_WRITES = 1 << 5
INIT_ASYNC_DIO = 1 << 15
INIT_MAX_PAGES = 1 << 22
INIT_EXT = 1 << 30

OPEN_DIRECT_IO = 1 << 0
OPEN_PARALLEL_DIRECT_WRITES = 1 << 6

SETATTR_SIZE = 1 << 3

FALLOC_PUNCH_HOLE = 0x03
"""Punch a hole and keep the size: the range reads as zeros afterwards (fallocate(2))."""
FALLOC_ZERO_RANGE = 0x11
"""Zero a range and keep the size."""

IN_HEADER = struct.Struct("=IIQQ16x")
"""len, opcode, unique, nodeid; what follows (uid, gid, pid, total_extlen, padding) decides nothing here"""
OUT_HEADER = struct.Struct("=IiQ")
"""len, error, unique"""
BODY = IN_HEADER.size

INIT_IN = struct.Struct("=IIII")
"""major, minor, max_readahead, flags"""
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2"""
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
"""ino, size, blocks, atime, mtime, ctime, three nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags"""
ATTR_OUT = struct.Struct("=QII")
"""attr_valid, attr_valid_nsec, padding; ATTR follows"""
ENTRY_OUT = struct.Struct("=QQQQII")
"""nodeid, generation, entry_valid, attr_valid, two nanoseconds; ATTR follows"""
SETATTR_IN = struct.Struct("=IIQQ")
"""valid, padding, fh, size"""
OPEN_IN = struct.Struct("=II")
"""flags, open_flags"""
OPEN_OUT = struct.Struct("=QII")
"""fh, open_flags, padding"""
READ_IN = struct.Struct("=8xQI")
"""offset, size; before them the file handle"""
WRITE_IN = struct.Struct("=8xQI20x")
"""offset, size; around them fh, write_flags, lock_owner, flags, padding; the data follows"""
WRITE_ANSWER = struct.Struct("=IiQI4x")
"""An out header and the size that was written, with its padding."""
FALLOCATE_IN = struct.Struct("=QQQII")
"""fh, offset, length, mode, padding"""
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding"""
DIRENT = struct.Struct("=QQII")
"""ino, off, namelen, type; the name follows, padded to 8 bytes"""
