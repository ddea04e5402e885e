"""Every text key of RFC 7143 section 13: who may send it, its range, its default, and how its result is found.

`answer` is the responder's half of a negotiation and `resolve` the proposer's; initiator and target use both. `Offer`
is what one side wants, `Params` what both have agreed on.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

from initiator.protocol import text
from initiator.protocol.digest import HARDWARE
from initiator.protocol.errors import LocalProtocolError, NegotiationError, RemoteProtocolError

Value: TypeAlias = int | bool | str | tuple[str, ...]

NOT_UNDERSTOOD = "NotUnderstood"
REJECT = "Reject"
IRRELEVANT = "Irrelevant"
NONE = "None"
CRC32C = "CRC32C"
ANSWERS_ONLY = frozenset({NOT_UNDERSTOOD, REJECT, IRRELEVANT})
"""Constants that may be an answer but never a proposal (6.2)."""

MIN_SEGMENT = 512
MAX_SEGMENT = 2**24 - 1
LOGIN_SEGMENT = 8192
"""MaxRecvDataSegmentLength of both sides until another one is declared, and during all of the login (13.12, 11.12)."""


class Rule(enum.Enum):
    """How the result of a key comes about."""

    DECLARE = "declared by one side, never answered"
    MINIMUM = "the smaller of two numbers"
    MAXIMUM = "the greater of two numbers"
    OR = "Yes if one side says Yes"
    AND = "Yes if both sides say Yes"
    FIRST = "the first item of the proposer's list that the responder supports"
    OBSOLETE = "markers, which RFC 7143 took out (13.25)"


class Side(enum.Enum):
    """The two ends of a session."""

    INITIATOR = "initiator"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Key:
    """One text key.

    Attributes:
        name: As on the wire; case matters.
        rule: How its result is found.
        field: Its field in `Offer` and `Params`, or an empty string.
        low: Smallest number allowed.
        high: Greatest number allowed.
        default: The result where it is not negotiated.
        only: The one side that may send it, or None for both.
        security: True if it may be sent in the security stage as well (12).
        discovery: True if it means something in a Discovery session.
        anytime: True if it may be sent in the full feature phase too ("Use: ALL").
        newer: True if it came after RFC 3720, so that older peers may answer NotUnderstood.
    """

    name: str
    rule: Rule
    field: str = ""
    low: int = 0
    high: int = text.MAX_NUMBER
    default: Value = ""
    only: Side | None = None
    security: bool = False
    discovery: bool = True
    anytime: bool = False
    newer: bool = False


def _names() -> tuple[Key, ...]:
    """Keys that say who and where."""
    initiator, target = Side.INITIATOR, Side.TARGET
    return (
        Key("InitiatorName", Rule.DECLARE, only=initiator, security=True),
        Key("InitiatorAlias", Rule.DECLARE, only=initiator, security=True, anytime=True),
        Key("TargetName", Rule.DECLARE, only=initiator, security=True),
        Key("SessionType", Rule.DECLARE, default="Normal", only=initiator, security=True),
        Key("TargetAlias", Rule.DECLARE, "target_alias", only=target, security=True, anytime=True),
        Key("TargetAddress", Rule.DECLARE, only=target, security=True, anytime=True),
        Key(
            "TargetPortalGroupTag",
            Rule.DECLARE,
            "target_portal_group_tag",
            high=65535,
            default=0,
            only=target,
            security=True,
        ),
    )


def _operational() -> tuple[Key, ...]:
    """Keys that say how data flows."""
    return (
        Key("HeaderDigest", Rule.FIRST, "header_digest", default=NONE),
        Key("DataDigest", Rule.FIRST, "data_digest", default=NONE),
        Key(
            "MaxRecvDataSegmentLength",
            Rule.DECLARE,
            "max_recv_data_segment_length",
            MIN_SEGMENT,
            MAX_SEGMENT,
            LOGIN_SEGMENT,
            anytime=True,
        ),
        Key("MaxConnections", Rule.MINIMUM, "max_connections", 1, 65535, 1, discovery=False),
        Key("InitialR2T", Rule.OR, "initial_r2t", default=True, discovery=False),
        Key("ImmediateData", Rule.AND, "immediate_data", default=True, discovery=False),
        Key("MaxBurstLength", Rule.MINIMUM, "max_burst_length", MIN_SEGMENT, MAX_SEGMENT, 262144, discovery=False),
        Key("FirstBurstLength", Rule.MINIMUM, "first_burst_length", MIN_SEGMENT, MAX_SEGMENT, 65536, discovery=False),
        Key("DefaultTime2Wait", Rule.MAXIMUM, "default_time2wait", 0, 3600, 2),
        Key("DefaultTime2Retain", Rule.MINIMUM, "default_time2retain", 0, 3600, 20),
        Key("MaxOutstandingR2T", Rule.MINIMUM, "max_outstanding_r2t", 1, 65535, 1, discovery=False),
        Key("DataPDUInOrder", Rule.OR, "data_pdu_in_order", default=True, discovery=False),
        Key("DataSequenceInOrder", Rule.OR, "data_sequence_in_order", default=True, discovery=False),
        Key("ErrorRecoveryLevel", Rule.MINIMUM, "error_recovery_level", 0, 2, 0),
        Key("TaskReporting", Rule.FIRST, "task_reporting", default="RFC3720", discovery=False, newer=True),
        Key("iSCSIProtocolLevel", Rule.MINIMUM, "protocol_level", 0, 31, 1, newer=True),
        Key("X#NodeArchitecture", Rule.DECLARE, newer=True),
        Key("IFMarker", Rule.OBSOLETE),
        Key("OFMarker", Rule.OBSOLETE),
        Key("IFMarkInt", Rule.OBSOLETE),
        Key("OFMarkInt", Rule.OBSOLETE),
    )


KEYS: Mapping[str, Key] = {key.name: key for key in _names() + _operational()}
"""Every key of section 13 that may appear in a login, by name."""

_NUMERIC = (Rule.MINIMUM, Rule.MAXIMUM)
_BOOLEAN = (Rule.OR, Rule.AND)
_DIGESTS = frozenset({CRC32C, NONE})


@dataclass(frozen=True, slots=True)
class Offer:
    """What one side wants, by the fields of `KEYS`; also what it accepts when the other side proposes.

    A digest list without `None` demands the digest: a login that ends without it fails (13.1). `task_reporting` and
    `protocol_level` are not offered unless set, since older targets do not know them.

    Raises:
        LocalProtocolError: a value is out of the range that RFC 7143 gives its key.
    """

    header_digest: tuple[str, ...] = (CRC32C, NONE)
    data_digest: tuple[str, ...] = (CRC32C, NONE) if HARDWARE else (NONE,)
    max_recv_data_segment_length: int = 262144
    max_connections: int = 1
    initial_r2t: bool = False
    immediate_data: bool = True
    max_burst_length: int = 1048576
    first_burst_length: int = 65536
    default_time2wait: int = 2
    default_time2retain: int = 20
    max_outstanding_r2t: int = 8
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    error_recovery_level: int = 0
    task_reporting: tuple[str, ...] = ()
    protocol_level: int | None = None

    def __post_init__(self) -> None:
        for key in KEYS.values():
            value = getattr(self, key.field, None)
            if isinstance(value, int) and not isinstance(value, bool) and not key.low <= value <= key.high:
                raise LocalProtocolError(f"{key.name} must be between {key.low} and {key.high}, not {value}")
        for digests in (self.header_digest, self.data_digest):
            if not digests or not _DIGESTS.issuperset(digests):
                raise LocalProtocolError("a digest list names CRC32C, None, or both")
        if self.first_burst_length > self.max_burst_length:
            raise LocalProtocolError("FirstBurstLength must not be greater than MaxBurstLength (RFC 7143, 13.14)")
        if self.task_reporting and not {"RFC3720", "ResponseFence"}.issubset(self.task_reporting):
            raise LocalProtocolError("TaskReporting must offer RFC3720 and ResponseFence at least (RFC 7143, 13.23)")
        if "FastAbort" in self.task_reporting:
            raise LocalProtocolError("aborts are done the standard way (RFC 7143, 4.2.3.3), not by FastAbort")


@dataclass(frozen=True, slots=True)
class Params:
    """What was agreed on, or the default where nothing was (RFC 7143, 13). Lengths in bytes, times in seconds.

    `max_recv_data_segment_length` limits what we receive in one PDU, `max_xmit_data_segment_length` what we send.
    """

    header_digest: bool = False
    data_digest: bool = False
    max_recv_data_segment_length: int = LOGIN_SEGMENT
    max_xmit_data_segment_length: int = LOGIN_SEGMENT
    max_connections: int = 1
    initial_r2t: bool = True
    immediate_data: bool = True
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    default_time2wait: int = 2
    default_time2retain: int = 20
    max_outstanding_r2t: int = 1
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    error_recovery_level: int = 0
    task_reporting: str = "RFC3720"
    protocol_level: int = 1
    target_portal_group_tag: int | None = None
    target_alias: str | None = None

    def as_text(self) -> dict[str, str]:
        """The parameters by their RFC names, as they would be sent; for showing them to a person."""
        shown: dict[str, str] = {}
        by_field = {key.field: key.name for key in KEYS.values() if key.field}
        by_field["max_xmit_data_segment_length"] = "MaxXmitDataSegmentLength"
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            if item.name.endswith("_digest"):
                shown[by_field[item.name]] = CRC32C if value else NONE
            else:
                shown[by_field[item.name]] = to_text(value)
        return shown


class Answer(NamedTuple):
    """The responder's half of one key.

    Attributes:
        reply: The value to send back, or None if nothing is sent.
        result: What the key has become, or None where it keeps its default.
        required: True if the negotiation is not complete without the reply.
    """

    reply: str | None
    result: Value | None
    required: bool = False


def to_text(value: Value) -> str:
    """A value as it is sent."""
    if isinstance(value, bool):
        return text.yes_no(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def parse(key: Key, value: str) -> Value:
    """The typed value of a proposal or declaration.

    Raises:
        NegotiationError: not a value of this key's type, or outside its range.
    """
    try:
        if key.rule in _NUMERIC or (key.rule is Rule.DECLARE and isinstance(key.default, int)):
            return text.number(key.name, value, key.low, key.high)
        if key.rule in _BOOLEAN:
            return text.boolean(key.name, value)
        if key.rule is Rule.FIRST:
            return text.listing(key.name, value)
    except RemoteProtocolError as error:
        raise NegotiationError(str(error)) from None
    return value


def answer(name: str, value: str, ours: Offer, *, discovery: bool = False) -> Answer:
    """Answers a key that the peer has proposed or declared (6.2.1, 6.2.2).

    Args:
        name: The key.
        value: What the peer proposes.
        ours: What this side wants and accepts.
        discovery: True in a Discovery session, where most operational keys are irrelevant.

    Raises:
        NegotiationError: the proposal is not admissible.
    """
    if value in ANSWERS_ONLY:
        raise NegotiationError(f"{name}={value} was proposed, but it may only be an answer (RFC 7143, 6.2)")
    key = KEYS.get(name)
    if key is None:
        return Answer(NOT_UNDERSTOOD, None)
    if key.rule is Rule.OBSOLETE:
        # 13.25: never NotUnderstood. "No" is the outcome both sides know for the switches.
        return Answer(REJECT if name.endswith("Int") else text.yes_no(False), None, required=True)
    theirs = parse(key, value)
    if key.rule is Rule.DECLARE:
        return Answer(None, theirs)
    if discovery and not key.discovery:
        return Answer(IRRELEVANT, None)
    if discovery and name == "ErrorRecoveryLevel":
        return Answer("0", 0, required=True)
    return _choose(key, theirs, getattr(ours, key.field))


def _choose(key: Key, theirs: Value, wanted: Value | None) -> Answer:
    mine = key.default if wanted is None or wanted == () else wanted
    if isinstance(theirs, tuple):
        accepted = mine if isinstance(mine, tuple) else (mine,)
        first = next((item for item in theirs if item in accepted), None)
        return Answer(first or REJECT, first, required=True)
    if isinstance(theirs, bool):
        decided = theirs is (key.rule is Rule.OR)
        result: Value = theirs if decided else bool(mine)
        return Answer(to_text(result), result, required=not decided)
    if not isinstance(theirs, int) or not isinstance(mine, int):
        raise LocalProtocolError(f"{key.name} has no number to negotiate with")
    result = min(theirs, mine) if key.rule is Rule.MINIMUM else max(theirs, mine)
    return Answer(str(result), result, required=True)


def resolve(name: str, offered: Value, value: str) -> Value | None:
    """The result of a key that we have proposed and the peer has answered.

    Returns:
        The result, or None where the key keeps its default (`Irrelevant`, or a newer key that the peer refuses).

    Raises:
        NegotiationError: the answer breaks the key's rule.
    """
    key = KEYS[name]
    if value in ANSWERS_ONLY:
        _check_refusal(key, value)
        return None
    result = parse(key, value)
    if key.rule is Rule.FIRST:
        items = offered if isinstance(offered, tuple) else ()
        if value not in items:
            raise NegotiationError(
                f"{name}={text.shorten(value)} was answered, but only {to_text(items)} was offered (RFC 7143, 6.2.1)",
                fix=f"let both sides have a value of {name} in common",
            )
        return value
    if isinstance(result, int) and isinstance(offered, int) and result != offered:
        # Maximum and OR may only raise what was offered (No < Yes), minimum and AND only lower it.
        may_rise = key.rule in (Rule.MAXIMUM, Rule.OR)
        if (result > offered) is not may_rise:
            raise NegotiationError(
                f"{name}={value} was answered to {to_text(offered)}, but the result is to be {key.rule.value}"
                " (RFC 7143, 6.2.2)"
            )
    return result


def _check_refusal(key: Key, value: str) -> None:
    if value == IRRELEVANT or key.newer:
        return
    if value == NOT_UNDERSTOOD:
        raise NegotiationError(f"{key.name} was answered with NotUnderstood, but every target must know it (6.2)")
    raise NegotiationError(
        f"the peer rejects what was offered for {key.name} (RFC 7143, 6.2)", fix=f"offer another value of {key.name}"
    )
