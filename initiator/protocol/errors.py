"""What can go wrong between an initiator and a target, as named errors."""

from __future__ import annotations

from initiator.errors import MooringError
from initiator.model import Portal


class IscsiError(MooringError):
    """Base of every error of the iSCSI protocol and its connections."""

    code = "iscsi"


class LocalProtocolError(IscsiError):
    """Mooring's own code asked for something that the protocol does not allow; nothing was sent."""

    code = "local-protocol"


class RemoteProtocolError(IscsiError):
    """The peer broke a rule of RFC 7143; the text names the rule. The connection must be dropped."""

    code = "remote-protocol"


class DigestError(RemoteProtocolError):
    """A header or data digest does not match what arrived (RFC 7143, 7.8).

    Attributes:
        header: True if the header digest was wrong, so that no field of the header may be trusted.
        bhs: The 48 bytes of the header as they arrived.
    """

    code = "digest"

    def __init__(self, message: str, *, header: bool, bhs: bytes = b"") -> None:
        super().__init__(message)
        self.header = header
        self.bhs = bhs


class NegotiationError(RemoteProtocolError):
    """A key was answered against its rule, or no common value exists (RFC 7143, 6.2 and 13)."""

    code = "negotiation"


class LoginError(IscsiError):
    """The target refused the login (RFC 7143, 11.13.5).

    Attributes:
        status_class: Status-Class of the Login Response: 1 redirect, 2 initiator error, 3 target error.
        status_detail: Status-Detail.
        retry: True if the same login may succeed later (class 3 only).
    """

    code = "login-refused"

    def __init__(
        self, message: str, status_class: int, status_detail: int, *, code: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message, code=code, fix=fix)
        self.status_class = status_class
        self.status_detail = status_detail
        self.retry = status_class == 3


class AuthError(LoginError):
    """One side could not prove who it is; the same login will not succeed later.

    When the initiator finds the fault itself, the status is that which a target would send (0x0201).
    """

    code = "authentication"

    def __init__(
        self,
        message: str,
        status_class: int = 2,
        status_detail: int = 1,
        *,
        code: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message, status_class, status_detail, code=code, fix=fix)


class RedirectError(LoginError):
    """The target is to be found at another portal (RFC 7143, 11.13.5).

    Attributes:
        portal: Where to log in instead.
        permanent: True if the new portal replaces the known one (status 0x0102).
    """

    code = "redirected"

    def __init__(self, message: str, portal: Portal, *, permanent: bool) -> None:
        super().__init__(message, 1, 2 if permanent else 1)
        self.portal = portal
        self.permanent = permanent


class ConnectionLost(IscsiError):  # noqa: N818 - it names an event, not a mistake
    """The TCP connection could not be made, broke, or fell silent. The code says which."""

    code = "connection-lost"
