"""The PDU codec: every PDU of RFC 7143, for initiator and target alike, and a de-framer.

`decode` and `Framer` build an object for each PDU. That is the slow path: login, text, discovery, tests and the
practice target. The engine's data path reads headers in place with `BHS`; `SCSI_COMMAND` and `DATA_OUT` write them.
"""

from __future__ import annotations

import struct

from initiator.protocol.framer import Framer, decode, looks_like
from initiator.protocol.requests import (
    NO_LUN,
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    SnackRequest,
    TaskManagement,
    TextRequest,
)
from initiator.protocol.responses import (
    R2T,
    AsyncMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NopIn,
    Reject,
    Response,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)
from initiator.protocol.wire import (
    BHS_BYTES,
    FINAL,
    IMMEDIATE,
    INITIATOR_OPS,
    LENGTHS,
    MAX_DATA_BYTES,
    NO_TAG,
    OPCODE_MASK,
    PAD,
    TARGET_OPS,
    Op,
    Pdu,
    frame_length,
    padded,
    seal,
)

BHS = struct.Struct(">BBBBIQIIIIIIII")
"""Any header: opcode, flags, bytes 2 and 3, lengths, LUN as a number, then eight words from byte 16 on.

The words are ITT, then by opcode. Data-In and R2T: TTT, StatSN, ExpCmdSN, MaxCmdSN, DataSN or R2TSN, offset, residual
or desired length. SCSI Response: SNACK Tag, StatSN, ExpCmdSN, MaxCmdSN, ExpDataSN, bidirectional residual, residual.
"""

SCSI_COMMAND = ScsiCommand.LAYOUT.code
"""opcode, flags, lengths, LUN (8 bytes), ITT, expected length, CmdSN, ExpStatSN, CDB (16 bytes)."""

DATA_OUT = DataOut.LAYOUT.code
"""opcode, flags, lengths, LUN (8 bytes), ITT, TTT, ExpStatSN, DataSN, offset."""

__all__ = [
    "BHS",
    "BHS_BYTES",
    "DATA_OUT",
    "FINAL",
    "IMMEDIATE",
    "INITIATOR_OPS",
    "LENGTHS",
    "MAX_DATA_BYTES",
    "NO_LUN",
    "NO_TAG",
    "OPCODE_MASK",
    "PAD",
    "R2T",
    "SCSI_COMMAND",
    "TARGET_OPS",
    "AsyncMessage",
    "DataIn",
    "DataOut",
    "Framer",
    "LoginRequest",
    "LoginResponse",
    "LogoutRequest",
    "LogoutResponse",
    "NopIn",
    "NopOut",
    "Op",
    "Pdu",
    "Reject",
    "Response",
    "ScsiCommand",
    "ScsiResponse",
    "SnackRequest",
    "TaskManagement",
    "TaskManagementResponse",
    "TextRequest",
    "TextResponse",
    "decode",
    "frame_length",
    "looks_like",
    "padded",
    "seal",
]
