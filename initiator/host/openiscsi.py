"""Whether the kernel's initiator can be used on this host at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from initiator.host import sysfs

_FOLDERS = ("usr/sbin", "sbin", "usr/local/sbin", "usr/bin", "bin")
_MODULE = "scsi_transport_iscsi.ko"


def why_not(root: Path = Path("/"), release: str | None = None) -> str:
    """Why open-iscsi cannot be used here, in plain words; an empty string where it can.

    Args:
        root: Where `usr`, `sys` and `lib` are.
        release: The kernel's, as `uname -r` prints it.
    """
    base = sysfs.base(root)
    if not any(os.access(f"{base}/{folder}/iscsiadm", os.X_OK) for folder in _FOLDERS):
        return "open-iscsi is not installed here (no iscsiadm)"
    if os.path.isdir(f"{base}/sys/class/iscsi_transport"):
        return ""
    modules = f"{base}/lib/modules/{release or os.uname().release}"
    for name in ("modules.dep", "modules.builtin"):
        with contextlib.suppress(OSError), open(f"{modules}/{name}", encoding="utf-8", errors="replace") as lines:
            if any(_MODULE in line for line in lines):
                return ""
    return "this kernel has no iSCSI"
