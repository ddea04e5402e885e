"""PDUs that the initiator sends (RFC 7143, 11.3, 11.5, 11.7, 11.10, 11.12, 11.14, 11.16, 11.18)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from initiator.protocol.errors import LocalProtocolError
from initiator.protocol.wire import FINAL, NO_TAG, WORD, Layout, Op, Pdu, join_ahs, layout, split_ahs

NO_LUN = bytes(8)
CDB_BYTES = 16

AHS_EXTENDED_CDB = 1
AHS_BIDIRECTIONAL_READ_LENGTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NopOut(Pdu):
    """A ping, or the answer to one (11.18)."""

    OPCODE: ClassVar[Op] = Op.NOP_OUT
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s4I16x",
        "lengths lun initiator_task_tag target_transfer_tag cmd_sn exp_stat_sn",
        fixed=FINAL,
        immediate=True,
    )

    immediate: bool = False
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiCommand(Pdu):
    """A SCSI command (11.3). A CDB beyond 16 bytes and a bidirectional read length travel in extra headers."""

    OPCODE: ClassVar[Op] = Op.SCSI_COMMAND
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s4I16s",
        "lengths lun initiator_task_tag expected_data_transfer_length cmd_sn exp_stat_sn cdb",
        {"final": 0x80, "read": 0x40, "write": 0x20, "attribute": 0x07},
        immediate=True,
    )

    immediate: bool = False
    final: bool = True
    read: bool = False
    write: bool = False
    attribute: int = 1
    """Task attribute: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA (11.3.1)."""
    lun: bytes = NO_LUN
    expected_data_transfer_length: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0
    cdb: bytes = bytes(CDB_BYTES)
    bidirectional_read_length: int | None = None

    def extra_headers(self) -> bytes:
        """Extended CDB and bidirectional read length (11.2.2.3, 11.2.2.4)."""
        ahs = b""
        if len(self.cdb) > CDB_BYTES:
            ahs += join_ahs(AHS_EXTENDED_CDB, b"\0" + self.cdb[CDB_BYTES:])
        if self.bidirectional_read_length is not None:
            ahs += join_ahs(AHS_BIDIRECTIONAL_READ_LENGTH, b"\0" + WORD.pack(self.bidirectional_read_length))
        return ahs

    @classmethod
    def _adopt(cls, found: dict[str, Any], ahs: bytes) -> None:
        for kind, specific in split_ahs(ahs):
            if kind == AHS_EXTENDED_CDB:
                found["cdb"] += specific[1:]
            elif kind == AHS_BIDIRECTIONAL_READ_LENGTH and len(specific) == 5:
                (found["bidirectional_read_length"],) = WORD.unpack(specific[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagement(Pdu):
    """A task management function request (11.5)."""

    OPCODE: ClassVar[Op] = Op.TASK_MANAGEMENT_REQUEST
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s6I8x",
        "lengths lun initiator_task_tag referenced_task_tag cmd_sn exp_stat_sn ref_cmd_sn exp_data_sn",
        {"function": 0x7F},
        fixed=FINAL,
        immediate=True,
    )

    immediate: bool = True
    function: int
    """1 abort task, 2 abort task set, 3 clear ACA, 4 clear task set, 5 LU reset, 6 and 7 target reset, 8 reassign."""
    lun: bytes = NO_LUN
    referenced_task_tag: int = NO_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0
    ref_cmd_sn: int = 0
    exp_data_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest(Pdu):
    """One step of a login (11.12). It is always immediate."""

    OPCODE: ClassVar[Op] = Op.LOGIN_REQUEST
    LAYOUT: ClassVar[Layout] = layout(
        "BBI6sHIH2xII16x",
        "version_max version_min lengths isid tsih initiator_task_tag cid cmd_sn exp_stat_sn",
        {"transit": 0x80, "continued": 0x40, "csg": 0x0C, "nsg": 0x03},
        immediate=True,
    )

    immediate: bool = True
    transit: bool = False
    continued: bool = False
    csg: int = 0
    nsg: int = 0
    version_max: int = 0
    version_min: int = 0
    isid: bytes = bytes(6)
    tsih: int = 0
    cid: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0

    def _wire_value(self, name: str) -> Any:
        if name == "isid" and len(self.isid) != 6:
            raise LocalProtocolError("an ISID has six bytes")
        return getattr(self, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest(Pdu):
    """Key=value text outside the login (11.10)."""

    OPCODE: ClassVar[Op] = Op.TEXT_REQUEST
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s4I16x",
        "lengths lun initiator_task_tag target_transfer_tag cmd_sn exp_stat_sn",
        {"final": 0x80, "continued": 0x40},
        immediate=True,
    )

    immediate: bool = False
    final: bool = True
    continued: bool = False
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOut(Pdu):
    """Data of a write (11.7)."""

    OPCODE: ClassVar[Op] = Op.DATA_OUT
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8sII4xI4xII4x",
        "lengths lun initiator_task_tag target_transfer_tag exp_stat_sn data_sn buffer_offset",
        {"final": 0x80},
    )

    final: bool = False
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG
    exp_stat_sn: int = 0
    data_sn: int = 0
    buffer_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRequest(Pdu):
    """The wish to close a session or a connection (11.14)."""

    OPCODE: ClassVar[Op] = Op.LOGOUT_REQUEST
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8xIH2xII16x",
        "lengths initiator_task_tag cid cmd_sn exp_stat_sn",
        {"reason": 0x7F},
        fixed=FINAL,
        immediate=True,
    )

    immediate: bool = True
    reason: int = 0
    """0 close the session, 1 close the connection, 2 remove the connection for recovery."""
    cid: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnackRequest(Pdu):
    """A request to send something again, or the acknowledgement of data (11.16)."""

    OPCODE: ClassVar[Op] = Op.SNACK_REQUEST
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8sII4xI8xII",
        "lengths lun initiator_task_tag target_transfer_tag exp_stat_sn beg_run run_length",
        {"type": 0x0F},
        fixed=FINAL,
    )

    type: int = 0
    """0 data or R2T, 1 status, 2 data acknowledgement, 3 R-Data."""
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG
    """The SNACK Tag for type 3."""
    exp_stat_sn: int = 0
    beg_run: int = 0
    run_length: int = 0
