"""The initiator's login as a state machine: Login Responses in, Login Requests out (RFC 7143, 6.3, 11.12, 11.13)."""

from __future__ import annotations

import enum
from collections import deque

from initiator.protocol import login_status, text
from initiator.protocol.chap import ChapInitiator
from initiator.protocol.errors import AuthError, LocalProtocolError, NegotiationError, RemoteProtocolError
from initiator.protocol.keys import LOGIN_SEGMENT, NONE, REJECT
from initiator.protocol.login_config import LoginConfig, LoginResult, random_isid
from initiator.protocol.negotiation import Negotiation
from initiator.protocol.pdu import LoginRequest, LoginResponse, Op, Pdu, Reject
from initiator.protocol.text import Pair

MAX_EXCHANGES = 64
"""Requests in one login before the target is given up: more than there are keys (10.3)."""

__all__ = ["MAX_EXCHANGES", "LoginConfig", "LoginMachine", "LoginResult", "Stage", "random_isid"]

_WORD = 0xFFFFFFFF
_NEGOTIATION_RESET = 0x0B


class Stage(enum.IntEnum):
    """Stages of a login; the numbers are those of CSG and NSG (11.12.3)."""

    SECURITY = 0
    OPERATIONAL = 1
    FULL_FEATURE = 3


class _Auth(enum.Enum):
    """How far the authentication has come."""

    METHOD = "AuthMethod was offered"
    ALGORITHM = "CHAP_A was offered"
    PROOF = "CHAP_R was sent"
    DONE = "nothing is left to do"


