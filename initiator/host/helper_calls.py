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


def loop_status(device: str) -> str:
    """`major:minor` of what a loop device stands on: a block device, or the file system of its file; needs root.

    Raises:
        HelperFailed, Stuck: the kernel does not say.
    """
    file_system, block_device = run_helper("loop_status", {"device": device}, _DEADLINE).value
    number = block_device or file_system
    return f"{(number >> 8) & 0xFFF}:{(number & 0xFF) | ((number >> 12) & 0xFFF00)}"
