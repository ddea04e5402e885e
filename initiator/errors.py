"""Errors that more than one room raises or catches. Each says what is wrong, why, and the way out."""

from __future__ import annotations


class MooringError(Exception):
    """Base of every error that Mooring raises on purpose; its text is fit to be shown to a person.

    Attributes:
        code: A short stable word for programs, in lower case with dashes.
        fix: What to do about it, or an empty string.
    """

    code = "error"
    fix = ""

    def __init__(self, message: str, *, code: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if fix is not None:
            self.fix = fix


class PlaceError(MooringError):
    """A folder that Mooring needs cannot be used."""

    code = "place"


class BadInputError(MooringError):
    """A name, portal, size or option that a person gave is not valid."""

    code = "bad-input"


class NotPermittedError(MooringError):
    """The kernel or a policy does not let this user do it."""

    code = "not-permitted"


class RefusedError(MooringError):
    """A guard says no."""

    code = "refused"


class OutcomeUnknownError(MooringError):
    """Something was begun and nobody can say whether it happened."""

    code = "outcome-unknown"
