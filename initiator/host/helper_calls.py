"""Helper operations that the readers need, with their deadlines."""

from __future__ import annotations

from initiator.errors import MooringError
from initiator.host.run import run_helper

_DEADLINE = 2.0


def pinned_mounts(path: str) -> bytes:
    """mountinfo of the mount namespace that the file `path` pins; needs root.

    Raises:
        OSError: the namespace cannot be entered or read.
    """
    try:
        value: bytes = run_helper("namespace_mounts", {"path": path}, _DEADLINE).value
    except MooringError as error:
        raise OSError(getattr(error, "errno", None) or 0, str(error)) from error
    return value
