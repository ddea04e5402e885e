"""PDUs that the target sends (RFC 7143, 11.4, 11.6 to 11.9, 11.11, 11.13, 11.15, 11.17, 11.19)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from initiator.protocol.requests import NO_LUN
from initiator.protocol.wire import FINAL, NO_TAG, Layout, Op, Pdu, layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Pdu):
    """What every PDU of a target carries: the numbers of section 4.2.2."""

    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NopIn(Response):
    """A ping of the target, or its answer to one (11.19)."""

    OPCODE: ClassVar[Op] = Op.NOP_IN
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s5I12x",
        "lengths lun initiator_task_tag target_transfer_tag stat_sn exp_cmd_sn max_cmd_sn",
        fixed=FINAL,
    )

    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiResponse(Response):
    """The end of a SCSI command; the data segment holds SenseLength, sense data and response data (11.4)."""

    OPCODE: ClassVar[Op] = Op.SCSI_RESPONSE
    LAYOUT: ClassVar[Layout] = layout(
        "BBI8x8I",
        "response status lengths initiator_task_tag snack_tag stat_sn exp_cmd_sn max_cmd_sn exp_data_sn"
        " bidirectional_read_residual_count residual_count",
        {"bidirectional_overflow": 0x10, "bidirectional_underflow": 0x08, "overflow": 0x04, "underflow": 0x02},
        fixed=FINAL,
    )

    response: int = 0
    """0 completed at the target, 1 target failure; only with 0 the status means anything (11.4.3)."""
    status: int = 0
    bidirectional_overflow: bool = False
    bidirectional_underflow: bool = False
    overflow: bool = False
    underflow: bool = False
    snack_tag: int = 0
    exp_data_sn: int = 0
    bidirectional_read_residual_count: int = 0
    residual_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementResponse(Response):
    """The answer to a task management request (11.6)."""

    OPCODE: ClassVar[Op] = Op.TASK_MANAGEMENT_RESPONSE
    LAYOUT: ClassVar[Layout] = layout(
        "BxI8xI4x3I12x",
        "response lengths initiator_task_tag stat_sn exp_cmd_sn max_cmd_sn",
        fixed=FINAL,
    )

    response: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResponse(Response):
    """One answer of a login (11.13)."""

    OPCODE: ClassVar[Op] = Op.LOGIN_RESPONSE
    LAYOUT: ClassVar[Layout] = layout(
        "BBI6sHI4x3IBB10x",
        "version_max version_active lengths isid tsih initiator_task_tag stat_sn exp_cmd_sn max_cmd_sn"
        " status_class status_detail",
        {"transit": 0x80, "continued": 0x40, "csg": 0x0C, "nsg": 0x03},
    )

    transit: bool = False
    continued: bool = False
    csg: int = 0
    nsg: int = 0
    version_max: int = 0
    version_active: int = 0
    isid: bytes = bytes(6)
    tsih: int = 0
    status_class: int = 0
    status_detail: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResponse(Response):
    """The answer to a Text Request (11.11)."""

    OPCODE: ClassVar[Op] = Op.TEXT_RESPONSE
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s5I12x",
        "lengths lun initiator_task_tag target_transfer_tag stat_sn exp_cmd_sn max_cmd_sn",
        {"final": 0x80, "continued": 0x40},
    )

    final: bool = True
    continued: bool = False
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIn(Response):
    """Data of a read, with the command's status in the last one if `status_follows` is set (11.7)."""

    OPCODE: ClassVar[Op] = Op.DATA_IN
    LAYOUT: ClassVar[Layout] = layout(
        "xBI8s8I",
        "status lengths lun initiator_task_tag target_transfer_tag stat_sn exp_cmd_sn max_cmd_sn data_sn"
        " buffer_offset residual_count",
        {"final": 0x80, "acknowledge": 0x40, "overflow": 0x04, "underflow": 0x02, "status_present": 0x01},
    )

    final: bool = False
    acknowledge: bool = False
    overflow: bool = False
    underflow: bool = False
    status_present: bool = False
    """The S bit: `status`, `stat_sn` and the residual mean something (11.7.3)."""
    status: int = 0
    lun: bytes = NO_LUN
    target_transfer_tag: int = NO_TAG
    data_sn: int = 0
    buffer_offset: int = 0
    residual_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutResponse(Response):
    """The answer to a Logout Request (11.15)."""

    OPCODE: ClassVar[Op] = Op.LOGOUT_RESPONSE
    LAYOUT: ClassVar[Layout] = layout(
        "BxI8xI4x3I4xHH4x",
        "response lengths initiator_task_tag stat_sn exp_cmd_sn max_cmd_sn time2wait time2retain",
        fixed=FINAL,
    )

    response: int = 0
    """0 closed, 1 CID not found, 2 no connection recovery, 3 cleanup failed."""
    time2wait: int = 0
    time2retain: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class R2T(Response):
    """Ready To Transfer: the target asks for a piece of a write (11.8)."""

    OPCODE: ClassVar[Op] = Op.R2T
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8s8I",
        "lengths lun initiator_task_tag target_transfer_tag stat_sn exp_cmd_sn max_cmd_sn r2t_sn buffer_offset"
        " desired_data_transfer_length",
        fixed=FINAL,
    )

    lun: bytes = NO_LUN
    target_transfer_tag: int
    r2t_sn: int = 0
    buffer_offset: int = 0
    desired_data_transfer_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncMessage(Response):
    """Something the target says unasked (11.9)."""

    OPCODE: ClassVar[Op] = Op.ASYNC_MESSAGE
    LAYOUT: ClassVar[Layout] = layout(
        "2xI8sI4x3IBBHHH4x",
        "lengths lun initiator_task_tag stat_sn exp_cmd_sn max_cmd_sn async_event async_vcode"
        " parameter1 parameter2 parameter3",
        fixed=FINAL,
    )

    lun: bytes = NO_LUN
    async_event: int
    """0 SCSI event, 1 asks for logout, 2 drops a connection, 3 drops all, 4 asks for negotiation, 5 fast abort."""
    async_vcode: int = 0
    parameter1: int = 0
    parameter2: int = 0
    parameter3: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(Response):
    """The target refuses a PDU; the data segment holds the header of that PDU (11.17)."""

    OPCODE: ClassVar[Op] = Op.REJECT
    LAYOUT: ClassVar[Layout] = layout(
        "BxI8xI4x4I8x",
        "reason lengths initiator_task_tag stat_sn exp_cmd_sn max_cmd_sn data_sn",
        fixed=FINAL,
    )

    reason: int
    data_sn: int = 0
    """DataSN or R2TSN, where the reason is about one."""
