"""The one place that knows which folders Mooring uses.

Root uses the system's folders (`/run/mooring`, `/var/lib/mooring`), everyone else their own (XDG). The environment
can name others: `MOORING_RUNTIME_DIR`, `MOORING_STATE_DIR`, `MOORING_CONFIG_DIR`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from initiator.errors import PlaceError

OF_ROOT = Path("/run/mooring")
"""The runtime folder of root's own engine."""


def runtime_dir() -> Path:
    """Sockets, locks and FUSE mounts; gone after a reboot. Made with mode 0700.

    Raises:
        PlaceError: the folder exists but belongs to somebody else or is open to others.
    """
    return _private(_runtime(), "MOORING_RUNTIME_DIR")


def look_dir() -> Path:
    """Where volumes are mounted to look into them; a part of the runtime folder."""
    folder = runtime_dir() / look_path().name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def look_path() -> Path:
    """As `look_dir`, but nothing is made."""
    return _runtime() / "look"


def looked_into(mountpoints: Iterable[str]) -> frozenset[str]:
    """Those of these mount points where a volume is only looked into."""
    folder = str(look_path())
    return frozenset(each for each in mountpoints if os.path.dirname(each) == folder)


def state_dir() -> Path:
    """Journals and history; survives a reboot. Made with mode 0700."""
    return _private(_folder("MOORING_STATE_DIR", "/var/lib/mooring", _user_state_dir), "MOORING_STATE_DIR")


def config_dir() -> Path:
    """Configuration; only read, never made."""
    named = os.environ.get("MOORING_CONFIG_DIR")
    return Path(named or ("/etc/mooring" if os.geteuid() == 0 else _user_config_dir()))


# Root has no use for the library, whose import takes a twentieth of the time of `mooring list`.


def _user_runtime_dir() -> str:
    import platformdirs

    return platformdirs.user_runtime_dir("mooring")


def _user_state_dir() -> str:
    import platformdirs

    return platformdirs.user_state_dir("mooring")


def _user_config_dir() -> str:
    import platformdirs

    return platformdirs.user_config_dir("mooring")


def _runtime() -> Path:
    return _folder("MOORING_RUNTIME_DIR", str(OF_ROOT), _user_runtime_dir)


def _folder(variable: str, of_root: str, of_user: Callable[[], str]) -> Path:
    named = os.environ.get(variable)
    return Path(named or (of_root if os.geteuid() == 0 else of_user()))


def _private(folder: Path, variable: str) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise PlaceError(f"{folder}: {error.strerror}; set {variable} to a folder of your own") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PlaceError(f"{folder} is not a private folder of this user (owner and mode 0700); set {variable}")
    return folder