class LoginMachine:
    """One login on one connection.

    Call `start`, then send what `to_send` gives and pass what arrives to `receive`, until `done`. Every error means
    that the connection has to be closed. The machine has no clock: the caller limits each wait, and names `stage`.
    """

    def __init__(self, config: LoginConfig) -> None:
        self._config = config
        self._keys = Negotiation(config.wanted, discovery=config.discovery)
        self._chap: ChapInitiator | None = None
        if config.chap:
            self._chap = ChapInitiator(config.chap, config.chap_algorithms, config.entropy, config.issued_challenges)
        self._auth = _Auth.METHOD
        self._stage = Stage.SECURITY
        self._chunks: deque[bytes] = deque()
        self._last_chunk_transits = False
        self._sent: LoginRequest | None = None
        self._queue: list[LoginRequest] = []
        self._exchanges = 0
        self._exp_stat_sn: int | None = None
        self._text = bytearray()
        self._result: LoginResult | None = None

    @property
    def stage(self) -> str:
        """Where the login stands, for a time-out's text."""
        names = {Stage.SECURITY: "the security stage", Stage.OPERATIONAL: "the operational stage"}
        return f"{names.get(self._stage, 'the end')} of the login"

    @property
    def done(self) -> bool:
        """True once the session is in the full feature phase."""
        return self._result is not None

    @property
    def result(self) -> LoginResult:
        """The outcome of a finished login."""
        if self._result is None:
            raise LocalProtocolError("the login is not finished")
        return self._result

    def start(self) -> None:
        """Prepares the first request: names, session type and authentication methods (6.3)."""
        config = self._config
        if self._sent is not None:
            raise LocalProtocolError("the login was started before")
        pairs: list[Pair] = [("InitiatorName", config.initiator)]
        if config.initiator_alias:
            pairs.append(("InitiatorAlias", config.initiator_alias))
        pairs.append(("SessionType", "Discovery" if config.discovery else "Normal"))
        if config.target is not None:
            pairs.append(("TargetName", config.target))
        pairs.append(("AuthMethod", ",".join(self._methods())))
        self._say(pairs, transit=config.chap is None)

    def to_send(self) -> list[LoginRequest]:
        """The requests to send now; at most one is outstanding at a time (6.3)."""
        queue, self._queue = self._queue, []
        return queue

    def receive(self, pdu: Pdu) -> None:
        """Takes the target's answer.

        Raises:
            LoginError: the target refuses; RedirectError if it names another portal, AuthError on a failed proof.
            NegotiationError: a key was answered against its rule.
            RemoteProtocolError: the target breaks another rule of the login.
        """
        request = self._sent
        if request is None or self._result:
            raise LocalProtocolError("no login is under way")
        if self._queue:
            raise RemoteProtocolError("a login response came although no request was outstanding (RFC 7143, 6.3)")
        answer = self._check(request, pdu)
        self._text += answer.data
        if len(self._text) > text.MAX_TEXT:
            raise RemoteProtocolError(f"the target sends more than {text.MAX_TEXT} bytes of text in one answer")
        if request.continued:
            self._next_chunk(answer)
        elif answer.continued:
            self._request(b"", transit=False)
        else:
            pairs = text.decode(bytes(self._text))
            self._text.clear()
            self._advance(pairs, answer)

    # What arrives ----------------------------------------------------------------------------------------------------

    def _check(self, request: LoginRequest, pdu: Pdu) -> LoginResponse:
        """The rules of 11.13 that hold for every response."""
        if isinstance(pdu, Reject):
            reset = " (negotiation reset)" if pdu.reason == _NEGOTIATION_RESET else ""
            raise NegotiationError(f"the target rejects a login request with reason 0x{pdu.reason:02x}{reset}")
        if not isinstance(pdu, LoginResponse):
            raise RemoteProtocolError(f"a {Op(pdu.OPCODE).name} arrived before the login ended (RFC 7143, 4.2.4)")
        if pdu.initiator_task_tag != request.initiator_task_tag:
            raise RemoteProtocolError("a login response has another task tag than its request (RFC 7143, 11.2.1.8)")
        if pdu.status_class:
            raise login_status.error(
                pdu,
                self._config.target,
                chap=self._chap is not None,
                proving=self._auth is _Auth.PROOF,
                algorithm=self._algorithm(),
            )
        if pdu.version_active:
            raise RemoteProtocolError(f"the target speaks version {pdu.version_active}, not 0 (RFC 7143, 11.13.2)")
        if pdu.continued and pdu.transit:
            raise RemoteProtocolError("a login response has both its C and its T bit set (RFC 7143, 11.13.7)")
        if pdu.csg != request.csg:
            raise RemoteProtocolError(f"a login response is in stage {pdu.csg}, not {request.csg} (RFC 7143, 6.3)")
        if pdu.transit:
            self._check_transit(request, pdu)
        if self._exp_stat_sn is not None and pdu.stat_sn != self._exp_stat_sn:
            raise RemoteProtocolError(f"StatSN is {pdu.stat_sn}, not {self._exp_stat_sn} (RFC 7143, 11.13.4)")
        self._exp_stat_sn = (pdu.stat_sn + 1) & _WORD
        return pdu

    @staticmethod
    def _check_transit(request: LoginRequest, pdu: LoginResponse) -> None:
        if not request.transit:
            raise RemoteProtocolError("the target ends a stage that was not ready to end (RFC 7143, 11.13.6)")
        if pdu.nsg not in (Stage.OPERATIONAL, Stage.FULL_FEATURE) or not request.csg < pdu.nsg <= request.nsg:
            raise RemoteProtocolError(f"the target goes on to stage {pdu.nsg}, not {request.nsg} (RFC 7143, 6.3)")

    def _advance(self, pairs: list[Pair], answer: LoginResponse) -> None:
        """Acts on the complete text of one answer."""
        security = self._stage is Stage.SECURITY
        proofs = [pair for pair in pairs if security and _is_authentication(pair[0])]
        others = [pair for pair in pairs if pair not in proofs]
        replies = self._keys.receive(others, security=security, final=answer.transit)
        if security:
            replies += self._authenticate(proofs)
        if not answer.transit:
            self._say(replies, transit=not security or self._auth in (_Auth.PROOF, _Auth.DONE))
            return
        if security and self._auth is not _Auth.DONE:
            raise AuthError("the target ends the security stage before it is complete (RFC 7143, 12.1.3)")
        self._stage = Stage(answer.nsg)
        if self._stage is Stage.FULL_FEATURE:
            self._finish(answer)
        else:
            self._say(self._keys.propose(), transit=True)

    # Authentication --------------------------------------------------------------------------------------------------

    def _methods(self) -> tuple[str, ...]:
        if self._config.chap is None:
            return (NONE,)
        return ("CHAP",) if self._config.require_auth else ("CHAP", NONE)

    def _algorithm(self) -> int | None:
        return self._chap.algorithm if self._chap else None

    def _authenticate(self, pairs: list[Pair]) -> list[Pair]:
        """One step of the security stage; returns what to send."""
        if self._auth is _Auth.METHOD:
            return self._choose_method(pairs)
        if self._auth is _Auth.ALGORITHM and self._chap:
            replies = self._chap.respond(pairs)
            self._auth = _Auth.PROOF
            return replies
        if self._auth is _Auth.PROOF and self._chap and not self._chap.complete:
            if not pairs:
                raise AuthError("the target does not prove who it is, although it was asked to (RFC 7143, 12.1.3)")
            self._chap.verify(pairs)
        elif pairs:
            raise RemoteProtocolError(f"{text.shorten(pairs[0][0])} has no place in this step (RFC 7143, 12.1.3)")
        self._auth = _Auth.DONE
        return []

    def _choose_method(self, pairs: list[Pair]) -> list[Pair]:
        if not pairs:
            if self._chap is None:
                self._auth = _Auth.DONE
            return []
        if len(pairs) != 1 or pairs[0][0] != "AuthMethod":
            raise RemoteProtocolError("the target must answer AuthMethod before anything else (RFC 7143, 12.1)")
        method = pairs[0][1]
        if method not in self._methods():
            raise self._no_method(method)
        if method == NONE or self._chap is None:
            self._auth = _Auth.DONE
            return []
        self._auth = _Auth.ALGORITHM
        return self._chap.offer()

    def _no_method(self, method: str) -> Exception:
        if self._chap is None:
            return AuthError(
                "the target asks for authentication, but no CHAP name and secret were given",
                code="authentication-required",
                fix="give the CHAP name and secret that the target has for this initiator",
            )
        if method in (REJECT, NONE):
            return AuthError(
                "the target does not use CHAP for this initiator, but CHAP is required here",
                code="authentication-refused",
                fix="set up CHAP at the target, or log in without a CHAP name",
            )
        return NegotiationError(f"AuthMethod={text.shorten(method)} was not offered (RFC 7143, 6.2.1)")

    # What is sent ----------------------------------------------------------------------------------------------------

    def _say(self, pairs: list[Pair], *, transit: bool) -> None:
        """Queues the pairs, cut into pieces that fit into a login PDU (6.2)."""
        raw = text.encode(pairs)
        pieces = [raw[at : at + LOGIN_SEGMENT] for at in range(0, len(raw), LOGIN_SEGMENT)] or [b""]
        self._chunks.extend(pieces[1:])
        self._last_chunk_transits = transit
        self._request(pieces[0], transit=transit and not self._chunks)

    def _next_chunk(self, answer: LoginResponse) -> None:
        if answer.data or answer.continued:
            raise RemoteProtocolError("the target speaks before it has heard the whole text (RFC 7143, 6.2)")
        piece = self._chunks.popleft()
        self._request(piece, transit=self._last_chunk_transits and not self._chunks)

    def _request(self, data: bytes, *, transit: bool) -> None:
        if self._exchanges >= MAX_EXCHANGES:
            raise RemoteProtocolError(
                f"the target does not come to an end: {MAX_EXCHANGES} exchanges in {self.stage}", code="login-endless"
            )
        self._exchanges += 1
        config = self._config
        after_security = Stage.OPERATIONAL if config.operational else Stage.FULL_FEATURE
        target_stage = after_security if self._stage is Stage.SECURITY else Stage.FULL_FEATURE
        self._sent = LoginRequest(
            transit=transit,
            continued=bool(self._chunks),
            csg=self._stage,
            nsg=target_stage if transit else 0,
            isid=config.isid,
            tsih=config.tsih,
            cid=config.cid,
            initiator_task_tag=0,
            cmd_sn=config.cmd_sn,
            exp_stat_sn=config.exp_stat_sn if self._exp_stat_sn is None else self._exp_stat_sn,
            data=data,
        )
        self._queue.append(self._sent)

    # The end ---------------------------------------------------------------------------------------------------------

    def _finish(self, answer: LoginResponse) -> None:
        config = self._config
        if not answer.tsih or (config.tsih and answer.tsih != config.tsih):
            raise RemoteProtocolError(f"the login ends with TSIH {answer.tsih} (RFC 7143, 11.13.3)")
        params = self._keys.params()
        notes = list(self._keys.notes)
        tag = params.target_portal_group_tag
        if config.portal_group_tag not in (None, tag):
            notes.append(f"the portal is in portal group {tag}, not {config.portal_group_tag} (RFC 7143, 6.3.1)")
        self._result = LoginResult(
            params=params,
            tsih=answer.tsih,
            isid=config.isid,
            cid=config.cid,
            cmd_sn=config.cmd_sn,
            exp_stat_sn=(answer.stat_sn + 1) & _WORD,
            exp_cmd_sn=answer.exp_cmd_sn,
            max_cmd_sn=answer.max_cmd_sn,
            target_portal_group_tag=tag,
            chap_algorithm=self._algorithm() if self._auth is _Auth.DONE else None,
            notes=tuple(notes),
        )


def _is_authentication(name: str) -> bool:
    return name == "AuthMethod" or name.startswith("CHAP_")
