"""What a login's status means, and the error that it becomes (RFC 7143, 11.13.5)."""

from __future__ import annotations

from initiator.protocol import address, text
from initiator.protocol.chap import SHA256
from initiator.protocol.errors import AuthError, LoginError, RedirectError, RemoteProtocolError
from initiator.protocol.login_config import MAX_NAME
from initiator.protocol.pdu import LoginResponse

REDIRECT, INITIATOR_ERROR, TARGET_ERROR = 1, 2, 3
MOVED_FOR_NOW, MOVED_FOR_GOOD = 1, 2

_WORDS: dict[tuple[int, int], tuple[str, str, str]] = {
    (2, 0): ("login-refused", "the target finds an error in the login", "look into the target's log"),
    (2, 1): ("authentication", "the target does not accept our CHAP name or secret", "check both at the target"),
    (2, 2): (
        "not-allowed",
        "the target does not admit this initiator",
        "add the initiator's name to the target's list",
    ),
    (2, 3): ("target-not-found", "there is no such target here", "run a discovery to see the targets of this portal"),
    (2, 4): ("target-removed", "the target was taken away for good", "run a discovery to see what took its place"),
    (2, 5): ("version", "the target speaks another version of iSCSI", ""),
    (2, 6): ("too-many-connections", "the target has no room for another connection of this session", ""),
    (2, 7): ("missing-parameter", "the target misses a key in the login", "look into the target's log"),
    (2, 8): ("cannot-join", "the target cannot take this connection into the session", ""),
    (2, 9): ("session-type", "the target does not support this type of session", ""),
    (2, 10): ("no-such-session", "the target does not know the session any more", "log in anew"),
    (2, 11): ("invalid-during-login", "the target found a request out of place in the login", ""),
    (3, 0): ("target-error", "the target has an internal error", "try again, and look into the target's log"),
    (3, 1): ("target-unavailable", "the target is not in service now", "try again later"),
    (3, 2): ("target-out-of-resources", "the target has no resources left", "try again later, or close other sessions"),
}


def error(
    pdu: LoginResponse, target: str | None, *, chap: bool, proving: bool = False, algorithm: int | None = None
) -> LoginError:
    """The error for a response whose Status-Class is not 0.

    Args:
        pdu: The response; its sequence numbers mean nothing (11.13.5).
        target: Whom we tried to log in to.
        chap: True if we have a CHAP name and secret.
        proving: True if the request carried our CHAP proof: some targets answer a wrong one with 0x0200.
        algorithm: The CHAP algorithm in use.
    """
    status, detail = pdu.status_class, pdu.status_detail
    if status == REDIRECT:
        return _redirect(pdu)
    general = ("login-refused", "the target refuses the login", "look into the target's log")
    # An unknown detail is judged by its class alone.
    code, words, fix = _WORDS.get((status, detail), _WORDS.get((status, 0), general))
    message = f"{words} (status 0x{status:02x}{detail:02x})"
    if status == INITIATOR_ERROR and detail == 1 and not chap:
        code, fix = "authentication-required", "give the CHAP name and secret that the target has for this initiator"
        message = f"the target asks for authentication (status 0x{status:02x}{detail:02x})"
        return AuthError(_of(target, message), status, detail, code=code, fix=fix)
    message = _of(target, message)
    if status == INITIATOR_ERROR and (detail == 1 or (detail == 0 and proving)):
        code, fix = "authentication", "check the CHAP name and secret on both sides"
        if algorithm == SHA256:
            fix += "; the target chose CHAP algorithm 7, which tgt gets wrong: offer 5 before 7 to such a target"
        return AuthError(message, status, detail, code=code, fix=fix)
    return LoginError(message, status, detail, code=code, fix=fix)


def _of(target: str | None, message: str) -> str:
    return f"{text.shorten(target, MAX_NAME)}: {message}" if target else message


def _redirect(pdu: LoginResponse) -> LoginError:
    try:
        pairs = text.decode(pdu.data)
        where = next((value for key, value in pairs if key == "TargetAddress"), None)
        if where is None:
            raise RemoteProtocolError("the target has moved, but does not say where to (RFC 7143, 11.13.5)")
        portal = address.parse(where)
    except RemoteProtocolError as problem:
        return LoginError(str(problem), pdu.status_class, pdu.status_detail, code="redirect-useless")
    permanent = pdu.status_detail == MOVED_FOR_GOOD
    return RedirectError(
        f"the target has moved {'for good' if permanent else 'for now'} to {portal}", portal, permanent=permanent
    )
