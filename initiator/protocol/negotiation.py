"""The bookkeeping of one login's operational keys, for either side (RFC 7143, 6.2 and 6.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from initiator.protocol.errors import NegotiationError
from initiator.protocol.keys import (
    CRC32C,
    IRRELEVANT,
    KEYS,
    NONE,
    NOT_UNDERSTOOD,
    Offer,
    Params,
    Rule,
    Side,
    Value,
    answer,
    resolve,
    to_text,
)
from initiator.protocol.text import Pair, shorten

_REPEATABLE = frozenset({"TargetAddress"})
_SEGMENT = "MaxRecvDataSegmentLength"


class Negotiation:
    """What this side has offered, what the peer has said, and what follows from both.

    Attributes:
        declared: Keys that the peer has declared, as text (InitiatorName, TargetAlias, …).
        notes: Remarks about the peer that are no errors.
    """

    def __init__(
        self, offer: Offer, *, side: Side = Side.INITIATOR, discovery: bool = False, logged_in: bool = False
    ) -> None:
        """`logged_in` is for a negotiation in the full feature phase, where few keys may be used (6.4, 13)."""
        self.declared: dict[str, str] = {}
        self.notes: list[str] = []
        self._offer = offer
        self._side = side
        self._discovery = discovery
        self._logged_in = logged_in
        self._offered: dict[str, Value] = {}
        self._seen: set[str] = set()
        self._results: dict[str, Value] = {}
        self._irrelevant: set[str] = set()
        self._our_segment: int | None = None

    def propose(self) -> list[Pair]:
        """Everything this side has to say in the operational stage.

        An initiator proposes each key that the peer has not brought up first. A target only declares its
        MaxRecvDataSegmentLength: it waits for the rest.
        """
        return [pair for key in KEYS for pair in self._propose(key)]

    def _propose(self, name: str) -> list[Pair]:
        key = KEYS[name]
        if name == _SEGMENT:
            return self._declare_segment()
        if self._side is Side.TARGET or not key.field or key.rule is Rule.DECLARE or name in self._seen:
            return []
        if self._discovery and (not key.discovery or name == "ErrorRecoveryLevel"):
            return []
        value = getattr(self._offer, key.field)
        if value is None or value == ():
            return []
        if name == "MaxOutstandingR2T" and self._offer.error_recovery_level and self._offer.data_sequence_in_order:
            value = 1  # 13.19
        self._offered[name] = value
        return [(name, to_text(value))]

    def _declare_segment(self) -> list[Pair]:
        if self._our_segment is not None:
            return []
        self._our_segment = self._offer.max_recv_data_segment_length
        return [(_SEGMENT, str(self._our_segment))]

    def receive(self, pairs: Iterable[Pair], *, security: bool = False, final: bool = False) -> list[Pair]:
        """Takes what the peer says and returns the answers.

        Args:
            pairs: Keys of the peer, without those of the authentication.
            security: True in the security stage, where operational keys have no place (12).
            final: True if the peer ends the stage with these, so that it may not wait for an answer (11.13.6).

        Raises:
            NegotiationError: a key breaks a rule.
        """
        replies: list[Pair] = []
        for name, value in pairs:
            self._admit(name, security=security)
            if name in self._offered:
                self._take_answer(name, value)
                continue
            reply = self._take_proposal(name, value, final=final)
            if reply is not None:
                replies.append((name, reply))
        return replies

    def _admit(self, name: str, *, security: bool) -> None:
        key = KEYS.get(name)
        if name in self._seen and name not in _REPEATABLE:
            raise NegotiationError(f"the peer sends {shorten(name)} twice in one login (RFC 7143, 6.3)")
        self._seen.add(name)
        if key is None:
            return
        if key.only is self._side:
            raise NegotiationError(f"only the {self._side.value} may send {name} (RFC 7143, 13)")
        if self._logged_in and not key.anytime:
            raise NegotiationError(f"{name} may be used in a login only (RFC 7143, 13)")
        if security and not key.security:
            raise NegotiationError(f"{name} has no place in the security stage (RFC 7143, 12)")

    def _take_answer(self, name: str, value: str) -> None:
        result = resolve(name, self._offered[name], value)
        if result is not None:
            self._results[name] = result
            return
        self._irrelevant.add(name)
        if value != IRRELEVANT:
            self.notes.append(f"the peer answers {name} with {value}")

    def _take_proposal(self, name: str, value: str, *, final: bool) -> str | None:
        found = answer(name, value, self._offer, discovery=self._discovery)
        if name in KEYS and found.result is not None:
            self._results[name] = found.result
            if KEYS[name].rule is Rule.DECLARE:
                self.declared[name] = value
        if found.reply == NOT_UNDERSTOOD:
            self.notes.append(f"the peer uses an unknown key {shorten(name)}")
        if not final:
            return found.reply
        if found.required:
            raise NegotiationError(f"the peer proposes {name} and ends the stage at once (RFC 7143, 11.13.6)")
        return None

    def params(self) -> Params:
        """The outcome, with defaults where a key was not negotiated.

        Raises:
            NegotiationError: the outcome is not consistent, or lacks a digest that was demanded.
        """
        found: dict[str, Any] = {}
        for name, key in KEYS.items():
            if key.field and name in self._results:
                found[key.field] = self._results[name]
            elif key.field and self._decided_alone(name):
                found[key.field] = self._offered[name]
        for name, field in (("HeaderDigest", "header_digest"), ("DataDigest", "data_digest")):
            found[field] = self._digest(name, getattr(self._offer, field))
        peer_segment = found.pop("max_recv_data_segment_length", None)
        if peer_segment is not None:
            found["max_xmit_data_segment_length"] = peer_segment
        if self._our_segment is not None:
            found["max_recv_data_segment_length"] = self._our_segment
        params = Params(**found)
        self._check(params)
        return params

    def changed(self, params: Params) -> Params:
        """`params` with what the peer has declared in the full feature phase."""
        segment = self._results.get(_SEGMENT)
        if isinstance(segment, int):
            params = dataclasses.replace(params, max_xmit_data_segment_length=segment)
        return dataclasses.replace(params, target_alias=self.declared.get("TargetAlias", params.target_alias))

    def _decided_alone(self, name: str) -> bool:
        """True if our offer settles a boolean without an answer (6.2.2)."""
        rule = KEYS[name].rule
        return rule in (Rule.OR, Rule.AND) and self._offered.get(name) is (rule is Rule.OR)

    def _digest(self, name: str, wanted: tuple[str, ...]) -> bool:
        chosen = self._results.get(name, NONE)
        if chosen not in wanted:
            raise NegotiationError(
                f"{name}={to_text(wanted)} is demanded, but the login ends without it (RFC 7143, 13.1)",
                code="digest-required",
                fix=f"switch {name} on at the peer, or allow None",
            )
        return chosen == CRC32C

    def _check(self, params: Params) -> None:
        unsolicited = params.immediate_data or not params.initial_r2t
        for name in self._irrelevant:
            newer = KEYS[name].newer
            if not newer and not (name == "FirstBurstLength" and not unsolicited):
                raise NegotiationError(f"{name} is not irrelevant here (RFC 7143, 6.2)")
        if unsolicited and params.first_burst_length > params.max_burst_length:
            raise NegotiationError(
                f"FirstBurstLength {params.first_burst_length} is greater than MaxBurstLength"
                f" {params.max_burst_length} (RFC 7143, 13.14)"
            )
